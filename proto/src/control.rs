//! Topic `control`: what operators want and what the connectors' breakers are at, one latest value a key. Every process
//! reads it whole before it takes partitions, and follows it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::envelope::V1;
use crate::ids::{ChannelName, MessageId};
use crate::time::Timestamp;

/// A cancellation outlives its message by this: clocks differ.
pub const OUTLIVES_MESSAGE_BY: Duration = Duration::from_secs(3_600);

/// What a value is about. Printed and parsed as the topic's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ControlKey {
    /// The channel is paused while there is a value.
    Paused(ChannelName),
    /// The message was cancelled.
    Cancelled(MessageId),
    /// This process shall end as after a SIGTERM. Named as in the cluster's view.
    Drain(String),
    /// Where the breaker of a channel stands in one process.
    Breaker { channel: ChannelName, process: String },
}

impl fmt::Display for ControlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused(channel) => write!(f, "paused/{channel}"),
            Self::Cancelled(id) => write!(f, "cancelled/{id}"),
            Self::Drain(process) => write!(f, "drain/{process}"),
            Self::Breaker { channel, process } => write!(f, "breaker/{channel}/{process}"),
        }
    }
}

impl FromStr for ControlKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = |text: &str| text.parse::<ChannelName>().map_err(|error| error.to_string());
        match text.split_once('/') {
            Some(("paused", channel)) => Ok(Self::Paused(name(channel)?)),
            Some(("cancelled", id)) => {
                Ok(Self::Cancelled(id.parse().map_err(|error: crate::ids::Invalid| error.to_string())?))
            }
            Some(("drain", process)) if !process.is_empty() => Ok(Self::Drain(process.to_owned())),
            Some(("breaker", rest)) => match rest.split_once('/') {
                Some((channel, process)) if !process.is_empty() => {
                    Ok(Self::Breaker { channel: name(channel)?, process: process.to_owned() })
                }
                _ => Err("has no process".to_owned()),
            },
            _ => Err("is of no kind that is known here".to_owned()),
        }
    }
}

/// At [`ControlKey::Paused`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    pub v: V1,
    pub since: Timestamp,
}

/// At [`ControlKey::Cancelled`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    pub v: V1,
    pub at: Timestamp,
    /// When the key may be deleted: no way of the message can be under way any more.
    pub until: Timestamp,
}

/// At [`ControlKey::Drain`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainWanted {
    pub v: V1,
    pub at: Timestamp,
}

/// At [`ControlKey::Breaker`]: written by the process itself, at each change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    pub v: V1,
    pub state: BreakerState,
    pub since: Timestamp,
    /// Of an open one: when the provider is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls are made.
    Closed,
    /// A few calls try whether the others would succeed.
    HalfOpen,
    /// No calls are made.
    Open,
}

impl BreakerState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_from_what_it_prints() {
        let (channel, process): (ChannelName, _) = ("hook".parse().unwrap(), "3f9a".to_owned());
        let message = "msg_018f4e0e-0000-7000-8000-000000000001".parse().unwrap();
        for (key, text) in [
            (ControlKey::Paused(channel.clone()), "paused/hook"),
            (ControlKey::Cancelled(message), "cancelled/msg_018f4e0e-0000-7000-8000-000000000001"),
            (ControlKey::Drain(process.clone()), "drain/3f9a"),
            (ControlKey::Breaker { channel, process }, "breaker/hook/3f9a"),
        ] {
            assert_eq!(key.to_string(), text);
            assert_eq!(text.parse(), Ok(key));
        }
    }

    #[test]
    fn a_key_of_another_kind_is_no_key() {
        for text in
            ["", "paused", "paused/", "paused/A", "cancelled/42", "drain/", "breaker/hook", "breaker/hook/", "x/y"]
        {
            assert!(text.parse::<ControlKey>().is_err(), "{text}");
        }
    }
}
