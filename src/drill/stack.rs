//! The private stack of a drill: a folder, a configuration, and processes of this very program that can be killed, stopped
//! and started again. All of it is gone when this is dropped.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chat4all_proto::http::Readiness;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::bench::http::Endpoint;
use crate::cli::Failure;
use crate::config::Sources;
use crate::private::{ANY_PORTS, Process};
use crate::serve::Role;

/// Where log and status store are, if not in the stack's folder.
#[derive(Debug, Clone, Default)]
pub struct Engines {
    pub log: Option<String>,
    pub status: Option<String>,
}

impl Engines {
    /// On Kafka with topics of its own, unless the URL names a prefix: what an earlier run has left there does not count.
    pub fn for_one_run(&self, scenario: &str) -> Self {
        let with_prefix = |url: &String| match url {
            url if url.contains("prefix=") => url.clone(),
            url => {
                let mark = if url.contains('?') { '&' } else { '?' };
                format!("{url}{mark}prefix=drill-{}-{scenario}.", std::process::id())
            }
        };
        Self { log: self.log.as_ref().map(with_prefix), status: self.status.clone() }
    }

    pub fn describe(&self) -> String {
        let name = |url: &Option<String>, other| if url.is_some() { other } else { "embedded" };
        match (name(&self.log, "Kafka"), name(&self.status, "Cassandra")) {
            ("embedded", "embedded") => "embedded log and status store".to_owned(),
            (log, status) => format!("log: {log}, status store: {status}"),
        }
    }
}

pub struct Stack {
    places: Vec<Place>,
    configuration: PathBuf,
    endpoint: Endpoint,
    /// Deleted after the processes are gone.
    folder: TempDir,
}

/// A process keeps its place over restarts.
struct Place {
    name: String,
    roles: Vec<Role>,
    process: Option<Process>,
}

/// A process of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(usize);

impl Stack {
    /// Starts a process for each of `layout` (no roles: all of them), the first of which serves the API. `channels` are
    /// the tables of the configuration. With `keep` the folder stays.
    pub async fn start(
        engines: &Engines,
        channels: &str,
        layout: &[(&str, &[Role])],
        keep: bool,
    ) -> Result<Self, Failure> {
        let failed = |what: &str, error: std::io::Error| Failure::failed(format!("{what}: {error}"));
        let folder = tempfile::Builder::new().prefix("chat4all-drill-").disable_cleanup(keep).tempdir();
        let folder = folder.map_err(|error| failed("no folder for the data", error))?;
        let configuration = folder.path().join("chat4all.toml");
        fs::write(&configuration, text(engines, folder.path(), channels))
            .map_err(|error| failed("no configuration file", error))?;
        check(&configuration)?;
        let place =
            |(name, roles): &(&str, &[Role])| Place { name: (*name).to_owned(), roles: roles.to_vec(), process: None };
        let mut places: Vec<Place> = layout.iter().map(place).collect();
        for place in &mut places {
            place.start(&configuration, folder.path())?;
        }
        let mut api = None;
        for place in &mut places {
            let url = place.url().await?;
            api.get_or_insert(url);
        }
        let endpoint = Endpoint::new(&api.expect("a layout has processes"), None)?;
        Ok(Self { places, configuration, endpoint, folder })
    }

