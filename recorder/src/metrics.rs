//! Series of the recorder.

use std::sync::LazyLock;
use std::time::Duration;

use chat4all_proto::DeliveryStatus;
use prometheus::{
    Histogram, IntCounterVec, IntGauge, register_histogram, register_int_counter_vec, register_int_gauge,
};

static WRITE_DURATION: LazyLock<Histogram> = LazyLock::new(|| {
    register_histogram!("chat4all_status_write_duration_seconds", "How long the status store took for a batch.")
        .expect("the name is registered once")
});
static PENDING: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!("chat4all_status_pending", "Writes handed to the status store and not yet acknowledged.")
        .expect("the name is registered once")
});
static RECEIPTS_JOINED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "chat4all_receipts_joined_total",
        "Statuses told because a provider's receipt and the delivery it is about came together.",
        &["status"]
    )
    .expect("the name is registered once")
});

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
