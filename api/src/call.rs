//! What happens around every call, whatever it does: request id, API key, refusal while draining, metrics, log lines.
//! Every route passes through [`answer`]. Knows no message and no port.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::http::header::{AUTHORIZATION, CONNECTION, HeaderName, HeaderValue, TRANSFER_ENCODING};
use actix_web::{HttpRequest, HttpResponse, web};
use chat4all_runtime::clock;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Notify;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::body;
use crate::complaints::Complaints;
use crate::connections;
use crate::error::{Code, Error};
use crate::metrics;

/// Header that carries the request id both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id taken over from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// The calls there are, for metrics and for who may make them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Send,
    Batch,
    Message,
    Conversation,
    Messages,
    Cancel,
    Channels,
    Channel,
    Pause,
    Resume,
    DeadLetters,
    DeadLetter,
    Replay,
    Handshake,
    Callback,
    Cluster,
    Drain,
    Live,
    Ready,
    Metrics,
    /// No such path or method.
    Other,
}

impl Route {
    pub const ALL: [Route; 21] = [
        Self::Send,
        Self::Batch,
        Self::Message,
        Self::Conversation,
        Self::Messages,
        Self::Cancel,
        Self::Channels,
        Self::Channel,
        Self::Pause,
        Self::Resume,
        Self::DeadLetters,
        Self::DeadLetter,
        Self::Replay,
        Self::Handshake,
        Self::Callback,
        Self::Cluster,
        Self::Drain,
        Self::Live,
        Self::Ready,
        Self::Metrics,
        Self::Other,
    ];

    /// Method and path pattern, as metrics and log lines name them.
    pub const fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Send => ("POST", "/v1/messages"),
            Self::Batch => ("POST", "/v1/messages/batch"),
            Self::Message => ("GET", "/v1/messages/{id}"),
            Self::Conversation => ("GET", "/v1/conversations/{id}/messages"),
            Self::Messages => ("GET", "/v1/messages"),
            Self::Channels => ("GET", "/v1/channels"),
            Self::Cancel => ("POST", "/v1/messages/{id}/cancel"),
            Self::Channel => ("GET", "/v1/channels/{name}"),
            Self::Pause => ("POST", "/v1/channels/{name}/pause"),
            Self::Resume => ("POST", "/v1/channels/{name}/resume"),
            Self::DeadLetters => ("GET", "/v1/dead-letters"),
            Self::DeadLetter => ("GET", "/v1/dead-letters/{delivery_id}"),
            Self::Replay => ("POST", "/v1/dead-letters/{delivery_id}/replay"),
            Self::Handshake => ("GET", "/v1/callbacks/{channel}"),
            Self::Callback => ("POST", "/v1/callbacks/{channel}"),
            Self::Cluster => ("GET", "/v1/cluster"),
            Self::Drain => ("POST", "/v1/processes/{id}/drain"),
            Self::Live => ("GET", "/health/live"),
            Self::Ready => ("GET", "/health/ready"),
            Self::Metrics => ("GET", "/metrics"),
            Self::Other => ("other", "other"),
        }
    }

    /// Probes have no key, and providers prove who they are in their own way.
    const fn is_open(self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Handshake | Self::Callback)
    }

    const fn is_observation(self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Metrics)
    }
}

/// The door of one server: who may come in, and how many are inside.
pub struct Door {
    /// SHA-256 of the API key; without one everybody may come in.
    key: Option<[u8; 32]>,
    draining: AtomicBool,
    inside: AtomicUsize,
    emptied: Notify,
}

