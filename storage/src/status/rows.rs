//! The rows every status store holds, which of two rows about one thing stays, and the view that a set of rows gives.
//! Used by the adapters only: a batch is coalesced in a [`Rows`] before it is written, and what a query needs is loaded
//! into a [`Rows`] before it is shown. Knows no engine.
//!
//! **Invariant**: [`Rows::apply`] is commutative, associative and idempotent, so that neither order nor repetition nor
//! the split into batches changes the end.

mod cursor;

pub use cursor::{Listing, Position};

use std::collections::BTreeMap;

use chat4all_proto::envelope::{Attempt, Reason};
use chat4all_proto::http::{AttemptView, DeliveryView, MessagePage, MessageView};
use chat4all_proto::status::Precedence;
use chat4all_proto::{
    Address, ChannelName, ConversationId, DeliveryId, DeliveryStatus, Generation, Message, MessageId, MessageStatus,
    StatusEvent, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{Error, Write};

/// A set of rows: one batch, the answer to one query, or a whole store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    pub messages: BTreeMap<MessageKey, MessageRow>,
    pub deliveries: BTreeMap<DeliveryKey, DeliveryRow>,
    /// Each as JSON. Of two about one attempt the greater text stays.
    pub attempts: BTreeMap<AttemptKey, String>,
    pub provider_ids: BTreeMap<ProviderIdKey, ProviderIdRow>,
}

/// Clients may choose message ids, and delivery ids follow from them: only with the tenant is either unique.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey {
    pub tenant: TenantId,
    pub message: MessageId,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryKey {
    pub message: MessageKey,
    pub delivery: DeliveryId,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptKey {
    pub delivery: DeliveryKey,
    pub generation: Generation,
    /// A takeover counts from 1 again: two attempts of one number began at different times.
    pub started_at: Timestamp,
    pub number: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderIdKey {
    pub delivery: DeliveryKey,
    pub channel: ChannelName,
    pub provider_id: String,
}

/// A message as accepted. The least stays, in the order of the fields: the first accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageRow {
    pub accepted_at_ms: i64,
    pub conversation: ConversationId,
    /// The whole `Message` as JSON.
    pub body: String,
}

/// Where a delivery stands. The greatest stays, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeliveryRow {
    /// As [`encode`] made it.
    pub precedence: i64,
    pub updated_at_ms: i64,
    pub accepted_at_ms: i64,
    pub address: Address,
    /// What else the event says, as JSON.
    pub body: String,
}

/// An id that a provider gave. The greatest stays, in the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProviderIdRow {
    pub precedence: i64,
    pub accepted_at_ms: i64,
}

/// The part of an event that is only ever shown.
#[derive(Serialize, Deserialize)]
struct DeliveryBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_at: Option<Timestamp>,
}

