//! The HTTP client that carries a channel's requests out. The channel actors call it; it knows no provider and decides
//! nothing: what came back, or how it did not, is all it tells.
//!
//! Memory of one attempt is bounded: hyper takes at most 100 headers and buffers about 400 KiB of a head, we keep 16 KiB
//! of a body.

mod log_url;
mod resolver;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chat4all_channels::{Answer, Request, Silence, public_address};
use chat4all_runtime::clock;
use reqwest::header::HeaderMap;
use reqwest::{ClientBuilder, StatusCode, redirect};
use tracing::{debug, warn};
use url::{Host, Url};

use self::log_url::LogUrl;
use self::resolver::{Forbidden, Resolver};

/// How much of an answer's body is read.
const BODY_BYTES_MAX: usize = 16 * 1_024;
/// Idle connections kept for one host. They cost a descriptor each and end after `IDLE_MAX`.
const IDLE_PER_HOST_MAX: usize = 256;
const IDLE_MAX: Duration = Duration::from_secs(20);

/// How a channel's provider may be called.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether addresses outside the public internet may be dialled.
    pub allow_private_targets: bool,
    /// For everything about one attempt: name, connection, TLS, request, head, body. Default: 15 s.
    pub attempt_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { allow_private_targets: false, attempt_timeout: Duration::from_secs(15) }
    }
}

/// A pool of connections; clones share it. One for each arbiter: connections live on the runtime that opened them.
#[derive(Debug, Clone)]
pub struct Client {
    inner: reqwest::Client,
    options: Options,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be made: {}", root(.0))]
pub struct ClientError(reqwest::Error);

impl Client {
    /// Chooses ring as the process's TLS provider unless one is chosen. On a system without CA certificates the client
    /// works for `http` and no `https` target is trusted.
    pub fn new(options: Options) -> Result<Self, ClientError> {
        // An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let inner = builder(&options).build().or_else(|error| {
            let without_roots = builder(&options).tls_certs_only([]).build()?;
            warn!(error = %root(&error), "this system has no CA certificates: https targets will not be trusted");
            Ok(without_roots)
        });
        Ok(Self { inner: inner.map_err(ClientError)?, options })
    }

    /// When an attempt that begins now must have ended.
    pub fn deadline(&self) -> Instant {
        clock::instant() + self.options.attempt_timeout
    }

    /// Makes one attempt with one request.
    pub async fn call(&self, request: Request) -> Answer {
        self.call_until(request, self.deadline()).await
    }

    /// Makes a request of an attempt that has to end by `deadline`. A status that arrived counts, whatever became of the body:
    /// a receiver that answered 2xx took the message even if the rest of its answer was cut off, late or too long. The
    /// body is then what had been read.
    pub async fn call_until(&self, request: Request, deadline: Instant) -> Answer {
        let log_url = LogUrl::if_logged(&request.url);
        if !self.may_dial(&request.url) {
            debug!(url = %log_url, "the target is not on the public internet");
            return Answer::Silence(Silence::ForbiddenTarget);
        }
        let after = self.options.attempt_timeout;
        let mut heard = None;
        // One timer for everything, and outside reqwest: its own cost more.
        let ended = tokio::time::timeout_at(deadline.into(), exchange(&self.inner, request, &mut heard)).await;
        match (heard, ended) {
            (Some(Heard { status, headers, body }), _) => Answer::Response { status, headers, body },
            (None, Ok(Err(error))) => {
                let silence = silence(&error);
                debug!(url = %log_url, error = %root(&error), ?silence, "no answer");
                Answer::Silence(silence)
            }
            // Without an error the head was heard, so this is the deadline.
            (None, Err(_) | Ok(Ok(()))) => {
                debug!(url = %log_url, ?after, "no answer in time");
                Answer::Silence(Silence::TimedOut { after })
            }
        }
    }

    /// A name may be dialled; what it resolves to is checked then.
    fn may_dial(&self, url: &Url) -> bool {
        let literal: Option<IpAddr> = match url.host() {
            Some(Host::Ipv4(ip)) => Some(ip.into()),
            Some(Host::Ipv6(ip)) => Some(ip.into()),
            Some(Host::Domain(_)) | None => None,
        };
        self.options.allow_private_targets || literal.is_none_or(public_address::is_public)
    }
}

/// What has arrived so far; it outlives an exchange that is cut off.
struct Heard {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

fn builder(options: &Options) -> ClientBuilder {
    // A host that does not answer at all must end as "no connection", before the attempt's own time-out makes it
    // "perhaps sent".
    let connect_timeout = options.attempt_timeout * 2 / 3;
    reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .pool_idle_timeout(IDLE_MAX)
        .dns_resolver(Resolver { public_only: !options.allow_private_targets })
}

/// Sends, and reads the answer into `heard`. The body is read to its end, since that gives the connection back to the
/// pool, unless it is longer than anybody needs.
async fn exchange(client: &reqwest::Client, request: Request, heard: &mut Option<Heard>) -> reqwest::Result<()> {
    let mut outgoing = reqwest::Request::new(request.method, request.url);
    *outgoing.headers_mut() = request.headers;
    *outgoing.body_mut() = Some(request.body.into());
    let mut response = client.execute(outgoing).await?;
    let headers = std::mem::take(response.headers_mut());
    let heard = heard.insert(Heard { status: response.status(), headers, body: Bytes::new() });
    while let Some(chunk) = response.chunk().await? {
        heard.body = joined(std::mem::take(&mut heard.body), chunk);
        if heard.body.len() > BODY_BYTES_MAX {
            heard.body.truncate(BODY_BYTES_MAX);
            break;
        }
    }
    Ok(())
}

/// One chunk is the usual case and costs no copy.
fn joined(body: Bytes, chunk: Bytes) -> Bytes {
    if body.is_empty() {
        return chunk;
    }
    let mut joined = BytesMut::from(body);
    joined.extend_from_slice(&chunk[..chunk.len().min(BODY_BYTES_MAX + 1)]);
    joined.freeze()
}

/// What an exchange that ended before a head came to.
fn silence(error: &reqwest::Error) -> Silence {
    if causes(error).any(|cause| cause.is::<Forbidden>()) {
        Silence::ForbiddenTarget
    } else if error.is_connect() || error.is_builder() {
        Silence::NoConnection
    } else {
        Silence::Broken
    }
}

/// The innermost cause: the outer ones repeat the URL or say nothing.
fn root(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| "cannot be sent".to_owned(), ToString::to_string)
}

fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'a (dyn Error + 'static)| (*cause).source())
}
