//! The whole configuration as one tree of structs, with its defaults. [`load`] reads it, [`validate`] refuses what cannot
//! work, [`show`] prints it. Nothing else reads the environment's `CHAT4ALL_…` settings; nothing here opens a port or
//! knows what a role does.

mod engine;
mod load;
mod secret;
mod show;
mod units;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use chat4all_proto::ChannelName;
use chat4all_proto::topic::PARTITIONS_DEFAULT;
use serde::{Deserialize, Serialize};

pub use engine::Engine;
pub use load::{Error, Override, Sources};
pub use secret::Secret;
pub use show::{json, toml};

/// The commented default file: the reference of every key.
pub const DEFAULT_FILE: &str = include_str!("../../chat4all.default.toml");

/// Everything that can be set. A field's documentation is in `chat4all.default.toml` and `docs/CONFIGURATION.md`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub log: Engine,
    pub status: Engine,
    /// Directives as `tracing` takes them: `info`, `warn,chat4all_api=debug`.
    pub log_level: String,
    pub log_format: LogFormat,
    /// Of every stream topic.
    pub partitions: u32,
    #[serde(with = "units::duration")]
    pub retention: Duration,
    #[serde(with = "units::duration")]
    pub commit_interval: Duration,
    #[serde(with = "units::duration")]
    pub session_timeout: Duration,
    pub in_memory: InMemory,
    pub api: Api,
    pub router: Router,
    pub connectors: Connectors,
    pub recorder: Recorder,
    pub simulator: Simulator,
    /// Never empty once loaded. An address's channel is a key of this map.
    pub channels: BTreeMap<ChannelName, Channel>,
    /// Whether `channels` are the ones that a configuration without any gets.
    #[serde(skip)]
    pub channels_by_default: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

/// Bounds of what one worker holds in memory for one partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InMemory {
    pub records: usize,
    #[serde(with = "units::bytes")]
    pub bytes: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    #[serde(with = "units::socket")]
    pub listen: SocketAddr,
    /// The bearer key that every call under `/v1` must show. Without one only loopback is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// Threads that serve HTTP.
    pub workers: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Router {
    #[serde(with = "units::socket")]
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Connectors {
    #[serde(with = "units::socket")]
    pub listen: SocketAddr,
    /// Threads that call providers, each with clients of its own.
    pub threads: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recorder {
    #[serde(with = "units::socket")]
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Simulator {
    #[serde(with = "units::socket")]
    pub listen: SocketAddr,
}

/// One channel. `kind` is its only key without a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    pub kind: Kind,
    /// `whsec_` and base64: signs what is sent, as Standard Webhooks 1.0 says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_secret: Option<Secret>,
    /// Whether loopback and private addresses may be called.
    #[serde(default)]
    pub allow_private_targets: bool,
    /// For one attempt, from looking up the name to the answer's last byte.
    #[serde(default = "attempt_timeout", with = "units::duration")]
    pub attempt_timeout: Duration,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub retry: Retry,
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "it is there to be refused")]
    breaker: Option<NotYet>,
}

/// The connectors that this version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Webhook,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls of the provider at a time, in one process.
    pub in_flight: u32,
    #[serde(skip_serializing)]
    per_second: Option<NotYet>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The first included; then the delivery goes to the dead letters.
    pub attempts: u32,
    /// Longest wait before each retry (the wait is drawn between nothing and this); the last one repeats.
    #[serde(with = "units::durations")]
    pub backoff: Vec<Duration>,
}

/// A key of a later version: refused by name wherever it is set.
#[derive(Debug, Clone, Copy)]
enum NotYet {}

impl<'de> Deserialize<'de> for NotYet {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("is not supported yet"))
    }
}

impl Kind {
    pub const ALL: [Kind; 1] = [Kind::Webhook];

    /// As written in `kind = "…"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Webhook => "webhook",
        }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| format!("`{}`", kind.as_str())).collect();
            serde::de::Error::custom(format!("no connector `{text}` in this version; there is {}", known.join(", ")))
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: Engine::default(),
            status: Engine::default(),
            log_level: "info".into(),
            log_format: LogFormat::Text,
            partitions: PARTITIONS_DEFAULT,
            retention: validate::RETENTION_MIN,
            commit_interval: Duration::from_millis(50),
            session_timeout: Duration::from_secs(6),
            in_memory: InMemory::default(),
            api: Api::default(),
            router: Router::default(),
            connectors: Connectors::default(),
            recorder: Recorder::default(),
            simulator: Simulator::default(),
            channels: BTreeMap::new(),
            channels_by_default: false,
        }
    }
}

impl Default for InMemory {
    fn default() -> Self {
        Self { records: 2_048, bytes: 8 * 1024 * 1024 }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: loopback(8080), api_key: None, workers: cores().min(4) }
    }
}

impl Default for Router {
    fn default() -> Self {
        Self { listen: loopback(8081) }
    }
}

impl Default for Connectors {
    fn default() -> Self {
        Self { listen: loopback(8082), threads: cores().div_ceil(2) }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self { listen: loopback(8083) }
    }
}

impl Default for Simulator {
    fn default() -> Self {
        Self { listen: loopback(8090) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: 64, per_second: None }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, backoff: [1, 2, 4, 8].map(Duration::from_secs).to_vec() }
    }
}

impl Channel {
    /// What a configuration without channels gets for each kind: it may call the simulator on this machine.
    fn by_default(kind: Kind) -> Self {
        Self {
            kind,
            signing_secret: None,
            allow_private_targets: true,
            attempt_timeout: attempt_timeout(),
            limits: Limits::default(),
            retry: Retry::default(),
            breaker: None,
        }
    }
}

fn attempt_timeout() -> Duration {
    validate::ATTEMPT_TIMEOUT_MAX
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
