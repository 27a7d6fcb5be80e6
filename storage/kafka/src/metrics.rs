//! Series of what must not happen often: gaps, late commits, producers that fail for good.

use std::sync::LazyLock;

use chat4all_proto::Topic;
use prometheus::{IntCounter, IntCounterVec, register_int_counter, register_int_counter_vec};

const ONCE: &str = "the name is registered once";

static SKIPPED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "chat4all_log_gaps_total",
        "Times that records were deleted before a group had finished them.",
        &["topic"]
    )
    .expect(ONCE)
});
static REFUSED: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!(
        "chat4all_log_commits_refused_total",
        "Commits for partitions that another holder has taken over."
    )
    .expect(ONCE)
});
static PRODUCER_FAILURES: LazyLock<IntCounter> = LazyLock::new(|| {
    register_int_counter!("chat4all_log_producer_failures_total", "Producers that failed for good and were made anew.")
        .expect(ONCE)
});

static SILENT: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "chat4all_log_silences_total",
        "Times that a partition was taken anew because its records had stopped coming.",
        &["topic"]
    )
    .expect(ONCE)
});

/// A partition of `topic` had fallen silent.
pub(crate) fn record_silence(topic: &Topic) {
    SILENT.with_label_values(&[&topic.to_string()]).inc();
}

/// Records of `topic` were gone before they were read.
pub(crate) fn record_skipped(topic: &Topic) {
    SKIPPED.with_label_values(&[&topic.to_string()]).inc();
}

pub(crate) fn record_refused(commits: usize) {
    REFUSED.inc_by(commits as u64);
}

pub(crate) fn record_producer_failure() {
    PRODUCER_FAILURES.inc();
}
