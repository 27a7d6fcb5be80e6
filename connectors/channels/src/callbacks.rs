//! What a provider calls us with: handshakes, receipts, messages from the other side. The api asks a channel for its
//! [`Callbacks`]; a provider's folder has them in `callback.rs`.

use std::borrow::Cow;

use chat4all_proto::receipt::Failure;
use chat4all_proto::{Content, DeliveryId, DeliveryStatus, Generation, Timestamp};
use http::HeaderMap;

/// The callbacks of one configured channel.
pub trait Callbacks: Send + Sync {
    /// Our account at the provider, as its calls name it: several channels may be called at one address. `None` where a
    /// call does not say whom it is for.
    fn account(&self) -> Option<&str>;

    /// Answers the handshake that a `GET` with this query asks for: the body of the `200`. `None` is `403`.
    fn handshake(&self, query: &[(Cow<'_, str>, Cow<'_, str>)]) -> Option<String>;

    /// What can be refused before the body is there: by the headers alone.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Unverified>;

    /// Whether the provider made this call: by its raw bytes, before anything in them is read, and in constant time.
    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Unverified>;

    /// What a verified call says, in its order. Parts that are of no concern are passed over.
    fn read(&self, body: &[u8], now: Timestamp) -> Result<Vec<Event>, Malformed>;
}

/// Why a call is not taken. Repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    #[error("the channel has no `{key}`, without which nobody's call can be trusted")]
    NoSecret { key: &'static str },
    #[error("the header `{header}` is missing")]
    Missing { header: &'static str },
    #[error("the header `{header}` does not fit the body")]
    Wrong { header: &'static str },
}

/// A verified call that is not what the provider documents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// One thing that a call says.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Receipt(ReceiptOf),
    Inbound(InboundMessage),
    /// Something this version has no use for, by the provider's name for it: counted.
    Ignored(&'static str),
}

/// A provider's report on a message it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptOf {
    /// Whose: see [`Callbacks::account`].
    pub account: Option<String>,
    pub provider_id: String,
    /// Ours, where the provider gives it back.
    pub delivery_id: Option<DeliveryId>,
    /// Of that delivery.
    pub generation: Generation,
    pub status: DeliveryStatus,
    pub at: Timestamp,
    pub failure: Option<Failure>,
    /// As in `Report::code_is_unknown`.
    pub code_is_unknown: bool,
}

/// Somebody wrote to us.
#[derive(Debug, Clone, PartialEq)]
pub struct InboundMessage {
    pub account: Option<String>,
    /// The sender, as a target of this channel.
    pub from: String,
    /// Unique within the channel: the same for every repeat of the call.
    pub provider_id: String,
    pub reply_to: Option<String>,
    /// Text, or media by link; `raw` holds anything else as the provider gave it.
    pub content: Content,
    pub sent_at: Timestamp,
}
