//! The rows that a batch of writes makes. Decides; touches no server.

use std::collections::BTreeSet;

use chat4all_proto::{DeliveryId, Generation, MessageId, StatusEvent, TenantId, Timestamp};
use chat4all_storage::status::rows::{self, ContactKey, ContactRow, DeliveryKey, MessageKey, Position, Rows};
use chat4all_storage::status::{JoinKey, Write};
use uuid::Uuid;

use crate::fact::{self, Fact};
use crate::listing::Name;

/// One row. Equal rows are one; those of one partition are neighbours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Insert {
    Message { tenant: String, message: Uuid, fact: Fact },
    DeadLetter { tenant: String, delivery: Uuid, fact: Fact },
    Join { key: JoinKey, fact: Fact },
    Contact { key: ContactKey, conversation: String, timestamp: i64 },
    Place { tenant: String, listing: Name, place: Position },
    Directory(Directory),
}

impl Insert {
    /// Whether one mutation can hold both: they are in one partition of a table where many rows of a batch are.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Message { tenant: a, message: x, .. }, Self::Message { tenant: b, message: y, .. }) => {
                x == y && a == b
            }
            (
                Self::Place { tenant: a, listing: x, place: here },
                Self::Place { tenant: b, listing: y, place: there },
            ) => x == y && a == b && x.bucket(here.at_ms) == x.bucket(there.at_ms),
            _ => false,
        }
    }
}

/// What must be known to find places again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Directory {
    Bucket { tenant: String, listing: Name, bucket: i64 },
    Name { scope: String, name: String },
}

/// The scope of the tenants' names.
pub(crate) const TENANTS: &str = "tenants";

/// The scope of the names of a tenant's runs; no tenant is called so.
pub(crate) fn runs_of(tenant: &str) -> String {
    format!("runs of {tenant}")
}

/// Every row of the batch, directories included.
pub(crate) fn of(writes: &[Write]) -> BTreeSet<Insert> {
    let rows = Rows::of(writes);
    let mut inserts = BTreeSet::new();
    for write in writes {
        facts(write, &rows, &mut inserts);
    }
    places(&rows, &mut inserts);
    for (key, ContactRow { accepted_at_ms, conversation }) in &rows.contacts {
        let timestamp = contact_timestamp(*accepted_at_ms, conversation.as_str());
        inserts.insert(Insert::Contact { key: key.clone(), conversation: conversation.to_string(), timestamp });
    }
    inserts
}

fn facts(write: &Write, rows: &Rows, inserts: &mut BTreeSet<Insert>) {
    let mut message = |tenant: &TenantId, message: Uuid| {
        inserts.insert(Insert::Message { tenant: tenant.to_string(), message, fact: Fact::of(write) })
    };
    match write {
        Write::Message(replay) if replay.generation > Generation(0) => {
            for address in replay.to.iter().chain(&replay.instead_of) {
                let delivery = DeliveryId::of(replay.message_id, address).as_uuid();
                let (tenant, fact) = (replay.tenant.to_string(), Fact::of_replay(replay, address));
                inserts.insert(Insert::DeadLetter { tenant, delivery, fact });
            }
        }
        Write::Message(accepted) => {
            if is_first(&accepted.tenant, accepted.message_id, accepted.accepted_at, rows) {
                message(&accepted.tenant, accepted.message_id.as_uuid());
            }
        }
        Write::Inbound(inbound) => {
            if is_first(&inbound.tenant, inbound.message_id, inbound.received_at, rows) {
                message(&inbound.tenant, inbound.message_id.as_uuid());
            }
        }
        Write::Event(event) => {
            if !is_superseded(event, rows) {
                message(&event.tenant, event.message_id.as_uuid());
            }
            join(JoinKey::of_event(event), write, inserts);
        }
        Write::Receipt(receipt) => join(JoinKey::of_receipt(receipt), write, inserts),
        Write::DeadLetter(letter) => {
            let (tenant, delivery) = (letter.delivery.tenant.to_string(), letter.delivery.delivery_id.as_uuid());
            inserts.insert(Insert::DeadLetter { tenant, delivery, fact: Fact::of(write) });
        }
    }
}

fn join(keys: Vec<JoinKey>, write: &Write, inserts: &mut BTreeSet<Insert>) {
    inserts.extend(keys.into_iter().map(|key| Insert::Join { key, fact: Fact::of(write) }));
}

/// Whether no earlier message of this id is in the same batch.
fn is_first(tenant: &TenantId, message: MessageId, at: Timestamp, rows: &Rows) -> bool {
    let key = MessageKey { tenant: tenant.clone(), message };
    rows.messages.get(&key).is_some_and(|row| row.accepted_at_ms == rows::millis(at))
}

