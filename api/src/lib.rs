//! The HTTP ingress and queries. The binary starts it with [`bind`] and the ports to use; other roles serve probes and
//! metrics through [`ops`]. Reads and writes nothing but the ports `Log` and `Status`, and knows no provider beyond
//! `Channel::check` and `Channel::callbacks`.
//!
//! A request passes `server` (limits of connections), `call` (key, request id, metrics), then `ingest` (`body`,
//! `parse`, `draft`, `claims`, log) or `query` (`params`, status store, `catch_up`). What operators do goes through
//! `control` to the topic of that name. Every error is made by `error`.

mod body;
mod call;
mod callbacks;
mod cancel;
mod catch_up;
mod channels;
mod claims;
mod complaints;
mod connections;
mod control;
mod dead_letters;
mod draft;
mod error;
mod ingest;
pub mod metrics;
pub mod ops;
mod params;
mod parse;
mod processes;
mod query;
mod replay;
mod routes;
mod server;
mod trace;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::{TenantId, Topic, http};
use chat4all_runtime::Control;
use chat4all_storage::{Log, Status};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

pub use crate::draft::ChannelInfo;
pub use crate::error::{Code, Row};
pub use crate::server::{Limits, Server};

use crate::call::Door;
use crate::catch_up::CatchUp;
use crate::claims::Claims;
use crate::draft::Directory;

/// How the API behaves.
#[derive(Debug, Clone)]
pub struct Options {
    pub listen: SocketAddr,
    pub limits: Limits,
    /// Clients send it as `Authorization: Bearer KEY`. Without one only a loopback address is served.
    pub api_key: Option<SecretString>,
    /// Age of an unanswered append at which the log counts as away. Default: 1 s.
    pub append_timeout: Duration,
    /// Longest wait of `GET /v1/messages/{id}` for the recorder. Default: 1 s.
    pub catch_up_timeout: Duration,
    /// Longest wait for one answer of the status store. Default: 2 s.
    pub status_timeout: Duration,
    /// Where the log does not write once: longest wait for the status store while a keyed message is accepted, and 2 ms more for each. Default: 500 ms.
    pub claim_timeout: Duration,
    /// Time for a whole body. Default: 10 s.
    pub body_timeout: Duration,
    /// How often what is over is deleted from the topic `control`. Default: 60 s.
    pub sweep_interval: Duration,
    /// Most bytes of batches under way at a time; one more is answered `503 overloaded`. Default: 128 MiB.
    pub batch_bytes_in_flight_max: usize,
    /// The consumer groups of `messages` that must have passed a message before it can be called absent.
    pub router_group: String,
    pub recorder_group: String,
}

impl Options {
    pub fn new(listen: SocketAddr, router_group: impl Into<String>, recorder_group: impl Into<String>) -> Self {
        Self {
            listen,
            limits: Limits::default(),
            api_key: None,
            append_timeout: Duration::from_secs(1),
            catch_up_timeout: Duration::from_secs(1),
            status_timeout: Duration::from_secs(2),
            claim_timeout: Duration::from_millis(500),
            body_timeout: Duration::from_secs(10),
            sweep_interval: Duration::from_secs(60),
            batch_bytes_in_flight_max: 128 << 20,
            router_group: router_group.into(),
            recorder_group: recorder_group.into(),
        }
    }
}

/// What the API works with.
pub struct Parts {
    pub log: Arc<dyn Log>,
    pub status: Arc<dyn Status>,
    pub channels: Vec<ChannelInfo>,
    /// What operators want, followed from before or later.
    pub control: watch::Receiver<Arc<Control>>,
}

/// One API, shared by all its workers.
pub(crate) struct Api {
    options: Options,
    door: Arc<Door>,
    log: Arc<dyn Log>,
    status: Arc<dyn Status>,
    directory: Directory,
    tenant: TenantId,
    control: watch::Receiver<Arc<Control>>,
    catch_up: Arc<CatchUp>,
    /// Only where the log cannot tell repeats.
    claims: Option<Claims>,
    /// A permit for each KiB of the batches under way.
    batch_slots: Semaphore,
    /// The same for callbacks: strangers may send them, and must not take the batches' room.
    callback_slots: Semaphore,
}

/// Opens the address and serves at once. Call it inside a tokio runtime. `InvalidInput` for an empty key, and for an
/// address beyond loopback without a key; otherwise the errors of opening the address.
pub fn bind(options: Options, parts: Parts) -> io::Result<Server> {
    check(&options)?;
    let (listen, limits) = (options.listen, options.limits.clone());
    let sweep = control::sweep(Arc::clone(&parts.log), options.sweep_interval);
    let api = Arc::new(Api::new(options, parts));
    let (door, catch_up) = (Arc::clone(&api.door), Arc::clone(&api.catch_up));
    let server = server::start(listen, &limits, door, move |config| routes::mount(config, &api))?;
    let poller = tokio::spawn(async move { catch_up.run().await });
    let sweeper = tokio::spawn(sweep);
    Ok(server.with_background(poller.abort_handle()).with_background(sweeper.abort_handle()))
}

fn check(options: &Options) -> io::Result<()> {
    let refuse = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    match &options.api_key {
        Some(key) if key.expose_secret().trim().is_empty() => refuse("the API key is empty".into()),
        None if !options.listen.ip().is_loopback() => {
            refuse(format!("`{}` is not a loopback address: set an API key", options.listen))
        }
        _ => Ok(()),
    }
}

impl Api {
    fn new(options: Options, parts: Parts) -> Self {
        let (router, recorder) = (options.router_group.clone(), options.recorder_group.clone());
        Self {
            door: Arc::new(Door::new(options.api_key.as_ref())),
            claims: (!parts.log.guarantees().writes_once)
                .then(|| Claims::new(Arc::clone(&parts.status), options.claim_timeout)),
            catch_up: Arc::new(CatchUp::new(Arc::clone(&parts.log), router, recorder)),
            log: parts.log,
            control: parts.control,
            status: parts.status,
            directory: parts.channels.into_iter().map(|info| (info.name.clone(), info)).collect(),
            tenant: TenantId::default(),
            callback_slots: Semaphore::new(callbacks::BYTES_IN_FLIGHT_MAX / 1_024),
            batch_slots: Semaphore::new(options.batch_bytes_in_flight_max / 1_024),
            options,
        }
    }

    /// `Err` says why the log does not count as there.
    async fn check_log(&self) -> Result<(), String> {
        if let Some(age) = self.log.oldest_unacknowledged().filter(|age| *age > self.options.append_timeout) {
            return Err(format!("an append is unanswered for {} ms", age.as_millis()));
        }
        match timeout(self.options.append_timeout, self.log.ends(&Topic::Messages)).await {
            Ok(answer) => answer.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err("it does not answer".into()),
        }
    }

    async fn check_status(&self) -> Result<(), String> {
        match timeout(self.options.append_timeout, self.status.check()).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err("it does not answer".into()),
        }
    }
}

#[async_trait::async_trait]
impl ops::Readiness for Api {
    /// Without the log nothing works; without the status store messages are still accepted, so that the process stays
    /// ready and only names the missing part.
    async fn readiness(&self) -> http::Readiness {
        let (log, status) = tokio::join!(self.check_log(), self.check_status());
        let part = |name: &str, result: &Result<(), String>| http::Part {
            name: name.to_owned(),
            ready: result.is_ok(),
            detail: result.as_ref().err().cloned(),
        };
        http::Readiness { ready: log.is_ok(), parts: vec![part("log", &log), part("status", &status)] }
    }
}
