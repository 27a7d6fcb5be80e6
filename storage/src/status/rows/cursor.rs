//! Places in listings, and the opaque text that carries one to a client and back.

use std::hash::Hasher;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chat4all_proto::{ConversationId, TenantId};
use uuid::Uuid;

use crate::status::{DeadLetterFilter, Error, Filter};

/// One listing: a cursor of another one is refused.
#[derive(Debug, Clone, Copy)]
pub enum Listing<'a> {
    Conversation(&'a TenantId, &'a ConversationId),
    Messages(&'a TenantId, &'a Filter),
    DeadLetters(&'a TenantId, &'a DeadLetterFilter),
}

impl<'a> Listing<'a> {
    pub fn tenant(self) -> &'a TenantId {
        match self {
            Listing::Conversation(tenant, _) | Listing::Messages(tenant, _) | Listing::DeadLetters(tenant, _) => tenant,
        }
    }

    /// Leaves of the positions found, in any order and repeated or not, those of a page of `limit`. The cursor of the next
    /// page, if there were more.
    pub(super) fn cut(self, found: &mut Vec<Position>, limit: usize) -> Option<String> {
        Position::newest_first(found);
        let more = found.len() > limit;
        found.truncate(limit);
        found.last().filter(|_| more).map(|position| position.to_cursor(self))
    }
}

/// The place of a message or a dead letter in every listing it is in. Listings go from the greatest down, so that a new
/// one moves no page that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// When the message was accepted, when the delivery failed.
    pub at_ms: i64,
    /// Of the message or the delivery.
    pub id: Uuid,
}

impl Position {
    /// Before the first of every listing.
    pub const START: Position = Position { at_ms: i64::MAX, id: Uuid::max() };

    /// Sorts positions as listings go, each once.
    pub fn newest_first(positions: &mut Vec<Position>) {
        positions.sort_unstable_by(|a, b| b.cmp(a));
        positions.dedup();
    }

    /// The cursor of a page that ended here: base64 of time, id and a check sum.
    pub fn to_cursor(self, listing: Listing<'_>) -> String {
        let mut bytes = Vec::with_capacity(28);
        bytes.extend_from_slice(&self.at_ms.to_be_bytes());
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(&check_sum(&bytes, listing));
        BASE64.encode(bytes)
    }

    /// Where the page asked for starts: after the cursor, or at the start without one.
    pub fn of_cursor(cursor: Option<&str>, listing: Listing<'_>) -> Result<Self, Error> {
        let Some(cursor) = cursor else { return Ok(Self::START) };
        let bytes = BASE64.decode(cursor).map_err(|_| Error::BadCursor)?;
        let (place, sum) = bytes.split_at_checked(24).ok_or(Error::BadCursor)?;
        if sum != check_sum(place, listing) {
            return Err(Error::BadCursor);
        }
        let (at, id) = place.split_at(8);
        Ok(Self {
            at_ms: i64::from_be_bytes(at.try_into().map_err(|_| Error::BadCursor)?),
            id: Uuid::from_slice(id).map_err(|_| Error::BadCursor)?,
        })
    }
}

/// Tells mistakes from cursors; a protection against malice it is not, and need not be: a cursor opens nothing.
fn check_sum(place: &[u8], listing: Listing<'_>) -> [u8; 4] {
    let mut sum = Fnv1a::default();
    sum.write(place);
    match listing {
        Listing::Conversation(tenant, conversation) => {
            sum.field(tenant.as_str());
            sum.field(conversation.as_str());
        }
        Listing::Messages(tenant, filter) => {
            sum.field(tenant.as_str());
            sum.field("\0messages"); // no conversation id holds a control character
            sum.field(filter.status.map_or("", |status| status.as_str()));
            sum.field(filter.channel.as_ref().map_or("", |channel| channel.as_str()));
        }
        Listing::DeadLetters(tenant, filter) => {
            sum.field(tenant.as_str());
            sum.field("\0dead-letters");
            for time in [filter.from, filter.before] {
                sum.field(&time.map(|at| at.as_millis().to_string()).unwrap_or_default());
            }
            sum.field(filter.reason.map_or("", |reason| reason.as_str()));
            sum.field(filter.channel.as_ref().map_or("", |channel| channel.as_str()));
        }
    }
    let [a, b, c, d, ..] = sum.finish().to_be_bytes();
    [a, b, c, d]
}

/// FNV-1a, 64 bit: the same in every process and version, which std's hashers do not promise.
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    fn field(&mut self, text: &str) {
        self.write(text.as_bytes());
        self.write(&[0]);
    }
}

impl Hasher for Fnv1a {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place_in_its_own_listing_only() {
        let (tenant, other) = (TenantId::default(), "other".parse().unwrap());
        let (filter, letters, conversation) = (Filter::default(), DeadLetterFilter::default(), "c".parse().unwrap());
        let place = Position { at_ms: 1_795_300_424_123, id: Uuid::from_u128(7) };
        let cursor = place.to_cursor(Listing::Messages(&tenant, &filter));
        let read = |listing| Position::of_cursor(Some(&cursor), listing);
        assert_eq!(read(Listing::Messages(&tenant, &filter)), Ok(place));
        assert_eq!(read(Listing::Messages(&other, &filter)), Err(Error::BadCursor));
        assert_eq!(read(Listing::Conversation(&tenant, &conversation)), Err(Error::BadCursor));
        assert_eq!(read(Listing::DeadLetters(&tenant, &letters)), Err(Error::BadCursor));
    }
}
