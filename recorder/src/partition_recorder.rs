//! Works one partition of a topic that says something about messages.

use std::rc::Rc;
use std::sync::Arc;

use chat4all_proto::{Message, StatusEvent, Topic};
use chat4all_runtime::clock;
use chat4all_runtime::worker::InOrder;
use chat4all_runtime::worker::in_order::{Desk, Done, Failure, Process};
use chat4all_storage::Status;
use chat4all_storage::log::Record;
use chat4all_storage::status::Write;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tracing::error;

use crate::metrics;

/// Most records of one write.
const BATCH_MAX: usize = 2_000;

/// The actor of one partition of `messages` or `status-updates`.
pub type PartitionRecorder = InOrder<Recorder>;

/// Turns records into writes. A batch is written whole and may be written again.
pub struct Recorder {
    status: Arc<dyn Status>,
    read: fn(&[u8]) -> serde_json::Result<Write>,
}

impl Recorder {
    pub fn new(status: Arc<dyn Status>, topic: &Topic) -> Self {
        let read = if *topic == Topic::Messages { read_message } else { read_event };
        Self { status, read }
    }
}

fn read_message(value: &[u8]) -> serde_json::Result<Write> {
    serde_json::from_slice::<Message>(value).map(|message| Write::Message(Arc::new(message)))
}

fn read_event(value: &[u8]) -> serde_json::Result<Write> {
    serde_json::from_slice::<StatusEvent>(value).map(|event| Write::Event(Arc::new(event)))
}

impl Process for Recorder {
    const NAME: &'static str = "partition_recorder";

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    fn process(&self, batch: Rc<[Arc<Record>]>, desk: &Desk) -> LocalBoxFuture<'static, Result<Done, Failure>> {
        fail::fail_point!("recorder::process");
        let mut writes = Vec::with_capacity(batch.len());
        for record in batch.iter() {
            match (self.read)(&record.value) {
                Ok(write) => writes.push(write),
                Err(error) => {
                    let partition = &desk.lease.partition;
                    error!(%partition, offset = record.offset, %error, "an unreadable record is passed over; it stays on the log");
                }
            }
        }
        let status = Arc::clone(&self.status);
        async move {
            let _pending = metrics::Pending::of(writes.len());
            let started = clock::instant();
            status.write(writes).await.map_err(|error| Failure::Later(error.to_string()))?;
            metrics::record_write(started.elapsed());
            Ok(Done::Uncommitted)
        }
        .boxed_local()
    }
}
