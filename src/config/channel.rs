//! One channel: the keys that every channel has, and its connector's own, which only the connector understands.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat4all_channels::Channel as Connector;
use figment::value::{Dict, Value};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::kind::{Kind, Unusable};
use super::load::Invalid;
use super::secret::Secret;
use super::{Breaker, Limits, Rate, Retry, units, validate};

/// `kind` is the only key that all have and none has a default for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Channel {
    pub kind: Kind,
    /// For one attempt, from looking up the name to the answer's last byte.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "units::duration::option")]
    attempt_timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ambiguous: Option<Ambiguous>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default)]
    pub breaker: Breaker,
    #[serde(flatten)]
    own: BTreeMap<String, Setting>,
}

/// What becomes of a delivery whose answer was lost, so that nobody knows whether it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ambiguous {
    /// It ends as `unknown`, until a receipt says more.
    Unknown,
    /// It is sent again, perhaps twice.
    Resend,
}

/// A connector's own key. Which of them are secrets is known once the kind is.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Setting {
    Plain(Value),
    Secret(Secret),
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Value as Deserialize>::deserialize(deserializer).map(Self::Plain)
    }
}

/// Of every channel, as a refusal lists them.
const COMMON_KEYS: &str = "kind, attempt_timeout, ambiguous, limits, retry, breaker";

impl Channel {
    /// What a configuration without channels gets for each kind.
    pub fn simulated(kind: Kind, simulator: SocketAddr) -> Self {
        let mut channel = Self {
            kind,
            attempt_timeout: None,
            ambiguous: None,
            limits: Limits::default(),
            retry: Retry::default(),
            breaker: Breaker::default(),
            own: BTreeMap::new(),
        };
        let own = kind.simulated(simulator).into_iter();
        channel.own = own.map(|(key, value)| (key.to_owned(), Setting::Plain(value))).collect();
        channel.tell_secrets().expect("text is a secret");
        channel
    }

    pub fn attempt_timeout(&self) -> Duration {
        let of_kind = || match self.kind {
            Kind::Webhook => validate::ATTEMPT_TIMEOUT_MAX,
            Kind::WhatsApp | Kind::Instagram | Kind::Telegram => Duration::from_secs(10),
        };
        self.attempt_timeout.unwrap_or_else(of_kind)
    }

    /// WhatsApp refuses more to one recipient than this.
    pub fn recipient_rate(&self) -> Option<Rate> {
        let of_kind = || match self.kind {
            Kind::WhatsApp => Some(Rate { every: Duration::from_secs(6), burst: 45 }),
            Kind::Webhook | Kind::Instagram | Kind::Telegram => None,
        };
        self.limits.recipient.or_else(of_kind)
    }

    /// Whether an attempt whose answer was lost is made again. By default where `connector` can tell a repeat.
    pub fn resends_ambiguous(&self, connector: &dyn Connector) -> bool {
        self.ambiguous.map_or_else(|| connector.dedupes(), |ambiguous| ambiguous == Ambiguous::Resend)
    }

    /// Makes the connector. `Invalid` names the key, relative to the channel's table.
    pub fn connector(&self) -> Result<Arc<dyn Connector>, Invalid> {
        let own = self.own.iter().map(|(key, setting)| (key.clone(), setting.plain())).collect::<Dict>();
        self.kind.connector(own).map_err(|Unusable { key, problem }| {
            let is_unknown = self.own.contains_key(&key) && problem.starts_with(super::load::NO_SUCH_KEY);
            let more = if is_unknown { format!(", {COMMON_KEYS}") } else { String::new() };
            Invalid { key, problem: problem + &more }
        })
    }

    /// Tells the secrets among the connector's own keys from the others.
    pub(super) fn tell_secrets(&mut self) -> Result<(), Invalid> {
        for key in self.kind.secrets() {
            if let Some(setting) = self.own.get_mut(*key) {
                setting.be_secret().map_err(|problem| Invalid { key: (*key).to_owned(), problem })?;
            }
        }
        Ok(())
    }

    pub(super) fn secrets(&mut self) -> impl Iterator<Item = (&str, &mut Secret)> {
        self.own.iter_mut().filter_map(|(key, setting)| match setting {
            Setting::Secret(secret) => Some((key.as_str(), secret)),
            Setting::Plain(_) => None,
        })
    }
}

impl Setting {
    fn be_secret(&mut self) -> Result<(), String> {
        if let Self::Plain(value) = self {
            let secret = value.deserialize::<Secret>();
            // Its text may repeat the value.
            *self = Self::Secret(secret.map_err(|_| super::secret::EXPECTED.to_owned())?);
        }
        Ok(())
    }

    fn plain(&self) -> Value {
        match self {
            Self::Plain(value) => value.clone(),
            Self::Secret(secret) => secret.value().expose_secret().into(),
        }
    }
}
