//! Bodies of the REST API, as clients write and read them.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::address::Address;
use crate::content::Content;
use crate::control::BreakerState;
use crate::envelope::{Attempt, Reason};
use crate::ids::{ChannelName, ConversationId, DeliveryId, Generation, MessageId};
use crate::status::{DeliveryStatus, MessageStatus};
use crate::time::{Timestamp, rfc3339};

/// Most addresses of one message.
pub const ADDRESSES_MAX: usize = 100;
/// Longest body of a single message.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Longest body of a batch, and most messages in it.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
pub const BATCH_MESSAGES_MAX: usize = 1_000;
/// Longest `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// `POST /v1/messages`. Ids and addresses are still text, so that a refusal can name the field.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    pub to: Targets,
    pub content: Content,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// The client's own id, `msg_` + UUID: makes a repeat safe, as an idempotency key does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The provider's id of the message that this one answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<u64>,
    /// Only `"all"` is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Value>,
    // Known fields of later versions: refused by name as not supported, never ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<Value>,
}

impl SendRequest {
    /// A message with nothing but what every message needs.
    pub fn new(to: Vec<String>, content: Content) -> Self {
        Self {
            to: Targets(to),
            content,
            conversation_id: None,
            message_id: None,
            reply_to: None,
            metadata: Map::new(),
            expires_in_seconds: None,
            mode: None,
            from: None,
            deliver_at: None,
            priority: None,
            callback_url: None,
        }
    }

    /// The first field in use that this version does not build.
    pub fn unsupported_field(&self) -> Option<&'static str> {
        let all = Value::String("all".into());
        [
            ("mode", self.mode.as_ref().is_some_and(|mode| *mode != all)),
            ("from", self.from.is_some()),
            ("deliver_at", self.deliver_at.is_some()),
            ("priority", self.priority.is_some()),
            ("callback_url", self.callback_url.is_some()),
        ]
        .into_iter()
        .find_map(|(field, used)| used.then_some(field))
    }
}

/// One address or a list of them.
#[derive(Debug, Clone, Serialize)]
pub struct Targets(pub Vec<String>);

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Targets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address `channel:target` or a list of them")
            }

            fn visit_str<E>(self, text: &str) -> Result<Targets, E> {
                Ok(Targets(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Targets, A::Error> {
                let mut targets = Vec::new();
                while let Some(target) = list.next_element()? {
                    targets.push(target);
                }
                Ok(Targets(targets))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// The body of a `202`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    pub message_id: MessageId,
    pub conversation_id: ConversationId,
    pub status: MessageStatus,
    #[serde(with = "rfc3339")]
    pub accepted_at: Timestamp,
}

/// `POST /v1/messages/batch` with JSON. Each message is parsed by itself, so that a bad one fails alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest<'a> {
    #[serde(borrow)]
    pub messages: Vec<&'a serde_json::value::RawValue>,
}

/// The answer to a batch: a result for each message, in the order sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BatchResponse {
    pub results: Vec<BatchResult>,
}

/// What a message of a batch would have been answered alone: the ids with 202, else the error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BatchResult {
    /// The HTTP status.
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::option")]
    pub accepted_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// An error as RFC 9457 problem details (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A short text that is the same for every problem of this code.
    pub title: String,
    /// For programs: never changes its meaning.
    pub code: String,
    /// For people: this very case.
    pub detail: String,
    /// The field, header or parameter at fault, as a path: `to[1]`, `content.text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Set where the message may have been accepted all the same: repeat with this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// Stands in our log lines about this request.
    pub request_id: String,
}

/// `GET /v1/messages/{id}`, and an item of each listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageView {
    pub message_id: MessageId,
    pub conversation_id: ConversationId,
    /// `received` for a message from the other side, which has a `from` and goes to nobody.
    pub status: MessageStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Address>,
    pub to: Vec<Address>,
    pub content: Content,
    /// The provider's id of a received message: what `reply_to` takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    #[serde(with = "rfc3339")]
    pub accepted_at: Timestamp,
    /// A received message does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::option")]
    pub expires_at: Option<Timestamp>,
    pub deliveries: Vec<DeliveryView>,
}

