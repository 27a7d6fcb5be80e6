//! The log on one SQLite file that several processes share. Opened by the binary, used through the port.
//!
//! A process writes through one thread (`writer`) that puts everything waiting into one transaction; another (`syncer`) has the
//! disk make durable what was written and answers it then. Consumers of the same process get what was committed from memory
//! (`tail`); what other processes commit is noticed by the `watcher`. Who holds which partition is rows of the file (`group`), which every member looks at for itself (`poll`); the
//! `coordinator` writes heartbeats and buries the dead.
//!
//! Invariant: an offset, an epoch and a commit change only inside a transaction that has checked its fence.

mod append;
mod consumer;
mod coordinator;
mod group;
mod job;
mod latest;
mod poll;
mod processes;
mod queue;
mod read;
mod retention;
mod schema;
mod shared;
mod syncer;
mod tail;
mod topics;
mod tx;
mod view;
mod watcher;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat4all_proto::Topic;
use chat4all_proto::http::ClusterView;
use chat4all_storage::log::outgoing::EVENTS_MAX;
use chat4all_storage::log::{
    AppendError, Appended, Error, Guarantees, LatestValues, Log, NewRecord, Subscription, TopicSpec, check_counts,
};
use tokio::sync::{mpsc, watch};

use self::append::Batch;
use self::consumer::{Handle, Membership};
use self::group::{Look, Seen};
use self::job::{Failure, Size};
use self::poll::Poll;
use self::processes::OwnFile;
use self::read::Readers;
use self::shared::{Shared, lock};
use self::syncer::Syncer;
use self::topics::TopicInfo;
use self::writer::Writer;
use crate::checkpoint::Checkpointer;
use crate::sqlite;
use crate::turnstile::Turnstile;

pub use self::schema::FILE;
pub use self::topics::examine;
pub use crate::sqlite::OpenError;

/// How the log behaves. The defaults are meant for use; tests shorten times and bounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// A member whose poll thread stood still this long has lost its partitions. Default: 6 s.
    pub session_timeout: Duration,
    /// Default: 1 s. A sixth of the session or less.
    pub heartbeat_interval: Duration,
    /// A partition asked back and not released in this time is lost. Default: 20 s.
    pub release_timeout: Duration,
    /// The file may not grow beyond so many pages of 8 KiB: a full disk, for tests. Default: no bound.
    pub max_page_count: Option<u32>,
    /// Largest record, value and key together. Default: 4 MiB.
    pub record_bytes_max: usize,
    /// How long an identity is kept that was written with `once`. Default: 24 h. Who drops repeats by id further on must
    /// forget them earlier.
    pub once_kept: Duration,
    /// Records that may wait for the writer. Default: 65,536.
    pub queue_records_max: usize,
    /// Bytes that may wait for the writer. Default: 32 MiB.
    pub queue_bytes_max: usize,
    /// Bytes of committed records kept in memory for consumers of this process. Default: 8 MiB.
    pub tail_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        const MIB: usize = 1_024 * 1_024;
        Self {
            session_timeout: Duration::from_secs(6),
            heartbeat_interval: Duration::from_secs(1),
            release_timeout: Duration::from_secs(20),
            max_page_count: None,
            record_bytes_max: 4 * MIB,
            once_kept: Duration::from_secs(24 * 3_600),
            queue_records_max: 65_536,
            queue_bytes_max: 32 * MIB,
            tail_bytes_max: 8 * MIB,
        }
    }
}

/// The log of a folder. When it and its last consumer are dropped it closes in the background.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    opened: Arc<Opened>,
}

