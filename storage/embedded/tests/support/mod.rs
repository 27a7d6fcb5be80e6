//! Child processes for tests: this test binary, started again to run one function of it. A child prints what happens
//! to it, a line each, and does what its standard input says.

#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests, each of which uses a part")]

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chat4all_embedded::log::{EmbeddedLog, Options};
use chat4all_proto::{Generation, Key, Topic, TopicPartition};
use chat4all_storage::Log;
use chat4all_storage::log::{
    Assignment, Commit, Consumer, Event, NewRecord, Record, RecordId, Subscription, TopicKind, TopicSpec,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(60);
pub const PARTITIONS: u32 = 4;
/// The second one goes with the first where both are subscribed to.
pub const BOTH: [Topic; 2] = [Topic::Messages, Topic::StatusUpdates];
const ROLE: &str = "CHAT4ALL_TEST_ROLE";
const FOLDER: &str = "CHAT4ALL_TEST_FOLDER";
const SESSION_MS: &str = "CHAT4ALL_TEST_SESSION_MS";

/// What this process is to do, if it is a child.
pub struct Task {
    pub role: String,
    pub folder: PathBuf,
    pub options: Options,
}

impl Task {
    pub fn of_this_process() -> Option<Self> {
        let read = |name| std::env::var(name).ok();
        let session = Duration::from_millis(read(SESSION_MS)?.parse().unwrap());
        Some(Self { role: read(ROLE)?, folder: read(FOLDER)?.into(), options: options(session) })
    }
}

pub fn options(session: Duration) -> Options {
    let heartbeat_interval = (session / 6).min(Duration::from_secs(1));
    Options { session_timeout: session, heartbeat_interval, ..Options::default() }
}

/// A process of its own. Killed when dropped.
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    _binary: Option<TempDir>,
}

impl Process {
    /// Runs the test `child` of this binary, in which `role` decides what to do.
    pub fn start(role: &str, folder: &Path, session: Duration) -> Self {
        Self::start_as(role, folder, session, None)
    }

    /// As another user, if `uid` says so.
    pub fn start_as(role: &str, folder: &Path, session: Duration, uid: Option<u32>) -> Self {
        let own = std::env::current_exe().unwrap();
        // Another user may not even see the folder that this was built in.
        let binary = uid.map(|_| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
            std::fs::copy(&own, folder.path().join("child")).unwrap();
            folder
        });
        let mut command = Command::new(binary.as_ref().map_or(own, |folder| folder.path().join("child")));
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role).env(FOLDER, folder).env(SESSION_MS, session.as_millis().to_string());
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (seen, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| seen.send(line)));
        Self { child, stdin, lines, _binary: binary }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The rest of the next line that begins with `start`.
    pub fn line(&mut self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("the child never said `{start}`"));
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim().to_owned();
            }
        }
    }

    /// Everything it says until it ends.
    pub fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            lines.push(line);
        }
        lines
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of standard input, for a child that awaits.
pub fn said() -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (seen, lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| seen.send(line)));
    lines
}

pub async fn open(folder: &Path, options: Options) -> Arc<dyn Log> {
    let log = EmbeddedLog::open(folder, options).unwrap();
    let kind = TopicKind::Stream { retention: Duration::from_secs(3_600) };
    let topics = BOTH.map(|topic| TopicSpec { topic, partitions: PARTITIONS, kind: kind.clone() });
    log.ensure_topics(&topics).await.unwrap();
    log
}

pub fn record(key: &str, value: impl Into<Bytes>) -> NewRecord {
    let id = RecordId { uuid: Uuid::new_v4(), generation: Generation(0) };
    let (key, value) = (Key::raw(key), value.into());
    NewRecord { topic: Topic::Messages, key, id, value, traceparent: None, once: None }
}

/// A member that releases what is asked back, and notes what it sees.
pub struct Member {
    pub consumer: Arc<dyn Consumer>,
    events: tokio::sync::mpsc::Receiver<Event>,
    pub held: BTreeMap<TopicPartition, Assignment>,
    pub records: Vec<(TopicPartition, Arc<Record>)>,
}

impl Member {
    pub async fn join(log: &Arc<dyn Log>, group: &str) -> Self {
        Self::join_to(log, group, &[Topic::Messages]).await
    }

    pub async fn join_to(log: &Arc<dyn Log>, group: &str, topics: &[Topic]) -> Self {
        let Subscription { consumer, events } = log.subscribe(group, topics).await.unwrap();
        Self { consumer, events, held: BTreeMap::new(), records: Vec::new() }
    }

    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            self.take(event.unwrap_or_else(|_| panic!("waited in vain until {what}")).unwrap());
        }
    }

    /// Goes on for ever, telling `seen` what happened.
    pub async fn next(&mut self, seen: impl Fn(&Self, &Event)) -> Option<()> {
        let event = self.events.recv().await?;
        seen(self, &event);
        self.take(event);
        Some(())
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Assigned(assignments) => {
                self.held.extend(assignments.into_iter().map(|held| (held.lease.partition.clone(), held)));
            }
            Event::Records { lease, records } => {
                self.records.extend(records.into_iter().map(|record| (lease.partition.clone(), record)));
            }
            Event::Revoking(leases) => leases.iter().for_each(|lease| {
                self.held.remove(&lease.partition);
                self.consumer.release(lease);
            }),
            Event::Lost(leases) => leases.iter().for_each(|lease| drop(self.held.remove(&lease.partition))),
            Event::Failed(reason) => panic!("{reason}"),
        }
    }

    /// Commits under every lease of `held`; how many were refused.
    pub async fn commit(&self, held: &BTreeMap<TopicPartition, Assignment>) -> usize {
        let commit = |held: &Assignment| Commit { lease: held.lease.clone(), offset: 0, metadata: "mine".into() };
        self.consumer.commit(held.values().map(commit).collect()).await.unwrap().len()
    }
}
