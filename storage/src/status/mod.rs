//! The status store: what became of every message, for people and programs that ask. Rows are written by the recorder
//! from the log and can be written again at any time: the highest [`Precedence`](chat4all_proto::status::Precedence) wins, whatever the order.
//!
//! What callers may rely on, on every adapter: a write is durable when `write` returns and seen by every later read of
//! any process; writes may be repeated and arrive in any order, and the end is the same.

pub mod conformance;
pub mod memory;
pub mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use chat4all_proto::http::{MessagePage, MessageView};
use chat4all_proto::{
    ChannelName, ConversationId, DeliveryId, DeliveryStatus, Message, MessageId, StatusEvent, TenantId, Timestamp,
};

/// Something learnt about a message. Each may come repeatedly, and before or after every other.
#[derive(Debug, Clone)]
pub enum Write {
    /// The message itself: addresses, content, times. Generations above 0 (replays) change no row.
    Message(Arc<Message>),
    /// A delivery's status; its attempt, if it reports one, joins the delivery's attempts (one row a generation, start and
    /// number; of two reports about one attempt any may stay).
    Event(Arc<StatusEvent>),
}

/// Which messages a listing shows: those with a delivery to which all of this applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub status: Option<DeliveryStatus>,
    pub channel: Option<ChannelName>,
}

/// One page of a listing, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// At least 1.
    pub limit: usize,
    /// `next_cursor` of the page before. Opaque to clients; `Error::BadCursor` if it is not one.
    pub cursor: Option<String>,
}

/// Why a call on the store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// May succeed later. A write may have been done in part: repeat it whole.
    #[error("the status store is unavailable: {0}")]
    Unavailable(String),
    /// The client made the cursor up.
    #[error("this is not a cursor of this listing")]
    BadCursor,
    /// Somebody must act first: another version's data, missing rights, a row that cannot be read.
    #[error("{0}")]
    Refused(String),
}

/// One process's access to the store. Cheap to share (`Arc<dyn Status>`).
#[async_trait]
pub trait Status: Send + Sync + 'static {
    /// Writes a batch. Cheapest with hundreds of writes a call.
    async fn write(&self, writes: Vec<Write>) -> Result<(), Error>;

    /// A message with all its deliveries and attempts. `None` until its [`Write::Message`] came.
    /// A delivery without an end whose message's `expires_at` is past `now` shows as `expired`.
    async fn message(&self, tenant: &TenantId, id: MessageId, now: Timestamp) -> Result<Option<MessageView>, Error>;

    /// Messages of one conversation, newest first. An unknown conversation has no messages.
    async fn conversation(
        &self,
        tenant: &TenantId,
        conversation: &ConversationId,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<MessagePage, Error>;

    /// Messages with a delivery that matches `filter`, newest first. The stored status counts, so that a delivery which
    /// only shows as `expired` is still listed under its last one.
    async fn messages(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<MessagePage, Error>;

    /// The delivery to which a provider gave this id of its own.
    async fn by_provider_id(
        &self,
        channel: &ChannelName,
        provider_id: &str,
    ) -> Result<Option<(MessageId, DeliveryId)>, Error>;

    /// Deletes messages accepted before `accepted_before` (and all that belongs to them), some thousand a call. The
    /// number deleted; 0 means there were none left.
    async fn purge(&self, accepted_before: Timestamp) -> Result<u64, Error>;

    /// Whether the store answers now.
    async fn check(&self) -> Result<(), Error>;

    /// Ends orderly. Later calls fail with `Unavailable`.
    async fn close(&self);
}
