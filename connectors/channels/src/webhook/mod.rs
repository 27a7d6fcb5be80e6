//! Webhooks: a message goes to whatever URL its address names, as Standard Webhooks 1.0 has it. A provider's folder has
//! this shape: `config` is what a user sets, `target` what an address must look like, `request` turns a delivery into
//! a request, `answer` sorts what came back.

mod answer;
mod config;
mod request;
mod signature;
mod target;

use bytes::Bytes;
use chat4all_proto::outcome::Report;
use chat4all_proto::{Content, DeliveryStatus, Outbound, Timestamp};
use http::HeaderMap;

pub use self::config::Config;
use self::signature::Key;
use crate::{Answer, Channel, Invalid, Outgoing, Request, Unfit};

/// One configured webhook channel.
pub struct Webhook {
    /// The newest first; several while a secret is being changed; none: requests are not signed.
    keys: Vec<Key>,
    allow_private_targets: bool,
    /// What every request carries.
    headers: HeaderMap,
}

impl Webhook {
    /// Refuses a configuration that [`Config::validate`] refuses.
    pub fn new(config: Config) -> Result<Self, Invalid> {
        Ok(Self {
            keys: config.keys()?,
            allow_private_targets: config.allow_private_targets,
            headers: request::fixed_headers(),
        })
    }
}

impl Channel for Webhook {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    /// Any content will do; the target must be a URL. A host name passes: what it resolves to is checked when dialling.
    fn check(&self, outgoing: &Outgoing<'_>) -> Result<(), Unfit> {
        target::parse(outgoing.target, self.allow_private_targets)?;
        match outgoing.content {
            Content::Raw { .. } if outgoing.reply_to.is_some() => {
                Err(Unfit::new("reply_to", "content of type `raw` is sent as it is: put it in there"))
            }
            _ => Ok(()),
        }
    }

    /// A webhook sends no receipts: its 2xx is the end.
    fn accepted_status(&self) -> DeliveryStatus {
        DeliveryStatus::Delivered
    }

    /// By `webhook-id`, which is the delivery's and the same in every attempt.
    fn destination(&self) -> fn(&str) -> Option<&str> {
        target::host
    }

    fn dedupes(&self) -> bool {
        true
    }

    fn may_dial_private(&self) -> bool {
        self.allow_private_targets
    }

    fn takes_trace_context(&self) -> bool {
        true
    }

    fn request(&self, delivery: &Outbound, now: Timestamp) -> Result<Request, Unfit> {
        let url = target::parse(&delivery.to.target, self.allow_private_targets)?;
        let body: Bytes = request::body(delivery);
        let headers = request::headers(&self.headers, &self.keys, &delivery.delivery_id, now, &body);
        Ok(Request { method: http::Method::POST, url, headers, body })
    }

    fn report(&self, answer: &Answer, now: Timestamp) -> Report {
        answer::report(answer, now)
    }
}
