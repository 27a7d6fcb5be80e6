//! `chat4all serve`: opens the engines, starts the roles, and ends them in order. The only place where a role meets an
//! engine.

mod channels;
mod ports;
mod readiness;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle};
use chat4all_connectors::partition_lanes::PartitionLanes;
use chat4all_proto::{ChannelName, ControlKey, Topic};
use chat4all_recorder::PartitionRecorder;
use chat4all_router::PartitionRouter;
use chat4all_runtime::supervisor::Handle;
use chat4all_runtime::worker::{Consumer, Drain, Limits, Worker};
use chat4all_runtime::{Control, Shutdown, clock, control};
use chat4all_simulator::Simulator;
use chat4all_storage::{Log, Status};
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::Config;
use crate::{engines, otlp};
use channels::Configured;

/// How often old rows are looked for in the status store.
const PURGE_INTERVAL: Duration = Duration::from_secs(60);

/// Longest wait until the wish that this process shall end is taken back.
const TAKE_BACK_MAX: Duration = Duration::from_secs(1);

/// Longest wait for the engines at the end: another process may hold them up.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What a process can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// HTTP ingress and queries.
    Api,
    /// Reads accepted messages and makes a copy for each address.
    Router,
    /// Carries the copies to the providers.
    Connectors,
    /// Writes what became of them to the status store.
    Recorder,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Api, Role::Router, Role::Connectors, Role::Recorder];

    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Api => "api",
            Role::Router => "router",
            Role::Connectors => "connectors",
            Role::Recorder => "recorder",
        }
    }
}

