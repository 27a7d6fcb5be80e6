//! Claims on message ids that clients chose, for logs that cannot keep [`NewRecord::once`](crate::log::NewRecord): whoever
//! appends such a message claims its id before, and marks it as appended afterwards. Used by the api and the adapters.

use std::time::Duration;

use chat4all_proto::{MessageId, TenantId, Timestamp};

use crate::log::Fingerprint;

/// A claim is kept for so much longer than a message that was accepted with it: whoever drops repeats by id must have
/// forgotten the id before it may name another message.
pub const OUTLIVES_MESSAGE_BY: Duration = Duration::from_secs(3_600);

/// One request's claim on an id of its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub tenant: TenantId,
    pub message_id: MessageId,
    /// Of what the client wants to send under the id.
    pub fingerprint: Fingerprint,
    pub accepted_at: Timestamp,
}

/// What a claim met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody's claim: append the message. At most one claim of an id is told so.
    New,
    /// A claim for the same contents, first accepted at `first_at`, whose append is not known to have succeeded: append the
    /// message again under the same id. Readers drop what is there twice.
    Unsettled { first_at: Timestamp },
    /// A claim for the same contents, marked as appended: nothing is left to do.
    Appended { first_at: Timestamp },
    /// A claim for other contents. Append nothing.
    Conflict,
}

/// A claim as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRow {
    pub fingerprint: Fingerprint,
    pub first_at: Timestamp,
    pub appended: bool,
}

impl ClaimRow {
    /// What the same id's later claim for `fingerprint` meets.
    pub fn meet(&self, fingerprint: &Fingerprint) -> Claimed {
        let first_at = self.first_at;
        match self.appended {
            _ if self.fingerprint != *fingerprint => Claimed::Conflict,
            true => Claimed::Appended { first_at },
            false => Claimed::Unsettled { first_at },
        }
    }
}
