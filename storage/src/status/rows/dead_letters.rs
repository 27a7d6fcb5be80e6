//! Deliveries that failed for good, and whether they are on their way again.

use chat4all_proto::http::{DeadLetterPage, DeadLetterView};
use chat4all_proto::{ChannelName, DeadLetter, DeliveryId, Generation, Message, TenantId};

use super::{Listing, Position, Rows, json, millis, parse, raise};
use crate::status::{DeadLetterFilter, DeadLetterRow, Error};

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
        for address in &message.to {
            let delivery = DeliveryId::of(message.message_id, address);
            let key = LetterKey { tenant: message.tenant.clone(), delivery };
            raise(&mut self.dead_letters.entry(key).or_default().replay, new);
        }
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
