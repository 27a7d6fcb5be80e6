//! What a partition has to say to the log: statuses, dead letters and parked copies, appended one batch at a time in the
//! order they came about. The engine hears of what it waits for only when the log has acknowledged it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use chat4all_engine::{At, Event};
use chat4all_proto::{ChannelName, DeadLetter, Key, Parked, StatusEvent, Topic};
use chat4all_storage::crash_point;
use chat4all_storage::log::{AppendError, Appended, Consumer, Lease, NewRecord, RecordId};
use futures_util::future::BoxFuture;
use serde::Serialize;

/// Most records of one append.
const BATCH_MAX: usize = 1_000;

/// Owns what is not yet acknowledged.
pub struct Outbox {
    consumer: Arc<dyn Consumer>,
    lease: Lease,
    records: Vec<NewRecord>,
    /// What the engine is to be told once `records` are written.
    news: Vec<Event>,
    under_way: Option<(Vec<NewRecord>, Vec<Event>)>,
}

/// What a flush came to.
pub enum Flushed {
    /// The engine is to be told this.
    Written(Vec<Event>),
    /// Nothing is lost: flush again after a pause.
    Later(String),
    Fenced,
}

impl Outbox {
    pub fn new(consumer: Arc<dyn Consumer>, lease: Lease) -> Self {
        Self { consumer, lease, records: Vec::new(), news: Vec::new(), under_way: None }
    }

    pub fn publish(
        &mut self,
        at: At,
        event: &StatusEvent,
        dead_letter: Option<&DeadLetter>,
        traceparent: Option<Arc<str>>,
        ends: bool,
    ) {
        self.records.extend(dead_letter.map(|letter| self::dead_letter(letter, traceparent.clone())));
        self.records.push(status(event, traceparent));
        if ends {
            self.news.push(Event::Published { at });
        }
    }

    pub fn park(&mut self, at: At, channel: &ChannelName, parked: &Parked, traceparent: Option<Arc<str>>) {
        let delivery = &parked.delivery;
        let id = RecordId { uuid: delivery.delivery_id.as_uuid(), generation: delivery.generation };
        self.records.push(record(Topic::Parked(channel.clone()), delivery.key(), id, parked, traceparent));
        self.news.push(Event::Parked { at });
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.under_way.is_none()
    }

    /// The next append, if there is something to append and none under way. Its result goes to [`Self::flushed`].
    pub fn flush(&mut self) -> Option<BoxFuture<'static, Result<Vec<Appended>, AppendError>>> {
        if self.under_way.is_some() || self.records.is_empty() {
            return None;
        }
        // Everything that came about together goes together; what is too much for one append was long in coming.
        let records = std::mem::take(&mut self.records);
        let (consumer, lease, batch) = (Arc::clone(&self.consumer), self.lease.clone(), records.clone());
        self.under_way = Some((records, std::mem::take(&mut self.news)));
        Some(Box::pin(async move {
            let mut appended = Vec::with_capacity(batch.len());
            crash_points("before", &batch);
            for part in batch.chunks(BATCH_MAX) {
                appended.extend(consumer.append(&lease, part.to_vec()).await?);
            }
            crash_points("after", &batch);
            Ok(appended)
        }))
    }

    pub fn flushed(&mut self, result: Result<Vec<Appended>, AppendError>) -> Flushed {
        let (mut records, mut news) = self.under_way.take().expect("a result follows a flush");
        match result {
            Ok(_) => Flushed::Written(news),
            Err(AppendError::Fenced) => Flushed::Fenced,
            // Writing a status, a dead letter or a copy twice is harmless.
            Err(error @ (AppendError::Unavailable(_) | AppendError::Unknown(_) | AppendError::Refused(_))) => {
                records.append(&mut self.records);
                news.append(&mut self.news);
                (self.records, self.news) = (records, news);
                Flushed::Later(error.to_string())
            }
        }
    }
}

/// One for each topic that the batch goes to.
fn crash_points(when: &str, batch: &[NewRecord]) {
    if fail::has_failpoints() {
        let names = batch.iter().filter_map(|record| match record.topic {
            Topic::StatusUpdates => Some("status"),
            Topic::DeadLetters => Some("dead-letter"),
            Topic::Parked(_) => Some("park"),
            _ => None,
        });
        BTreeSet::from_iter(names).into_iter().for_each(|name| crash_point(&format!("connectors::{when}-{name}")));
    }
}

/// The record of a dead letter.
pub fn dead_letter(letter: &DeadLetter, traceparent: Option<Arc<str>>) -> NewRecord {
    let id = RecordId { uuid: letter.delivery.delivery_id.as_uuid(), generation: letter.delivery.generation };
    record(Topic::DeadLetters, letter.key(), id, letter, traceparent)
}

/// The record of a status event.
pub fn status(event: &StatusEvent, traceparent: Option<Arc<str>>) -> NewRecord {
    let id = RecordId { uuid: event.delivery_id.as_uuid(), generation: event.generation };
    record(Topic::StatusUpdates, event.key(), id, event, traceparent)
}

fn record(topic: Topic, key: Key, id: RecordId, envelope: &impl Serialize, traceparent: Option<Arc<str>>) -> NewRecord {
    let value = Bytes::from(serde_json::to_vec(envelope).expect("an envelope is plain data"));
    NewRecord { topic, key, id, value, traceparent, once: None }
}
