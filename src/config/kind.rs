//! The connectors that this version has. A new one is a line in each `match` here, and a folder in `connectors/channels`.

use std::net::SocketAddr;
use std::sync::Arc;

use chat4all_channels::{Channel as Connector, Invalid, instagram, telegram, webhook, whatsapp};
use chat4all_simulator::credentials;
use figment::Figment;
use figment::value::{Dict, Value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::load::{self, Layer};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Webhook,
    #[serde(rename = "whatsapp")]
    WhatsApp,
    Instagram,
    Telegram,
}

/// Why a channel's own keys make no connector.
pub(super) struct Unusable {
    /// Relative to the channel's table.
    pub key: String,
    pub problem: String,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Webhook, Kind::WhatsApp, Kind::Instagram, Kind::Telegram];

    /// As written in `kind = "…"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Webhook => "webhook",
            Kind::WhatsApp => "whatsapp",
            Kind::Instagram => "instagram",
            Kind::Telegram => "telegram",
        }
    }

    /// Which of its own keys hold secrets.
    pub(super) const fn secrets(self) -> &'static [&'static str] {
        match self {
            Kind::Webhook => webhook::Config::SECRETS,
            Kind::WhatsApp => whatsapp::Config::SECRETS,
            Kind::Instagram => instagram::Config::SECRETS,
            Kind::Telegram => telegram::Config::SECRETS,
        }
    }

    /// Makes the connector from its own keys, secrets as plain text among them.
    pub(super) fn connector(self, own: Dict) -> Result<Arc<dyn Connector>, Unusable> {
        match self {
            Kind::Webhook => make(own, webhook::Webhook::new),
            Kind::WhatsApp => make(own, whatsapp::WhatsApp::new),
            Kind::Instagram => make(own, instagram::Instagram::new),
            Kind::Telegram => make(own, telegram::Telegram::new),
        }
    }

    /// What its channel is set to where none is configured: the simulator on this machine is the provider.
    pub(super) fn simulated(self, simulator: SocketAddr) -> Vec<(&'static str, Value)> {
        let of_meta = |account: &'static str, id: &str| {
            vec![
                ("base_url", format!("http://{simulator}/v25.0").into()),
                (account, id.into()),
                ("access_token", credentials::ACCESS_TOKEN.into()),
                ("app_secret", credentials::APP_SECRET.into()),
                ("verify_token", credentials::VERIFY_TOKEN.into()),
            ]
        };
        match self {
            Kind::Webhook => vec![("allow_private_targets", true.into())],
            Kind::WhatsApp => of_meta("phone_number_id", credentials::PHONE_NUMBER_ID),
            Kind::Instagram => of_meta("account_id", credentials::INSTAGRAM_ACCOUNT_ID),
            Kind::Telegram => vec![
                ("base_url", format!("http://{simulator}").into()),
                ("bot_token", credentials::BOT_TOKEN.into()),
                ("secret_token", credentials::SECRET_TOKEN.into()),
            ],
        }
    }
}

fn make<C: DeserializeOwned, P: Connector>(
    own: Dict,
    new: impl FnOnce(C) -> Result<P, Invalid>,
) -> Result<Arc<dyn Connector>, Unusable> {
    let config = Figment::from(Layer { origin: String::new(), values: own }).extract_lossy().map_err(|error| {
        let (path, problem) = load::fault(&error);
        Unusable { key: path.join("."), problem }
    })?;
    match new(config) {
        Ok(connector) => Ok(Arc::new(connector)),
        Err(Invalid { key, detail }) => Err(Unusable { key: key.to_owned(), problem: detail }),
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| format!("`{}`", kind.as_str())).collect();
            serde::de::Error::custom(format!("no connector `{text}` in this version; there are {}", known.join(", ")))
        })
    }
}
