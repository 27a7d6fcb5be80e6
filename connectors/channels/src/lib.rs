//! What each provider expects, and nothing else: how a delivery becomes an HTTP request, what an answer means, what is
//! known to be refused before anything is sent. No I/O, no clock, no decisions about retries. A folder a provider;
//! the connector actors and the api call them through [`Channel`].

mod callbacks;
mod codes;
pub mod instagram;
mod links;
mod meta;
pub mod public_address;
pub mod retry_after;
mod silence;
pub mod telegram;
pub mod webhook;
pub mod whatsapp;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use chat4all_proto::outcome::Report;
use chat4all_proto::{Content, DeliveryStatus, Outbound, Timestamp};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

pub use callbacks::{Callbacks, Event, InboundMessage, Malformed, ReceiptOf, Unverified};
pub use codes::{Class, Code};

/// One configured channel of some provider.
pub trait Channel: Send + Sync + 'static {
    /// The connector's name, as in `kind = "webhook"`.
    fn kind(&self) -> &'static str;

    /// Whether such a message can go through this channel at all. Asked before a message is accepted.
    fn check(&self, outgoing: &Outgoing<'_>) -> Result<(), Unfit>;

    /// What the provider's acceptance means here: `Sent` where it is not the arrival, `Delivered` where it is.
    fn accepted_status(&self) -> DeliveryStatus;

    /// The highest status that the provider reports, by its answer or by a receipt.
    fn highest_status(&self) -> DeliveryStatus {
        self.accepted_status()
    }

    /// Whether the receiver can drop a repeat: then an ambiguous attempt is made again.
    fn dedupes(&self) -> bool;

    /// Finds the destination in a target, for a channel that has many: an outage or a limit of one is none of the others'.
    fn destination(&self) -> fn(&str) -> Option<&str> {
        |_| None
    }

    /// Whether requests may go to loopback and private addresses: yes where the operator alone chooses the host.
    fn may_dial_private(&self) -> bool {
        true
    }

    /// Whether requests carry the trace that they belong to (`traceparent`): where the receiver may be one of our users' own
    /// programs. A provider has no use for it.
    fn takes_trace_context(&self) -> bool {
        false
    }

    /// The request for one attempt at `now`. `Unfit` only for what `check` refuses too.
    fn request(&self, delivery: &Outbound, now: Timestamp) -> Result<Request, Unfit>;

    /// Sorts the answer to such a request, received at `now`.
    fn report(&self, answer: &Answer, now: Timestamp) -> Report;

    /// The request that the answer asks for instead, to be made within the same attempt: the recipient has another
    /// address now.
    fn moved(&self, _delivery: &Outbound, _answer: &Answer, _now: Timestamp) -> Option<Request> {
        None
    }

    /// A request that shows whether the credentials are good, and sends nothing. `report` sorts its answer too. `None`
    /// where there is nobody to ask.
    fn probe(&self) -> Option<Request> {
        None
    }

    /// What the provider calls us with. `None` for a channel without callbacks.
    fn callbacks(&self) -> Option<&dyn Callbacks> {
        None
    }
}

/// What is asked of a channel, known before there is a delivery.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    pub target: &'a str,
    pub content: &'a Content,
    pub reply_to: Option<&'a str>,
}

impl<'a> Outgoing<'a> {
    pub fn of(delivery: &'a Outbound) -> Self {
        Self { target: &delivery.to.target, content: &delivery.content, reply_to: delivery.reply_to.as_deref() }
    }
}

/// Why a message cannot go through a channel. `field` is relative to the message: `to`, `content.text`,
/// `reply_to`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Unfit {
    pub field: Cow<'static, str>,
    /// Names the limit; repeats no secret.
    pub detail: String,
}

impl Unfit {
    pub fn new(field: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// What is wrong with a channel's configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {detail}")]
pub struct Invalid {
    /// The key, relative to the channel's own table.
    pub key: &'static str,
    /// Goes on after the key; repeats no secret.
    pub detail: String,
}

/// An HTTP request, complete. Its `Debug` shows method and host only: path and headers may hold secrets.
#[derive(Clone)]
pub struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url.origin().ascii_serialization())
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub enum Answer {
    Response {
        status: StatusCode,
        headers: HeaderMap,
        /// At most the first 16 KiB.
        body: Bytes,
    },
    /// No usable answer came.
    Silence(Silence),
}

/// How an attempt ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The target's address is private, loopback or otherwise forbidden. Nothing was sent.
    ForbiddenTarget,
    /// No connection: name not found, refused, TLS failed. Nothing was sent.
    NoConnection,
    /// The deadline passed before the answer's head was there; the request may have been read.
    TimedOut { after: Duration },
    /// The connection broke after the request was (partly) written, or the answer was not HTTP.
    Broken,
}
