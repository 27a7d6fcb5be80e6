//! The series of the API. Handles are looked up once, so that a request costs a few atomic additions.

use std::sync::LazyLock;
use std::time::Duration;

use chat4all_metrics::prometheus::{Histogram, IntCounter};
use chat4all_proto::{ChannelName, Topic};

use crate::call::Route;
use crate::error::Code;

chat4all_metrics::declare! {
    /// HTTP requests answered, by method, route and status.
    static REQUESTS: IntCounterVec = "chat4all_http_requests_total", ["method", "path", "status"];
    "sum by (path, status) (rate(chat4all_http_requests_total[5m]))"

    /// Time from a request's head to its answer.
    static REQUEST_SECONDS: HistogramVec = "chat4all_http_request_duration_seconds", ["method", "path"], buckets chat4all_metrics::latency_buckets;
    "histogram_quantile(0.99, sum by (le) (rate(chat4all_http_request_duration_seconds_bucket{path=~\"/v1/messages.*\"}[5m])))"

    /// Messages answered 202, repeats of a key included.
    static ACCEPTED: IntCounter = "chat4all_messages_accepted_total";
    "sum(rate(chat4all_messages_accepted_total[5m]))"

    /// Messages not accepted, by the error code of the answer.
    static REJECTED: IntCounterVec = "chat4all_messages_rejected_total", ["reason"];
    "sum by (reason) (rate(chat4all_messages_rejected_total[5m]))"

    /// Messages with a key or id of the client's that were handed over unclaimed, the status store being away or slow.
    static UNCLAIMED: IntCounter = "chat4all_idempotency_unclaimed_total";
    "sum(increase(chat4all_idempotency_unclaimed_total[1h]))"

    /// Time from handing records to the log to its acknowledgement.
    static PUBLISH_SECONDS: HistogramVec = "chat4all_log_publish_duration_seconds", ["topic"], buckets chat4all_metrics::latency_buckets;
    "histogram_quantile(0.99, sum by (le, topic) (rate(chat4all_log_publish_duration_seconds_bucket[5m])))"

    /// What providers called us with: receipts by status, inbound messages, and what was refused or passed over.
    static CALLBACKS: IntCounterVec = "chat4all_callback_events_total", ["channel", "event"];
    "sum by (channel, event) (rate(chat4all_callback_events_total[5m]))"

    /// Dead letters sent again.
    static REPLAYS: IntCounterVec = "chat4all_dead_letters_replayed_total", ["channel"];
    "sum by (channel) (increase(chat4all_dead_letters_replayed_total[1h]))"

    /// Dead letters deleted by hand.
    static DELETED: IntCounter = "chat4all_dead_letters_deleted_total";
    "sum(increase(chat4all_dead_letters_deleted_total[1d]))"
}

static MESSAGES_SECONDS: LazyLock<Histogram> =
    LazyLock::new(|| PUBLISH_SECONDS.with_label_values(&[Topic::Messages.to_string()]));

/// The statuses that have a handle of their own: all that the API answers.
const STATUSES: [u16; 14] = [200, 202, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 500, 503];

struct RouteSeries {
    by_status: Vec<IntCounter>,
    other: IntCounter,
    seconds: Histogram,
}

static ROUTES: LazyLock<Vec<RouteSeries>> = LazyLock::new(|| Route::ALL.into_iter().map(RouteSeries::of).collect());

impl RouteSeries {
    fn of(route: Route) -> Self {
        let (method, path) = route.labels();
        let counter = |status: &str| REQUESTS.with_label_values(&[method, path, status]);
        Self {
            by_status: STATUSES.iter().map(|status| counter(&status.to_string())).collect(),
            other: counter("other"),
            seconds: REQUEST_SECONDS.with_label_values(&[method, path]),
        }
    }
}

pub fn record_request(route: Route, status: u16, took: Duration) {
    let series = &ROUTES[route as usize];
    match STATUSES.iter().position(|&known| known == status) {
        Some(index) => series.by_status[index].inc(),
        None => series.other.inc(),
    }
    series.seconds.observe(took.as_secs_f64());
}

pub fn record_accepted() {
    ACCEPTED.inc();
}

pub fn record_rejected(code: Code) {
    REJECTED.with_label_values(&[code.row().code]).inc();
}

pub fn record_unclaimed(messages: usize) {
    UNCLAIMED.inc_by(messages as u64);
}

pub fn record_publish(topic: &Topic, took: Duration) {
    match topic {
        Topic::Messages => MESSAGES_SECONDS.observe(took.as_secs_f64()),
        other => PUBLISH_SECONDS.with_label_values(&[other.to_string()]).observe(took.as_secs_f64()),
    }
}

pub fn record_callback(channel: &ChannelName, event: &str) {
    CALLBACKS.with_label_values(&[channel.as_str(), event]).inc();
}

pub fn record_deleted(letters: u64) {
    DELETED.inc_by(letters);
}

pub fn record_replay(channel: &ChannelName) {
    REPLAYS.with_label_values(&[channel.as_str()]).inc();
}
