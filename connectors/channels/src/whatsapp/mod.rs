//! WhatsApp: Meta's Cloud API. The Graph API's part is in `meta`; here is what WhatsApp alone has, a file for each
//! question: `config` is what a user sets, `target` what an address must look like, `limits` what is refused before
//! anything is sent, `request` turns a delivery into a request, `answer` sorts what came back, by `codes`, and
//! `callback` reads what WhatsApp calls us with; `correlation` is what a receipt gives back of its send.

mod answer;
mod callback;
mod codes;
mod config;
mod correlation;
mod limits;
mod request;
mod target;

use chat4all_proto::outcome::Report;
use chat4all_proto::{DeliveryStatus, Outbound, Timestamp};

pub use self::config::Config;
use self::config::Templates;
use crate::meta::Account;
use crate::{Answer, Callbacks, Channel, Invalid, Outgoing, Request, Unfit};

/// One configured WhatsApp number of ours.
pub struct WhatsApp {
    account: Account,
    /// `None`: any template may be sent.
    templates: Option<Templates>,
}

impl WhatsApp {
    /// Refuses a configuration that [`Config::validate`] refuses.
    pub fn new(config: Config) -> Result<Self, Invalid> {
        config.validate()?;
        Ok(Self { account: config.account()?, templates: config.templates })
    }
}

impl Channel for WhatsApp {
    fn kind(&self) -> &'static str {
        "whatsapp"
    }

    fn check(&self, outgoing: &Outgoing<'_>) -> Result<(), Unfit> {
        target::parse(outgoing.target)?;
        limits::check(outgoing, self.templates.as_ref())
    }

    /// Its arrival comes as a receipt.
    fn accepted_status(&self) -> DeliveryStatus {
        DeliveryStatus::Sent
    }

    fn highest_status(&self) -> DeliveryStatus {
        self.account.highest_status()
    }

    fn dedupes(&self) -> bool {
        false
    }

    fn request(&self, delivery: &Outbound, _now: Timestamp) -> Result<Request, Unfit> {
        self.check(&Outgoing::of(delivery))?;
        Ok(self.account.send(&request::body(delivery)?))
    }

    fn report(&self, answer: &Answer, now: Timestamp) -> Report {
        answer::report(answer, now, self.account.id())
    }

    fn probe(&self) -> Option<Request> {
        Some(self.account.probe())
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        Some(&self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::account::tests::check_channel;

    #[test]
    fn what_the_callers_are_told_of_the_channel() {
        let config = r#"{"phone_number_id":"1065","access_token":"EAAG","app_secret":"a","verify_token":"b"}"#;
        let channel = WhatsApp::new(serde_json::from_str(config).unwrap()).ok().unwrap();
        check_channel(&channel, "whatsapp", "https://graph.facebook.com/v25.0/1065?fields=id");
    }
}
