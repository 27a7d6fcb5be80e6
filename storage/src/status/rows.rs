//! The rows every status store holds, which of two rows about one thing stays, and the view that a set of rows gives.
//! Used by the adapters only: a batch is coalesced in a [`Rows`] before it is written, and what a query needs is loaded
//! into a [`Rows`] before it is shown. Knows no engine.
//!
//! **Invariant**: [`Rows::apply`] is commutative, associative and idempotent, so that neither order nor repetition nor
//! the split into batches changes the end.

mod cursor;
mod dead_letters;
mod joins;

pub use cursor::{Listing, Position};
pub use dead_letters::{Letter, LetterKey, LetterRow, Replay};
pub use joins::{ContactKey, ContactRow, Half, JoinRow};

use std::collections::BTreeMap;
use std::fmt;

use chat4all_proto::envelope::{Attempt, Reason};
use chat4all_proto::http::{AttemptView, DeliveryView, MessagePage, MessageView};
use chat4all_proto::status::Precedence;
use chat4all_proto::{
    Address, ConversationId, DeliveryId, DeliveryStatus, Generation, Inbound, Message, MessageId, MessageStatus,
    StatusEvent, TenantId, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{Error, JoinKey, Write};

/// A set of rows: one batch, the answer to one query, or a whole store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    pub messages: BTreeMap<MessageKey, MessageRow>,
    pub deliveries: BTreeMap<DeliveryKey, DeliveryRow>,
    /// Each as JSON. Of two about one attempt the greater text stays.
    pub attempts: BTreeMap<AttemptKey, String>,
    /// Of deliveries that are in `deliveries` too.
    pub provider_ids: BTreeMap<DeliveryKey, ProviderIdRow>,
    pub joins: BTreeMap<JoinKey, JoinRow>,
    pub contacts: BTreeMap<ContactKey, ContactRow>,
    pub dead_letters: BTreeMap<LetterKey, LetterRow>,
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

/// A message as accepted, or as received from the other side. The least stays, in the order of the fields: the first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageRow {
    pub accepted_at_ms: i64,
    pub conversation: ConversationId,
    /// The whole `Message` or `Inbound` as JSON.
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

/// The id that a provider gave a delivery. The greatest stays, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProviderIdRow {
    pub precedence: i64,
    pub provider_id: String,
}

/// The part of an event that is only ever shown.
#[derive(Serialize, Deserialize)]
struct DeliveryBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_at: Option<Timestamp>,
    /// Of a replay, which has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    awaits_receipt: bool,
}

/// What the body of a message's row is.
enum Body {
    Accepted(Message),
    Received(Inbound),
}

