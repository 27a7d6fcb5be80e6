//! `channel:target`, the place where one copy of a message goes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::ids::{self, ChannelName};

/// Longest target, in bytes.
pub const TARGET_BYTES_MAX: usize = 2_048;

/// Where a copy goes: a channel of the configuration, and whatever that channel calls a recipient.
/// Whether the target suits the channel is for the channel to say.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    pub channel: ChannelName,
    pub target: Arc<str>,
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("`{0}` has no channel: write `channel:target`")]
    NoChannel(String),
    #[error("its channel {0}")]
    Channel(#[source] ids::Invalid),
    #[error("its target {0}")]
    Target(#[source] ids::Invalid),
    #[error("its target begins or ends with white space")]
    PaddedTarget,
}

impl FromStr for Address {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let Some((channel, target)) = text.split_once(':') else {
            return Err(Invalid::NoChannel(text.chars().take(80).collect()));
        };
        let channel = channel.parse().map_err(Invalid::Channel)?;
        ids::check_length(target, TARGET_BYTES_MAX).map_err(Invalid::Target)?;
        if target.chars().any(char::is_control) {
            return Err(Invalid::Target(ids::Invalid::ControlCharacter));
        }
        if target.trim() != target {
            return Err(Invalid::PaddedTarget);
        }
        Ok(Self { channel, target: target.into() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.channel, self.target)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Result<(&str, &str), &str>) {
        match (text.parse::<Address>(), expected) {
            (Ok(address), Ok((channel, target))) => {
                assert_eq!((address.channel.as_str(), &*address.target), (channel, target));
                assert_eq!(address.to_string(), text);
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "`{text}`: {error}"),
            (got, expected) => panic!("`{text}`: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn the_parser_says_what_is_wrong() {
        check("whatsapp:+5562996991812", Ok(("whatsapp", "+5562996991812")));
        check("webhook:http://127.0.0.1:8090/in", Ok(("webhook", "http://127.0.0.1:8090/in")));
        check("ana@example.com", Err("has no channel"));
        check(":x", Err("channel must not be empty"));
        check("email:", Err("target must not be empty"));
        check("E-Mail:x", Err("is not a channel name"));
        check("sms:+1\r\nX: y", Err("control character"));
        check("sms: 1", Err("white space"));
        check(&format!("sms:{}", "1".repeat(2_049)), Err("at most 2048"));
    }

    proptest! {
        #[test]
        fn what_is_read_prints_the_same(text in "[a-z]{1,8}:[!-~]{1,40}") {
            prop_assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }
}
