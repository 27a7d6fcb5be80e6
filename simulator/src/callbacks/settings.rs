//! Where callbacks go and when: set at start and by `PUT /callbacks`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::fault::Invalid;
use crate::providers::Provider;

const DELAY_MAX: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What `/whatsapp` and the like are appended to. `None`: nobody is called back.
    pub base: Option<String>,
    /// Between one report on a message and the next.
    pub receipt_delay: Duration,
    /// The channel names in the paths.
    channels: BTreeMap<Provider, String>,
}

/// What `PUT /callbacks` may name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    base: Option<String>,
    receipt_delay: Option<String>,
    #[serde(default)]
    channels: BTreeMap<String, String>,
}

impl Settings {
    pub fn new(base: Option<&str>, receipt_delay: Duration) -> Self {
        let channels = Provider::ALL.into_iter().map(|provider| (provider, provider.as_str().to_owned())).collect();
        let mut settings = Self { base: None, receipt_delay, channels };
        if let Some(base) = base {
            settings.set_base(base);
        }
        settings
    }

    pub fn set_base(&mut self, base: &str) {
        self.base = Some(base.trim_end_matches('/').to_owned());
    }

    pub fn url(&self, provider: Provider) -> String {
        format!("{}/{}", self.base.as_deref().unwrap_or_default(), self.channels[&provider])
    }

    /// Fails without a change if a field is unknown or has a wrong value.
    pub fn changed_by(&self, json: &[u8]) -> Result<Self, Invalid> {
        let change: Change = serde_json::from_slice(json).map_err(|error| invalid("body", error.to_string()))?;
        let mut changed = self.clone();
        if let Some(base) = change.base {
            let is_http = reqwest::Url::parse(&base).is_ok_and(|url| url.scheme() == "http");
            if !is_http {
                return Err(invalid("base", "must be a URL that begins with `http://`"));
            }
            changed.set_base(&base);
        }
        if let Some(delay) = change.receipt_delay {
            let delay = humantime::parse_duration(&delay).ok().filter(|delay| *delay <= DELAY_MAX);
            changed.receipt_delay =
                delay.ok_or_else(|| invalid("receipt_delay", "must be a duration of at most 24h, as `200ms`"))?;
        }
        for (provider, channel) in change.channels {
            let known = Provider::ALL.into_iter().find(|known| known.as_str() == provider);
            let known = known.ok_or_else(|| invalid("channels", "must be of `whatsapp`, `instagram`, `telegram`"))?;
            if channel.is_empty() || channel.contains(['/', '?', '#']) {
                return Err(invalid("channels", "must have names of channels as values"));
            }
            changed.channels.insert(known, channel);
        }
        Ok(changed)
    }

    pub fn to_json(&self) -> Value {
        let channels: BTreeMap<_, _> =
            self.channels.iter().map(|(provider, channel)| (provider.as_str(), channel)).collect();
        let delay = humantime::format_duration(self.receipt_delay).to_string();
        json!({ "base": self.base, "receipt_delay": delay, "channels": channels })
    }
}

fn invalid(field: &str, detail: impl Into<String>) -> Invalid {
    Invalid { field: field.to_owned(), detail: format!("`{field}` {}", detail.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new(Some("http://127.0.0.1:1/v1/callbacks/"), Duration::from_millis(300))
    }

    #[test]
    fn what_is_named_is_changed_and_the_rest_stays() {
        let changed = settings().changed_by(br#"{"channels":{"whatsapp":"wa-two"}}"#).unwrap();
        assert_eq!(changed.url(Provider::WhatsApp), "http://127.0.0.1:1/v1/callbacks/wa-two");
        assert_eq!(changed.url(Provider::Telegram), "http://127.0.0.1:1/v1/callbacks/telegram");
        let changed = changed.changed_by(br#"{"base":"http://a:2","receipt_delay":"1s"}"#).unwrap();
        assert_eq!(changed.url(Provider::WhatsApp), "http://a:2/wa-two");
        assert_eq!(changed.receipt_delay, Duration::from_secs(1));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |json: &str, field: &str| {
            assert_eq!(settings().changed_by(json.as_bytes()).unwrap_err().field, field, "{json}");
        };
        check("nonsense", "body");
        check(r#"{"bass":"http://a"}"#, "body");
        check(r#"{"base":"here"}"#, "base");
        check(r#"{"base":"https://a"}"#, "base");
        check(r#"{"receipt_delay":"soon"}"#, "receipt_delay");
        check(r#"{"receipt_delay":"25h"}"#, "receipt_delay");
        check(r#"{"channels":{"pigeon":"a"}}"#, "channels");
        check(r#"{"channels":{"whatsapp":"a/b"}}"#, "channels");
    }
}