impl Rows {
    /// Coalesces a batch: at most one row of each kind remains for each key.
    pub fn of<'a>(writes: impl IntoIterator<Item = &'a Write>) -> Self {
        let mut rows = Self::default();
        for write in writes {
            rows.apply(write);
        }
        rows
    }

    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::Message(message) if message.generation > Generation(0) => self.apply_replay(message),
            Write::Message(message) => self.apply_message(message),
            Write::Event(event) => self.apply_event(event),
            Write::Receipt(receipt) => self.apply_receipt(receipt),
            Write::DeadLetter(letter) => self.apply_dead_letter(letter),
            Write::Inbound(inbound) => self.apply_inbound(inbound),
        }
    }

    fn apply_message(&mut self, message: &Message) {
        let key = MessageKey { tenant: message.tenant.clone(), message: message.message_id };
        let row = MessageRow {
            accepted_at_ms: millis(message.accepted_at),
            conversation: message.conversation_id.clone(),
            body: json(message),
        };
        keep(&mut self.messages, key, row, |new, old| new < old);
    }

    fn apply_inbound(&mut self, inbound: &Inbound) {
        let key = MessageKey { tenant: inbound.tenant.clone(), message: inbound.message_id };
        let row = MessageRow {
            accepted_at_ms: millis(inbound.received_at),
            conversation: inbound.conversation_id.clone(),
            body: json(inbound),
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
            let row = ProviderIdRow { precedence, provider_id: provider_id.clone() };
            keep(&mut self.provider_ids, key.clone(), row, |new, old| new > old);
            self.apply_contact(event);
        }
        self.apply_event_half(event, precedence);
        if self.deliveries.get(&key).is_some_and(|row| row.precedence > precedence) {
            return; // spares the encoding
        }
        let row = DeliveryRow {
            precedence,
            updated_at_ms: millis(event.at),
            accepted_at_ms: millis(event.accepted_at),
            address: event.address.clone(),
            body: json(&DeliveryBody {
                reason: event.reason,
                retry_at: event.retry_at,
                expires_at: (event.generation > Generation(0)).then_some(event.expires_at),
                awaits_receipt: event.awaits_receipt,
            }),
        };
        keep(&mut self.deliveries, key, row, |new, old| new > old);
    }

    /// A message with all of its rows that are here. `None` without the message's own row.
    /// `Refused` if a row cannot be read: a newer version wrote it, or it was damaged.
    pub fn view(&self, key: &MessageKey, now: Timestamp) -> Result<Option<MessageView>, Error> {
        Ok(match self.body(key)? {
            Some(Body::Accepted(message)) => Some(self.accepted_view(key, message, now)?),
            Some(Body::Received(inbound)) => Some(received_view(inbound)),
            None => None,
        })
    }

    /// The accepted message of this id, if its row is here.
    pub fn accepted(&self, key: &MessageKey) -> Result<Option<Message>, Error> {
        Ok(match self.body(key)? {
            Some(Body::Accepted(message)) => Some(message),
            Some(Body::Received(_)) | None => None,
        })
    }

    /// Accepted messages are by far the most, and are tried first; the error is about what it looks like.
    fn body(&self, key: &MessageKey) -> Result<Option<Body>, Error> {
        let Some(MessageRow { body, .. }) = self.messages.get(key) else { return Ok(None) };
        let error = match parse(body, key.message) {
            Ok(message) => return Ok(Some(Body::Accepted(message))),
            Err(error) => error,
        };
        parse(body, key.message).map(|inbound| Some(Body::Received(inbound))).map_err(|_| error)
    }

    fn accepted_view(&self, key: &MessageKey, message: Message, now: Timestamp) -> Result<MessageView, Error> {
        let first = DeliveryKey { message: key.clone(), delivery: DeliveryId::from_uuid(uuid::Uuid::nil()) };
        let mut deliveries = self
            .deliveries
            .range(first..)
            .take_while(|(delivery, _)| delivery.message == *key)
            .map(|(delivery, row)| self.delivery_view(delivery, row, message.expires_at, now))
            .collect::<Result<Vec<_>, Error>>()?;
        deliveries.sort_by_cached_key(|delivery| {
            let place = message.to.iter().position(|address| *address == delivery.to);
            (place.unwrap_or(usize::MAX), delivery.delivery_id)
        });
        Ok(MessageView {
            message_id: message.message_id,
            conversation_id: message.conversation_id,
            from: None,
            status: MessageStatus::of(deliveries.iter().map(|one| (one.status, one.has_ended())), message.to.len()),
            to: message.to,
            content: message.content,
            provider_id: None,
            reply_to: message.reply_to,
            metadata: message.metadata,
            accepted_at: message.accepted_at,
            expires_at: Some(message.expires_at),
            deliveries,
        })
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
        let next_cursor = listing.cut(&mut found, limit);
        let mut messages = Vec::with_capacity(found.len());
        for position in &found {
            let key = MessageKey { tenant: listing.tenant().clone(), message: MessageId::from_uuid(position.id) };
            messages.extend(self.view(&key, now)?);
        }
        Ok(MessagePage { messages, next_cursor })
    }

    /// `expires_at` is the message's.
    fn delivery_view(
        &self,
        key: &DeliveryKey,
        row: &DeliveryRow,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<DeliveryView, Error> {
        let unknown = || refused(key.message.message, &"its status is of a later version");
        let Precedence { generation, status, .. } = decode(row.precedence).ok_or_else(unknown)?;
        let body: DeliveryBody = parse(&row.body, key.message.message)?;
        let expired = !status.is_end() && now >= body.expires_at.unwrap_or(expires_at);
        Ok(DeliveryView {
            delivery_id: key.delivery,
            to: row.address.clone(),
            status: if expired { DeliveryStatus::Expired } else { status },
            generation,
            updated_at: timestamp(row.updated_at_ms),
            reason: body.reason,
            provider_id: self.provider_ids.get(key).map(|row| row.provider_id.clone()),
            retry_at: body.retry_at.filter(|_| !expired),
            awaits_receipt: body.awaits_receipt && status == DeliveryStatus::Sent,
            attempts: self.attempts_of(key)?,
        })
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
                let parsed: Attempt = parse(body, key.message.message)?;
                Ok(AttemptView::of(parsed, attempt.generation))
            })
            .collect()
    }
}

fn received_view(inbound: Inbound) -> MessageView {
    MessageView {
        message_id: inbound.message_id,
        conversation_id: inbound.conversation_id,
        status: MessageStatus::Received,
        from: Some(inbound.from),
        to: Vec::new(),
        content: inbound.content,
        provider_id: Some(inbound.provider_id),
        reply_to: inbound.reply_to,
        metadata: Default::default(),
        accepted_at: inbound.received_at,
        expires_at: None,
        deliveries: Vec::new(),
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

/// Of the half that is there and `new`, the greater one stays.
fn raise<T: Ord>(half: &mut Option<T>, new: T) {
    *half = half.take().max(Some(new));
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

/// The precedence that `encode` encoded. `None` for a status of a later version.
pub fn decode(encoded: i64) -> Option<Precedence> {
    let generation = u32::try_from(encoded >> (RANK_BITS + ATTEMPT_BITS)).ok()?;
    let rank = u8::try_from((encoded >> ATTEMPT_BITS) & ((1 << RANK_BITS) - 1)).ok()?;
    let attempt = u32::try_from(encoded & ((1 << ATTEMPT_BITS) - 1)).ok()?;
    Some(Precedence { generation: Generation(generation), status: DeliveryStatus::from_rank(rank)?, attempt })
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

/// Reads a row about `about`.
fn parse<'a, T: Deserialize<'a>>(body: &'a str, about: impl fmt::Display) -> Result<T, Error> {
    serde_json::from_str(body).map_err(|error| refused(about, &error))
}

fn refused(about: impl fmt::Display, error: &dyn fmt::Display) -> Error {
    Error::Refused(format!("a row of `{about}` in the status store cannot be read: {error}"))
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
            assert_eq!(decode(encoded), Some(*precedence));
        }
    }

    #[test]
    fn an_attempt_number_beyond_its_bits_does_not_spill_into_the_rank() {
        let at = |attempt| encode(Precedence { generation: Generation(0), status: DeliveryStatus::Queued, attempt });
        assert_eq!(at(u32::MAX), at((1 << ATTEMPT_BITS) - 1));
    }
}
