//! The status store: what became of every message, for people and programs that ask. Rows are written by the recorder
//! from the log and can be written again at any time: the highest [`Precedence`](chat4all_proto::status::Precedence) wins, whatever the order.
//!
//! What callers may rely on, on every adapter: a write is durable when `write` returns and seen by every later read of
//! any process; writes may be repeated and arrive in any order, and the end is the same.

pub mod claims;
pub mod conformance;
pub mod memory;
pub mod rows;

use std::sync::Arc;

use async_trait::async_trait;
use chat4all_proto::envelope::{DeadLetter, Reason};
use chat4all_proto::http::{DeadLetterPage, MessagePage, MessageView};
use chat4all_proto::{
    Address, ChannelName, ConversationId, DeliveryId, DeliveryStatus, Generation, Inbound, Message, MessageId, Receipt,
    StatusEvent, TenantId, Timestamp,
};

pub use claims::{Claim, Claimed};

/// Something learnt about a message. Each may come repeatedly, and before or after every other.
#[derive(Debug, Clone)]
pub enum Write {
    /// The message itself: addresses, content, times. A generation above 0 is a replay: it changes no message, and marks
    /// the dead letters of its addresses, and of the one that it goes instead of, as replayed up to that generation.
    Message(Arc<Message>),
    /// A delivery's status; its attempt, if it reports one, joins the delivery's attempts (one row a generation, start and
    /// number; of two reports about one attempt any may stay). With a provider's id it is also one half of that id's
    /// [`Join`], and names the conversation that its address is in; `unknown`, it is one half of its delivery id's.
    Event(Arc<StatusEvent>),
    /// A provider's receipt: the other half of its provider id's [`Join`] and, where it has one, of its delivery id's. The
    /// highest status stays.
    Receipt(Arc<Receipt>),
    /// A delivery that failed for good. The highest generation stays.
    DeadLetter(Arc<DeadLetter>),
    /// A message from the other side: a row of its conversation, beside those of messages.
    Inbound(Arc<Inbound>),
}

/// What a channel's receipts are matched by: the provider's id of a message, or our delivery id as the provider gives it
/// back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JoinKey {
    pub channel: ChannelName,
    pub id: String,
}

/// The two halves of what is known about an id, each once it came. Whoever sees both tells the delivery's status. A
/// receipt that no event came for may be forgotten after 24 h; an event waits for its receipts as long as its message is
/// kept, since a recipient's telephone may be off for days.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Join {
    /// The one of the highest precedence among those that named the id; its attempt is left out.
    pub event: Option<StatusEvent>,
    /// The number of the attempt that it reported; 0 if it reported none.
    pub attempts: u32,
    pub receipt: Option<Receipt>,
}

impl JoinKey {
    pub fn new(channel: &ChannelName, id: impl ToString) -> Self {
        Self { channel: channel.clone(), id: id.to_string() }
    }

    /// Those that an event is one half of: of the provider's id, if it names one; of our own, if an attempt may have been
    /// taken without an answer that told its id.
    pub fn of_event(event: &StatusEvent) -> Vec<Self> {
        let channel = &event.address.channel;
        let is_unsure = match event.status {
            DeliveryStatus::Unknown => true,
            DeliveryStatus::Failed | DeliveryStatus::Expired => event.awaits_receipt,
            _ => false,
        };
        let ours = is_unsure.then(|| Self::of_delivery(channel, event.delivery_id, event.generation));
        event.provider_id.iter().map(|id| Self::new(channel, id)).chain(ours).collect()
    }

    /// Those that a receipt is the other half of.
    pub fn of_receipt(receipt: &Receipt) -> Vec<Self> {
        let channel = &receipt.channel;
        let ours = receipt.delivery_id.map(|id| Self::of_delivery(channel, id, receipt.generation));
        std::iter::once(Self::new(channel, &receipt.provider_id)).chain(ours).collect()
    }

    fn of_delivery(channel: &ChannelName, id: DeliveryId, generation: Generation) -> Self {
        Self::new(channel, format_args!("{id}/{}", generation.0))
    }
}

