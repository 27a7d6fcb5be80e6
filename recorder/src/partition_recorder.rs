//! Works one partition of a topic that says something about messages.

use std::rc::Rc;
use std::sync::Arc;

use chat4all_proto::{DeadLetter, Inbound, Message, StatusUpdate, Topic};
use chat4all_runtime::clock;
use chat4all_runtime::worker::InOrder;
use chat4all_runtime::worker::in_order::{Desk, Done, Failure, Process};
use chat4all_storage::log::Record;
use chat4all_storage::status::Write;
use chat4all_storage::{Log, Status, crash_point};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tracing::error;

use crate::joiner::{Joiner, Touched};
use crate::metrics;
use crate::trace::Spans;

/// Most records of one write.
const BATCH_MAX: usize = 2_000;

/// The actor of one partition of `messages`, `status-updates`, `dead-letters` or `inbound`.
pub type PartitionRecorder = InOrder<Recorder>;

/// Turns records into writes, then tells what receipts say. A batch is written whole and may be written again.
pub struct Recorder {
    status: Arc<dyn Status>,
    read: fn(&[u8]) -> serde_json::Result<Write>,
    joiner: Joiner,
}

impl Recorder {
    pub fn new(log: Arc<dyn Log>, status: Arc<dyn Status>, topic: &Topic) -> Self {
        let joiner = Joiner::new(log, Arc::clone(&status));
        Self { status, read: reader(topic), joiner }
    }
}

fn reader(topic: &Topic) -> fn(&[u8]) -> serde_json::Result<Write> {
    match topic {
        Topic::Messages => |value| serde_json::from_slice::<Message>(value).map(|read| Write::Message(Arc::new(read))),
        Topic::StatusUpdates => |value| StatusUpdate::read(value).map(update),
        Topic::DeadLetters => {
            |value| serde_json::from_slice::<DeadLetter>(value).map(|read| Write::DeadLetter(Arc::new(read)))
        }
        Topic::Inbound => |value| serde_json::from_slice::<Inbound>(value).map(|read| Write::Inbound(Arc::new(read))),
        Topic::Outbound(_) | Topic::Parked(_) | Topic::Control => unreachable!("the recorder does not subscribe to it"),
    }
}

fn update(update: StatusUpdate) -> Write {
    match update {
        StatusUpdate::Event(event) => Write::Event(Arc::from(event)),
        StatusUpdate::Receipt(receipt) => Write::Receipt(Arc::new(receipt)),
    }
}

impl Process for Recorder {
    const NAME: &'static str = "partition_recorder";

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn process(&self, batch: Rc<[Arc<Record>]>, desk: &Desk) -> LocalBoxFuture<'static, Result<Done, Failure>> {
        fail::fail_point!("recorder::process");
        let mut writes = Vec::with_capacity(batch.len());
        let mut touched = Touched::default();
        let mut spans = Spans::begin();
        for record in batch.iter() {
            match (self.read)(&record.value) {
                Ok(write) => {
                    touched.by(&write, record);
                    spans.of(&write, record);
                    writes.push(write);
                }
                Err(error) => {
                    let partition = &desk.lease.partition;
                    error!(%partition, offset = record.offset, %error, "an unreadable record is passed over; it stays on the log");
                }
            }
        }
        let (status, joiner, desk) = (Arc::clone(&self.status), self.joiner.clone(), desk.clone());
        async move {
            write(&*status, writes).await?;
            spans.end();
            if !touched.is_empty() {
                let first = batch.first().expect("a batch is not empty").offset;
                joiner.join(touched, first, &desk).await?;
            }
            Ok(Done::Uncommitted)
        }
        .boxed_local()
    }
}

async fn write(status: &dyn Status, writes: Vec<Write>) -> Result<(), Failure> {
    let _pending = metrics::Pending::of(writes.len());
    let started = clock::instant();
    crash_point("recorder::before-write");
    status.write(writes).await.map_err(|error| Failure::Later(error.to_string()))?;
    crash_point("recorder::after-write");
    metrics::record_write(started.elapsed());
    Ok(())
}
