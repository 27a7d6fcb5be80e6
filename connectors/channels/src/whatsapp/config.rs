//! What a user sets for a WhatsApp channel.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;
use serde::Deserialize;

use super::{callback, limits};
use crate::Invalid;
use crate::meta::Account;
use crate::meta::account::{self, Settings};

/// The keys of a channel with `kind = "whatsapp"` that concern this connector.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The Graph API with its version. Default: `https://graph.facebook.com/v25.0`.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// Which of our numbers sends: Meta's id of it, digits.
    pub phone_number_id: String,
    /// Of a system user that may send for this number.
    pub access_token: SecretString,
    /// The app's secret, which Meta signs its calls with. Default: none, and no call is believed.
    #[serde(default)]
    pub app_secret: Option<SecretString>,
    /// What Meta was told to say when it checks the callback's address. Default: none, and no check succeeds.
    #[serde(default)]
    pub verify_token: Option<SecretString>,
    /// The templates that may be sent, each with the names of its variables. Default: any.
    #[serde(default)]
    pub templates: Option<Templates>,
}

/// Names of templates, and of the variables of each.
pub(super) type Templates = BTreeMap<String, Vec<String>>;

fn base_url() -> String {
    "https://graph.facebook.com/v25.0".into()
}

impl Config {
    /// The keys whose values are secrets.
    pub const SECRETS: &'static [&'static str] = account::SECRETS;

    /// Finds what would be wrong at the first delivery.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.account()?;
        self.templates.iter().flatten().try_for_each(|(name, variables)| check_template(name, variables))
    }

    pub(super) fn account(&self) -> Result<Account, Invalid> {
        Account::new(Settings {
            base_url: &self.base_url,
            id: &self.phone_number_id,
            id_key: "phone_number_id",
            access_token: &self.access_token,
            app_secret: self.app_secret.as_ref(),
            verify_token: self.verify_token.as_ref(),
            read: callback::read,
        })
    }
}

fn check_template(name: &str, variables: &[String]) -> Result<(), Invalid> {
    let invalid = |detail: String| Invalid { key: "templates", detail };
    if name.is_empty() {
        return Err(invalid("has a template without a name".into()));
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = variables.iter().find(|variable| !names.insert(variable.as_str())) {
        return Err(invalid(format!("has the variable `{twice}` of `{name}` twice")));
    }
    limits::naming(names).map(drop).map_err(|problem| invalid(format!("has variables of `{name}` that {problem}")))
}

#[cfg(test)]
mod tests {
    use super::super::WhatsApp;
    use super::*;

    /// A configuration with `more` as further keys, or instead of the good ones.
    fn config(more: &str) -> serde_json::Result<Config> {
        let mut keys: serde_json::Map<_, _> =
            serde_json::from_str(r#"{"phone_number_id":"1065","access_token":"EAAG-hunter2"}"#).unwrap();
        keys.extend(serde_json::from_str::<serde_json::Map<_, _>>(more).unwrap());
        serde_json::from_value(keys.into())
    }

    fn check(more: &str, expected: Result<(), &str>) {
        let config = config(more).unwrap();
        assert_eq!(config.validate().err(), WhatsApp::new(config.clone()).err(), "{more}");
        match (config.validate(), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(words)) => {
                let error = error.to_string();
                assert!(error.contains(words) && !error.contains("hunter2"), "{more}: {error}");
            }
            (got, expected) => panic!("{more}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn only_the_number_and_its_token_are_needed() {
        let config = config("{}").unwrap();
        assert_eq!(config.base_url, "https://graph.facebook.com/v25.0");
        assert!(config.app_secret.is_none() && config.verify_token.is_none() && config.templates.is_none());
        check("{}", Ok(()));
        check(r#"{"app_secret":"hunter2","verify_token":"hunter2","templates":{}}"#, Ok(()));
    }

    #[test]
    fn what_would_fail_at_the_first_delivery_is_refused_by_name() {
        check(r#"{"base_url":"hunter2"}"#, Err("`base_url` must be an absolute URL"));
        check(r#"{"phone_number_id":"+1065"}"#, Err("`phone_number_id` must be digits"));
        check(r#"{"access_token":"hunter2 "}"#, Err("`access_token` holds"));
        check(r#"{"app_secret":""}"#, Err("`app_secret` is empty"));
        check(r#"{"verify_token":""}"#, Err("`verify_token` is empty"));
    }

    #[test]
    fn templates_must_be_such_as_can_be_sent() {
        check(r#"{"templates":{"a":[],"b":["2","1"],"c":["name","order"]}}"#, Ok(()));
        check(r#"{"templates":{"":[]}}"#, Err("`templates` has a template without a name"));
        check(r#"{"templates":{"a":["b","b"]}}"#, Err("`templates` has the variable `b` of `a` twice"));
        check(r#"{"templates":{"a":["1","3"]}}"#, Err("without a gap"));
        check(r#"{"templates":{"a":["1","name"]}}"#, Err("numbers and names"));
        check(r#"{"templates":{"a":[""]}}"#, Err("without a name"));
    }

    #[test]
    fn an_unknown_or_missing_key_is_named() {
        let error = config(r#"{"token":"hunter2"}"#).err().unwrap().to_string();
        assert!(error.contains("`token`") && !error.contains("hunter2"), "{error}");
        let error = serde_json::from_str::<Config>(r#"{"access_token":"hunter2"}"#).err().unwrap().to_string();
        assert!(error.contains("`phone_number_id`") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn every_secret_is_listed() {
        assert_eq!(Config::SECRETS, ["access_token", "app_secret", "verify_token"]);
    }
}
