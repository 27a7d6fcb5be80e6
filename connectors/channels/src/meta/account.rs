//! One account of ours at Meta: where it is reached, and what opens it. Made by the channels' `config.rs` from what
//! the user set; knows no content.

use std::borrow::Cow;

use chat4all_proto::{DeliveryStatus, Timestamp};
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use url::Url;

use super::handshake::{self, VerifyToken};
use super::signature::{self, AppSecret};
use crate::{Callbacks, Event, Invalid, Malformed, Request, Unverified, links};

/// What the user set, by the keys that both channels have.
pub(crate) struct Settings<'a> {
    pub base_url: &'a str,
    pub id: &'a str,
    /// The key that `id` was given under.
    pub id_key: &'static str,
    pub access_token: &'a SecretString,
    pub app_secret: Option<&'a SecretString>,
    pub verify_token: Option<&'a SecretString>,
    pub read: Read,
}

/// How a channel reads a verified call.
pub(crate) type Read = fn(&[u8], Timestamp) -> Result<Vec<Event>, Malformed>;

/// An account whose settings were checked. Has no `Debug`: it holds secrets.
pub(crate) struct Account {
    id: String,
    messages_url: Url,
    probe_url: Url,
    /// What every request carries.
    headers: HeaderMap,
    app_secret: Option<AppSecret>,
    verify_token: Option<VerifyToken>,
    read: Read,
}

impl Account {
    pub fn new(settings: Settings<'_>) -> Result<Self, Invalid> {
        let base = links::base_url(settings.base_url)?;
        check_digits(settings.id_key, settings.id)?;
        let account_url = format!("{}/{}", base.as_str().trim_end_matches('/'), settings.id);
        let url = |rest: &str| {
            let url = Url::parse(&format!("{account_url}{rest}"));
            url.expect("digits and a path after a URL without query are a URL")
        };
        Ok(Self {
            id: settings.id.to_owned(),
            messages_url: url("/messages"),
            probe_url: url("?fields=id"),
            headers: headers(settings.access_token)?,
            app_secret: settings.app_secret.map(app_secret).transpose()?,
            verify_token: settings.verify_token.map(verify_token).transpose()?,
            read: settings.read,
        })
    }

    /// As Meta's calls and answers name it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The request that sends `body`.
    pub fn send(&self, body: &impl Serialize) -> Request {
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = serde_json::to_vec(body).expect("these types have no key that is not text, and a Vec takes all");
        Request { method: Method::POST, url: self.messages_url.clone(), headers, body: body.into() }
    }

    /// Asks for nothing but the account's id.
    pub fn probe(&self) -> Request {
        let (url, headers) = (self.probe_url.clone(), self.headers.clone());
        Request { method: Method::GET, url, headers, body: bytes::Bytes::new() }
    }

    /// That it was read comes as a receipt, and without the secret no receipt is believed.
    pub fn highest_status(&self) -> DeliveryStatus {
        if self.app_secret.is_some() { DeliveryStatus::Read } else { DeliveryStatus::Sent }
    }

    fn app_secret(&self) -> Result<&AppSecret, Unverified> {
        self.app_secret.as_ref().ok_or(Unverified::NoSecret { key: APP_SECRET })
    }
}

impl Callbacks for Account {
    fn account(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn handshake(&self, query: &[(Cow<'_, str>, Cow<'_, str>)]) -> Option<String> {
        handshake::answer(self.verify_token.as_ref()?, query)
    }

    fn admit(&self, headers: &HeaderMap) -> Result<(), Unverified> {
        self.app_secret()?;
        signature::of(headers).map(drop)
    }

    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Unverified> {
        self.app_secret()?.verify(headers, body)
    }

    fn read(&self, body: &[u8], now: Timestamp) -> Result<Vec<Event>, Malformed> {
        (self.read)(body, now)
    }
}

const ACCESS_TOKEN: &str = "access_token";
const APP_SECRET: &str = "app_secret";
const VERIFY_TOKEN: &str = "verify_token";

/// The keys of both channels that hold secrets.
pub(crate) const SECRETS: &[&str] = &[ACCESS_TOKEN, APP_SECRET, VERIFY_TOKEN];

fn invalid(key: &'static str, detail: &str) -> Invalid {
    Invalid { key, detail: detail.into() }
}

fn check_digits(key: &'static str, id: &str) -> Result<(), Invalid> {
    let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    if digits { Ok(()) } else { Err(invalid(key, "must be digits only, as Meta's console shows it")) }
}

fn headers(access_token: &SecretString) -> Result<HeaderMap, Invalid> {
    let token = visible(ACCESS_TOKEN, access_token)?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).expect("visible ASCII is a header's value");
    bearer.set_sensitive(true);
    // Room for the content type, too.
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("chat4all/", env!("CARGO_PKG_VERSION"))));
    Ok(headers)
}

fn app_secret(secret: &SecretString) -> Result<AppSecret, Invalid> {
    visible(APP_SECRET, secret).map(AppSecret::new)
}

fn verify_token(token: &SecretString) -> Result<VerifyToken, Invalid> {
    not_empty(VERIFY_TOKEN, token).map(VerifyToken::new)
}

/// Meta's own secrets hold nothing else, so anything else came by mistake: a line's end, a quote.
fn visible<'a>(key: &'static str, secret: &'a SecretString) -> Result<&'a str, Invalid> {
    let text = not_empty(key, secret)?;
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if visible { Ok(text) } else { Err(invalid(key, "holds a character other than visible ASCII")) }
}