impl Door {
    pub fn new(key: Option<&SecretString>) -> Self {
        Self {
            key: key.map(|key| Sha256::digest(key.expose_secret().trim()).into()),
            draining: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
            emptied: Notify::new(),
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Refuses new requests from now on and waits until those inside are answered, at most `grace`.
    pub async fn drain(&self, grace: Duration) {
        self.draining.store(true, Ordering::SeqCst);
        let emptied = async {
            loop {
                let notified = self.emptied.notified();
                if self.inside.load(Ordering::SeqCst) == 0 {
                    return;
                }
                notified.await;
            }
        };
        if tokio::time::timeout(grace, emptied).await.is_err() {
            warn!(
                inside = self.inside.load(Ordering::SeqCst),
                "requests were still unanswered at the end of the drain"
            );
        }
    }

    fn enter(&self, route: Route, request: &HttpRequest) -> Result<Visit<'_>, Error> {
        // Counted before the flag is looked at: `drain` either sees us inside, or we see its flag.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let visit = Visit(self);
        if self.is_draining() && !route.is_observation() {
            return Err(Error::new(Code::ShuttingDown, "this process takes no more requests; ask another one"));
        }
        if !route.is_open() {
            self.authorize(request)?;
        }
        Ok(visit)
    }

    /// Hashes before it compares, so that neither content nor length of the key shows in the time taken.
    fn authorize(&self, request: &HttpRequest) -> Result<(), Error> {
        let Some(expected) = &self.key else { return Ok(()) };
        let Some(header) = request.headers().get(AUTHORIZATION) else {
            return Err(
                Error::new(Code::Unauthorized, "send the header `Authorization: Bearer KEY`").at("authorization")
            );
        };
        let given = header.as_bytes().split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        let right = given.is_some_and(|(_, key)| {
            let digest: [u8; 32] = Sha256::digest(key.trim_ascii()).into();
            digest.ct_eq(expected).into()
        });
        if right { Ok(()) } else { Err(Error::new(Code::Unauthorized, "the API key is not valid").at("authorization")) }
    }
}

/// One request inside. Leaves when dropped, also if the client hung up.
struct Visit<'a>(&'a Door);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if self.0.inside.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.is_draining() {
            self.0.emptied.notify_waiters();
        }
    }
}

/// Runs one call and answers it, whatever it comes to.
pub async fn answer<W>(
    door: &Door,
    route: Route,
    request: &HttpRequest,
    mut payload: web::Payload,
    work: W,
) -> HttpResponse
where
    W: AsyncFnOnce(&str, &mut web::Payload) -> Result<HttpResponse, Error>,
{
    let started = clock::instant();
    let _busy = connections::busy(request);
    let request_id = request_id(request);
    let entered = door.enter(route, request);
    let result = match &entered {
        Ok(_) => work(request_id.to_str().expect("a request id is visible ASCII"), &mut payload).await,
        Err(error) => Err(error.clone()),
    };
    let mut response = match result {
        Ok(response) => response,
        Err(error) => refuse(error, route, request_id.to_str().expect("a request id is visible ASCII")),
    };
    if door.is_draining() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let (status, took) = (response.status().as_u16(), clock::instant().duration_since(started));
    let (method, path) = route.labels();
    debug!(method, path, status, took_us = took.as_micros() as u64, ?request_id, "request answered");
    response.headers_mut().insert(REQUEST_ID, request_id);
    metrics::record_request(route, status, took);
    if request.headers().contains_key(TRANSFER_ENCODING) { body::close_if_unread(response, payload) } else { response }
}

/// An outage fails every request: it must not fill the disk with what is said about it.
static COMPLAINTS: Complaints = Complaints::new();

/// Answers an error, and tells the log of what is not the client's doing.
fn refuse(error: Error, route: Route, request_id: &str) -> HttpResponse {
    let row = error.code.row();
    if matches!(route, Route::Send | Route::Batch) {
        metrics::record_rejected(error.code);
    }
    if (row.status >= 500 || error.code == Code::UnverifiedCallback)
        && let Some(withheld) = COMPLAINTS.admit(error.code, clock::now())
    {
        let cause = error.cause.as_deref().unwrap_or(&error.detail);
        warn!(request_id, code = row.code, cause, path = route.labels().1, withheld, "request failed");
    }
    error.respond(request_id)
}

/// The client's own id if it is short and plain, else a new one.
fn request_id(request: &HttpRequest) -> HeaderValue {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    match request.headers().get(REQUEST_ID) {
        Some(id) if (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(plain) => id.clone(),
        _ => {
            let mut text = [0; 36];
            let id = Uuid::now_v7().as_hyphenated().encode_lower(&mut text);
            HeaderValue::from_str(id).expect("a UUID is visible ASCII")
        }
    }
}
