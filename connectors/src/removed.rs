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
    Some([outbox::dead_letter(&letter), outbox::status(&event)])
}