/// Keeps the log open.
struct Opened {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

/// What lives as long as the log is open.
struct Threads {
    coordinator: JoinHandle<()>,
    watcher: JoinHandle<()>,
    writer: JoinHandle<()>,
    syncer: JoinHandle<()>,
    own_file: OwnFile,
}

impl EmbeddedLog {
    /// Opens the log in `folder` and makes what is missing. Blocks, while other processes write too.
    pub fn open(folder: &Path, options: Options) -> Result<Arc<Self>, OpenError> {
        let (locks, members) = (folder.join("locks"), folder.join(processes::FOLDER));
        for folder in [folder, &locks, &members] {
            sqlite::make_folder(folder)?;
        }
        let turnstile = Turnstile::open(&locks, "log").map_err(|error| refusal(folder, error))?;
        let (own_file, process) = OwnFile::create(&members).map_err(|error| refusal(folder, error))?;
        let file = folder.join(schema::FILE);
        let mut connection = sqlite::open_writer(&file, &schema::SCHEMA, &turnstile, options.max_page_count)?;
        let checkpointer = Checkpointer::start("log-checkpoint", file.clone(), &mut connection)
            .map_err(|error| refusal(folder, error))?;
        let wal = sqlite::sync_by_hand(&connection, &file)?;
        let shared = Arc::new(Shared::new(options, folder.into(), process, Readers::new(file)));
        let writer = Writer { shared: shared.clone(), connection, turnstile, checkpointer };
        let syncer = Syncer { shared: shared.clone(), wal };
        let threads = Threads {
            writer: start("log-writer", move || writer.run()),
            syncer: start("log-syncer", move || syncer.run()),
            watcher: start("log-watcher", {
                let watcher = watcher::Watcher::new(shared.clone());
                move || watcher.run()
            }),
            coordinator: start("log-coordinator", {
                let coordinator = coordinator::Coordinator::new(shared.clone());
                move || coordinator.run()
            }),
            own_file,
        };
        let opened = Arc::new(Opened { shared: shared.clone(), threads: Mutex::new(Some(threads)) });
        Ok(Arc::new(Self { shared, opened }))
    }
}

fn refusal(folder: &Path, source: std::io::Error) -> OpenError {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    match source.kind() {
        PermissionDenied | ReadOnlyFilesystem | StorageFull => OpenError::NotWritable { folder: folder.into(), source },
        _ => OpenError::Lock { folder: folder.into(), source },
    }
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name.into()).spawn(run).expect("the system lets us start a thread")
}

/// Ends everything in order: members leave, what waits is written, files are closed. Blocks.
fn shut_down(shared: &Arc<Shared>, threads: Threads) {
    shared.begin_closing();
    let poll_threads = std::mem::take(&mut *lock(&shared.poll_threads));
    poll_threads.into_iter().for_each(|thread| drop(thread.join()));
    shared.end_threads();
    let _ = threads.coordinator.join();
    let _ = threads.watcher.join();
    let process = shared.process.clone();
    shared.submit(Size::default(), move |tx| group::remove_process(tx, &process), drop);
    shared.queue.close();
    let _ = threads.writer.join();
    let _ = threads.syncer.join();
    shared.readers.close();
    drop(threads.own_file);
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(threads) = lock(&self.threads).take() {
            let shared = self.shared.clone();
            start("log-closer", move || shut_down(&shared, threads));
        }
    }
}

/// Finds out where `records` go.
async fn batch(shared: &Arc<Shared>, records: Vec<NewRecord>) -> Result<Batch, AppendError> {
    let mut topics: Vec<Arc<TopicInfo>> = Vec::with_capacity(records.len());
    for record in &records {
        let topic = match topics.last() {
            Some(last) if last.topic == record.topic => last.clone(),
            _ => existing(shared, &record.topic).await?,
        };
        topics.push(topic);
    }
    Batch::new(records, &topics, shared.options.record_bytes_max)
}

async fn existing(shared: &Arc<Shared>, topic: &Topic) -> Result<Arc<TopicInfo>, Error> {
    shared.topic(topic).await?.ok_or_else(|| Error::Refused(format!("there is no topic `{topic}`")))
}

