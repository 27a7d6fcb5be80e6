//! Looks at the joins that a batch touched, and puts on the log what they tell.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_proto::envelope::Source;
use chat4all_proto::{DeadLetter, DeliveryStatus, Key, StatusEvent, Topic};
use chat4all_runtime::clock;
use chat4all_runtime::worker::in_order::{Desk, Failure};
use chat4all_storage::Status;
use chat4all_storage::log::{NewRecord, RecordId};
use chat4all_storage::status::{self, JoinKey, Write};
use tracing::error;

use crate::joined::Joined;
use crate::metrics;

/// Most records of one append, and most bytes of their values; what one join tells is never parted.
const APPEND_RECORDS_MAX: usize = 1_000;
const APPEND_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// The keys that a batch touched, each with the offset of the last record that did.
#[derive(Debug, Default)]
pub struct Touched(BTreeMap<JoinKey, u64>);

impl Touched {
    /// Only events and receipts are halves of joins.
    pub fn by(&mut self, write: &Write, offset: u64) {
        let keys = match write {
            Write::Event(event) => JoinKey::of_event(event),
            Write::Receipt(receipt) => JoinKey::of_receipt(receipt),
            Write::Message(_) | Write::DeadLetter(_) | Write::Inbound(_) => return,
        };
        self.0.extend(keys.into_iter().map(|key| (key, offset)));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Joins for one partition of `status-updates`.
#[derive(Clone)]
pub struct Joiner {
    status: Arc<dyn Status>,
    message_wait_max: Duration,
    /// The batch, named by its first offset, that waits for the row of a message, and since when.
    waiting: Rc<Cell<Option<(u64, Instant)>>>,
}

impl Joiner {
    pub fn new(status: Arc<dyn Status>, message_wait_max: Duration) -> Self {
        Self { status, message_wait_max, waiting: Rc::default() }
    }

    /// Appends the status of every join that has both halves, after its dead letter if it is `failed`. What is appended
    /// twice after a failure is harmless: its rows are the same. The batch, whose first offset is `batch`, is written.
    pub async fn join(&self, touched: Touched, batch: u64, desk: &Desk) -> Result<(), Failure> {
        let keys: Vec<JoinKey> = touched.0.keys().cloned().collect();
        let joins = self.status.joins(&keys).await.map_err(later)?;
        let mut append = Append { desk, records: Vec::new(), bytes: 0, joined: Vec::new() };
        for (join, offset) in joins.into_iter().zip(touched.0.into_values()) {
            let Some(joined) = Joined::of(join) else { continue };
            let dead_letter = match joined.event.status {
                DeliveryStatus::Failed => self.dead_letter(&joined, offset, batch, desk).await?,
                _ => None,
            };
            append.push(dead_letter, &joined.event);
            if append.is_full() {
                append.write().await?;
            }
        }
        append.write().await
    }

    /// `Later` while the message's row has not come; `None` when it was waited for too long.
    async fn dead_letter(
        &self,
        joined: &Joined,
        offset: u64,
        batch: u64,
        desk: &Desk,
    ) -> Result<Option<DeadLetter>, Failure> {
        let (tenant, message_id) = (&joined.event.tenant, joined.event.message_id);
        if let Some(message) = self.status.accepted(tenant, message_id).await.map_err(later)? {
            let partition = &desk.lease.partition;
            let source = Source { topic: partition.topic.to_string(), partition: partition.partition, offset };
            return Ok(joined.dead_letter(message, source));
        }
        if self.waited(batch) < self.message_wait_max {
            return Err(Failure::Later(format!("message `{message_id}` is not in the status store yet")));
        }
        error!(%message_id, "a delivery failed and has no dead letter: its message is not in the status store");
        Ok(None)
    }

    /// How long `batch` has waited; it begins now if it has not yet.
    fn waited(&self, batch: u64) -> Duration {
        let now = clock::instant();
        let since = self.waiting.get().filter(|(waiting, _)| *waiting == batch).map_or(now, |(_, since)| since);
        self.waiting.set(Some((batch, since)));
        now.saturating_duration_since(since)
    }
}

fn later(error: status::Error) -> Failure {
    Failure::Later(error.to_string())
}

/// Records on their way to the log.
struct Append<'a> {
    desk: &'a Desk,
    records: Vec<NewRecord>,
    /// Of the values of `records`.
    bytes: usize,
    /// The statuses among `records`.
    joined: Vec<DeliveryStatus>,
}

impl Append<'_> {
    fn push(&mut self, dead_letter: Option<DeadLetter>, event: &StatusEvent) {
        let id = RecordId { uuid: event.delivery_id.as_uuid(), generation: event.generation };
        let records = dead_letter
            .map(|letter| record(Topic::DeadLetters, letter.key(), id, serde_json::to_vec(&letter)))
            .into_iter()
            .chain([record(Topic::StatusUpdates, event.key(), id, serde_json::to_vec(event))]);
        for record in records {
            self.bytes += record.value.len();
            self.records.push(record);
        }
        self.joined.push(event.status);
    }

    fn is_full(&self) -> bool {
        self.records.len() >= APPEND_RECORDS_MAX || self.bytes >= APPEND_BYTES_MAX
    }

    async fn write(&mut self) -> Result<(), Failure> {
        if self.records.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        self.desk.consumer.append(&self.desk.lease, std::mem::take(&mut self.records)).await?;
        self.joined.drain(..).for_each(metrics::record_joined);
        Ok(())
    }
}

fn record(topic: Topic, key: Key, id: RecordId, value: serde_json::Result<Vec<u8>>) -> NewRecord {
    let value = value.expect("an envelope is plain data").into();
    NewRecord { topic, key, id, value, traceparent: None, once: None }
}
