//! What receipts are matched by: the two halves known of an id, and the conversation that an address is in.

use chat4all_proto::{Address, ConversationId, Receipt, StatusEvent, TenantId};

use super::{Rows, decode, json, keep, millis, parse, raise, refused};
use crate::status::{Error, Join, JoinKey};

/// What is known about an id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinRow {
    pub event: Option<Half>,
    pub receipt: Option<Half>,
}

/// One half of a join. The greatest stays, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Half {
    /// An event's precedence as `encode` made it, a receipt's rank.
    pub rank: i64,
    /// When the event's message was accepted, when the receipt says it happened.
    pub at_ms: i64,
    /// The `StatusEvent` without its attempt, or the `Receipt`, as JSON.
    pub body: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContactKey {
    pub tenant: TenantId,
    pub address: Address,
}

/// The conversation of the latest message to an address that a provider gave an id. The greatest stays, in the order of
/// the fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContactRow {
    pub accepted_at_ms: i64,
    pub conversation: ConversationId,
}

impl Rows {
    /// `precedence` is the event's, encoded.
    pub(super) fn apply_event_half(&mut self, event: &StatusEvent, precedence: i64) {
        for key in JoinKey::of_event(event) {
            let half = &mut self.joins.entry(key).or_default().event;
            let body = json(&StatusEvent { attempt: None, ..event.clone() });
            raise(half, Half { rank: precedence, at_ms: millis(event.accepted_at), body });
        }
    }

    pub(super) fn apply_receipt(&mut self, receipt: &Receipt) {
        for key in JoinKey::of_receipt(receipt) {
            let half = &mut self.joins.entry(key).or_default().receipt;
            raise(half, Half { rank: receipt.status.rank().into(), at_ms: millis(receipt.at), body: json(receipt) });
        }
    }

    pub(super) fn apply_contact(&mut self, event: &StatusEvent) {
        let key = ContactKey { tenant: event.tenant.clone(), address: event.address.clone() };
        let (accepted_at_ms, conversation) = (millis(event.accepted_at), event.conversation_id.clone());
        keep(&mut self.contacts, key, ContactRow { accepted_at_ms, conversation }, |new, old| new > old);
    }

    /// What is known about an id; nothing without its row.
    pub fn join(&self, key: &JoinKey) -> Result<Join, Error> {
        let Some(JoinRow { event, receipt }) = self.joins.get(key) else { return Ok(Join::default()) };
        let unknown = || refused(&key.id, &"its status is of a later version");
        let precedence = event.as_ref().map(|half| decode(half.rank).ok_or_else(unknown)).transpose()?;
        Ok(Join {
            event: event.as_ref().map(|half| parse(&half.body, &key.id)).transpose()?,
            attempts: precedence.map_or(0, |precedence| precedence.attempt),
            receipt: receipt.as_ref().map(|half| parse(&half.body, &key.id)).transpose()?,
        })
    }
}
