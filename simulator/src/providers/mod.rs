//! The providers' own HTTP, as `routes` needs it: whose call it is, which inbox it belongs to, what is answered, and what
//! is reported later. Written from the providers' documentation; knows nothing of the connectors.

mod ids;
mod instagram;
mod meta;
mod telegram;
mod whatsapp;

use std::time::Duration;

use bytes::Bytes;
use chat4all_proto::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::answer::Answer;
use crate::fault::Fault;
use crate::wire::Head;
use ids::Ids;

/// The inbox of sends that name no recipient that could be one.
const UNKNOWN: &str = "unknown";
/// Longest recipient that has an inbox of its own.
const RECIPIENT_BYTES_MAX: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    WhatsApp,
    Instagram,
    Telegram,
}

impl Provider {
    pub const ALL: [Self; 3] = [Self::WhatsApp, Self::Instagram, Self::Telegram];

    /// As inboxes and paths begin.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WhatsApp => "whatsapp",
            Self::Instagram => "instagram",
            Self::Telegram => "telegram",
        }
    }
}

/// A call to a provider, known from its head.
pub enum Call {
    /// `GET /{version}/{id}`
    Look { id: String },
    /// `POST /{version}/{id}/messages`
    Send { account: String },
    /// `/bot{token}/{method}`
    Bot { token: String, method: String },
}

impl Call {
    /// `None`: no provider has this path.
    pub fn of(head: &Head) -> Option<Self> {
        let parts: Vec<_> = head.path.split('/').skip(1).collect();
        match (head.method.as_str(), &parts[..]) {
            ("GET", [version, id]) if meta::is_version(version) => Some(Self::Look { id: meta::account(id)? }),
            ("POST", [version, id, "messages"]) if meta::is_version(version) => {
                Some(Self::Send { account: meta::account(id)? })
            }
            ("GET" | "POST", [bot, method]) => {
                let token = bot.strip_prefix("bot")?.to_owned();
                Some(Self::Bot { token, method: (*method).to_owned() })
            }
            _ => None,
        }
    }

    /// Whose and which inbox this belongs to. `None`: it sends nothing.
    pub fn inbox(&self, body: &Value) -> Option<(Provider, String)> {
        let (provider, recipient) = match self {
            Self::Look { .. } => return None,
            Self::Send { .. } if whatsapp::is_meant(body) => (Provider::WhatsApp, whatsapp::recipient(body)),
            Self::Send { .. } => (Provider::Instagram, instagram::recipient(body)),
            Self::Bot { method, .. } => {
                telegram::Method::of(method)?;
                (Provider::Telegram, telegram::recipient(body))
            }
        };
        let fits = |recipient: &String| (1..=RECIPIENT_BYTES_MAX).contains(&recipient.len());
        let recipient = recipient.filter(fits).unwrap_or_else(|| UNKNOWN.to_owned());
        Some((provider, format!("{}/{recipient}", provider.as_str())))
    }

    /// The path without credentials.
    pub fn shown_path(&self, head: &Head) -> String {
        match self {
            Self::Look { .. } | Self::Send { .. } => head.path.clone(),
            Self::Bot { method, .. } => format!("/bot(hidden)/{method}"),
        }
    }
}

/// What a provider answers now and calls back with later.
pub struct Reply {
    pub answer: Answer,
    /// Each with the time from now, rising.
    pub reports: Vec<(Duration, Callback)>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer, reports: Vec::new() }
    }
}

/// A provider's call to us, ready to be posted.
pub struct Callback {
    pub provider: Provider,
    /// What proves where it is from.
    pub header: (&'static str, String),
    pub body: Bytes,
}

/// A message from the other side, as it is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbound {
    pub from: String,
    pub text: String,
    /// The provider's id of the message that this one answers.
    pub reply_to: Option<String>,
    /// Our account at Meta, if it is not the default one.
    pub account: Option<String>,
}

impl Inbound {
    /// Our account, `default` if none is named.
    fn account(&self, default: &str) -> Result<String, Unfit> {
        let account = self.account.as_deref().unwrap_or(default);
        meta::account(account).ok_or(Unfit { field: "account", detail: "`account` must be digits" })
    }
}

/// Why no provider would have such a message.
#[derive(Debug)]
pub struct Unfit {
    pub field: &'static str,
    pub detail: &'static str,
}

/// What the providers remember: the ids they have given.
pub struct Providers {
    ids: Ids,
}

impl Providers {
    /// `now` makes the ids others than those before a restart.
    pub fn new(now: Timestamp) -> Self {
        Self { ids: Ids::new(now) }
    }

    pub fn answer(&mut self, call: &Call, head: &Head, body: &Value, now: Timestamp, receipt_delay: Duration) -> Reply {
        let ids = &mut self.ids;
        let reply = match call {
            Call::Look { id } => meta::look(head, id).map(Reply::from),
            Call::Send { account } => meta::check_token(head).and_then(|()| match whatsapp::is_meant(body) {
                true => whatsapp::send(account, body, ids, now, receipt_delay),
                false => instagram::send(account, body, ids, now, receipt_delay),
            }),
            Call::Bot { token, method } => return telegram::answer(token, method, body, ids, now).into(),
        };
        reply.unwrap_or_else(|refusal| refusal.answer(ids).into())
    }

    /// The answer that a fault with a status asks for.
    pub fn fault(&mut self, provider: Provider, status: u16, fault: &Fault) -> Answer {
        let answer = match provider {
            Provider::WhatsApp => meta::fault(status, fault, &whatsapp::ERRORS, &mut self.ids),
            Provider::Instagram => meta::fault(status, fault, &instagram::ERRORS, &mut self.ids),
            Provider::Telegram => telegram::fault(status, fault),
        };
        Answer { retry_after_seconds: fault.retry_after_seconds(), ..answer }
    }

    /// The message's id and the call that brings it.
    pub fn inbound(
        &mut self,
        provider: Provider,
        message: &Inbound,
        now: Timestamp,
    ) -> Result<(String, Callback), Unfit> {
        match provider {
            Provider::WhatsApp => whatsapp::inbound(message, &mut self.ids, now),
            Provider::Instagram => instagram::inbound(message, &mut self.ids, now),
            Provider::Telegram => telegram::inbound(message, &mut self.ids, now),
        }
    }
}
