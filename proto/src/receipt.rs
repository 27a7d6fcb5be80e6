//! What providers report about messages they took, as it travels on `status-updates` until the recorder has joined it
//! with the delivery it is about.

use serde::{Deserialize, Serialize};

use crate::envelope::{OutcomeKind, StatusEvent, V1};
use crate::ids::{ChannelName, DeliveryId, Generation};
use crate::status::DeliveryStatus;
use crate::time::Timestamp;
use crate::topic::Key;

/// Topic `status-updates`: a provider reported on one of its messages. May come before the send's own answer, repeatedly
/// and in any order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Receipt {
    pub v: V1,
    pub channel: ChannelName,
    /// The provider's own id of the message.
    pub provider_id: String,
    /// Our id, where the provider gives back what we sent along: finds the delivery whose answer was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<DeliveryId>,
    /// Of the delivery, where its id is there: a receipt of an earlier way says nothing about a replay.
    #[serde(default, skip_serializing_if = "Generation::is_first")]
    pub generation: Generation,
    /// `Sent`, `Failed`, `Delivered` or `Read`.
    pub status: DeliveryStatus,
    /// When it happened, by the provider's clock.
    pub at: Timestamp,
    /// What a `Failed` means for the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Why a provider could not deliver what it had taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Failure {
    pub outcome: OutcomeKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl Receipt {
    pub fn key(&self) -> Key {
        Key::of_receipt(&self.channel, &self.provider_id)
    }
}

/// A record of `status-updates`.
#[derive(Debug, Clone, PartialEq)]
pub enum StatusUpdate {
    Event(Box<StatusEvent>),
    Receipt(Receipt),
}

impl StatusUpdate {
    /// Reads a record's value. Events are by far the most, and are tried first; the error is about what it looks like.
    pub fn read(value: &[u8]) -> serde_json::Result<Self> {
        let error = match serde_json::from_slice(value) {
            Ok(event) => return Ok(Self::Event(Box::new(event))),
            Err(error) => error,
        };
        serde_json::from_slice(value).map(Self::Receipt).map_err(|_| error)
    }
}
