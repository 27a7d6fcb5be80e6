//! A message that came from the other side.

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::content::Content;
use crate::envelope::V1;
use crate::ids::{ConversationId, MessageId, TenantId};
use crate::time::Timestamp;
use crate::topic::Key;

/// Topic `inbound`: somebody wrote to one of our accounts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inbound {
    pub v: V1,
    pub tenant: TenantId,
    /// The same for every repeat of the provider's call.
    pub message_id: MessageId,
    /// The conversation it answers, else one that is named by the sender's address.
    pub conversation_id: ConversationId,
    /// The sender, as an address that can be answered to.
    pub from: Address,
    /// The provider's own id of it.
    pub provider_id: String,
    /// The provider's id of the message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Text, or media by link; `raw` holds anything else as the provider gave it.
    pub content: Content,
    /// When it was written, by the provider's clock.
    pub sent_at: Timestamp,
    pub received_at: Timestamp,
}

impl Inbound {
    pub fn key(&self) -> Key {
        Key::of(&self.tenant, &self.conversation_id)
    }
}