/// Why a process could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open {address} for the {what}: {error}; set `{key}`")]
    Port { what: &'static str, address: SocketAddr, key: &'static str, error: std::io::Error },
    #[error(transparent)]
    Engine(#[from] engines::Error),
    #[error(transparent)]
    Tracing(#[from] otlp::Error),
    #[error("channel `{channel}`: {problem}")]
    Channel { channel: String, problem: String },
    #[error("{0}")]
    Failed(String),
}

/// Runs `roles` until a signal comes or a fault ends them; none means all. Call it in an actix system.
pub async fn run(config: Config, roles: &[Role]) -> Result<(), Error> {
    let with_simulator = roles.is_empty() && config.channels_by_default;
    let roles: BTreeSet<Role> = if roles.is_empty() { Role::ALL.into() } else { roles.iter().copied().collect() };
    ports::check(&config, &roles, with_simulator)?;

    raise_descriptor_limit();
    let shutdown = Shutdown::new();
    shutdown.listen().map_err(|error| Error::Failed(format!("cannot take over signals: {error}")))?;
    let log = engines::open_log(&config).await?;
    let exporter = otlp::start(&config.tracing, log.process())?;
    let status = engines::open_status(&config).await?;
    let has_topics = engines::try_topics(&config, &*log).await?;

    let control = control::follow(&log, &shutdown);
    let channels = Vec::new();
    let process = Process { config, roles, channels, log, status, control, shutdown, listens: Vec::new() };
    let ended = process.run(with_simulator, has_topics).await;
    if let Some(exporter) = exporter {
        exporter.stop().await;
    }
    ended
}

/// A running process, and what it is made of.
struct Process {
    config: Config,
    roles: BTreeSet<Role>,
    channels: Vec<Configured>,
    log: Arc<dyn Log>,
    status: Arc<dyn Status>,
    /// What operators want.
    control: watch::Receiver<Arc<Control>>,
    shutdown: Shutdown,
    listens: Vec<String>,
}

impl Process {
    async fn run(mut self, with_simulator: bool, has_topics: bool) -> Result<(), Error> {
        let simulator = if with_simulator { Some(self.start_simulator()?) } else { None };
        self.channels = channels::configure(&self.config)?;
        let servers = self.start_servers(simulator.as_ref())?;
        if !has_topics {
            // Meanwhile whoever asks is told that the log is away.
            engines::make_topics(&self.config, &*self.log, &self.shutdown).await?;
        }
        self.read_control().await;
        // Asked to end while the log was away, there is nobody to start or to tell.
        let workers = if self.shutdown.is_requested() { Vec::new() } else { self.start_work().await? };
        // Nothing new comes in before the workers drain; their own health is asked until they have.
        let stops = if self.roles.contains(&Role::Api) { vec![servers, workers] } else { vec![workers, servers] };
        let (version, roles) = (env!("CARGO_PKG_VERSION"), self.roles.iter().map(|role| role.as_str()));
        let (roles, channels) = (join_words(roles), join_words(self.config.channels.keys().map(ChannelName::as_str)));
        let (log, status) = (self.config.log.to_string(), self.config.status.to_string());
        info!(pid = std::process::id(), version, roles, channels, log, status, "running");
        let readiness = readiness::of(&self.log, &self.status, &self.roles);
        actix::spawn(readiness::measure(readiness, self.roles.clone(), self.config.clone(), self.shutdown.clone()));
        actix::spawn(end_when_asked(Arc::clone(&self.log), self.control.clone(), self.shutdown.clone()));

        self.shutdown.requested().await;
        for group in stops {
            join_all(group).await;
        }
        let closing = async {
            self.log.close().await;
            self.status.close().await;
        };
        if tokio::time::timeout(CLOSE_MAX, closing).await.is_err() {
            warn!("the engines could not be closed in time; nothing acknowledged is lost");
        }
        if let Some(simulator) = simulator {
            simulator.stop().await;
        }
        info!("ended");
        match self.shutdown.failure() {
            Some(reason) => Err(Error::Failed(reason.to_owned())),
            None => Ok(()),
        }
    }

    /// Before anything is worked on: what an operator has paused or cancelled must not be sent.
    async fn read_control(&self) {
        let mut control = self.control.clone();
        tokio::select! {
            () = self.shutdown.requested() => {}
            // An error: shutdown is requested.
            _ = control.wait_for(|control| control.is_read) => {}
        }
    }

    fn start_simulator(&mut self) -> Result<Simulator, Error> {
        let listen = self.config.simulator.listen;
        let simulator = Simulator::start(self.config.simulator.options(None)).map_err(|error| Error::Port {
            what: "simulator",
            address: listen,
            key: "simulator.listen",
            error,
        })?;
        // The channels call it where it really is, should it have taken a free port.
        self.config.simulate_channels(simulator.addr());
        self.tell("simulator", simulator.addr());
        Ok(simulator)
    }

    /// One line for each address, as it is opened: scripts wait for them.
    fn tell(&mut self, what: &str, address: SocketAddr) {
        let url = format!("http://{address}");
        let mut stdout = std::io::stdout().lock();
        // Nobody may be reading; that is no reason to end.
        let _ = writeln!(stdout, "{what}: {url}").and_then(|()| stdout.flush());
        self.listens.push(url);
    }

    fn start_servers(&mut self, simulator: Option<&Simulator>) -> Result<Vec<LocalBoxFuture<'static, ()>>, Error> {
        let servers = if self.roles.contains(&Role::Api) {
            let server = self.bind_api()?;
            if let Some(simulator) = simulator {
                simulator.set_callbacks(self.config.simulator.callbacks(server.addr()));
            }
            vec![(Role::Api, server)]
        } else {
            let readiness = readiness::of(&self.log, &self.status, &self.roles);
            let key = self.config.api.api_key.as_ref().map(|key| key.value().clone());
            let open =
                |&role| ports::bind_ops(&self.config, role, key.as_ref(), &readiness).map(|server| (role, server));
            self.roles.iter().map(open).collect::<Result<Vec<_>, _>>()?
        };
        let mut stops = Vec::new();
        for (role, server) in servers {
            self.tell(role.as_str(), server.addr());
            stops.push(server.stop().boxed_local());
        }
        Ok(stops)
    }

    fn bind_api(&self) -> Result<chat4all_api::Server, Error> {
        let api = &self.config.api;
        let mut options = chat4all_api::Options::new(api.listen, chat4all_router::GROUP, chat4all_recorder::GROUP);
        options.limits.workers = api.workers;
        options.api_key = api.api_key.as_ref().map(|key| key.value().clone());
        let parts = chat4all_api::Parts {
            log: Arc::clone(&self.log),
            status: Arc::clone(&self.status),
            channels: self.channels.iter().map(Configured::for_api).collect(),
            control: self.control.clone(),
        };
        chat4all_api::bind(options, parts).map_err(|error| Error::Port {
            what: "api",
            address: api.listen,
            key: "api.listen",
            error,
        })
    }

    /// Starts the workers and tells the other processes what this one is.
    async fn start_work(&self) -> Result<Vec<LocalBoxFuture<'static, ()>>, Error> {
        let mut workers = self.start_workers()?;
        workers.extend(self.start_removed().await);
        let roles = self.roles.iter().map(|role| role.as_str().to_owned()).collect();
        if let Err(error) = self.log.announce(roles, self.listens.clone()).await {
            warn!(%error, "the other processes cannot see what this one is");
        }
        Ok(workers)
    }

    fn start_workers(&self) -> Result<Vec<LocalBoxFuture<'static, ()>>, Error> {
        let limits = self.limits();
        let commit_interval = self.config.commit_interval;
        let mut stops = Vec::new();
        if self.roles.contains(&Role::Router) {
            let channels = Arc::new(self.config.channels.keys().cloned().collect());
            let repeats_kept = self.config.retention;
            let settings = chat4all_router::Settings { channels, limits, commit_interval, repeats_kept };
            stops.push(drained::<PartitionRouter>(chat4all_router::start(&settings, &self.log, &self.shutdown)));
        }
        if self.roles.contains(&Role::Connectors) {
            let arbiters: Vec<ArbiterHandle> =
                (0..self.config.connectors.threads).map(|_| Arbiter::new().handle()).collect();
            for channel in &self.channels {
                let settings = channel.for_connectors(limits, &self.control, &self.config);
                let consumer = chat4all_connectors::start(&settings, &self.log, &arbiters, &self.shutdown)
                    .map_err(|error| channel.refused(&error))?;
                stops.push(drained::<PartitionLanes>(consumer));
            }
        }
        if self.roles.contains(&Role::Recorder) {
            let settings = chat4all_recorder::Settings { limits, commit_interval };
            // Of its own: nobody waits for statuses as routers wait for messages.
            let arbiter = Arbiter::new().handle();
            let consumers = chat4all_recorder::start(&settings, &self.log, &self.status, &arbiter, &self.shutdown);
            stops.extend(consumers.into_iter().map(drained::<PartitionRecorder>));
            let purge = purge(Arc::clone(&self.status), self.config.retention, self.shutdown.clone());
            stops.push(join(actix::spawn(purge)));
        }
        Ok(stops)
    }

    /// What still waits for channels that are no longer configured has to end too.
    async fn start_removed(&self) -> Vec<LocalBoxFuture<'static, ()>> {
        if !self.roles.contains(&Role::Connectors) {
            return Vec::new();
        }
        let groups = match self.log.cluster().await {
            Ok(cluster) => cluster.groups,
            Err(error) => {
                warn!(%error, "cannot tell whether messages wait for channels that are no longer configured");
                return Vec::new();
            }
        };
        let named = groups.iter().filter_map(|group| chat4all_connectors::channel_of_group(&group.group));
        let mut workers = Vec::new();
        for channel in named.filter(|channel| !self.config.channels.contains_key(channel)) {
            warn!(%channel, "no longer configured: what waits for it fails with `channel_removed`");
            if let Err(error) = engines::make_parked(&self.config, &*self.log, &channel).await {
                warn!(%channel, %error, "what waits for it goes on waiting until its topic for what is parked can be made");
            }
            let (limits, commit_interval) = (self.limits(), self.config.commit_interval);
            let worker =
                chat4all_connectors::start_removed(&channel, limits, commit_interval, &self.log, &self.shutdown);
            workers.push(drained(worker));
        }
        workers
    }

    fn limits(&self) -> Limits {
        Limits { records_max: self.config.in_memory.records, bytes_max: self.config.in_memory.bytes }
    }
}

