//! Works one partition of `messages`.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::envelope::Reason;
use chat4all_proto::window::Window;
use chat4all_proto::{ChannelName, Message, MessageId, Timestamp, Topic};
use chat4all_runtime::clock;
use chat4all_runtime::trace::{self, Open, Operation};
use chat4all_runtime::worker::InOrder;
use chat4all_runtime::worker::in_order::{Desk, Done, Failure, Process};
use chat4all_storage::crash_point;
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
/// Most bytes of one append, unless a single message becomes more (100 copies of 256 KiB).
const APPEND_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Most messages taken at a time. Each becomes at least two records.
const BATCH_MAX: usize = 1_000;

/// The actor of one partition of `messages`.
pub type PartitionRouter = InOrder<Router>;

/// Owns the partition's dedupe window. Asks the log for one append with its commit at a time.
pub struct Router {
    channels: Arc<BTreeSet<ChannelName>>,
    /// Filled from the log before the first batch.
    window: Rc<RefCell<Option<Window<RecordId>>>>,
    repeats_kept: Duration,
}

impl Router {
    pub fn new(channels: Arc<BTreeSet<ChannelName>>, repeats_kept: Duration) -> Self {
        Self { channels, window: Rc::default(), repeats_kept }
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
        let repeats_kept = self.repeats_kept;
        async move {
            if window.borrow().is_none() {
                let filled = read_back(&desk, repeats_kept).await?;
                *window.borrow_mut() = Some(filled);
            }
            if !desk.consumer.is_current() {
                return Err(Failure::Later("our membership is not confirmed".to_owned()));
            }
            let mut routing = Routing {
                channels: &channels,
                desk: &desk,
                records: Vec::new(),
                ids: HashMap::new(),
                bytes: 0,
                spans: Vec::new(),
            };
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

async fn read_back(desk: &Desk, kept: Duration) -> Result<Window<RecordId>, Failure> {
    let recent = desk.consumer.recent(&desk.lease.partition, desk.started_at, WINDOW).await;
    let mut window = Window::new(WINDOW, kept);
    for seen in recent.map_err(|error| Failure::Later(error.to_string()))? {
        window.insert(seen.id, seen.appended_at);
    }
    Ok(window)
}

/// One batch on its way.
struct Routing<'a> {
    channels: &'a BTreeSet<ChannelName>,
    desk: &'a Desk,
    records: Vec<NewRecord>,
    /// Of the values of `records`.
    bytes: usize,
    /// Of the messages whose records these are; the window learns them when they are written.
    ids: HashMap<RecordId, Timestamp>,
    /// Of the same messages, those that are worth one.
    spans: Vec<Routed>,
}

/// A message's span, which ends when its records are written.
struct Routed {
    span: Open,
    message_id: MessageId,
    addresses: u32,
    failure: Option<&'static str>,
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
        let more = (2 * message.to.len(), message.to.len() * record.value.len());
        if !self.records.is_empty() && !fits((self.records.len(), self.bytes), more) {
            self.write(record.offset, window).await?;
        }
        if self.is_repeat(record, window) {
            metrics::record_repeat();
            return Ok(());
        }
        let span = span(record, &message);
        let handed_on = span.filter(Open::is_sampled).map(|span| span.context().to_string().into());
        let around = Circumstances {
            channels: self.channels,
            router_epoch: self.desk.lease.epoch,
            partition: self.desk.lease.partition.partition,
            now: clock::now(),
            traceparent: handed_on.as_ref().or(record.traceparent.as_ref()),
        };
        // Loses a message, so that a drill can be seen to notice.
        fail::fail_point!("router::lose", |_| Ok(()));
        self.ids.insert(record.id, record.appended_at);
        let before = self.records.len();
        fan_out(&message, record, around, &mut self.records);
        let new = &self.records[before..];
        self.bytes += new.iter().map(|record| record.value.len()).sum::<usize>();
        if let Some(span) = span {
            let removed = new.iter().any(|record| record.topic == Topic::DeadLetters);
            if span.is_sampled() || removed {
                let failure = removed.then_some(Reason::ChannelRemoved.as_str());
                let addresses = message.to.len().try_into().unwrap_or(u32::MAX);
                self.spans.push(Routed { span, message_id: message.message_id, addresses, failure });
            }
        }
        Ok(())
    }

    fn is_repeat(&self, record: &Record, window: &RefCell<Option<Window<RecordId>>>) -> bool {
        let (id, at) = (record.id, record.appended_at);
        window.borrow().as_ref().is_some_and(|window| window.contains(id, at)) || self.ids.contains_key(&id)
    }

    /// Appends what has been routed and commits everything below `offset`.
    async fn write(&mut self, offset: u64, window: &RefCell<Option<Window<RecordId>>>) -> Result<(), Failure> {
        let records = std::mem::take(&mut self.records);
        self.bytes = 0;
        let routed: Vec<ChannelName> = records.iter().filter_map(|record| channel_of(&record.topic)).collect();
        let commit = Commit { lease: self.desk.lease.clone(), offset, metadata: String::new() };
        crash_point("router::before-write");
        self.desk.consumer.append_and_commit(records, commit).await?;
        crash_point("router::after-write");
        routed.iter().for_each(metrics::record_routed);
        self.spans.drain(..).for_each(Routed::end);
        if let Some(window) = window.borrow_mut().as_mut() {
            for (id, at) in self.ids.drain() {
                window.insert(id, at);
            }
        }
        Ok(())
    }
}

/// `None` where nothing would come of it.
fn span(record: &Record, message: &Message) -> Option<Open> {
    trace::tracer()?;
    Some(Open::begin(Operation::Route, trace::parent(record.traceparent.as_deref(), message.message_id)))
}

impl Routed {
    fn end(self) {
        self.span.end(self.failure, || {
            [
                ("messaging.message.id", self.message_id.to_string().into()),
                ("chat4all.addresses", self.addresses.into()),
            ]
        });
    }
}

/// Whether an append of so many records and bytes bears `more` of them.
fn fits((records, bytes): (usize, usize), more: (usize, usize)) -> bool {
    records + more.0 <= UNCOMMITTED_MAX && bytes + more.1 <= APPEND_BYTES_MAX
}

fn channel_of(topic: &Topic) -> Option<ChannelName> {
    match topic {
        Topic::Outbound(channel) => Some(channel.clone()),
        Topic::Messages
        | Topic::Parked(_)
        | Topic::StatusUpdates
        | Topic::DeadLetters
        | Topic::Inbound
        | Topic::Control => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_is_bounded_in_records_and_in_bytes() {
        assert!(fits((UNCOMMITTED_MAX - 2, 0), (2, 1_000)));
        assert!(!fits((UNCOMMITTED_MAX - 1, 0), (2, 1_000)));
        assert!(!fits((200, 100 * 256 * 1_024), (200, 100 * 256 * 1_024)), "few records, many bytes");
    }
}
