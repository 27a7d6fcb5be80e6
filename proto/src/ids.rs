//! Ids as newtypes, printed with a prefix. Parsers say what is wrong, in words fit for a client.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

/// Namespace of every name-based id that Chat4All makes.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f1c_6f0e_5a55_4b0b_9d5c_0c4a_74a1_1a11);

/// Longest conversation id and tenant id, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// Longest channel name, in bytes.
pub const CHANNEL_BYTES_MAX: usize = 64;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("`{text}` is not an id of the form `{prefix}_` + UUID")]
    NotPrefixedUuid { prefix: &'static str, text: String },
    #[error("must not be empty")]
    Empty,
    #[error("is {bytes} bytes long; at most {bytes_max} are allowed")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("contains a control character")]
    ControlCharacter,
    #[error("`{0}` is not a channel name: use a-z, 0-9, `_` and `-`, beginning with a letter or digit")]
    NotAChannelName(String),
    #[error("`{0}` is not a tenant id: use a-z, 0-9, `_` and `-`")]
    NotATenant(String),
}

macro_rules! prefixed_uuid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.as_hyphenated())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(|uuid| Uuid::try_parse(uuid).ok())
                    .filter(|uuid| !uuid.is_nil())
                    .map(Self)
                    .ok_or_else(|| Invalid::NotPrefixedUuid { prefix: $prefix, text: shortened(text) })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

/// So that an error text never repeats a megabyte of input.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

prefixed_uuid! {
    /// One message as its sender sees it, whatever the number of its addresses.
    MessageId, "msg"
}

prefixed_uuid! {
    /// One copy of a message on its way to one address. The same in every attempt and replay.
    DeliveryId, "dlv"
}

impl MessageId {
    /// The id of every request of `tenant` that carries this idempotency key.
    pub fn from_idempotency_key(tenant: &TenantId, key: &str) -> Self {
        let mut name = Vec::with_capacity(tenant.as_str().len() + 1 + key.len());
        name.extend_from_slice(tenant.as_str().as_bytes());
        name.push(0);
        name.extend_from_slice(key.as_bytes());
        Self(Uuid::new_v5(&NAMESPACE, &name))
    }
}

impl MessageId {
    /// The id of a message that came from a provider, the same however often it comes.
    pub fn of_inbound(tenant: &TenantId, channel: &ChannelName, provider_id: &str) -> Self {
        // Tenants and channels hold no `/`, and keys of clients no control character.
        Self(Uuid::new_v5(&NAMESPACE, format!("{tenant}/{channel}/\0{provider_id}").as_bytes()))
    }
}

impl DeliveryId {
    pub fn of(message: MessageId, address: &crate::Address) -> Self {
        Self(Uuid::new_v5(&message.as_uuid(), address.to_string().as_bytes()))
    }
}

/// How often a delivery was replayed from the dead letters: 0 is the first way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// Whether it is the first way, no replay.
    pub const fn is_first(&self) -> bool {
        self.0 == 0
    }
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

checked_name! {
    /// A channel as the configuration names it: the part of an address before the colon.
    ChannelName, check_channel
}

checked_name! {
    /// Whose message it is. `default` until tenants come.
    TenantId, check_tenant
}

checked_name! {
    /// Messages of one conversation to one address arrive in the order accepted.
    ConversationId, check_text
}

impl Default for TenantId {
    fn default() -> Self {
        Self("default".into())
    }
}

impl ConversationId {
    /// The conversation of a message whose sender named none: its own.
    pub fn of(message: MessageId) -> Self {
        Self(format!("conv_{}", message.as_uuid().as_hyphenated()).into())
    }

    /// The conversation of messages from `address` that answer none of ours: named by the address.
    pub fn of_sender(address: &crate::Address, message: MessageId) -> Self {
        address.to_string().parse().unwrap_or_else(|_| Self::of(message))
    }
}

fn check_channel(text: &str) -> Result<(), Invalid> {
    check_length(text, CHANNEL_BYTES_MAX)?;
    if is_name(text) && !text.starts_with(['-', '_']) { Ok(()) } else { Err(Invalid::NotAChannelName(shortened(text))) }
}

fn check_tenant(text: &str) -> Result<(), Invalid> {
    check_length(text, NAME_BYTES_MAX)?;
    if is_name(text) { Ok(()) } else { Err(Invalid::NotATenant(shortened(text))) }
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
}

fn check_text(text: &str) -> Result<(), Invalid> {
    check_length(text, NAME_BYTES_MAX)?;
    if text.chars().any(char::is_control) { Err(Invalid::ControlCharacter) } else { Ok(()) }
}

pub(crate) fn check_length(text: &str, bytes_max: usize) -> Result<(), Invalid> {
    match text.len() {
        0 => Err(Invalid::Empty),
        bytes if bytes > bytes_max => Err(Invalid::TooLong { bytes, bytes_max }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_is_read_back_from_what_it_prints(bits in 1u128..) {
            let id = MessageId::from_uuid(Uuid::from_u128(bits));
            prop_assert_eq!(id.to_string().parse::<MessageId>(), Ok(id));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".*") {
            let _ = text.parse::<MessageId>();
            let _ = text.parse::<ChannelName>();
            let _ = text.parse::<TenantId>();
            let _ = text.parse::<ConversationId>();
        }
    }

    #[test]
    fn an_id_of_another_kind_is_refused_with_its_form() {
        let error = "dlv_018f4e0e-0000-7000-8000-000000000000".parse::<MessageId>().unwrap_err();
        assert!(error.to_string().contains("`msg_` + UUID"), "{error}");
    }

    #[test]
    fn the_same_key_of_another_tenant_is_another_message() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(MessageId::from_idempotency_key(&a, "k"), MessageId::from_idempotency_key(&a, "k"));
        assert_ne!(MessageId::from_idempotency_key(&a, "k"), MessageId::from_idempotency_key(&b, "k"));
    }

    #[test]
    fn channel_names_are_lower_case_words() {
        for good in ["webhook", "whatsapp-br", "sms_2", "2fa"] {
            assert!(good.parse::<ChannelName>().is_ok(), "{good}");
        }
        for bad in ["", "Webhook", "-a", "a b", "a:b", "a/b", "é"] {
            assert!(bad.parse::<ChannelName>().is_err(), "{bad}");
        }
    }
}