/// Connections take descriptors, up to two each; the usual soft limit of 1,024 is soon reached.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "the limit of open files stays where it is");
    }
}

/// Drains a consumer when polled.
fn drained<W: Worker>(consumer: Handle<Consumer<W>>) -> LocalBoxFuture<'static, ()> {
    async move {
        if let Err(error) = consumer.addr().send(Drain).await {
            warn!(%error, "a consumer ended before it had drained");
        }
    }
    .boxed_local()
}

fn join_words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(",")
}

fn join(task: tokio::task::JoinHandle<()>) -> LocalBoxFuture<'static, ()> {
    async move {
        if let Err(error) = task.await {
            warn!(%error, "a task ended with a panic");
        }
    }
    .boxed_local()
}

/// Ends the process as a signal does once an operator asks for it, and takes the wish back.
async fn end_when_asked(log: Arc<dyn Log>, mut control: watch::Receiver<Arc<Control>>, shutdown: Shutdown) {
    if control.wait_for(|control| control.drain).await.is_err() {
        return; // shutdown is requested
    }
    info!("draining: an operator asked for it");
    let key = ControlKey::Drain(log.process().to_owned()).to_string();
    let taken_back = tokio::time::timeout(TAKE_BACK_MAX, log.put_latest(&Topic::Control, &key, None)).await;
    if !matches!(taken_back, Ok(Ok(()))) {
        warn!(key, "the wish to drain could not be taken back; an api does it later");
    }
    shutdown.request();
}

/// Deletes what the status store has kept for long enough, until shutdown.
async fn purge(status: Arc<dyn Status>, keep: Duration, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(PURGE_INTERVAL) => {}
        }
        let before = clock::now().as_millis().saturating_sub(keep.as_millis().try_into().unwrap_or(u64::MAX));
        while !shutdown.is_requested() {
            match status.purge(chat4all_proto::Timestamp::from_millis(before)).await {
                Ok(0) => break,
                Ok(messages) => info!(messages, "deleted from the status store: older than the retention"),
                Err(error) => {
                    warn!(%error, "old rows could not be deleted, trying again in a minute");
                    break;
                }
            }
        }
    }
}