fn not_empty<'a>(key: &'static str, secret: &'a SecretString) -> Result<&'a str, Invalid> {
    let text = secret.expose_secret();
    if text.is_empty() { Err(invalid(key, "is empty")) } else { Ok(text) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Channel;

    /// A channel with the id `1065`, the app secret `a` and the verify token `b` has them in their places.
    pub(crate) fn check_channel(channel: &dyn Channel, kind: &str, probe: &str) {
        assert_eq!((channel.kind(), channel.dedupes()), (kind, false));
        let statuses = (channel.accepted_status(), channel.highest_status());
        assert_eq!(statuses, (DeliveryStatus::Sent, DeliveryStatus::Read));
        assert_eq!(channel.probe().unwrap().url.as_str(), probe);
        let callbacks = channel.callbacks().unwrap();
        assert_eq!(callbacks.account(), Some("1065"));
        let query = [("hub.mode", "subscribe"), ("hub.verify_token", "b"), ("hub.challenge", "42")];
        let query = query.map(|(key, value)| (key.into(), value.into()));
        assert_eq!(callbacks.handshake(&query).as_deref(), Some("42"));
        let unsigned = callbacks.verify(&HeaderMap::new(), b"{}");
        assert_eq!(unsigned, Err(Unverified::Missing { header: "x-hub-signature-256" }));
    }

    const TOKEN: &str = "EAAG-hunter2";

    /// An account with what `change` made of good settings.
    fn account(change: impl FnOnce(&mut [String; 5])) -> Result<Account, Invalid> {
        let mut texts = ["https://graph.facebook.com/v25.0", "1065", TOKEN, "hunter2", "hunter2"].map(String::from);
        change(&mut texts);
        let [base_url, id, secrets @ ..] = texts;
        let [access_token, app_secret, verify_token] = secrets.map(SecretString::from);
        Account::new(Settings {
            base_url: &base_url,
            id: &id,
            id_key: "account_id",
            access_token: &access_token,
            app_secret: Some(&app_secret),
            verify_token: Some(&verify_token),
            read: |_, _| Ok(Vec::new()),
        })
    }

    fn check(key: usize, value: &str, expected: Result<(), &str>) {
        match (account(|texts| texts[key] = value.into()), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(words)) => {
                let error = error.to_string();
                assert!(error.starts_with(&format!("`{}` ", KEYS[key])) && error.contains(words), "{value}: {error}");
                assert!(!error.contains("hunter2"), "repeats a secret: {error}");
            }
            (got, _) => panic!("{value}: {:?}, expected {expected:?}", got.err()),
        }
    }

    const KEYS: [&str; 5] = ["base_url", "account_id", "access_token", "app_secret", "verify_token"];

    #[test]
    fn what_would_fail_at_the_first_delivery_is_refused_by_name_and_without_repeating_a_secret() {
        check(0, "http://127.0.0.1:8090", Ok(()));
        check(0, "graph.facebook.com/v25.0", Err("absolute URL"));
        check(0, "ftp://hunter2/", Err("absolute URL"));
        check(0, "https://", Err("cannot be read"));
        check(0, "https://hunter2@example.com", Err("password"));
        check(0, "https://a:hunter2@example.com", Err("password"));
        check(0, "https://example.com/?access_token=hunter2", Err("query"));
        check(0, "https://example.com/#hunter2", Err("fragment"));
        for no_id in ["", "10 65", "+1065", "hunter2", "１０６５", "../me"] {
            check(1, no_id, Err("digits"));
        }
        check(2, "", Err("is empty"));
        check(2, "hunter2\n", Err("visible ASCII"));
        check(2, "hunter2 hunter2", Err("visible ASCII"));
        check(3, "", Err("is empty"));
        check(3, "hunter2\n", Err("visible ASCII"));
        check(4, "", Err("is empty"));
        check(4, "any words, também", Ok(()));
    }

    #[test]
    fn a_trailing_slash_of_the_base_url_does_not_matter() {
        for base in ["https://example.com/v25.0", "https://example.com/v25.0/", "https://example.com/v25.0//"] {
            let account = account(|texts| texts[0] = base.into()).ok().unwrap();
            assert_eq!(account.send(&()).url.as_str(), "https://example.com/v25.0/1065/messages");
            assert_eq!(account.probe().url.as_str(), "https://example.com/v25.0/1065?fields=id");
        }
    }

    #[test]
    fn a_probe_carries_the_token_and_no_body_and_the_token_is_in_no_debug_output() {
        let account = account(|_| {}).ok().unwrap();
        let (probe, send) = (account.probe(), account.send(&()));
        assert_eq!(probe.method, Method::GET);
        assert!(probe.body.is_empty() && !probe.headers.contains_key(CONTENT_TYPE));
        for request in [probe, send] {
            assert_eq!(request.headers[AUTHORIZATION].to_str().unwrap(), format!("Bearer {TOKEN}"));
            assert!(!format!("{request:?}").contains("hunter2"), "{request:?}");
        }
    }

    #[test]
    fn without_a_secret_no_call_is_believed_and_without_a_token_no_handshake_is_answered() {
        let secret = SecretString::from(TOKEN);
        let account = Account::new(Settings {
            base_url: "https://example.com",
            id: "1065",
            id_key: "account_id",
            access_token: &secret,
            app_secret: None,
            verify_token: None,
            read: |_, _| Ok(Vec::new()),
        });
        let account = account.ok().unwrap();
        assert_eq!(account.highest_status(), DeliveryStatus::Sent);
        assert_eq!(account.verify(&HeaderMap::new(), b"{}"), Err(Unverified::NoSecret { key: "app_secret" }));
        let query = [("hub.mode", "subscribe"), ("hub.verify_token", ""), ("hub.challenge", "42")];
        assert_eq!(account.handshake(&query.map(|(key, value)| (key.into(), value.into()))), None);
    }
}
