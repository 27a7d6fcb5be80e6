//! Works off what waits for a channel that is no longer configured: every delivery fails with `channel_removed`, and its
//! dead letter keeps all that a replay needs.

use std::rc::Rc;
use std::sync::Arc;

use chat4all_proto::envelope::{DeadLetter, Reason, Source, V1};
use chat4all_proto::{DeliveryStatus, Outbound, Parked, Topic};
use chat4all_runtime::clock;
use chat4all_runtime::worker::InOrder;
use chat4all_runtime::worker::in_order::{Desk, Done, Failure, Process};
use chat4all_storage::log::{Commit, Record};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tracing::error;

use crate::outbox;

/// Most deliveries of one append.
const BATCH_MAX: usize = 500;

/// The actor of one partition of such a channel.
pub type PartitionRemoved = InOrder<Removed>;

pub struct Removed;

impl Process for Removed {
    const NAME: &'static str = "partition_removed";

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn process(&self, batch: Rc<[Arc<Record>]>, desk: &Desk) -> LocalBoxFuture<'static, Result<Done, Failure>> {
        let desk = desk.clone();
        async move {
            let records = batch.iter().filter_map(|record| failed(record, &desk)).flatten().collect();
            let offset = batch.last().expect("a batch is not empty").offset + 1;
            let commit = Commit { lease: desk.lease.clone(), offset, metadata: String::new() };
            desk.consumer.append_and_commit(records, commit).await?;
            Ok(Done::Committed)
        }
        .boxed_local()
    }
}

fn failed(record: &Record, desk: &Desk) -> Option<[chat4all_storage::log::NewRecord; 2]> {
    let partition = &desk.lease.partition;
    let read = match &partition.topic {
        Topic::Parked(_) => {
            serde_json::from_slice(&record.value).map(|Parked { delivery, .. }| Outbound::clone(&delivery))
        }
        _ => serde_json::from_slice(&record.value),
    };
    let delivery = read
        .inspect_err(|error| {
            error!(%partition, offset = record.offset, %error, "an unreadable record is passed over; it stays on the log");
        })
        .ok()?;
    let now = clock::now();
    let mut event = delivery.event(DeliveryStatus::Failed, now);
    event.reason = Some(Reason::ChannelRemoved);
    let letter = DeadLetter {
        v: V1,
        reason: Reason::ChannelRemoved,
        attempts: 0,
        code: None,
        failed_at: now,
        source: Source { topic: partition.topic.to_string(), partition: partition.partition, offset: record.offset },
        delivery,
    };
    let traceparent = || record.traceparent.clone();
    Some([outbox::dead_letter(&letter, traceparent()), outbox::status(&event, traceparent())])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chat4all_proto::{ChannelName, Generation, Key, Topic, TopicPartition};
    use chat4all_runtime::Shutdown;
    use chat4all_runtime::worker::Limits;
    use chat4all_storage::Log;
    use chat4all_storage::log::memory::MemoryLog;
    use chat4all_storage::log::{NewRecord, RecordId, TopicKind, TopicSpec};

    use super::*;

    const DELIVERY: &str = include_str!("../../proto/golden/outbound.json");
    const PARKED: &str = include_str!("../../proto/golden/parked.json");

    #[actix::test]
    async fn what_is_parked_ends_too() {
        let (log, channel) = (MemoryLog::new(), "old".parse::<ChannelName>().expect("a channel name"));
        let of_channel = [Topic::Outbound(channel.clone()), Topic::Parked(channel.clone())];
        let kind = TopicKind::Stream { retention: Duration::from_secs(3_600) };
        let topics = of_channel.iter().cloned().chain([Topic::StatusUpdates, Topic::DeadLetters]);
        let specs: Vec<_> = topics.map(|topic| TopicSpec { topic, partitions: 2, kind: kind.clone() }).collect();
        log.ensure_topics(&specs).await.expect("the topics are new");
        let records = of_channel.iter().flat_map(|topic| (0..10).map(|n| delivery(topic, n))).collect();
        log.append(records).await.expect("the log is there");
        let limits = Limits { records_max: 100, bytes_max: 1 << 20 };
        let log: Arc<dyn Log> = log;
        let _worker = crate::start_removed(&channel, limits, Duration::from_millis(5), &log, &Shutdown::new());
        let ended = async {
            for topic in &of_channel {
                while log.committed(&crate::group(&channel), topic).await != log.ends(topic).await {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("all of it ends");
        let mut letters = Vec::new();
        let reader = log.subscribe("reader", &[Topic::DeadLetters]).await.expect("the log is there").consumer;
        for number in 0..2 {
            let partition = TopicPartition::new(Topic::DeadLetters, number);
            letters.extend(reader.read(&partition, 0, 100).await.expect("the log is there"));
        }
        let sources = letters.iter().map(|letter| serde_json::from_slice::<DeadLetter>(&letter.value));
        let sources: Vec<String> = sources.map(|letter| letter.expect("a dead letter").source.topic).collect();
        for topic in &of_channel {
            let count = sources.iter().filter(|source| **source == topic.to_string()).count();
            assert_eq!(count, 10, "{topic}: {sources:?}");
        }
    }

    fn delivery(topic: &Topic, n: u128) -> NewRecord {
        NewRecord {
            topic: topic.clone(),
            key: Key::raw(format!("default/{n}")),
            id: RecordId { uuid: uuid::Uuid::from_u128(n), generation: Generation(0) },
            value: if matches!(topic, Topic::Parked(_)) { PARKED } else { DELIVERY }.trim().into(),
            traceparent: None,
            once: None,
        }
    }
}
