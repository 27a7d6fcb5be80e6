//! Series of one channel's deliveries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chat4all_engine::gate::Change;
use chat4all_engine::{Command, Gate};
use chat4all_metrics::prometheus::{Histogram, IntCounter, IntGauge};
use chat4all_proto::envelope::OutcomeKind;
use chat4all_proto::outcome::Report;
use chat4all_proto::{ChannelName, DeliveryStatus, Generation, StatusEvent};
use chat4all_runtime::metrics::record_dead_letter;

chat4all_metrics::declare! {
    /// Deliveries that ended.
    static DELIVERIES: IntCounterVec = "chat4all_deliveries_total", ["channel", "outcome"];
    "sum by (channel, outcome) (rate(chat4all_deliveries_total[5m]))"

    /// Calls of a provider.
    static ATTEMPTS: IntCounterVec = "chat4all_delivery_attempts_total", ["channel", "outcome"];
    "sum by (channel, outcome) (rate(chat4all_delivery_attempts_total[5m]))"

    /// How long a provider took to answer.
    static REQUEST_DURATION: HistogramVec = "chat4all_provider_request_duration_seconds", ["channel"], buckets chat4all_metrics::latency_buckets;
    "histogram_quantile(0.99, sum by (le, channel) (rate(chat4all_provider_request_duration_seconds_bucket[5m])))"

    /// From acceptance to the provider's acceptance.
    static LATENCY: HistogramVec = "chat4all_delivery_latency_seconds", ["channel"], buckets chat4all_metrics::waiting_buckets;
    "histogram_quantile(0.99, sum by (le, channel) (rate(chat4all_delivery_latency_seconds_bucket[5m])))"

    /// Attempts that are followed by another.
    static RETRIES: IntCounterVec = "chat4all_retries_total", ["channel"];
    "sum by (channel) (rate(chat4all_retries_total[5m])) / sum by (channel) (rate(chat4all_delivery_attempts_total[5m]))"

    /// Exact repeats on the outbound topic that were dropped.
    static SUPPRESSED: IntCounterVec = "chat4all_duplicates_suppressed_total", ["channel"];
    "sum by (channel) (increase(chat4all_duplicates_suppressed_total[1h]))"

    /// Attempts made though an earlier one may have been taken.
    static RESENT: IntCounterVec = "chat4all_deliveries_resent_total", ["channel", "reason"];
    "sum by (channel, reason) (increase(chat4all_deliveries_resent_total[1h]))"

    /// Answers whose error code this version does not know.
    static UNKNOWN_CODES: IntCounterVec = "chat4all_unknown_codes_total", ["channel"];
    "sum by (channel) (increase(chat4all_unknown_codes_total[1d]))"

    /// State of a channel's breaker: 0 closed, 1 half-open, 2 open. A channel of many destinations has one for each.
    static BREAKER_STATE: IntGaugeVec = "chat4all_circuit_breaker_state", ["channel"];
    "max by (channel) (chat4all_circuit_breaker_state)"

    /// States entered by a channel's breaker or by one of its destinations'.
    static BREAKER_TRANSITIONS: IntCounterVec = "chat4all_circuit_breaker_transitions_total", ["channel", "to"];
    "sum by (channel, to) (increase(chat4all_circuit_breaker_transitions_total[1h]))"

    /// Destinations whose breaker is not closed.
    static DESTINATIONS_AWAY: IntGaugeVec = "chat4all_destinations_away", ["channel"];
    "sum by (channel) (chat4all_destinations_away)"

    /// 1 while an operator holds the channel.
    static PAUSED: IntGaugeVec = "chat4all_channel_paused", ["channel"];
    "max by (channel) (chat4all_channel_paused)"

    /// Calls that had to wait for a rate.
    static RATE_LIMITED: IntCounterVec = "chat4all_rate_limited_total", ["channel"];
    "sum by (channel) (rate(chat4all_rate_limited_total[5m]))"

    /// Deliveries put out of the way of others, each time.
    static PARKED: IntCounterVec = "chat4all_deliveries_parked_total", ["channel"];
    "sum by (channel) (rate(chat4all_deliveries_parked_total[5m]))"

    /// Lanes by what their head does.
    static LANES: IntGaugeVec = "chat4all_lanes", ["channel", "state"];
    "sum by (channel, state) (chat4all_lanes)"
}

/// The series of one channel's gate, which all its partitions share.
pub struct GateSeries {
    channel: ChannelName,
    state: IntGauge,
    destinations_away: IntGauge,
    paused: IntGauge,
    limited: IntCounter,
    limited_last: AtomicU64,
}

