//! What a user sets for an Instagram channel.

use secrecy::SecretString;
use serde::Deserialize;

use super::callback;
use crate::Invalid;
use crate::meta::Account;
use crate::meta::account::{self, Settings};

/// The keys of a channel with `kind = "instagram"` that concern this connector.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The API with its version. Default: `https://graph.instagram.com/v25.0`.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// Our professional account: Meta's id of it, digits.
    pub account_id: String,
    /// Of a login that may send for this account.
    pub access_token: SecretString,
    /// The app's secret, which Meta signs its calls with. Default: none, and no call is believed.
    #[serde(default)]
    pub app_secret: Option<SecretString>,
    /// What Meta was told to say when it checks the callback's address. Default: none, and no check succeeds.
    #[serde(default)]
    pub verify_token: Option<SecretString>,
}

fn base_url() -> String {
    "https://graph.instagram.com/v25.0".into()
}

impl Config {
    /// The keys whose values are secrets.
    pub const SECRETS: &'static [&'static str] = account::SECRETS;

    /// Finds what would be wrong at the first delivery.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.account().map(drop)
    }

    pub(super) fn account(&self) -> Result<Account, Invalid> {
        Account::new(Settings {
            base_url: &self.base_url,
            id: &self.account_id,
            id_key: "account_id",
            access_token: &self.access_token,
            app_secret: self.app_secret.as_ref(),
            verify_token: self.verify_token.as_ref(),
            read: callback::read,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Instagram;
    use super::*;

    fn check(json: &str, expected: Result<(), &str>) {
        let validated = serde_json::from_str::<Config>(json).map_err(|error| error.to_string()).and_then(|config| {
            assert_eq!(config.validate().err(), Instagram::new(config.clone()).err(), "{json}");
            config.validate().map_err(|error| error.to_string())
        });
        match (validated, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(words)) => {
                assert!(error.contains(words) && !error.contains("hunter2"), "{json}: {error}");
            }
            (got, expected) => panic!("{json}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_would_fail_at_the_first_delivery_is_refused_by_name() {
        check(r#"{"account_id":"1784","access_token":"hunter2"}"#, Ok(()));
        check(r#"{"account_id":"1784","access_token":"x","app_secret":"x","verify_token":"x"}"#, Ok(()));
        check(r#"{"account_id":"1784"}"#, Err("`access_token`"));
        check(r#"{"access_token":"hunter2"}"#, Err("`account_id`"));
        check(r#"{"account_id":"1784","access_token":"x","phone_number_id":"hunter2"}"#, Err("`phone_number_id`"));
        check(r#"{"account_id":"hunter2","access_token":"x"}"#, Err("`account_id` must be digits"));
        check(r#"{"account_id":"1784","access_token":"hunter2\n"}"#, Err("`access_token` holds"));
        check(r#"{"account_id":"1784","access_token":"x","app_secret":""}"#, Err("`app_secret` is empty"));
        check(r#"{"account_id":"1784","access_token":"x","verify_token":""}"#, Err("`verify_token` is empty"));
        check(r#"{"account_id":"1784","access_token":"x","base_url":"hunter2"}"#, Err("`base_url` must be"));
    }

    #[test]
    fn every_secret_is_listed() {
        assert_eq!(Config::SECRETS, ["access_token", "app_secret", "verify_token"]);
    }
}
