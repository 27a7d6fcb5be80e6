//! What a user sets for a webhook channel.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::signature::Key;
use crate::Invalid;

/// The keys of a channel with `kind = "webhook"` that concern this connector.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `whsec_` and the base64 of 24 to 64 random bytes. While changing it, write the new and the old one with a space
    /// between: each request then carries a signature of each. Default: none, requests are not signed.
    pub signing_secret: Option<SecretString>,
    /// Whether loopback, private and other addresses outside the public internet may be called. Default: false.
    pub allow_private_targets: bool,
}

impl Config {
    /// The keys that hold secrets.
    pub const SECRETS: &[&str] = &["signing_secret"];

    /// Finds what would be wrong at the first delivery.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.keys().map(drop)
    }

    pub(super) fn keys(&self) -> Result<Vec<Key>, Invalid> {
        let Some(secrets) = &self.signing_secret else {
            return Ok(Vec::new());
        };
        let invalid = |detail: String| Invalid { key: "signing_secret", detail };
        let keys: Vec<Key> = secrets
            .expose_secret()
            .split_whitespace()
            .map(Key::parse)
            .collect::<Result<_, _>>()
            .map_err(|error| invalid(error.to_string()))?;
        match keys.len() {
            0 => Err(invalid("is empty; leave it out to send without signatures".into())),
            count if count > KEYS_MAX => Err(invalid(format!("holds {count} secrets; at most {KEYS_MAX} are allowed"))),
            _ => Ok(keys),
        }
    }
}

/// Secrets at a time.
const KEYS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    fn secret(bytes: usize) -> String {
        format!("whsec_{}", BASE64_STANDARD.encode(vec![7; bytes]))
    }

    fn check(signing_secret: Option<&str>, expected: Result<usize, &str>) {
        let config = Config { signing_secret: signing_secret.map(SecretString::from), ..Config::default() };
        assert_eq!(config.validate().is_ok(), expected.is_ok(), "{signing_secret:?}");
        match (config.keys(), expected) {
            (Ok(keys), Ok(count)) => assert_eq!(keys.len(), count, "{signing_secret:?}"),
            (Err(error), Err(words)) => {
                let text = error.to_string();
                assert!(text.starts_with("`signing_secret` ") && text.contains(words), "{text}");
                assert!(!text.contains("BwcHBwcH") && !text.contains("hunter2"), "repeats the secret: {text}");
            }
            _ => panic!("{signing_secret:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_secret_is_refused_early_by_name_and_without_repeating_it() {
        check(None, Ok(0));
        check(Some(&secret(24)), Ok(1));
        check(Some(&secret(64)), Ok(1));
        check(Some(&format!(" {}\n{} ", secret(32), secret(24))), Ok(2));
        check(Some(""), Err("is empty"));
        check(Some("hunter2"), Err("`whsec_`"));
        check(Some("whsec_hunter2!"), Err("base64"));
        check(Some(&secret(23)), Err("23 bytes"));
        check(Some(&secret(65)), Err("65 bytes"));
        check(Some(&format!("{} hunter2", secret(24))), Err("`whsec_`"));
        check(Some(&[secret(24), secret(25), secret(26), secret(27), secret(28)].join(" ")), Err("at most 4"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = serde_json::from_str::<Config>(r#"{"signing_secrets":"x"}"#).err().unwrap();
        assert!(error.to_string().contains("`signing_secrets`"), "{error}");
    }
}
