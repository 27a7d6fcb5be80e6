//! Telegram, by its Bot API. `config` is what a user sets, `target` what an address must look like, `limits` what is
//! known to be refused, `request` turns a delivery into a request, `answer` sorts what came back by the table in
//! `codes`, `callback` reads updates. The bot's token is part of every URL here: nothing here prints one.

mod answer;
mod callback;
mod codes;
mod config;
mod limits;
mod request;
mod target;

use std::borrow::Cow;

use chat4all_proto::outcome::Report;
use chat4all_proto::{DeliveryStatus, Outbound, Timestamp};
use http::HeaderMap;

use self::callback::Secret;
pub use self::config::Config;
use self::request::Methods;
use self::target::Chat;
use crate::{Answer, Callbacks, Channel, Event, Invalid, Malformed, Outgoing, Request, Unfit, Unverified};

/// One configured bot. Has no `Debug`: it holds the token.
pub struct Telegram {
    methods: Methods,
    /// Without it nobody's callback can be trusted.
    secret: Option<Secret>,
}

impl Telegram {
    /// Refuses a configuration that [`Config::validate`] refuses.
    pub fn new(config: Config) -> Result<Self, Invalid> {
        Ok(Self { methods: Methods::new(config.bot_url()?), secret: config.secret()? })
    }
}

impl Channel for Telegram {
    fn kind(&self) -> &'static str {
        "telegram"
    }

    fn check(&self, outgoing: &Outgoing<'_>) -> Result<(), Unfit> {
        target::parse(outgoing.target)?;
        limits::check(outgoing).map(drop)
    }

    /// Telegram never tells whether a message arrived.
    fn accepted_status(&self) -> DeliveryStatus {
        DeliveryStatus::Sent
    }

    fn dedupes(&self) -> bool {
        false
    }

    fn request(&self, delivery: &Outbound, _now: Timestamp) -> Result<Request, Unfit> {
        let outgoing = Outgoing::of(delivery);
        Ok(self.methods.send(target::parse(outgoing.target)?, &limits::check(&outgoing)?))
    }

    fn report(&self, answer: &Answer, now: Timestamp) -> Report {
        answer::report(answer, now)
    }

    /// A group that became a supergroup has another id.
    fn moved(&self, delivery: &Outbound, answer: &Answer, _now: Timestamp) -> Option<Request> {
        let chat = Chat::Id(answer::moved_to(answer)?);
        let message = limits::check(&Outgoing::of(delivery)).ok()?;
        Some(self.methods.send(chat, &message))
    }

    fn probe(&self) -> Option<Request> {
        Some(self.methods.get_me())
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        Some(self)
    }
}

impl Callbacks for Telegram {
    /// An update does not say which bot it is for.
    fn account(&self) -> Option<&str> {
        None
    }

    /// Telegram asks for none.
    fn handshake(&self, _query: &[(Cow<'_, str>, Cow<'_, str>)]) -> Option<String> {
        None
    }

    /// The secret stands for the caller, not for the body.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Unverified> {
        self.secret.as_ref().ok_or(Unverified::NoSecret { key: "secret_token" })?.verify(headers)
    }

    fn verify(&self, headers: &HeaderMap, _body: &[u8]) -> Result<(), Unverified> {
        self.admit(headers)
    }

    fn read(&self, body: &[u8], now: Timestamp) -> Result<Vec<Event>, Malformed> {
        Ok(vec![callback::read(body, now)?])
    }
}

#[cfg(test)]
mod samples {
    //! What the tests of this folder share.

    use super::*;

    pub const TOKEN: &str = "123456:AAtest_TOKEN-hunter2";

    pub fn telegram() -> Telegram {
        let config = format!(r#"{{"bot_token":"{TOKEN}"}}"#);
        Telegram::new(serde_json::from_str(&config).unwrap()).ok().unwrap()
    }

    pub fn delivery(target: &str, content: &str, reply_to: Option<&str>) -> Outbound {
        let reply_to = serde_json::to_string(&reply_to).unwrap();
        serde_json::from_str(&format!(
            r#"{{"v":1,"tenant":"default","delivery_id":"dlv_018f4e0e-0000-7000-8000-000000000002","generation":0,
            "router_epoch":1,"message_id":"msg_018f4e0e-0000-7000-8000-000000000001","conversation_id":"order-42",
            "to":"telegram:{target}","content":{content},"reply_to":{reply_to},
            "accepted_at":1795300424123,"expires_at":1795386824123}}"#
        ))
        .unwrap()
    }
}
