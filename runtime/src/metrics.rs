//! Series about actors and consumers.

use std::sync::LazyLock;

use chat4all_proto::{DeadLetter, TopicPartition};
use prometheus::{IntCounterVec, IntGaugeVec, register_int_counter_vec, register_int_gauge_vec};

static ACTOR_RESTARTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("chat4all_actor_restarts_total", "Actors restarted after a panic.", &["actor"])
        .expect("the name is registered once")
});

static CONSUMER_LAG: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "chat4all_consumer_lag",
        "Records of a held partition that are not yet finished.",
        &["topic", "partition"]
    )
    .expect("the name is registered once")
});

static DEAD_LETTERS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("chat4all_dead_letters_total", "Deliveries that failed for good.", &["channel", "reason"])
        .expect("the name is registered once")
});

/// Here, since several roles write dead letters.
pub fn record_dead_letter(letter: &DeadLetter) {
    DEAD_LETTERS.with_label_values(&[letter.delivery.to.channel.as_str(), letter.reason.as_str()]).inc();
}

pub(crate) fn record_restart(actor: &str) {
    ACTOR_RESTARTS.with_label_values(&[actor]).inc();
}

pub(crate) fn record_lag(partition: &TopicPartition, lag: u64) {
    CONSUMER_LAG
        .with_label_values(&[&partition.topic.to_string(), &partition.partition.to_string()])
        .set(i64::try_from(lag).unwrap_or(i64::MAX));
}

/// For a partition that another process holds now.
pub(crate) fn forget_lag(partition: &TopicPartition) {
    // An absent series is as good as a removed one.
    let _ = CONSUMER_LAG.remove_label_values(&[&partition.topic.to_string(), &partition.partition.to_string()]);
}
