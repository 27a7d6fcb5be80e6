//! Series of what must not happen often: gaps, late commits, producers that fail for good.

use chat4all_proto::Topic;

chat4all_metrics::declare! {
    /// Times that records were deleted before a group had finished them.
    static SKIPPED: IntCounterVec = "chat4all_log_gaps_total", ["topic"];
    "sum by (topic) (increase(chat4all_log_gaps_total[1d]))"

    /// Commits for partitions that another holder has taken over.
    static REFUSED: IntCounter = "chat4all_log_commits_refused_total";
    "sum(increase(chat4all_log_commits_refused_total[1h]))"

    /// Producers that failed for good and were made anew.
    static PRODUCER_FAILURES: IntCounter = "chat4all_log_producer_failures_total";
    "sum(increase(chat4all_log_producer_failures_total[1h]))"

    /// Times that a partition was taken anew because its records had stopped coming.
    static SILENT: IntCounterVec = "chat4all_log_silences_total", ["topic"];
    "sum by (topic) (increase(chat4all_log_silences_total[1h]))"
}

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