    /// Returns when the API says that it is ready.
    pub async fn ready(&mut self) -> Result<(), Failure> {
        let begin = Instant::now();
        loop {
            let answer = async { self.endpoint.connect().await?.call("GET", "/health/ready", "").await };
            let answer = answer.await;
            if matches!(answer, Ok((200, _))) {
                return Ok(());
            }
            self.check()?;
            if begin.elapsed() > READY_MAX {
                let why = answer.ok().and_then(|(_, body)| missing(&body)).unwrap_or_default();
                return Err(Failure::failed(format!("the stack was not ready within 60 s: {why}")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn find(&self, name: &str) -> Id {
        Id(self.places.iter().position(|place| place.name == name).expect("the scenario knows its layout"))
    }

    pub fn name(&self, id: Id) -> &str {
        &self.places[id.0].name
    }

    fn process(&self, id: Id) -> &Process {
        self.places[id.0].process.as_ref().expect("the scenario knows what runs")
    }

    pub fn pid(&self, id: Id) -> u32 {
        self.process(id).pid()
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill(&mut self, id: Id) {
        self.places[id.0].process = None;
    }

    /// Returns when it has opened its addresses.
    pub async fn start_again(&mut self, id: Id) -> Result<(), Failure> {
        let place = &mut self.places[id.0];
        place.start(&self.configuration, self.folder.path())?;
        place.url().await.map(drop)
    }

    /// Stops a process (SIGSTOP) while it holds the lock to write to an embedded engine, `log` or `status`: nobody can
    /// write to it until [`go_on`](Self::go_on). Stops it again and again until it is caught there, and not while it
    /// holds the other engine's lock too.
    pub async fn stop_inside_a_write(&self, id: Id, engine: &str) -> Result<(), Failure> {
        let other = if engine == "log" { "status" } else { "log" };
        let begin = Instant::now();
        for attempt in 0_u64.. {
            self.process(id).signal(Signal::STOP);
            stands_still(self.pid(id)).await;
            if self.holds(id, &[&format!("{engine}.writer")])
                && !self.holds(id, &[&format!("{other}.writer"), &format!("{other}.next")])
            {
                return Ok(());
            }
            self.go_on(id);
            if begin.elapsed() > CATCH_MAX {
                break;
            }
            tokio::time::sleep(Duration::from_micros(700 + attempt % 13 * 370)).await;
        }
        Err(Failure::failed(format!("`{}` was never caught while it wrote to the {engine}", self.name(id))))
    }

    pub fn go_on(&self, id: Id) {
        self.process(id).signal(Signal::CONT);
    }

    /// Whether a stopped process holds one of the lock files, as the kernel tells it.
    fn holds(&self, id: Id, names: &[&str]) -> bool {
        let mut inodes = Vec::new();
        find_files(&self.folder.path().join("data"), names, &mut inodes);
        let pid = self.pid(id).to_string();
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.lines().filter(|line| !line.contains("->")).any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let inode = fields.get(5).and_then(|place| place.rsplit(':').next()?.parse().ok());
            fields.get(4) == Some(&pid.as_str()) && inode.is_some_and(|inode| inodes.contains(&inode))
        })
    }

    /// Fails if a process has ended that nobody killed.
    pub fn check(&mut self) -> Result<(), Failure> {
        for place in &mut self.places {
            let Some(process) = &mut place.process else { continue };
            if let Some(status) = process.ended() {
                return Err(process.told(&format!("`{}` ended with {status}, which nobody asked for", place.name)));
            }
        }
        Ok(())
    }

    /// SIGTERM for all, one after the other; each must end well.
    pub async fn end(mut self) -> Result<(), Failure> {
        // Workers first: they drain while the api still answers.
        for place in self.places.iter_mut().rev() {
            if let Some(process) = place.process.take() {
                process.end().await?;
            }
        }
        Ok(())
    }
}

const READY_MAX: Duration = Duration::from_secs(60);
/// Longest search for the moment of a write.
const CATCH_MAX: Duration = Duration::from_secs(20);

impl Place {
    fn start(&mut self, configuration: &Path, folder: &Path) -> Result<(), Failure> {
        let log = folder.join(format!("{}.log", self.name));
        self.process = Some(Process::start(configuration, &self.roles, &log)?);
        Ok(())
    }

    /// The address of its first role.
    async fn url(&mut self) -> Result<reqwest::Url, Failure> {
        let what = self.roles.first().map_or("api", |role| role.as_str());
        self.process.as_mut().expect("it was just started").url(what).await
    }
}

fn text(engines: &Engines, folder: &Path, channels: &str) -> String {
    let data = format!("embedded:{}", folder.join("data").display());
    let url = |url: &Option<String>| toml::Value::String(url.clone().unwrap_or_else(|| data.clone()));
    format!("log = {}\nstatus = {}\n{ANY_PORTS}{channels}", url(&engines.log), url(&engines.status))
}

/// As `serve` would refuse it.
fn check(configuration: &Path) -> Result<(), Failure> {
    let folder = configuration.parent().unwrap_or(configuration).to_owned();
    let file = Some(configuration.to_owned());
    Sources { file, folder, env: Default::default(), overrides: Vec::new() }.load()?;
    Ok(())
}

/// Which part is not ready, and why.
fn missing(body: &[u8]) -> Option<String> {
    let readiness: Readiness = serde_json::from_slice(body).ok()?;
    let missing = readiness.parts.into_iter().find(|part| !part.ready)?;
    Some(format!("{}: {}", missing.name, missing.detail.unwrap_or_default()))
}

/// Inodes of the files of these names below a folder.
fn find_files(folder: &Path, names: &[&str], inodes: &mut Vec<u64>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find_files(&path, names, inodes);
        } else if names.iter().any(|name| entry.file_name() == *name) {
            inodes.extend(entry.metadata().map(|metadata| metadata.ino()));
        }
    }
}

/// Returns when every thread is stopped: one inside a system call finishes it first.
async fn stands_still(pid: u32) {
    let tasks = format!("/proc/{pid}/task");
    let is_stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The name before the state may hold anything, but no further `)`.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't']))
    };
    while !fs::read_dir(&tasks).into_iter().flatten().flatten().all(is_stopped) {
        tokio::task::yield_now().await;
    }
}
