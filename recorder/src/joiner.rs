//! Looks at the joins that a batch touched, and puts on the log what they tell.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use chat4all_proto::envelope::Source;
use chat4all_proto::{DeadLetter, DeliveryStatus, Key, StatusEvent, Timestamp, Topic};
use chat4all_runtime::metrics::record_dead_letter;
use chat4all_runtime::trace::Open;
use chat4all_runtime::worker::in_order::{Desk, Failure};
use chat4all_storage::log::{self, NewRecord, Record, RecordId};
use chat4all_storage::status::{self, Join, JoinKey, Write};
use chat4all_storage::{Log, Status};
use tracing::error;

use crate::GROUP;
use crate::joined::Joined;
use crate::metrics;
use crate::trace;

/// Most records of one append, and most bytes of their values; what one join tells is never parted.
const APPEND_RECORDS_MAX: usize = 1_000;
const APPEND_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// The keys that a batch touched, each with the last record that did.
#[derive(Debug, Default)]
pub struct Touched(BTreeMap<JoinKey, Touch>);

#[derive(Debug, Clone, Copy)]
struct Touch {
    offset: u64,
    appended_at: Timestamp,
}

impl Touched {
    /// Only events and receipts are halves of joins.
    pub fn by(&mut self, write: &Write, record: &Record) {
        let keys = match write {
            Write::Event(event) => JoinKey::of_event(event),
            Write::Receipt(receipt) => JoinKey::of_receipt(receipt),
            Write::Message(_) | Write::DeadLetter(_) | Write::Inbound(_) => return,
        };
        let touch = Touch { offset: record.offset, appended_at: record.appended_at };
        self.0.extend(keys.into_iter().map(|key| (key, touch)));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Joins for one partition of `status-updates`.
#[derive(Clone)]
pub struct Joiner {
    log: Arc<dyn Log>,
    status: Arc<dyn Status>,
    waiting: Rc<RefCell<Option<Waiting>>>,
}

/// A batch that waits for the row of a message.
struct Waiting {
    /// Its first offset.
    batch: u64,
    /// Where `messages` ended when the row was missed: the message is below, since it was there before its statuses.
    ends: Vec<u64>,
}

impl Joiner {
    pub fn new(log: Arc<dyn Log>, status: Arc<dyn Status>) -> Self {
        Self { log, status, waiting: Rc::default() }
    }

    /// Appends the status of every join that has both halves, after its dead letter if it is `failed`. What is appended
    /// twice after a failure is harmless: its rows are the same. The batch, whose first offset is `batch`, is written.
    pub async fn join(&self, touched: Touched, batch: u64, desk: &Desk) -> Result<(), Failure> {
        let keys: Vec<JoinKey> = touched.0.keys().cloned().collect();
        let joins = self.joins(&keys).await?;
        let mut append = Append { desk, records: Vec::new(), bytes: 0, joined: Vec::new() };
        for (join, Touch { offset, appended_at }) in joins.into_iter().zip(touched.0.into_values()) {
            let Some(joined) = Joined::of(join) else { continue };
            let span = trace::receipt(&joined.event, appended_at);
            let dead_letter = match joined.event.status {
                DeliveryStatus::Failed => self.dead_letter(&joined, offset, batch, desk).await?,
                _ => None,
            };
            append.push(dead_letter, joined.event, span);
            if append.is_full() {
                append.write().await?;
            }
        }
        append.write().await
    }

    /// What is stored under each key. A row that cannot be read holds up nobody else: it counts as empty.
    async fn joins(&self, keys: &[JoinKey]) -> Result<Vec<Join>, Failure> {
        match self.status.joins(keys).await {
            Ok(joins) => Ok(joins),
            Err(status::Error::Refused(_)) => self.joins_one_by_one(keys).await,
            Err(error) => Err(later(error)),
        }
    }

    async fn joins_one_by_one(&self, keys: &[JoinKey]) -> Result<Vec<Join>, Failure> {
        let mut joins = Vec::with_capacity(keys.len());
        for key in keys {
            joins.push(match self.status.joins(std::slice::from_ref(key)).await {
                Ok(mut join) => join.pop().unwrap_or_default(),
                Err(error @ status::Error::Refused(_)) => {
                    error!(channel = %key.channel, id = key.id, %error, "a receipt is passed over: its row cannot be read");
                    Join::default()
                }
                Err(error) => return Err(later(error)),
            });
        }
        Ok(joins)
    }

    /// `Later` while the message's row may still come; `None` when it cannot any more.
    async fn dead_letter(
        &self,
        joined: &Joined,
        offset: u64,
        batch: u64,
        desk: &Desk,
    ) -> Result<Option<DeadLetter>, Failure> {
        let (tenant, message_id) = (&joined.event.tenant, joined.event.message_id);
        // Asked before the row is looked for: whoever has passed the message has written its row.
        let is_past = self.is_past_messages(batch).await?;
        if let Some(message) = self.status.accepted(tenant, message_id).await.map_err(later)? {
            let partition = &desk.lease.partition;
            let source = Source { topic: partition.topic.to_string(), partition: partition.partition, offset };
            return Ok(joined.dead_letter(message, source));
        }
        if !is_past {
            return Err(Failure::Later(format!("message `{message_id}` is not in the status store yet")));
        }
        error!(%message_id, "a delivery failed and has no dead letter: its message is not in the status store");
        Ok(None)
    }

    /// Whether the recorders have finished everything that was on `messages` when this was first asked for `batch`.
    async fn is_past_messages(&self, batch: u64) -> Result<bool, Failure> {
        let unavailable = |error: log::Error| Failure::Later(error.to_string());
        let noted = self.waiting.borrow().as_ref().filter(|waiting| waiting.batch == batch).map(|it| it.ends.clone());
        let ends = match noted {
            Some(ends) => ends,
            None => self.log.ends(&Topic::Messages).await.map_err(unavailable)?,
        };
        let committed = self.log.committed(GROUP, &Topic::Messages).await.map_err(unavailable)?;
        let is_past = committed.iter().zip(&ends).all(|(committed, end)| committed >= end);
        *self.waiting.borrow_mut() = Some(Waiting { batch, ends });
        Ok(is_past)
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
    /// The statuses and dead letters among `records`.
    joined: Vec<(StatusEvent, Option<DeadLetter>, Option<Open>)>,
}

impl Append<'_> {
    fn push(&mut self, dead_letter: Option<DeadLetter>, event: StatusEvent, span: Option<Open>) {
        let id = RecordId { uuid: event.delivery_id.as_uuid(), generation: event.generation };
        let traceparent = span.as_ref().and_then(|span| trace::carried(&event, span));
        let records = dead_letter
            .as_ref()
            .map(|letter| record(Topic::DeadLetters, letter.key(), id, serde_json::to_vec(letter)))
            .into_iter()
            .chain([record(Topic::StatusUpdates, event.key(), id, serde_json::to_vec(&event))]);
        for record in records {
            let record = NewRecord { traceparent: traceparent.clone(), ..record };
            self.bytes += record.value.len();
            self.records.push(record);
        }
        self.joined.push((event, dead_letter, span));
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
        for (event, dead_letter, span) in self.joined.drain(..) {
            metrics::record_joined(event.status);
            dead_letter.iter().for_each(record_dead_letter);
            if let Some(span) = span {
                trace::end(span, &event);
            }
        }
        Ok(())
    }
}

fn record(topic: Topic, key: Key, id: RecordId, value: serde_json::Result<Vec<u8>>) -> NewRecord {
    let value = value.expect("an envelope is plain data").into();
    NewRecord { topic, key, id, value, traceparent: None, once: None }
}