/// One copy of a message: where it stands and how it got there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryView {
    pub delivery_id: DeliveryId,
    pub to: Address,
    pub status: DeliveryStatus,
    pub generation: Generation,
    #[serde(with = "rfc3339")]
    pub updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::option")]
    pub retry_at: Option<Timestamp>,
    /// Whether a `sent` is not the end: its provider will report more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits_receipt: bool,
    pub attempts: Vec<AttemptView>,
}

impl DeliveryView {
    /// Whether nothing more is expected to happen to it.
    pub fn has_ended(&self) -> bool {
        self.status.is_end() && !self.awaits_receipt
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptView {
    pub number: u32,
    pub generation: Generation,
    #[serde(with = "rfc3339")]
    pub started_at: Timestamp,
    pub duration_ms: u64,
    pub outcome: crate::envelope::OutcomeKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl AttemptView {
    pub fn of(attempt: Attempt, generation: Generation) -> Self {
        Self {
            number: attempt.number,
            generation,
            started_at: attempt.started_at,
            duration_ms: attempt.duration_ms,
            outcome: attempt.outcome,
            code: attempt.code,
            detail: attempt.detail,
        }
    }
}

/// A listing. `next_cursor` is absent on the last page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessagePage {
    pub messages: Vec<MessageView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `GET /v1/dead-letters/{delivery_id}`, and an item of the listing: a delivery that failed for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterView {
    pub delivery_id: DeliveryId,
    pub message_id: MessageId,
    pub conversation_id: ConversationId,
    pub to: Address,
    pub reason: Reason,
    /// The last provider code seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Calls of the provider that were made.
    pub attempts: u32,
    /// How often it had been replayed when it failed.
    pub generation: Generation,
    #[serde(with = "rfc3339")]
    pub accepted_at: Timestamp,
    #[serde(with = "rfc3339")]
    pub failed_at: Timestamp,
    /// Whether it is on its way again; such letters are in no listing.
    pub replayed: bool,
    pub content: Content,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

/// `GET /v1/dead-letters`, newest first. `next_cursor` is absent on the last page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterPage {
    pub dead_letters: Vec<DeadLetterView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// The body of the `202` to `POST /v1/dead-letters/{delivery_id}/replay`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replayed {
    pub delivery_id: DeliveryId,
    pub message_id: MessageId,
    /// Of the delivery from now on. A second replay of the same dead letter has the same.
    pub generation: Generation,
    /// What has become of that generation, if the letter had been replayed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<DeliveryStatus>,
}

/// The body of the `202` to `POST /v1/messages/{id}/cancel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CancelRequested {
    pub message_id: MessageId,
    /// What the message was at when this was asked. What comes of it, `GET` tells.
    pub status: MessageStatus,
}

/// `GET /v1/channels`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelList {
    pub channels: Vec<ChannelView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelView {
    pub name: ChannelName,
    pub kind: String,
    /// Most calls of its provider at a time, in one process.
    pub in_flight_max: u32,
    pub attempts_max: u32,
    /// The highest status that its provider reports: `sent` where it never says more than that it took a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_status: Option<DeliveryStatus>,
    /// Records on its outbound topic that are not yet finished; absent while the log cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// Whether an operator has paused it; absent while the log cannot tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::option")]
    pub paused_since: Option<Timestamp>,
    /// What the breakers of the processes that carry it are at, as far as they have said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breakers: Vec<BreakerView>,
}

/// A channel's breaker in one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BreakerView {
    /// As the cluster's view names it.
    pub process: String,
    pub state: BreakerState,
    #[serde(with = "rfc3339")]
    pub since: Timestamp,
    /// When the provider is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::option")]
    pub until: Option<Timestamp>,
}

/// `GET /health/ready`: `ready`, or which part is missing and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    pub ready: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// `GET /v1/cluster`: every process, who holds which partition, how far behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterView {
    pub processes: Vec<ProcessView>,
    pub groups: Vec<GroupView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessView {
    /// A random name, new at every start.
    pub process: String,
    pub pid: u32,
    pub roles: Vec<String>,
    /// Addresses it opened.
    pub listens: Vec<String>,
    #[serde(with = "rfc3339")]
    pub started_at: Timestamp,
    /// False once its lock is gone, until it is cleared away.
    pub alive: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupView {
    pub group: String,
    pub partitions: Vec<PartitionView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionView {
    pub topic: String,
    pub partition: u32,
    /// The process that holds it; absent while nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    pub epoch: u64,
    /// Everything below is finished.
    pub committed: u64,
    pub end: u64,
    pub lag: u64,
}
