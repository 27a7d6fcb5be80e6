//! Works one partition of `messages`.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use chat4all_proto::window::Window;
use chat4all_proto::{ChannelName, Message, Topic};
use chat4all_runtime::clock;
use chat4all_runtime::worker::InOrder;
use chat4all_runtime::worker::in_order::{Desk, Done, Failure, Process};
use chat4all_storage::log::{Commit, NewRecord, Record, RecordId};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tracing::error;

use crate::fan_out::{Circumstances, fan_out};
use crate::metrics;

/// Ids of messages that are remembered to drop repeats of one id.
const WINDOW: usize = 65_536;
/// Most records that are appended and not yet committed: what a crash can leave there twice (Kafka).
const UNCOMMITTED_MAX: usize = 4_096;
/// Most messages taken at a time. Each becomes at least two records.
const BATCH_MAX: usize = 1_000;

/// The actor of one partition of `messages`.
pub type PartitionRouter = InOrder<Router>;

/// Owns the partition's dedupe window. Asks the log for one append with its commit at a time.
pub struct Router {
    channels: Arc<BTreeSet<ChannelName>>,
    /// Filled from the log before the first batch.
    window: Rc<RefCell<Option<Window<RecordId>>>>,
}

impl Router {
    pub fn new(channels: Arc<BTreeSet<ChannelName>>) -> Self {
        Self { channels, window: Rc::default() }
    }
}

impl Process for Router {
    const NAME: &'static str = "partition_router";

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn process(&self, batch: Rc<[Arc<Record>]>, desk: &Desk) -> LocalBoxFuture<'static, Result<Done, Failure>> {
        fail::fail_point!("router::process");
        let (channels, window, desk) = (Arc::clone(&self.channels), Rc::clone(&self.window), desk.clone());
        async move {
            if window.borrow().is_none() {
                let filled = read_back(&desk).await?;
                *window.borrow_mut() = Some(filled);
            }
            if !desk.consumer.is_current() {
                return Err(Failure::Later("our membership is not confirmed".to_owned()));
            }
            let mut routing = Routing { channels: &channels, desk: &desk, records: Vec::new(), ids: HashSet::new() };
            for record in batch.iter() {
                routing.route(record, &window).await?;
            }
            let last = batch.last().expect("a batch is not empty");
            routing.write(last.offset + 1, &window).await?;
            Ok(Done::Committed)
        }
        .boxed_local()
    }
}

async fn read_back(desk: &Desk) -> Result<Window<RecordId>, Failure> {
    let ids = desk.consumer.recent_ids(&desk.lease.partition, desk.started_at, WINDOW).await;
    let mut window = Window::new(WINDOW);
    for id in ids.map_err(|error| Failure::Later(error.to_string()))? {
        window.insert(id);
    }
    Ok(window)
}

/// One batch on its way.
struct Routing<'a> {
    channels: &'a BTreeSet<ChannelName>,
    desk: &'a Desk,
    records: Vec<NewRecord>,
    /// Of the messages whose records these are; the window learns them when they are written.
    ids: HashSet<RecordId>,
}

impl Routing<'_> {
    async fn route(&mut self, record: &Record, window: &RefCell<Option<Window<RecordId>>>) -> Result<(), Failure> {
        let message: Message = match serde_json::from_slice(&record.value) {
            Ok(message) => message,
            Err(error) => {
                let partition = &self.desk.lease.partition;
                error!(%partition, offset = record.offset, %error, "an unreadable message is passed over; it stays on the log");
                return Ok(());
            }
        };
        if self.records.len() + 2 * message.to.len() > UNCOMMITTED_MAX {
            self.write(record.offset, window).await?;
        }
        let around = Circumstances {
            channels: self.channels,
            router_epoch: self.desk.lease.epoch,
            partition: self.desk.lease.partition.partition,
            now: clock::now(),
        };
        if self.is_repeat(record.id, window) {
            metrics::record_repeat();
            return Ok(());
        }
        self.ids.insert(record.id);
        fan_out(&message, record, around, &mut self.records);
        Ok(())
    }

    fn is_repeat(&self, id: RecordId, window: &RefCell<Option<Window<RecordId>>>) -> bool {
        window.borrow().as_ref().is_some_and(|window| window.contains(id)) || self.ids.contains(&id)
    }

    /// Appends what has been routed and commits everything below `offset`.
    async fn write(&mut self, offset: u64, window: &RefCell<Option<Window<RecordId>>>) -> Result<(), Failure> {
        let records = std::mem::take(&mut self.records);
        let routed: Vec<ChannelName> = records.iter().filter_map(|record| channel_of(&record.topic)).collect();
        let commit = Commit { lease: self.desk.lease.clone(), offset, metadata: String::new() };
        self.desk.consumer.append_and_commit(records, commit).await?;
        routed.iter().for_each(metrics::record_routed);
        if let Some(window) = window.borrow_mut().as_mut() {
            for id in self.ids.drain() {
                window.insert(id);
            }
        }
        Ok(())
    }
}

fn channel_of(topic: &Topic) -> Option<ChannelName> {
    match topic {
        Topic::Outbound(channel) => Some(channel.clone()),
        Topic::Messages | Topic::StatusUpdates | Topic::DeadLetters | Topic::Control => None,
    }
}
