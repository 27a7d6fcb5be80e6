//! The series of the API. Handles are looked up once, so that a request costs a few atomic additions.

use std::sync::LazyLock;
use std::time::Duration;

use chat4all_proto::{ChannelName, Topic};
use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, exponential_buckets, register_histogram_vec,
    register_int_counter, register_int_counter_vec,
};

use crate::call::Route;
use crate::error::Code;

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "chat4all_http_requests_total",
        "HTTP requests answered, by method, route and status.",
        &["method", "path", "status"]
    )
    .expect("the name is registered once")
});

static REQUEST_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "chat4all_http_request_duration_seconds",
        "Time from a request's head to its answer.",
        &["method", "path"],
        latency_buckets()
    )
    .expect("the name is registered once")
});

static ACCEPTED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("chat4all_messages_accepted_total", "Messages answered 202, repeats of a key included.")
        .expect("the name is registered once")
});

static REJECTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "chat4all_messages_rejected_total",
        "Messages not accepted, by the error code of the answer.",
        &["reason"]
    )
    .expect("the name is registered once")
});

static UNCLAIMED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "chat4all_idempotency_unclaimed_total",
        "Messages with a key or id of the client's that were handed over unclaimed, the status store being away or slow."
    )
    .expect("the name is registered once")
});

static MESSAGES_SECONDS: LazyLock<Histogram> =
    LazyLock::new(|| PUBLISH_SECONDS.with_label_values(&[Topic::Messages.to_string()]));

static PUBLISH_SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "chat4all_log_publish_duration_seconds",
        "Time from handing records to the log to its acknowledgement.",
        &["topic"],
        latency_buckets()
    )
    .expect("the name is registered once")
});

static CALLBACKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "chat4all_callback_events_total",
        "What providers called us with: receipts by status, inbound messages, and what was refused or passed over.",
        &["channel", "event"]
    )
    .expect("the name is registered once")
});

static REPLAYS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("chat4all_dead_letters_replayed_total", "Dead letters sent again.", &["channel"])
        .expect("the name is registered once")
});

static DELETED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("chat4all_dead_letters_deleted_total", "Dead letters deleted by hand.")
        .expect("the name is registered once")
});

/// 0.1 ms to 13 s.
fn latency_buckets() -> Vec<f64> {
    exponential_buckets(0.0001, 2.0, 18).expect("the arguments are positive")
}

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
