//! Exports the spans of this process to a collector, by OTLP over HTTP with protobuf. It runs on a thread of its own, so
//! that nothing it does or waits for holds up a message; what the collector does not take in time is dropped and counted.

mod wire;

use std::time::{Duration, Instant};

use bytes::Bytes;
use chat4all_runtime::clock;
use chat4all_runtime::trace::{self, Dropped, Tracer};
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, redirect};
use secrecy::ExposeSecret;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use crate::config::Tracing;
use wire::{ExportTraceServiceResponse, Process};

/// How long a span waits to be exported, unless there are many.
const INTERVAL: Duration = Duration::from_secs(1);
/// Most spans of one request.
const BATCH_MAX: usize = 1_024;
/// For one request, its answer included.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Before a batch is tried again. Once all are used up the collector counts as away: until it is back a batch is tried once.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];
/// At the end, for all that is left.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// How often it is said that the collector takes nothing.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 16 * 1_024;

/// Why there is no exporter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the HTTP client of `tracing.otlp_endpoint` cannot be made: {0}")]
    Client(reqwest::Error),
    #[error("the thread that exports traces cannot be started: {0}")]
    Thread(std::io::Error),
}

/// The running exporter. Dropped, it ends without a flush.
pub struct Exporter {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

/// Turns tracing on and starts to export, if the configuration says where to. `instance` is the process as the others
/// know it.
pub fn start(config: &Tracing, instance: &str) -> Result<Option<Exporter>, Error> {
    let Some(endpoint) = config.traces_url() else { return Ok(None) };
    let client = client().map_err(Error::Client)?;
    let process = Process { instance: instance.to_owned(), version: env!("CARGO_PKG_VERSION") };
    let stop = CancellationToken::new();
    let (end, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
    let worker = Worker {
        tracer: trace::install(config.sample_ratio, config.queue),
        client,
        headers: headers(config),
        process,
        stop: stop.clone(),
        is_away: false,
        failing: false,
        complained_at: None,
        endpoint,
    };
    info!(endpoint = %worker.endpoint, sample_ratio = config.sample_ratio, "tracing is on");
    let run = move || {
        runtime.block_on(worker.run());
        // Nobody waits for it any more: the process has ended sooner.
        let _ = end.send(());
    };
    std::thread::Builder::new().name("otlp".into()).spawn(run).map_err(Error::Thread)?;
    Ok(Some(Exporter { stop, ended }))
}

impl Exporter {
    /// Exports what is left, within 2 s.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(FLUSH_MAX, &mut self.ended).await.is_err() {
            warn!("the last spans could not be exported in time; no message is touched by that");
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn client() -> reqwest::Result<reqwest::Client> {
    let builder =
        || reqwest::Client::builder().no_proxy().redirect(redirect::Policy::none()).referer(false).timeout(REQUEST_MAX);
    // Without the system's certificates plain HTTP still works.
    builder().build().or_else(|_| builder().tls_certs_only([]).build())
}

/// Those of the configuration are secrets, and never logged.
fn headers(config: &Tracing) -> HeaderMap {
    let own = config.headers.iter().map(|(name, secret)| {
        let name: HeaderName = name.parse().expect("the configuration was checked");
        let value = HeaderValue::from_str(secret.value().expose_secret());
        let mut value = value.expect("the configuration was checked");
        value.set_sensitive(true);
        (name, value)
    });
    let protobuf = HeaderValue::from_static("application/x-protobuf");
    own.chain([(CONTENT_TYPE, protobuf)]).collect()
}

struct Worker {
    tracer: &'static Tracer,
    endpoint: Url,
    client: reqwest::Client,
    headers: HeaderMap,
    process: Process,
    stop: CancellationToken,
    /// A batch was tried as often as it may be.
    is_away: bool,
    /// Since the last answer that was good.
    failing: bool,
    complained_at: Option<Instant>,
}

/// Why a batch was not taken.
enum Failed {
    /// It may be taken later.
    Later(String),
    /// It never will be.
    Never(String),
}

impl Worker {
    async fn run(mut self) {
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                () = self.tracer.filled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => break,
            }
            self.export().await;
        }
        self.export().await;
    }

    async fn export(&mut self) {
        let mut spans = self.tracer.take();
        while !spans.is_empty() {
            let rest = spans.split_off(spans.len().min(BATCH_MAX));
            let count = spans.len();
            let body = wire::request(std::mem::replace(&mut spans, rest), &self.process).encode_to_vec();
            self.deliver(body.into(), count).await;
        }
    }

    async fn deliver(&mut self, body: Bytes, spans: usize) {
        let pauses: &[Duration] = if self.is_away { &[] } else { &PAUSES };
        let mut pauses = pauses.iter();
        loop {
            let reason = match self.post(body.clone()).await {
                Ok(rejected) => return self.taken(spans, rejected),
                Err(Failed::Never(why)) => {
                    self.complain(&why);
                    Dropped::Refused
                }
                Err(Failed::Later(why)) => {
                    self.complain(&why);
                    match pauses.next().filter(|_| !self.stop.is_cancelled()) {
                        Some(&pause) => {
                            // At the end one more try is made, at once.
                            let _ = tokio::time::timeout(pause, self.stop.cancelled()).await;
                            continue;
                        }
                        None => {
                            self.is_away = true;
                            Dropped::Unreachable
                        }
                    }
                }
            };
            return self.tracer.dropped(reason, spans);
        }
    }

    fn taken(&mut self, spans: usize, rejected: usize) {
        if std::mem::take(&mut self.failing) {
            info!(endpoint = %self.endpoint, "spans are exported again");
            self.complained_at = None;
        }
        self.is_away = false;
        let rejected = rejected.min(spans);
        self.tracer.exported(spans - rejected);
        if rejected > 0 {
            self.tracer.dropped(Dropped::Refused, rejected);
        }
    }

    /// The number of spans that the collector says it has refused.
    async fn post(&self, body: Bytes) -> Result<usize, Failed> {
        let request = self.client.post(self.endpoint.clone()).headers(self.headers.clone()).body(body);
        let mut response = request.send().await.map_err(|error| Failed::Later(root(&error)))?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            answer.extend_from_slice(&chunk);
            if answer.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
        match status {
            status if status.is_success() => Ok(rejected(&answer)),
            // Those that the standard has a client repeat.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Failed::Later(format!("the collector answered {status}"))),
            _ => Err(Failed::Never(format!("the collector answered {status}"))),
        }
    }

    fn complain(&mut self, why: &str) {
        self.failing = true;
        let now = clock::instant();
        if self.complained_at.is_none_or(|at| now.duration_since(at) >= COMPLAIN_EVERY) {
            self.complained_at = Some(now);
            let endpoint = &self.endpoint;
            warn!(%endpoint, why, "spans cannot be exported; what finds no room is dropped, and messages are not touched");
        }
    }
}

fn rejected(answer: &[u8]) -> usize {
    let read = ExportTraceServiceResponse::decode(answer).unwrap_or_default();
    read.partial_success.map_or(0, |partial| partial.rejected_spans.try_into().unwrap_or(0))
}

/// The innermost cause: the outer ones repeat the URL or say nothing.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