impl Rows {
    /// Coalesces a batch: at most one row remains for each message, delivery, attempt and provider id.
    pub fn of<'a>(writes: impl IntoIterator<Item = &'a Write>) -> Self {
        let mut rows = Self::default();
        for write in writes {
            rows.apply(write);
        }
        rows
    }

    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::Message(message) => self.apply_message(message),
            Write::Event(event) => self.apply_event(event),
        }
    }

    fn apply_message(&mut self, message: &Message) {
        if message.generation > Generation(0) {
            return;
        }
        let key = MessageKey { tenant: message.tenant.clone(), message: message.message_id };
        let row = MessageRow {
            accepted_at_ms: millis(message.accepted_at),
            conversation: message.conversation_id.clone(),
            body: json(message),
        };
        keep(&mut self.messages, key, row, |new, old| new < old);
    }

    fn apply_event(&mut self, event: &StatusEvent) {
        let key = DeliveryKey {
            message: MessageKey { tenant: event.tenant.clone(), message: event.message_id },
            delivery: event.delivery_id,
        };
        let precedence = encode(event.precedence());
        if let Some(attempt) = &event.attempt {
            let key = AttemptKey {
                delivery: key.clone(),
                generation: event.generation,
                started_at: attempt.started_at,
                number: attempt.number,
            };
            keep(&mut self.attempts, key, json(attempt), |new, old| new > old);
        }
        if let Some(provider_id) = &event.provider_id {
            let (channel, provider_id) = (event.address.channel.clone(), provider_id.clone());
            let row = ProviderIdRow { precedence, accepted_at_ms: millis(event.accepted_at) };
            let key = ProviderIdKey { delivery: key.clone(), channel, provider_id };
            keep(&mut self.provider_ids, key, row, |new, old| new > old);
        }
        if self.deliveries.get(&key).is_some_and(|row| row.precedence > precedence) {
            return; // spares the encoding
        }
        let row = DeliveryRow {
            precedence,
            updated_at_ms: millis(event.at),
            accepted_at_ms: millis(event.accepted_at),
            address: event.address.clone(),
            body: json(&DeliveryBody { reason: event.reason, retry_at: event.retry_at }),
        };
        keep(&mut self.deliveries, key, row, |new, old| new > old);
    }

    /// A message with all of its rows that are here. `None` without the message's own row.
    /// `Refused` if a row cannot be read: a newer version wrote it, or it was damaged.
    pub fn view(&self, key: &MessageKey, now: Timestamp) -> Result<Option<MessageView>, Error> {
        let Some(row) = self.messages.get(key) else { return Ok(None) };
        let message: Message = parse(&row.body, key)?;
        let first = DeliveryKey { message: key.clone(), delivery: DeliveryId::from_uuid(uuid::Uuid::nil()) };
        let mut deliveries = self
            .deliveries
            .range(first..)
            .take_while(|(delivery, _)| delivery.message == *key)
            .map(|(delivery, row)| self.delivery_view(delivery, row, now >= message.expires_at))
            .collect::<Result<Vec<_>, Error>>()?;
        deliveries.sort_by_cached_key(|delivery| {
            let place = message.to.iter().position(|address| *address == delivery.to);
            (place.unwrap_or(usize::MAX), delivery.delivery_id)
        });
        Ok(Some(MessageView {
            message_id: message.message_id,
            conversation_id: message.conversation_id,
            status: MessageStatus::of(deliveries.iter().map(|delivery| delivery.status), message.to.len()),
            to: message.to,
            content: message.content,
            metadata: message.metadata,
            accepted_at: message.accepted_at,
            expires_at: message.expires_at,
            deliveries,
        }))
    }

    /// One page of a listing from messages in any order, which may be more than `limit` and named repeatedly. Their rows
    /// must be here.
    pub fn page(
        &self,
        listing: Listing<'_>,
        mut found: Vec<Position>,
        limit: usize,
        now: Timestamp,
    ) -> Result<MessagePage, Error> {
        Position::newest_first(&mut found);
        let more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = found.last().filter(|_| more).map(|position| position.to_cursor(listing));
        let mut messages = Vec::with_capacity(found.len());
        for position in &found {
            let key = MessageKey { tenant: listing.tenant().clone(), message: position.message };
            messages.extend(self.view(&key, now)?);
        }
        Ok(MessagePage { messages, next_cursor })
    }

    fn delivery_view(&self, key: &DeliveryKey, row: &DeliveryRow, expired: bool) -> Result<DeliveryView, Error> {
        let (generation, status) = decode(row.precedence).ok_or_else(|| unreadable(&key.message))?;
        let body: DeliveryBody = parse(&row.body, &key.message)?;
        let expired = expired && !status.is_end();
        Ok(DeliveryView {
            delivery_id: key.delivery,
            to: row.address.clone(),
            status: if expired { DeliveryStatus::Expired } else { status },
            generation,
            updated_at: timestamp(row.updated_at_ms),
            reason: body.reason,
            provider_id: self.provider_id_of(key),
            retry_at: body.retry_at.filter(|_| !expired),
            attempts: self.attempts_of(key)?,
        })
    }

    /// The id given last, should there be several.
    fn provider_id_of(&self, key: &DeliveryKey) -> Option<String> {
        let first = ProviderIdKey { delivery: key.clone(), channel: first_channel(), provider_id: String::new() };
        self.provider_ids
            .range(first..)
            .take_while(|(id, _)| id.delivery == *key)
            .max_by_key(|(id, row)| (**row, &id.provider_id))
            .map(|(id, _)| id.provider_id.clone())
    }

    fn attempts_of(&self, key: &DeliveryKey) -> Result<Vec<AttemptView>, Error> {
        let first = AttemptKey {
            delivery: key.clone(),
            generation: Generation(0),
            started_at: Timestamp::default(),
            number: 0,
        };
        self.attempts
            .range(first..)
            .take_while(|(attempt, _)| attempt.delivery == *key)
            .map(|(attempt, body)| {
                let parsed: Attempt = parse(body, &key.message)?;
                Ok(AttemptView::of(parsed, attempt.generation))
            })
            .collect()
    }
}