impl GateSeries {
    pub fn of(channel: &ChannelName) -> Self {
        let name = channel.as_str();
        Self {
            channel: channel.clone(),
            state: BREAKER_STATE.with_label_values(&[name]),
            destinations_away: DESTINATIONS_AWAY.with_label_values(&[name]),
            paused: PAUSED.with_label_values(&[name]),
            limited: RATE_LIMITED.with_label_values(&[name]),
            limited_last: AtomicU64::new(0),
        }
    }

    pub fn record(&self, gate: &Gate, changes: &[Change]) {
        self.state.set(gate.state() as i64);
        self.paused.set(gate.is_paused().into());
        let limited = gate.limited();
        self.limited.inc_by(limited - self.limited_last.swap(limited, Ordering::Relaxed).min(limited));
        if changes.is_empty() {
            return;
        }
        self.destinations_away.set(i64::try_from(gate.destinations_away()).unwrap_or(i64::MAX));
        for Change { state, .. } in changes {
            BREAKER_TRANSITIONS.with_label_values(&[self.channel.as_str(), state.as_str()]).inc();
        }
    }
}

/// The series of one channel, looked up once.
pub struct Series {
    channel: ChannelName,
    request_duration: Histogram,
    latency: Histogram,
    accepted: IntCounter,
    retries: IntCounter,
    suppressed: IntCounter,
    parked: IntCounter,
    lanes: [IntGauge; 3],
    lanes_last: [i64; 3],
}

impl Series {
    pub fn of(channel: &ChannelName) -> Self {
        let name = channel.as_str();
        Self {
            channel: channel.clone(),
            request_duration: REQUEST_DURATION.with_label_values(&[name]),
            latency: LATENCY.with_label_values(&[name]),
            accepted: ATTEMPTS.with_label_values(&[name, OutcomeKind::Accepted.as_str()]),
            retries: RETRIES.with_label_values(&[name]),
            suppressed: SUPPRESSED.with_label_values(&[name]),
            parked: PARKED.with_label_values(&[name]),
            lanes: ["ready", "in_flight", "waiting"].map(|state| LANES.with_label_values(&[name, state])),
            lanes_last: [0; 3],
        }
    }

    pub fn record_attempt(&self, report: &Report, took: Duration) {
        self.request_duration.observe(took.as_secs_f64());
        match report.outcome.kind() {
            OutcomeKind::Accepted => self.accepted.inc(),
            other => ATTEMPTS.with_label_values(&[self.channel.as_str(), other.as_str()]).inc(),
        }
        if report.code_is_unknown {
            UNKNOWN_CODES.with_label_values(&[self.channel.as_str()]).inc();
        }
    }

    /// An attempt will be made again though this one may have been taken.
    pub fn record_resent(&self, reason: &str) {
        RESENT.with_label_values(&[self.channel.as_str(), reason]).inc();
    }

    /// Counts what a command says about a delivery.
    pub fn record_command(&self, command: &Command) {
        if let Command::Park { .. } = command {
            self.parked.inc();
        }
        let Command::Publish { event, dead_letter, ends, .. } = command else { return };
        if let Some(letter) = dead_letter {
            record_dead_letter(letter);
        }
        if *ends {
            self.record_end(event);
        } else if event.status == DeliveryStatus::Retrying {
            self.retries.inc();
            if event.attempt.as_ref().is_some_and(|attempt| attempt.outcome == OutcomeKind::Ambiguous) {
                self.record_resent("ambiguous");
            }
        }
    }

    fn record_end(&self, event: &StatusEvent) {
        DELIVERIES.with_label_values(&[self.channel.as_str(), event.status.as_str()]).inc();
        let is_first_way = event.generation == Generation(0);
        if is_first_way && matches!(event.status, DeliveryStatus::Sent | DeliveryStatus::Delivered) {
            self.latency.observe(event.at.saturating_since(event.accepted_at).as_secs_f64());
        }
    }

    pub fn record_suppressed(&self, count: u64) {
        self.suppressed.inc_by(count);
    }

    /// Ready, in flight, waiting: of one partition. The gauges sum over all.
    pub fn record_lanes(&mut self, counts: [usize; 3]) {
        for ((gauge, last), count) in self.lanes.iter().zip(&mut self.lanes_last).zip(counts) {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            gauge.add(count - *last);
            *last = count;
        }
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        self.record_lanes([0; 3]);
    }
}
