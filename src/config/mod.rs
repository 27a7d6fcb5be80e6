//! The whole configuration as one tree of structs, with its defaults. [`load`] reads it, [`validate`] refuses what cannot
//! work, [`show`] prints it. Nothing else reads the environment's `CHAT4ALL_…` settings; nothing here opens a port or
//! knows what a role does.

mod channel;
mod engine;
mod kind;
mod load;
mod secret;
mod show;
mod tracing;
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

pub use self::tracing::Tracing;
pub use channel::Channel;
pub use engine::{Cassandra, Kafka, LogEngine, StatusEngine};
pub use kind::Kind;
pub use load::{Error, Invalid, Override, Sources};
pub use secret::Secret;
pub use show::{json, toml};

/// The commented default file: the reference of every key.
pub const DEFAULT_FILE: &str = include_str!("../../chat4all.default.toml");

/// Everything that can be set. A field's documentation is in `chat4all.default.toml` and `docs/CONFIGURATION.md`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub log: LogEngine,
    pub status: StatusEngine,
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
    pub tracing: Tracing,
    /// Never empty once loaded. An address's channel is a key of this map.
    pub channels: BTreeMap<ChannelName, Channel>,
    /// Whether `channels` are the ones that a configuration without any gets.
    #[serde(skip)]
    pub channels_by_default: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
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
    /// Where it reports to: the path of a channel's callbacks without its name. Default: those of `api.listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callbacks: Option<String>,
    /// From taking a message to reporting it delivered, and from there to read.
    #[serde(with = "units::duration")]
    pub receipt_delay: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls of the provider at a time, in one process.
    pub in_flight: u32,
    /// Calls a second, of the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// To one destination, of the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Rate>,
    /// To one recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Rate>,
    /// For one tenant, of the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Rate>,
}

/// One call `every`, and up to `burst` at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    #[serde(with = "units::duration")]
    pub every: Duration,
    #[serde(default = "one")]
    pub burst: u32,
}

const fn one() -> u32 {
    1
}

/// When calls of a provider (of a webhook: of a host) are stopped, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Of the last `window` calls.
    pub failure_rate: f64,
    pub window: u32,
    /// Failures like an outage, with no success between.
    pub consecutive: u32,
    #[serde(with = "units::duration")]
    pub slow_call: Duration,
    /// The first time; doubles up to `open_for_max` while probes fail.
    #[serde(with = "units::duration")]
    pub open_for: Duration,
    #[serde(with = "units::duration")]
    pub open_for_max: Duration,
    /// Most calls at a time while it is tried whether the provider is back; as many successes close it.
    pub probes: u32,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            log: LogEngine::default(),
            status: StatusEngine::default(),
            log_level: "info".into(),
            log_format: LogFormat::Auto,
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
            tracing: Tracing::default(),
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
        Self { listen: loopback(8090), callbacks: None, receipt_delay: Duration::from_millis(300) }
    }
}

impl Simulator {
    pub fn options(&self, callbacks: Option<String>) -> chat4all_simulator::Options {
        chat4all_simulator::Options { listen: self.listen, callbacks, receipt_delay: self.receipt_delay }
    }

    /// Where it reports to while the api listens at `api`.
    pub fn callbacks(&self, api: SocketAddr) -> String {
        self.callbacks.clone().unwrap_or_else(|| format!("http://{api}/v1/callbacks"))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: 64, per_second: None, destination: None, recipient: None, tenant: None }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            failure_rate: 0.5,
            window: 10,
            consecutive: 3,
            slow_call: seconds(5),
            open_for: seconds(10),
            open_for_max: seconds(30),
            probes: 3,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, backoff: [1, 2, 4, 8].map(Duration::from_secs).to_vec() }
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
