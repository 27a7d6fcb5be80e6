//! The figures, and whether they count.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::Sent;
use super::plan::{Pace, Plan};
use super::receiver::Arrivals;
use super::usage::Usage;

/// Everything the bench found. Rates are per second, from the first send to the last event of their kind.
#[derive(Debug, Serialize)]
pub struct Report {
    mode: String,
    messages: u64,
    connections: u32,
    conversations: u32,
    text_bytes: usize,
    /// Messages that were on the log and could not be delivered meanwhile.
    waiting: u32,
    accepted: u64,
    accepted_per_second: f64,
    delivered_per_second: f64,
    /// Until every status was written; absent if that did not happen.
    recorded_per_second: Option<f64>,
    /// From when a message was sent or due to its 202.
    accept_ms: Percentiles,
    /// From the 202 to the receiver.
    accept_to_provider_ms: Percentiles,
    /// From when a message was sent or due to the receiver.
    send_to_provider_ms: Percentiles,
    server_peak_mib: f64,
    server_cpu_us_a_message: f64,
    /// With the load generator and the receiver.
    all_cpu_us_a_message: f64,
    faults: Faults,
}

/// What must be 0.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    refused: u64,
    lost: u64,
    overtaken: u64,
    repeated: u64,
    without_status_delivered: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_refusal: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Report {
    #[expect(clippy::too_many_arguments, reason = "each is another thing that was found")]
    pub fn new(
        plan: &Plan,
        waiting: u32,
        sent: Sent,
        arrivals: Arrivals,
        started: Duration,
        recorded_in: Option<Duration>,
        usage: Usage,
        without_status: u64,
    ) -> Self {
        let started_ns = started.as_nanos() as u64;
        let arrived = |n: u32| arrivals.first[n as usize];
        let mut accept = Latencies::new();
        let mut to_provider = Latencies::new();
        let mut whole = Latencies::new();
        let (mut last_accepted_ns, mut last_arrived_ns) = (started_ns, started_ns);
        for sample in &sent.samples {
            accept.record(sample.due_ns, sample.accepted_ns);
            last_accepted_ns = last_accepted_ns.max(sample.accepted_ns);
            if let Some((_, at_ns)) = arrived(sample.n) {
                to_provider.record(sample.accepted_ns, at_ns);
                whole.record(sample.due_ns, at_ns);
                last_arrived_ns = last_arrived_ns.max(at_ns);
            }
        }
        let accepted = sent.samples.len() as u64;
        let each = |total_us: u64| total_us as f64 / accepted.max(1) as f64;
        let rate = |end_ns: u64| accepted as f64 * 1e9 / (end_ns - started_ns).max(1) as f64;
        Self {
            mode: match plan.pace {
                Pace::Closed => "one by one".to_owned(),
                Pace::Batches { messages } => format!("batches of {messages}"),
                Pace::Open { per_second } => format!("open loop, {per_second}/s"),
            },
            messages: u64::from(plan.messages),
            connections: plan.connections,
            conversations: plan.conversations,
            text_bytes: plan.text.len(),
            waiting,
            accepted,
            accepted_per_second: rate(last_accepted_ns),
            delivered_per_second: rate(last_arrived_ns),
            recorded_per_second: recorded_in.map(|duration| accepted as f64 / duration.as_secs_f64()),
            accept_ms: accept.percentiles(),
            accept_to_provider_ms: to_provider.percentiles(),
            send_to_provider_ms: whole.percentiles(),
            server_peak_mib: usage.server_peak_bytes as f64 / f64::from(1 << 20),
            server_cpu_us_a_message: each(usage.server_cpu_us),
            all_cpu_us_a_message: each(usage.server_cpu_us + usage.own_cpu_us),
            faults: Faults::of(sent, &arrivals, without_status),
        }
    }

    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("figures have text keys only")
    }

    pub fn table(&self) -> String {
        let latency = |of: &Percentiles| format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", of.p50, of.p99, of.max);
        let rows = [
            ("mode", format!("{}, {} connections, {} conversations", self.mode, self.connections, self.conversations)),
            ("messages", format!("{} of {} bytes, {} accepted", self.messages, self.text_bytes, self.accepted)),
            ("waiting meanwhile", self.waiting.to_string()),
            ("accepted", format!("{:.0}/s", self.accepted_per_second)),
            ("delivered", format!("{:.0}/s", self.delivered_per_second)),
            ("recorded", self.recorded_per_second.map_or("not in time".to_owned(), |rate| format!("{rate:.0}/s"))),
            ("accept", latency(&self.accept_ms)),
            ("accept to provider", latency(&self.accept_to_provider_ms)),
            ("send to provider", latency(&self.send_to_provider_ms)),
            ("server's peak memory", format!("{:.0} MiB", self.server_peak_mib)),
            ("CPU a message, server", format!("{:.0} µs", self.server_cpu_us_a_message)),
            ("CPU a message, everything", format!("{:.0} µs", self.all_cpu_us_a_message)),
            ("lost, out of order, repeated", {
                let faults = &self.faults;
                format!("{}, {}, {}", faults.lost, faults.overtaken, faults.repeated)
            }),
            ("without status `delivered`", self.faults.without_status_delivered.to_string()),
        ];
        let lines = rows.map(|(name, value)| format!("{name:30}{value}"));
        lines.join("\n")
    }

    /// Whether every message was accepted, came, in order, and has its status. Repeats are shown and allowed: the
    /// promise is at least once.
    pub fn verdict(&self) -> Result<(), String> {
        let Faults { refused, lost, overtaken, without_status_delivered, first_refusal, .. } = &self.faults;
        let mut wrong = Vec::new();
        if *refused > 0 {
            let first = first_refusal.as_deref().unwrap_or("no reason given");
            wrong.push(format!("{refused} were not accepted (the first: {first})"));
        }
        for (count, what) in [
            (lost, "were accepted and never received"),
            (overtaken, "came after a later one of their conversation"),
            (without_status_delivered, "do not have status `delivered`"),
        ] {
            if *count > 0 {
                wrong.push(format!("{count} {what}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(format!("of {} messages, {}", self.messages, wrong.join("; "))) }
    }
}

impl Faults {
    fn of(sent: Sent, arrivals: &Arrivals, without_status_delivered: u64) -> Self {
        let came = |n: u32, id| arrivals.first[n as usize].is_some_and(|(arrived, _)| arrived == id);
        Self {
            refused: sent.refused,
            lost: sent.samples.iter().filter(|sample| !came(sample.n, sample.id)).count() as u64,
            overtaken: arrivals.overtaken,
            repeated: arrivals.repeated,
            without_status_delivered,
            first_refusal: sent.first_refusal,
        }
    }
}

/// In microseconds, from 1 µs to an hour, to three digits.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in order"))
    }

    /// Nothing is shorter than no time: the 202 may be read after the message came.
    pub fn record(&mut self, from_ns: u64, to_ns: u64) {
        self.0.saturating_record(to_ns.saturating_sub(from_ns) / 1_000);
    }

    /// In milliseconds.
    pub fn percentiles(&self) -> Percentiles {
        let ms = |us: u64| us as f64 / 1_000.0;
        Percentiles {
            p50: ms(self.0.value_at_quantile(0.5)),
            p99: ms(self.0.value_at_quantile(0.99)),
            max: ms(self.0.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Sample;
    use super::*;
    use chat4all_proto::MessageId;

    fn id(n: u32) -> MessageId {
        MessageId::from_idempotency_key(&Default::default(), &n.to_string())
    }

    /// Ten messages of two conversations, accepted each; `came` came in that order.
    fn check(came: &[u32], without_status: u64, expected: Result<(), &str>) {
        let plan = Plan::new(10, 1, 2, 8, Pace::Closed);
        let sample = |n| Sample { n, id: id(n), due_ns: 1_000, accepted_ns: 2_000 };
        let sent = Sent { samples: (0..10).map(sample).collect(), refused: 0, first_refusal: None };
        let mut arrivals = Arrivals::new(&plan);
        for &n in came {
            arrivals.note(&plan, n, id(n), 3_000);
        }
        let time = Duration::from_micros(1);
        let report = Report::new(&plan, 0, sent, arrivals, time, Some(time), Usage::default(), without_status);
        match (report.verdict(), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
            (got, expected) => panic!("{came:?}: {got:?}, expected {expected:?}"),
        }
        assert!(report.table().contains("accepted") && report.json().contains("accept_ms"));
    }

    #[test]
    fn only_a_complete_and_ordered_run_counts() {
        check(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 0, Ok(()));
        check(&[1, 0, 3, 2, 4, 5, 6, 7, 9, 8], 0, Ok(())); // conversations need not wait for each other
        check(&[0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9], 0, Ok(())); // at least once
        check(&[2, 1, 0, 3, 4, 5, 6, 7, 8, 9], 0, Err("1 came after a later one"));
        check(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 0, Err("1 were accepted and never received"));
        check(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 3, Err("3 do not have status"));
    }
}
