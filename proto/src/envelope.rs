//! What the records of each topic hold. Every envelope carries a version tag and the tenant.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Map, Value};

use crate::address::Address;
use crate::content::Content;
use crate::ids::{ConversationId, DeliveryId, Generation, MessageId, TenantId};
use crate::status::{DeliveryStatus, Precedence};
use crate::time::Timestamp;
use crate::topic::Key;
use crate::trace::TraceContext;

/// Shortest and longest time a message may be given to arrive.
pub const EXPIRY_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
pub const EXPIRY_DEFAULT: Duration = Duration::from_secs(24 * 3_600);

/// The version tag `"v":1`. Another number is refused: an envelope is never half understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct V1;

impl Serialize for V1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for V1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(V1),
            other => Err(D::Error::custom(format!("version `{other}` of this record is not known here"))),
        }
    }
}

/// Topic `messages`: a message as it was accepted, or (generation above 0) a replay of some of its deliveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub v: V1,
    pub tenant: TenantId,
    pub message_id: MessageId,
    pub conversation_id: ConversationId,
    pub to: Vec<Address>,
    pub content: Content,
    /// The provider's id of the message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    pub accepted_at: Timestamp,
    pub expires_at: Timestamp,
    #[serde(default)]
    pub generation: Generation,
    /// Of a replay through another channel: the address whose dead letter it is. The new one is in `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead_of: Option<Address>,
}

impl Message {
    pub fn key(&self) -> Key {
        Key::of(&self.tenant, &self.conversation_id)
    }
}

/// Topic `<channel>-outbound`: one copy for one address, complete in itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outbound {
    pub v: V1,
    pub tenant: TenantId,
    pub delivery_id: DeliveryId,
    pub generation: Generation,
    /// Epoch of the assignment under which the router wrote this. A connector drops records of an epoch lower than
    /// one it saw: a router that had lost its partition wrote them, and its successor routes them again.
    pub router_epoch: u64,
    pub message_id: MessageId,
    pub conversation_id: ConversationId,
    pub to: Address,
    pub content: Content,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    pub accepted_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Outbound {
    pub fn key(&self) -> Key {
        Key::of(&self.tenant, &self.conversation_id)
    }

    /// An event about this delivery; the caller fills in what it knows more.
    pub fn event(&self, status: DeliveryStatus, at: Timestamp) -> StatusEvent {
        StatusEvent {
            v: V1,
            tenant: self.tenant.clone(),
            message_id: self.message_id,
            delivery_id: self.delivery_id,
            conversation_id: self.conversation_id.clone(),
            address: self.to.clone(),
            generation: self.generation,
            status,
            at,
            accepted_at: self.accepted_at,
            expires_at: self.expires_at,
            attempt: None,
            provider_id: None,
            reason: None,
            retry_at: None,
            awaits_receipt: false,
            traceparent: None,
        }
    }
}

/// Topic `<channel>-parked`: a delivery of a lane that could not move, out of the way of the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parked {
    pub v: V1,
    /// Offset of the delivery's record on the outbound topic: the deliveries of a lane go in the order of their positions,
    /// in whatever order and however often they stand here.
    pub position: u64,
    /// Calls made before it was parked, and those of them that count.
    pub attempts: u32,
    pub burnt: u32,
    pub delivery: Arc<Outbound>,
}

/// Topic `status-updates`: one delivery reached a status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusEvent {
    pub v: V1,
    pub tenant: TenantId,
    pub message_id: MessageId,
    pub delivery_id: DeliveryId,
    pub conversation_id: ConversationId,
    pub address: Address,
    pub generation: Generation,
    pub status: DeliveryStatus,
    pub at: Timestamp,
    pub accepted_at: Timestamp,
    pub expires_at: Timestamp,
    /// The attempt whose end this reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// The provider's own id of the message, once it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// Why the delivery failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When the next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Whether the provider may report more about it: then a `sent` is not the end, and neither is what ended without an
    /// answer that one could be sure of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits_receipt: bool,
    /// The call of the provider that this reports, where receipts may follow: they belong to its trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceContext>,
}

impl StatusEvent {
    pub fn key(&self) -> Key {
        Key::of(&self.tenant, &self.conversation_id)
    }

    pub fn precedence(&self) -> Precedence {
        Precedence {
            generation: self.generation,
            status: self.status,
            attempt: self.attempt.as_ref().map_or(0, |attempt| attempt.number),
        }
    }
}

/// What one call of the provider came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 is the first.
    pub number: u32,
    pub started_at: Timestamp,
    pub duration_ms: u64,
    pub outcome: OutcomeKind,
    /// The provider's error code or HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Our own words for it. Never text of the provider's answer, which may repeat secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The classes of answers that all providers' answers are sorted into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    Accepted,
    Throttled,
    Transient,
    Ambiguous,
    RecipientGone,
    MessageRejected,
    AccountProblem,
}

impl OutcomeKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Ambiguous => "ambiguous",
            Self::RecipientGone => "recipient_gone",
            Self::MessageRejected => "message_rejected",
            Self::AccountProblem => "account_problem",
        }
    }
}

/// Why a delivery failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Every attempt that the channel allows was made.
    AttemptsExhausted,
    /// The provider will never take this message.
    MessageRejected,
    /// The recipient is unknown, blocked us, or is gone (HTTP 410).
    RecipientGone,
    /// The provider took it, and reported later that it could not deliver it.
    Undelivered,
    /// The channel is no longer configured.
    ChannelRemoved,
    /// The record could not be understood by this version.
    Unreadable,
}

impl Reason {
    pub const ALL: [Reason; 6] = [
        Self::AttemptsExhausted,
        Self::MessageRejected,
        Self::RecipientGone,
        Self::Undelivered,
        Self::ChannelRemoved,
        Self::Unreadable,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::MessageRejected => "message_rejected",
            Self::RecipientGone => "recipient_gone",
            Self::Undelivered => "undelivered",
            Self::ChannelRemoved => "channel_removed",
            Self::Unreadable => "unreadable",
        }
    }
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|reason| reason.as_str()).collect();
            format!("is not a reason; it is one of {}", known.join(", "))
        })
    }
}

/// Topic `dead-letters`: a delivery that failed for good, with all that a replay needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub v: V1,
    pub reason: Reason,
    /// Calls of the provider that were made.
    pub attempts: u32,
    /// The last provider code seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub failed_at: Timestamp,
    /// Where the delivery's own record stood.
    pub source: Source,
    pub delivery: Outbound,
}

impl DeadLetter {
    pub fn key(&self) -> Key {
        self.delivery.key()
    }
}

/// A place on the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub topic: String,
    pub partition: u32,
    pub offset: u64,
}