#[async_trait]
impl Log for EmbeddedLog {
    fn guarantees(&self) -> Guarantees {
        Guarantees { writes_once: true, retention_awaits_groups: true, fences_writes: true }
    }

    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), Error> {
        let specs = topics.to_vec();
        self.shared.write(Size::default(), move |tx| topics::ensure(tx, &specs)).await?
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        let batch = batch(&self.shared, records).await?;
        Ok(self.shared.write_new(batch.size(), move |tx| batch.write(tx)).await?)
    }

    fn oldest_unacknowledged(&self) -> Option<Duration> {
        self.shared.queue.oldest_append()
    }

    async fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Subscription, Error> {
        let mut infos: Vec<Arc<TopicInfo>> = Vec::new();
        for topic in topics {
            infos.push(existing(&self.shared, topic).await?);
        }
        check_counts(infos.iter().map(|info| (&info.topic, info.partitions.len())))?;
        if self.shared.is_closing() {
            return Err(Failure::closed().into());
        }
        let membership = Arc::new(Membership::new(self.shared.clone(), group, infos));
        let (events, received) = mpsc::channel(EVENTS_MAX);
        // From here on the handle's drop ends the membership, whatever happens to this future.
        let consumer = Arc::new(Handle(membership.clone(), self.opened.clone()));
        join(&self.shared, &membership, events).await?;
        Ok(Subscription { consumer, events: received })
    }

    async fn ends(&self, topic: &Topic) -> Result<Vec<u64>, Error> {
        let topic = existing(&self.shared, topic).await?;
        self.shared.read(move |connection| read::ends(connection, &topic)).await
    }

    async fn committed(&self, group: &str, topic: &Topic) -> Result<Vec<u64>, Error> {
        let (group, topic) = (group.to_owned(), existing(&self.shared, topic).await?);
        self.shared.read(move |connection| read::committed(connection, &group, &topic)).await
    }

    async fn put_latest(&self, topic: &Topic, key: &str, value: Option<Bytes>) -> Result<(), AppendError> {
        let info = existing(&self.shared, topic).await?;
        if !info.latest {
            return Err(AppendError::Refused(format!("the topic `{topic}` keeps no latest values")));
        }
        let size = Size { records: 1, bytes: value.as_ref().map_or(0, Bytes::len) };
        let (id, key) = (info.id, key.to_owned());
        Ok(self.shared.write(size, move |tx| latest::put(tx, id, &key, value.as_ref())).await?)
    }

    async fn follow_latest(&self, topic: &Topic) -> Result<watch::Receiver<Arc<LatestValues>>, Error> {
        let info = existing(&self.shared, topic).await?;
        if !info.latest {
            return Err(Error::Refused(format!("the topic `{topic}` keeps no latest values")));
        }
        let shared = self.shared.clone();
        let followed = self.shared.read(move |connection| shared.latest.follow(connection, info.id)).await;
        self.shared.watcher.raise();
        followed
    }

    fn process(&self) -> &str {
        &self.shared.process
    }

    async fn announce(&self, roles: Vec<String>, listens: Vec<String>) -> Result<(), Error> {
        let json = |list: &[String]| serde_json::to_string(list).expect("a list of strings is JSON");
        let (roles, listens, process) = (json(&roles), json(&listens), self.shared.process.clone());
        let run = move |tx: &mut tx::Tx<'_>| view::announce(tx, &process, &roles, &listens);
        Ok(self.shared.write(Size::default(), run).await?)
    }

    async fn cluster(&self) -> Result<ClusterView, Error> {
        let members = self.shared.folder.join(processes::FOLDER);
        let process = self.shared.process.clone();
        self.shared.read(move |connection| view::cluster(connection, &members, &process)).await
    }

    async fn enforce_retention(&self) -> Result<(), Error> {
        while self.shared.write(Size::default(), retention::delete_some).await? {}
        Ok(())
    }

    async fn close(&self) {
        let Some(threads) = lock(&self.opened.threads).take() else { return };
        let shared = self.shared.clone();
        // An error means that it panicked; there is nothing left to close then.
        let _ = tokio::task::spawn_blocking(move || shut_down(&shared, threads)).await;
    }
}

/// Becomes a member and starts its poll thread.
async fn join(
    shared: &Arc<Shared>,
    membership: &Arc<Membership>,
    events: mpsc::Sender<chat4all_storage::log::Event>,
) -> Result<(), Error> {
    let look = Look {
        group: membership.group.clone(),
        process: shared.process.clone(),
        topics: membership.topics.clone(),
        member: None,
        released: Vec::new(),
        restarted: Vec::new(),
        revoking: Vec::new(),
    };
    let begun_ms = membership.clock_ms();
    let mut poll = Poll::new(membership.clone(), events);
    let (started, starting) = tokio::sync::oneshot::channel();
    let reply = {
        let shared = shared.clone();
        // Runs even if the caller has gone: a member that joined always has its poll thread, which sees that.
        move |seen: Result<Seen, Failure>| {
            let joined = seen.map(|seen| {
                if let Seen::Shared(share) = seen {
                    poll.start(share, begun_ms);
                }
                let membership = poll.membership();
                shared.add_membership(&membership);
                let mut threads = lock(&shared.poll_threads);
                threads.retain(|thread| !thread.is_finished());
                threads.push(start("log-poll", move || poll.run()));
            });
            drop(started.send(joined));
        }
    };
    shared.submit(Size::default(), move |tx| group::look(tx, &look), reply);
    Ok(starting.await.unwrap_or_else(|_| Err(Failure::Unknown("its writer ended".into())))?)
}
