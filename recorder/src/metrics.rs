//! Series of the recorder.

use std::time::Duration;

use chat4all_proto::DeliveryStatus;

chat4all_metrics::declare! {
    /// How long the status store took for a batch.
    static WRITE_DURATION: Histogram = "chat4all_status_write_duration_seconds", buckets chat4all_metrics::latency_buckets;
    "histogram_quantile(0.99, sum by (le) (rate(chat4all_status_write_duration_seconds_bucket[5m])))"

    /// Writes handed to the status store and not yet acknowledged.
    static PENDING: IntGauge = "chat4all_status_pending";
    "sum(chat4all_status_pending)"

    /// Statuses told because a provider's receipt and the delivery it is about came together.
    static RECEIPTS_JOINED: IntCounterVec = "chat4all_receipts_joined_total", ["status"];
    "sum by (status) (rate(chat4all_receipts_joined_total[5m]))"
}

/// Counts writes as pending until it is dropped.
pub(crate) struct Pending(i64);

impl Pending {
    pub(crate) fn of(writes: usize) -> Self {
        let writes = i64::try_from(writes).unwrap_or(i64::MAX);
        PENDING.add(writes);
        Self(writes)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        PENDING.sub(self.0);
    }
}

pub(crate) fn record_write(took: Duration) {
    WRITE_DURATION.observe(took.as_secs_f64());
}

pub(crate) fn record_joined(status: DeliveryStatus) {
    RECEIPTS_JOINED.with_label_values(&[status.as_str()]).inc();
}
