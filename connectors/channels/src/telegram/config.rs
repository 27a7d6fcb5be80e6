//! What a user sets for a Telegram channel.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::callback::Secret;
use crate::{Invalid, links};

/// The keys of a channel with `kind = "telegram"` that concern this connector.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The Bot API server: Telegram's or one of your own. Default: `https://api.telegram.org`.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// As `@BotFather` gave it: `123456:AA…`. Required.
    pub bot_token: SecretString,
    /// The `secret_token` that `setWebhook` was given: 1 to 256 of A-Z, a-z, 0-9, `_` and `-`. Default: none, callbacks
    /// are refused.
    #[serde(default)]
    pub secret_token: Option<SecretString>,
}

fn base_url() -> String {
    "https://api.telegram.org".to_owned()
}

/// Longest `secret_token`.
const SECRET_BYTES_MAX: usize = 256;

impl Config {
    /// The keys that hold secrets.
    pub const SECRETS: &'static [&'static str] = &["bot_token", "secret_token"];

    /// Finds what would be wrong at the first delivery or callback.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.bot_url()?;
        self.secret().map(drop)
    }

    /// `{base_url}/bot{bot_token}`: a secret.
    pub(super) fn bot_url(&self) -> Result<Url, Invalid> {
        let token = self.bot_token.expose_secret();
        if !is_bot_token(token) {
            let detail = "must be digits, `:`, and then letters, digits, `_` or `-`".to_owned();
            return Err(Invalid { key: "bot_token", detail });
        }
        let mut url = links::base_url(&self.base_url)?;
        url.path_segments_mut().expect("an http URL has a path").pop_if_empty().push(&format!("bot{token}"));
        Ok(url)
    }

    /// What is refused may hold a password, and is not repeated.
    pub(super) fn secret(&self) -> Result<Option<Secret>, Invalid> {
        let Some(secret) = self.secret_token.as_ref().map(ExposeSecret::expose_secret) else {
            return Ok(None);
        };
        let invalid = |detail: String| Invalid { key: "secret_token", detail };
        if !is_word(secret) {
            return Err(invalid(
                "must be of letters, digits, `_` and `-`; leave it out to refuse callbacks".to_owned(),
            ));
        }
        if secret.len() > SECRET_BYTES_MAX {
            return Err(invalid(format!("is {} bytes long; 1 to {SECRET_BYTES_MAX} are allowed", secret.len())));
        }
        Ok(Some(Secret::new(secret)))
    }
}

fn is_bot_token(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(id, key)| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) && is_word(key))
}

/// Not empty, and of A-Z, a-z, 0-9, `_` and `-`.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected`: the URL, or the key and words of the refusal.
    fn check(config: &str, expected: Result<&str, (&str, &str)>) {
        let config: Config = serde_json::from_str(config).unwrap();
        match (config.validate().and_then(|()| config.bot_url()), expected) {
            (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
            (Err(error), Err((key, words))) => {
                assert_eq!(error.key, key);
                assert!(error.to_string().contains(words), "{error}");
                assert!(!error.to_string().contains("hunter2"), "repeats a secret: {error}");
            }
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    }

    fn check_base_url(base_url: &str, expected: Result<&str, &str>) {
        let config = format!(r#"{{"base_url":"{base_url}","bot_token":"1:a"}}"#);
        check(&config, expected.map_err(|words| ("base_url", words)));
    }

    fn check_bot_token(token: &str, is_good: bool) {
        let url = format!("https://api.telegram.org/bot{token}");
        let expected = if is_good { Ok(url.as_str()) } else { Err(("bot_token", "must be digits")) };
        check(&format!(r#"{{"bot_token":"{token}"}}"#), expected);
    }

    fn check_secret_token(secret: &str, expected: Result<(), &str>) {
        let config = format!(r#"{{"bot_token":"1:a","secret_token":"{secret}"}}"#);
        let expected = expected.map(|()| "https://api.telegram.org/bot1:a");
        check(&config, expected.map_err(|words| ("secret_token", words)));
    }

    #[test]
    fn the_server_is_telegrams_or_any_other() {
        check(r#"{"bot_token":"1:a"}"#, Ok("https://api.telegram.org/bot1:a"));
        check_base_url("http://127.0.0.1:8081", Ok("http://127.0.0.1:8081/bot1:a"));
        check_base_url("http://127.0.0.1:8081/", Ok("http://127.0.0.1:8081/bot1:a"));
        check_base_url("https://example.com/telegram/", Ok("https://example.com/telegram/bot1:a"));
        check_base_url("hunter2", Err("absolute URL"));
        check_base_url("", Err("absolute URL"));
        check_base_url("ftp://hunter2.example", Err("`https://`"));
        check_base_url("mailto:hunter2", Err("`https://`"));
        check_base_url("https://ana:hunter2@example.com", Err("password"));
        check_base_url("https://hunter2@example.com", Err("user name"));
        check_base_url("https://example.com/?key=hunter2", Err("query"));
        check_base_url("https://example.com/#hunter2", Err("fragment"));
    }

    #[test]
    fn a_token_has_its_shape_and_is_not_repeated() {
        check_bot_token("123456:AA_b-9", true);
        for bad in
            ["", ":", "hunter2", "1:", ":hunter2", "a1:hunter2", "1:hunter2:3", "1:hunter2/x", "1: hunter2", "1:é"]
        {
            check_bot_token(bad, false);
        }
    }

    #[test]
    fn a_secret_token_has_its_shape_and_is_not_repeated() {
        check_secret_token("a", Ok(()));
        check_secret_token("A-Za-z_0-9", Ok(()));
        check_secret_token(&"a".repeat(256), Ok(()));
        check_secret_token(&"hunter2".repeat(37), Err("259 bytes"));
        for bad in ["", "hunter2!", "hunter2 ", "hunter2é"] {
            check_secret_token(bad, Err("letters, digits"));
        }
    }

    #[test]
    fn unknown_and_missing_keys_are_named() {
        let check = |config, words| {
            let error = serde_json::from_str::<Config>(config).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        };
        check(r#"{"bot_token":"1:a","token":"hunter2"}"#, "`token`");
        check(r#"{"secret_token":"hunter2"}"#, "`bot_token`");
    }
}
