//! Deliveries that failed for good, and whether they are on their way again.

use chat4all_proto::http::{DeadLetterPage, DeadLetterView};
use chat4all_proto::{ChannelName, DeadLetter, DeliveryId, Generation, Message, TenantId};
use uuid::Uuid;

use super::{Listing, Position, Rows, json, millis, parse, raise};
use crate::status::{DeadLetterFilter, DeadLetterRow, Error};

impl DeadLetterFilter {
    /// Where a page starts that would start after this.
    pub fn start(&self, after: Position) -> Position {
        let end = self.before.map(|before| Position { at_ms: millis(before), id: Uuid::nil() });
        end.map_or(after, |end| after.min(end))
    }

    /// What it shows failed at this time or later.
    pub fn from_ms(&self) -> i64 {
        self.from.map_or(0, millis)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterKey {
    pub tenant: TenantId,
    pub delivery: DeliveryId,
}

/// What is known about a delivery that failed. Either half may come first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterRow {
    pub letter: Option<Letter>,
    pub replay: Option<Replay>,
}

/// A dead letter. The greatest stays, in the order of the fields; those after the body follow from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Letter {
    pub generation: Generation,
    pub failed_at_ms: i64,
    /// The whole `DeadLetter` as JSON.
    pub body: String,
    pub accepted_at_ms: i64,
    pub channel: ChannelName,
    /// `Reason::as_str`
    pub reason: String,
}

/// A replay of a delivery. The greatest stays, in the order of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replay {
    pub generation: Generation,
    pub accepted_at_ms: i64,
}

impl LetterRow {
    /// Whether listings with this filter show it.
    pub fn is_listed(&self, filter: &DeadLetterFilter) -> bool {
        let Some(letter) = &self.letter else { return false };
        self.replay.is_none_or(|replay| replay.generation <= letter.generation)
            && filter.channel.as_ref().is_none_or(|channel| *channel == letter.channel)
            && filter.reason.is_none_or(|reason| reason.as_str() == letter.reason)
            && letter.failed_at_ms >= filter.from_ms()
            && filter.before.is_none_or(|before| letter.failed_at_ms < millis(before))
    }

    /// When the message was accepted.
    pub fn accepted_at_ms(&self) -> i64 {
        let replayed = self.replay.map_or(0, |replay| replay.accepted_at_ms);
        self.letter.as_ref().map_or(replayed, |letter| letter.accepted_at_ms)
    }
}

impl From<DeadLetterRow> for DeadLetterView {
    fn from(row: DeadLetterRow) -> Self {
        let replayed = row.is_replayed();
        let DeadLetter { reason, attempts, code, failed_at, delivery, .. } = row.letter;
        Self {
            delivery_id: delivery.delivery_id,
            message_id: delivery.message_id,
            conversation_id: delivery.conversation_id,
            to: delivery.to,
            reason,
            code,
            attempts,
            generation: delivery.generation,
            accepted_at: delivery.accepted_at,
            failed_at,
            replayed,
            content: delivery.content,
            reply_to: delivery.reply_to,
            metadata: delivery.metadata,
        }
    }
}

impl Rows {
    pub(super) fn apply_dead_letter(&mut self, letter: &DeadLetter) {
        let delivery = &letter.delivery;
        let key = LetterKey { tenant: delivery.tenant.clone(), delivery: delivery.delivery_id };
        let new = Letter {
            generation: delivery.generation,
            failed_at_ms: millis(letter.failed_at),
            body: json(letter),
            accepted_at_ms: millis(delivery.accepted_at),
            channel: delivery.to.channel.clone(),
            reason: letter.reason.as_str().to_owned(),
        };
        raise(&mut self.dead_letters.entry(key).or_default().letter, new);
    }

    pub(super) fn apply_replay(&mut self, message: &Message) {
        let new = Replay { generation: message.generation, accepted_at_ms: millis(message.accepted_at) };
        for address in message.to.iter().chain(&message.instead_of) {
            let delivery = DeliveryId::of(message.message_id, address);
            let key = LetterKey { tenant: message.tenant.clone(), delivery };
            raise(&mut self.dead_letters.entry(key).or_default().replay, new);
        }
    }

    /// Deletes a letter of this generation or an earlier one; false if there is none. What stays counts as a replay of it, so
    /// that no listing shows it, should it come once more.
    pub fn discard(&mut self, key: &LetterKey, generation: Generation) -> bool {
        let Some(row) = self.dead_letters.get_mut(key) else { return false };
        let Some(letter) = row.letter.take_if(|letter| letter.generation <= generation) else { return false };
        let next = Generation(letter.generation.0.saturating_add(1));
        raise(&mut row.replay, Replay { generation: next, accepted_at_ms: letter.accepted_at_ms });
        true
    }

    /// The dead letter of a delivery, if it is here.
    pub fn dead_letter(&self, key: &LetterKey) -> Result<Option<DeadLetterRow>, Error> {
        let Some(LetterRow { letter: Some(letter), replay }) = self.dead_letters.get(key) else { return Ok(None) };
        let replayed_as = replay.map_or(Generation(0), |replay| replay.generation);
        Ok(Some(DeadLetterRow { letter: parse(&letter.body, key.delivery)?, replayed_as }))
    }

    /// As [`Rows::page`], of dead letters.
    pub fn dead_letter_page(
        &self,
        listing: Listing<'_>,
        mut found: Vec<Position>,
        limit: usize,
    ) -> Result<DeadLetterPage, Error> {
        let next_cursor = listing.cut(&mut found, limit);
        let mut dead_letters = Vec::with_capacity(found.len());
        for position in &found {
            let key = LetterKey { tenant: listing.tenant().clone(), delivery: DeliveryId::from_uuid(position.id) };
            dead_letters.extend(self.dead_letter(&key)?.map(DeadLetterView::from));
        }
        Ok(DeadLetterPage { dead_letters, next_cursor })
    }
}