/// Whether nothing that an event says will ever be shown: a later one is in the same batch.
fn is_superseded(event: &StatusEvent, rows: &Rows) -> bool {
    let message = MessageKey { tenant: event.tenant.clone(), message: event.message_id };
    let key = DeliveryKey { message, delivery: event.delivery_id };
    let says_more = event.attempt.is_some() || event.provider_id.is_some();
    let stays = rows.deliveries.get(&key).map(|row| row.precedence);
    !says_more && stays > Some(rows::encode(event.precedence()))
}

/// Only of what stays: a status that was passed within the batch needs no place.
fn places(rows: &Rows, inserts: &mut BTreeSet<Insert>) {
    for (MessageKey { tenant, message }, row) in &rows.messages {
        let place = Position { at_ms: row.accepted_at_ms, id: message.as_uuid() };
        add_place(tenant, Name::all(), place, inserts);
        add_place(tenant, Name::conversation(&row.conversation), place, inserts);
    }
    for (DeliveryKey { message, .. }, row) in &rows.deliveries {
        let status = rows::decode(row.precedence).expect("encoded from a known status").status;
        let place = Position { at_ms: row.accepted_at_ms, id: message.message.as_uuid() };
        add_run(&message.tenant, Name::deliveries(status, &row.address.channel), place, inserts);
    }
    for (key, row) in &rows.dead_letters {
        let Some(letter) = &row.letter else { continue };
        let place = Position { at_ms: letter.failed_at_ms, id: key.delivery.as_uuid() };
        add_run(&key.tenant, Name::dead_letters(&letter.reason, &letter.channel), place, inserts);
    }
}

fn add_run(tenant: &TenantId, listing: Name, place: Position, inserts: &mut BTreeSet<Insert>) {
    let directory = Directory::Name { scope: runs_of(tenant.as_str()), name: listing.0.clone() };
    inserts.insert(Insert::Directory(directory));
    add_place(tenant, listing, place, inserts);
}

fn add_place(tenant: &TenantId, listing: Name, place: Position, inserts: &mut BTreeSet<Insert>) {
    let (bucket, tenant) = (listing.bucket(place.at_ms), tenant.to_string());
    for directory in [
        Directory::Name { scope: TENANTS.into(), name: tenant.clone() },
        Directory::Bucket { tenant: tenant.clone(), listing: listing.clone(), bucket },
    ] {
        inserts.insert(Insert::Directory(directory));
    }
    inserts.insert(Insert::Place { tenant, listing, place });
}

/// Bits below the time in a contact's timestamp.
const TIE_BITS: u32 = 20;

/// The write timestamp of a contact: the later message's stays. Of two in one millisecond that of the greater hash stays;
/// if 20 bits of it are alike too, the one that was written last.
fn contact_timestamp(accepted_at_ms: i64, conversation: &str) -> i64 {
    let hash = fact::tag(conversation.as_bytes()).as_u64_pair().1 & ((1 << TIE_BITS) - 1);
    contact_bound(accepted_at_ms) + i64::try_from(hash).expect("20 bits fit")
}

/// Less than the timestamp of every contact from `accepted_at_ms` on by nothing, greater than all before.
pub(crate) fn contact_bound(accepted_at_ms: i64) -> i64 {
    accepted_at_ms.min(i64::MAX >> TIE_BITS) << TIE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat4all_proto::DeliveryStatus;
    use chat4all_storage::status::conformance::Sample;

    fn count(inserts: &BTreeSet<Insert>, is_asked: impl Fn(&Insert) -> bool) -> usize {
        inserts.iter().filter(|insert| is_asked(insert)).count()
    }

    #[test]
    fn a_batch_leaves_out_what_it_supersedes_itself() {
        let sample = Sample::new();
        let (row, message) = sample.message_to(&["ana"]);
        let event = |reached| Write::Event(std::sync::Arc::new(Sample::event(&message, 0, reached)));
        let queued = event(DeliveryStatus::Queued);
        let delivered = event(DeliveryStatus::Delivered);
        let facts = |insert: &Insert| matches!(insert, Insert::Message { .. });
        let places = |insert: &Insert| matches!(insert, Insert::Place { .. });
        let inserts = of(&[queued.clone(), row.clone(), delivered.clone(), row, delivered]);
        assert_eq!((count(&inserts, facts), count(&inserts, places)), (2, 3));
        let inserts = of(&[queued]);
        assert_eq!((count(&inserts, facts), count(&inserts, places)), (1, 1));
    }

    #[test]
    fn a_contacts_timestamp_follows_the_time_and_then_the_conversation() {
        let (a, b) = (contact_timestamp(7, "a"), contact_timestamp(7, "b"));
        assert!(a != b && contact_bound(7) <= a.min(b) && a.max(b) < contact_bound(8));
        let latest = contact_timestamp(i64::MAX, "a");
        assert!(latest >= contact_bound(1 << 42));
    }
}