/// Which dead letters a listing shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    pub channel: Option<ChannelName>,
    pub reason: Option<Reason>,
    /// Failed at this time or later.
    pub from: Option<Timestamp>,
    /// Failed earlier than this.
    pub before: Option<Timestamp>,
}

/// Which messages a listing shows: those with a delivery to which all of this applies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub status: Option<DeliveryStatus>,
    pub channel: Option<ChannelName>,
}

/// A dead letter and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterRow {
    pub letter: DeadLetter,
    /// The highest generation that it was replayed as; 0: never.
    pub replayed_as: Generation,
}

impl DeadLetterRow {
    pub fn is_replayed(&self) -> bool {
        self.replayed_as > self.letter.delivery.generation
    }
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

    /// A message with all its deliveries and attempts. `None` until its [`Write::Message`] or [`Write::Inbound`] came.
    /// A delivery without an end whose `expires_at` (the message's, unless it was replayed) is past `now` shows as
    /// `expired`.
    async fn message(&self, tenant: &TenantId, id: MessageId, now: Timestamp) -> Result<Option<MessageView>, Error>;

    /// Messages of one conversation, from either side, newest first. An unknown conversation has no messages.
    async fn conversation(
        &self,
        tenant: &TenantId,
        conversation: &ConversationId,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<MessagePage, Error>;

    /// Messages with a delivery that matches `filter`, newest first; the empty filter shows received ones too. The stored
    /// status counts, so that a delivery which only shows as `expired` is still listed under its last one.
    async fn messages(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<MessagePage, Error>;

    /// The delivery to which a provider gave this id of its own: that of the id's [`Join`].
    async fn by_provider_id(
        &self,
        channel: &ChannelName,
        provider_id: &str,
    ) -> Result<Option<(MessageId, DeliveryId)>, Error>;

    /// For each key, in their order, what came of its two halves.
    async fn joins(&self, keys: &[JoinKey]) -> Result<Vec<Join>, Error>;

    /// The accepted message itself, as the log had it. `None` until its [`Write::Message`] came, and for a received one.
    async fn accepted(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Message>, Error>;

    /// The conversation of the latest message to `address` that a provider gave an id: the one with the greatest
    /// `accepted_at`. `None` where none is known.
    async fn conversation_with(&self, tenant: &TenantId, address: &Address) -> Result<Option<ConversationId>, Error>;

    /// A dead letter, whether it was replayed or not.
    async fn dead_letter(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Option<DeadLetterRow>, Error>;

    /// Dead letters that match `filter` and were not replayed since, newest failure first.
    async fn dead_letters(
        &self,
        tenant: &TenantId,
        filter: &DeadLetterFilter,
        page: &PageRequest,
    ) -> Result<DeadLetterPage, Error>;

    /// Deletes dead letters, each up to this generation, with what they hold: their number, without those that are not
    /// there. No listing shows them again, not even when they are written once more; one of a later generation is a new
    /// letter. After an error any of them may be deleted.
    async fn discard(&self, tenant: &TenantId, letters: &[(DeliveryId, Generation)]) -> Result<u64, Error>;

    /// Claims the ids of messages that are about to be appended; each id at most once in a call. For each claim, in their
    /// order, what it met: of claims that race for an id one is `New`. Durable when it returns. After an error any of them
    /// may have been claimed; claiming again is harmless.
    ///
    /// A claim is kept for at least 24 h after it was made or marked, and for [`claims::OUTLIVES_MESSAGE_BY`] longer than a
    /// message that was accepted then.
    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, Error>;

    /// Marks claims as appended, each with the `accepted_at` that its id was first claimed with. What is marked stays so. A
    /// claim that is not there any more, or has other contents, is passed over.
    async fn mark_appended(&self, claims: &[Claim]) -> Result<(), Error>;

    /// Deletes messages accepted before `accepted_before` and all that belongs to them, also where the message itself never
    /// came, receipts that waited in vain, and claims that have outlived such messages for long enough: some thousand rows a
    /// call. Their number; 0 means there were none left.
    async fn purge(&self, accepted_before: Timestamp) -> Result<u64, Error>;

    /// Whether the store answers now.
    async fn check(&self) -> Result<(), Error>;

    /// Ends orderly. Later calls fail with `Unavailable`.
    async fn close(&self);
}
