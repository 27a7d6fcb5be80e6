//! What each provider expects, and nothing else: how a delivery becomes an HTTP request, what an answer means, what is
//! known to be refused before anything is sent. No I/O, no clock, no decisions about retries. A folder a provider;
//! the connector actors and the api call them through [`Channel`].

pub mod public_address;
pub mod retry_after;
pub mod webhook;

use std::time::Duration;

use bytes::Bytes;
use chat4all_proto::outcome::Report;
use chat4all_proto::{Content, DeliveryStatus, Outbound, Timestamp};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

/// One configured channel of some provider.
pub trait Channel: Send + Sync + 'static {
    /// The connector's name, as in `kind = "webhook"`.
    fn kind(&self) -> &'static str;

    /// Whether a message of this content can go to this target at all. Asked before a message is accepted.
    fn check(&self, target: &str, content: &Content) -> Result<(), Unfit>;

    /// What the provider's acceptance means here: `Sent` where receipts follow, `Delivered` where it is the end.
    fn accepted_status(&self) -> DeliveryStatus;

    /// Whether the receiver can drop a repeat: then an ambiguous attempt is made again.
    fn dedupes(&self) -> bool;

    /// The request for one attempt at `now`. `Unfit` only for what `check` refuses too.
    fn request(&self, delivery: &Outbound, now: Timestamp) -> Result<Request, Unfit>;

    /// Sorts the answer to such a request, received at `now`.
    fn report(&self, answer: &Answer, now: Timestamp) -> Report;
}

/// Why a message cannot go through a channel. `field` is relative to the message: `to`, `content.text`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Unfit {
    pub field: &'static str,
    /// Names the limit; repeats no secret.
    pub detail: String,
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

/// An HTTP request, complete.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
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