/// Of the row that is there and `new`, the better one stays.
fn keep<K: Ord, V>(rows: &mut BTreeMap<K, V>, key: K, new: V, is_better: impl Fn(&V, &V) -> bool) {
    use std::collections::btree_map::Entry;
    match rows.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(new);
        }
        Entry::Occupied(mut entry) => {
            if is_better(&new, entry.get()) {
                entry.insert(new);
            }
        }
    }
}

/// Most bits of an attempt's number in an encoded precedence. Higher numbers count as the highest.
const ATTEMPT_BITS: u32 = 27;
const RANK_BITS: u32 = 4;

/// A precedence as one number, at least 0, in the same order: 32 bits of generation, 4 of rank, 27 of attempt.
pub fn encode(precedence: Precedence) -> i64 {
    let attempt = i64::from(precedence.attempt).min((1 << ATTEMPT_BITS) - 1);
    let rank = i64::from(precedence.status.rank());
    (i64::from(precedence.generation.0) << (RANK_BITS + ATTEMPT_BITS)) | (rank << ATTEMPT_BITS) | attempt
}

/// What an encoded precedence says of the delivery. `None` for a status of a later version.
pub fn decode(encoded: i64) -> Option<(Generation, DeliveryStatus)> {
    let generation = u32::try_from(encoded >> (RANK_BITS + ATTEMPT_BITS)).ok()?;
    let rank = u8::try_from((encoded >> ATTEMPT_BITS) & ((1 << RANK_BITS) - 1)).ok()?;
    Some((Generation(generation), DeliveryStatus::from_rank(rank)?))
}

/// Milliseconds as engines store them. Times past the year 292,278,994 count as the last.
pub fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

/// The time that `millis` stored; 0 for a negative number, which it never makes.
pub fn timestamp(at_ms: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(at_ms).unwrap_or(0))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("wire types have text keys and no failing serializer")
}

fn parse<'a, T: Deserialize<'a>>(body: &'a str, key: &MessageKey) -> Result<T, Error> {
    serde_json::from_str(body).map_err(|error| {
        Error::Refused(format!("a row of message `{}` in the status store cannot be read: {error}", key.message))
    })
}

fn unreadable(key: &MessageKey) -> Error {
    Error::Refused(format!("a row of message `{}` in the status store has an unknown status", key.message))
}

/// The least channel name there is.
fn first_channel() -> ChannelName {
    "0".parse().expect("a digit is a channel name, and none is less")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_precedence_keeps_the_order_and_reads_back() {
        let mut all = Vec::new();
        for generation in [0, 1, u32::MAX] {
            for status in DeliveryStatus::ALL {
                for attempt in [0, 1, 5, (1 << ATTEMPT_BITS) - 1] {
                    all.push(Precedence { generation: Generation(generation), status, attempt });
                }
            }
        }
        all.sort();
        let encoded: Vec<i64> = all.iter().map(|precedence| encode(*precedence)).collect();
        assert!(encoded.is_sorted_by(|a, b| a < b) && encoded[0] >= 0);
        for (precedence, encoded) in all.iter().zip(encoded) {
            assert_eq!(decode(encoded), Some((precedence.generation, precedence.status)));
        }
    }

    #[test]
    fn an_attempt_number_beyond_its_bits_does_not_spill_into_the_rank() {
        let at = |attempt| encode(Precedence { generation: Generation(0), status: DeliveryStatus::Queued, attempt });
        assert_eq!(at(u32::MAX), at((1 << ATTEMPT_BITS) - 1));
    }
}
