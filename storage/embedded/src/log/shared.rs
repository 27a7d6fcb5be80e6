//! What all parts of one process's log share: queue, readers, tail, memberships, and the way to the writer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chat4all_proto::Topic;
use chat4all_storage::log::Error;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::Options;
use super::consumer::Membership;
use super::job::{Call, Failure, Size, Urgency};
use super::latest::Followers;
use super::queue::Queue;
use super::read::Readers;
use super::tail::Tail;
use super::topics::{TopicInfo, Topics};
use super::tx::{Effects, Tx};

/// The log as this process sees it.
pub(super) struct Shared {
    pub options: Options,
    pub folder: PathBuf,
    /// Random name of this process, also that of its member file.
    pub process: Arc<str>,
    pub started: Instant,
    pub queue: Queue,
    pub readers: Readers,
    pub topics: Topics,
    pub tail: Tail,
    pub latest: Followers,
    pub watcher: Signal,
    pub coordinator: Signal,
    pub poll_threads: Mutex<Vec<JoinHandle<()>>>,
    memberships: Mutex<Vec<Weak<Membership>>>,
    closing: AtomicBool,
    ended: AtomicBool,
    /// Other processes live, as far as the coordinator knows.
    pub others: AtomicBool,
}

impl Shared {
    pub(super) fn new(options: Options, folder: PathBuf, process: Arc<str>, readers: Readers) -> Self {
        Self {
            queue: Queue::new(options.queue_records_max, options.queue_bytes_max),
            tail: Tail::new(options.tail_bytes_max),
            options,
            folder,
            process,
            started: Instant::now(),
            readers,
            topics: Topics::default(),
            latest: Followers::default(),
            watcher: Signal::default(),
            coordinator: Signal::default(),
            poll_threads: Mutex::default(),
            memberships: Mutex::default(),
            closing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            others: AtomicBool::new(true),
        }
    }

    /// Hands `run` to the writer, which puts it into a transaction. `reply` is called on the writer's thread once that
    /// is durable or has failed, or here and now if the queue does not take it.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        size: Size,
        run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
        reply: impl FnOnce(Result<T, Failure>) + Send + 'static,
    ) {
        self.hand_over(size, Urgency::Admin, run, reply);
    }

    fn hand_over<T: Send + 'static>(
        &self,
        size: Size,
        urgency: Urgency,
        run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
        reply: impl FnOnce(Result<T, Failure>) + Send + 'static,
    ) {
        let call = Box::new(Call { run, outcome: None, reply });
        if let Err((work, failure)) = self.queue.push(call, size, urgency) {
            work.answer(Err(failure));
        }
    }

    /// [`Shared::submit`] for those who can await. Dropping the future takes nothing back.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        size: Size,
        run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.write_as(size, Urgency::Admin, run).await
    }

    /// As [`Shared::write`], for new work from outside: fails at once when the queue is full.
    pub(super) async fn write_new<T: Send + 'static>(
        &self,
        size: Size,
        run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        self.write_as(size, Urgency::Ingress, run).await
    }

    /// As [`Shared::write`], when its urgency says so.
    pub(super) async fn write_as<T: Send + 'static>(
        &self,
        size: Size,
        urgency: Urgency,
        run: impl FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(size, urgency, run, move |result| drop(reply.send(result)));
        answer.await.unwrap_or_else(|_| Err(Failure::Unknown("its writer ended".into())))
    }

    /// Reads from the file, off the async threads.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        if self.is_closing() {
            return Err(Failure::closed().into());
        }
        let shared = self.clone();
        tokio::task::spawn_blocking(move || shared.readers.read(query))
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.to_string())))
    }

    /// A topic that exists; `None` if nobody made it.
    pub(super) async fn topic(self: &Arc<Self>, topic: &Topic) -> Result<Option<Arc<TopicInfo>>, Error> {
        if let Some(info) = self.topics.get(topic) {
            return Ok(Some(info));
        }
        let (shared, topic) = (self.clone(), topic.clone());
        self.read(move |connection| shared.topics.load(connection, &topic)).await
    }

    /// Tells everybody here what the writer just committed.
    pub(super) fn publish(&self, effects: Effects) {
        let Effects { appended, groups, latest } = effects;
        let partitions: Vec<u32> = appended.keys().copied().collect();
        for (partition, appends) in appended {
            self.tail.publish(partition, appends);
        }
        for membership in self.memberships() {
            let generation = membership.group_id().and_then(|group| groups.get(&group));
            membership.notice(generation.copied(), &partitions);
        }
        if !latest.is_empty() {
            self.latest.changed_here();
            self.watcher.raise();
        }
    }

    pub(super) fn add_membership(&self, membership: &Arc<Membership>) {
        let mut memberships = lock(&self.memberships);
        memberships.retain(|known| known.strong_count() > 0);
        memberships.push(Arc::downgrade(membership));
        self.watcher.raise();
    }

    pub(super) fn memberships(&self) -> Vec<Arc<Membership>> {
        lock(&self.memberships).iter().filter_map(Weak::upgrade).collect()
    }

    /// No new work: memberships end, later calls fail.
    pub(super) fn begin_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for membership in self.memberships() {
            membership.wake();
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Ends the watcher and the coordinator.
    pub(super) fn end_threads(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.watcher.raise();
        self.coordinator.raise();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// Wakes one sleeping thread. Raised while nobody sleeps, it makes the next sleep end at once.
#[derive(Default)]
pub(super) struct Signal {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    pub(super) fn raise(&self) {
        *lock(&self.raised) = true;
        self.changed.notify_all();
    }

    pub(super) fn wait(&self, time_max: Duration) {
        let raised = lock(&self.raised);
        let waited = self.changed.wait_timeout_while(raised, time_max, |raised| !*raised);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
