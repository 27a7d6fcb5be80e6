//! Series about actors and consumers.

use std::time::Duration;

use chat4all_metrics::prometheus::{Histogram, IntCounter};
use chat4all_proto::{DeadLetter, Topic, TopicPartition};
use chat4all_storage::log::Lease;

chat4all_metrics::declare! {
    /// Actors restarted after a panic.
    static ACTOR_RESTARTS: IntCounterVec = "chat4all_actor_restarts_total", ["actor"];
    "sum by (actor) (increase(chat4all_actor_restarts_total[1h]))"

    /// Records of a held partition that are not yet finished.
    static CONSUMER_LAG: IntGaugeVec = "chat4all_consumer_lag", ["group", "topic", "partition"];
    "sum by (group, topic) (chat4all_consumer_lag)"

    /// Records of held partitions finished since the process started: what moves while lag does not grow for want of work.
    static FINISHED: IntCounterVec = "chat4all_records_finished_total", ["group", "topic"];
    "sum by (group, topic) (rate(chat4all_records_finished_total[5m]))"

    /// Partitions that this process holds. In each group, a topic's sum over all processes is the number of its partitions, or nobody works some off.
    static HELD: IntGaugeVec = "chat4all_partitions_held", ["group", "topic"];
    "sum by (group, topic) (chat4all_partitions_held)"

    /// Epoch under which a partition is held. It grows each time that the partition changes hands.
    static EPOCH: IntGaugeVec = "chat4all_partition_epoch", ["group", "topic", "partition"];
    "max by (group, topic, partition) (chat4all_partition_epoch)"

    /// Partitions given to this process.
    static ASSIGNED: IntCounterVec = "chat4all_partitions_assigned_total", ["group", "topic"];
    "sum by (topic) (increase(chat4all_partitions_assigned_total[1h]))"

    /// Partitions taken from this process, or given back by it.
    static REVOKED: IntCounterVec = "chat4all_partitions_revoked_total", ["group", "topic"];
    "sum by (topic) (increase(chat4all_partitions_revoked_total[1h]))"

    /// From being given a partition until as many records were finished as waited in it then.
    static CATCH_UP: HistogramVec = "chat4all_partition_catch_up_seconds", ["group", "topic"], buckets chat4all_metrics::waiting_buckets;
    "histogram_quantile(0.99, sum by (le, topic) (rate(chat4all_partition_catch_up_seconds_bucket[1h])))"

    /// Deliveries that failed for good.
    static DEAD_LETTERS: IntCounterVec = "chat4all_dead_letters_total", ["channel", "reason"];
    "sum by (channel, reason) (increase(chat4all_dead_letters_total[1h]))"
}

/// Here, since several roles write dead letters.
pub fn record_dead_letter(letter: &DeadLetter) {
    DEAD_LETTERS.with_label_values(&[letter.delivery.to.channel.as_str(), letter.reason.as_str()]).inc();
}

pub(crate) fn record_restart(actor: &str) {
    ACTOR_RESTARTS.with_label_values(&[actor]).inc();
}

pub(crate) fn record_lag(group: &str, partition: &TopicPartition, lag: u64) {
    let (topic, number) = labels(partition);
    CONSUMER_LAG.with_label_values(&[group, &topic, &number]).set(i64::try_from(lag).unwrap_or(i64::MAX));
}

/// What becomes of one topic's records in one group.
pub(crate) struct Work {
    finished: IntCounter,
    catch_up: Histogram,
}

impl Work {
    pub(crate) fn of(group: &str, topic: &Topic) -> Self {
        let labels = [group, &topic.to_string()];
        Self { finished: FINISHED.with_label_values(&labels), catch_up: CATCH_UP.with_label_values(&labels) }
    }

    pub(crate) fn record_finished(&self, records: usize) {
        self.finished.inc_by(records as u64);
    }

    pub(crate) fn record_catch_up(&self, took: Duration) {
        self.catch_up.observe(took.as_secs_f64());
    }
}

/// Shows a lease as held until it is dropped.
pub(crate) struct Held {
    group: String,
    partition: TopicPartition,
}

impl Held {
    pub(crate) fn new(group: &str, lease: &Lease) -> Self {
        let (topic, number) = labels(&lease.partition);
        ASSIGNED.with_label_values(&[group, &topic]).inc();
        HELD.with_label_values(&[group, &topic]).inc();
        EPOCH.with_label_values(&[group, &topic, &number]).set(i64::try_from(lease.epoch).unwrap_or(i64::MAX));
        Self { group: group.to_owned(), partition: lease.partition.clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (topic, number) = labels(&self.partition);
        REVOKED.with_label_values(&[&self.group, &topic]).inc();
        HELD.with_label_values(&[&self.group, &topic]).dec();
        // What another process holds now. An absent series is as good as a removed one.
        let _ = EPOCH.remove_label_values(&[&self.group, &topic, &number]);
        let _ = CONSUMER_LAG.remove_label_values(&[&self.group, &topic, &number]);
    }
}

fn labels(partition: &TopicPartition) -> (String, String) {
    (partition.topic.to_string(), partition.partition.to_string())
}
