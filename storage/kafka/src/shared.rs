//! What all parts of one process's log share: its producers, the client that asks, the topics found, its threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use chat4all_proto::Topic;
use chat4all_storage::log::{AppendError, Error, NewRecord};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use crate::client::{Logs, failure};
use crate::latest::Followers;
use crate::outbox::Outbox;
use crate::producer::{Answer, Outgoing, Producer};
use crate::topics::Topics;
use crate::{Options, record, topics};

/// Longest wait for one answer of a broker.
pub(crate) const ASK_MAX: Duration = Duration::from_secs(5);

const DRAIN: Duration = Duration::from_millis(1);

/// On whose behalf records are written: that says how long it is worth trying.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sender {
    Ingress,
    /// Under a lease of this epoch.
    Worker {
        epoch: u64,
    },
}

impl Sender {
    fn epoch(self) -> Option<u64> {
        match self {
            Self::Ingress => None,
            Self::Worker { epoch } => Some(epoch),
        }
    }
}

/// The log as this process sees it.
pub(crate) struct Shared {
    pub options: Options,
    /// Random name of this process.
    pub process: Arc<str>,
    pub outbox: Arc<Outbox>,
    pub producer: Producer,
    worker_producer: OnceLock<Producer>,
    /// Asks for metadata and offsets; a member of nothing.
    asker: BaseConsumer<Logs>,
    /// Ask for the offsets of one group each.
    observers: Mutex<HashMap<String, Arc<BaseConsumer<Logs>>>>,
    pub topics: Topics,
    pub followers: Followers,
    pub threads: Mutex<Vec<JoinHandle<()>>>,
    /// Whether the others were told of this process.
    pub announced: AtomicBool,
    closing: AtomicBool,
}

impl Shared {
    pub fn new(options: Options, process: Arc<str>) -> Result<Self, KafkaError> {
        let outbox = Arc::new(Outbox::new(options.queue_records_max, options.queue_bytes_max));
        let config = options.producer(&process, options.ingress_delivery_timeout);
        let mut asking = options.client(&process);
        asking.set("allow.auto.create.topics", "false");
        Ok(Self {
            producer: Producer::new(config, outbox.clone())?,
            worker_producer: OnceLock::new(),
            asker: asking.create_with_context(Logs::default())?,
            observers: Mutex::default(),
            topics: Topics::new(),
            followers: Followers::default(),
            threads: Mutex::default(),
            announced: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            outbox,
            options,
            process,
        })
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// True the first time.
    pub fn begin_closing(&self) -> bool {
        !self.closing.swap(true, Ordering::SeqCst)
    }

    /// The name in Kafka of `topic`.
    pub fn name(&self, topic: &Topic) -> String {
        format!("{}{topic}", self.options.topic_prefix)
    }

    pub fn group_name(&self, group: &str) -> String {
        format!("{}{group}", self.options.group_prefix)
    }

    /// The client for questions about no group. Blocks while it is used.
    pub fn asker(&self) -> &BaseConsumer<Logs> {
        drain(&self.asker);
        &self.asker
    }

    /// What may be done after `error` of the asker's.
    pub fn explain(&self, error: &KafkaError) -> Error {
        match self.asker().client().context().refusal() {
            Some(refusal) => Error::Refused(refusal.into()),
            None => failure(error),
        }
    }

    /// The client for questions about `group`, which it does not join.
    pub fn observer(&self, group: &str) -> Result<Arc<BaseConsumer<Logs>>, Error> {
        let mut observers = lock(&self.observers);
        if let Some(observer) = observers.get(group) {
            drain(observer);
            return Ok(observer.clone());
        }
        let config = self.options.consumer(&self.process, &self.group_name(group));
        let made: BaseConsumer<Logs> = config.create_with_context(Logs::default()).map_err(|error| failure(&error))?;
        let observer = Arc::new(made);
        observers.insert(group.to_owned(), observer.clone());
        Ok(observer)
    }

    /// Runs what blocks where it may block.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        run: impl FnOnce(&Arc<Self>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self.is_closing() {
            return Err(Error::Unavailable("it was closed".into()));
        }
        let shared = self.clone();
        let ran = tokio::task::spawn_blocking(move || run(&shared)).await;
        ran.unwrap_or_else(|_| Err(Error::Unavailable("the call was given up".into())))
    }

    /// Writes `records`. What was handed over is written even if the future is dropped.
    pub async fn append(self: &Arc<Self>, records: Vec<NewRecord>, sender: Sender) -> Answer {
        if self.is_closing() {
            return Err(closed());
        }
        let mut outgoing = Vec::with_capacity(records.len());
        let mut bytes = 0;
        for record in records {
            let info = topics::existing(self, &record.topic).await?;
            if record.topic == Topic::Control {
                return Err(AppendError::Refused(format!("the topic `{}` keeps latest values only", record.topic)));
            }
            bytes += self.checked_size(&record)?;
            let headers = record::headers(&record, sender.epoch());
            let key = record.key.as_str().to_owned();
            outgoing.push(Outgoing { topic: info.name.clone(), key, value: Some(record.value), headers });
        }
        if outgoing.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        self.producer(sender)?.send(outgoing, bytes, move |result| drop(answer.send(result)))?;
        answered.await.unwrap_or_else(|_| Err(AppendError::Unknown("its producer ended".into())))
    }

    fn checked_size(&self, record: &NewRecord) -> Result<usize, AppendError> {
        let (bytes, bytes_max) = (record::size_bytes(record), self.options.record_bytes_max);
        if bytes > bytes_max {
            return Err(AppendError::Refused(format!("it has {bytes} bytes, at most {bytes_max} are allowed")));
        }
        Ok(bytes)
    }

    fn producer(&self, sender: Sender) -> Result<&Producer, AppendError> {
        match (sender, self.worker_producer.get()) {
            (Sender::Ingress, _) => Ok(&self.producer),
            (Sender::Worker { .. }, Some(producer)) => Ok(producer),
            (Sender::Worker { .. }, None) => {
                let config = self.options.producer(&self.process, self.options.worker_delivery_timeout);
                let made = Producer::new(config, self.outbox.clone());
                let made = made.map_err(|error| AppendError::Unavailable(error.to_string()))?;
                Ok(self.worker_producer.get_or_init(|| made))
            }
        }
    }

    /// Waits until what was handed over is acknowledged, within bounds. Blocks.
    pub fn flush(&self) {
        self.producer.flush();
        if let Some(producer) = self.worker_producer.get() {
            producer.flush();
        }
    }
}

/// Keeps the log open.
pub(crate) struct KeepOpen(pub Arc<Shared>);

impl Drop for KeepOpen {
    fn drop(&mut self) {
        self.0.begin_closing();
    }
}

/// Errors that a client has of its own accord wait until it is polled.
fn drain(client: &BaseConsumer<Logs>) {
    // With no time at all it would take one event only.
    while client.poll(DRAIN).is_some() {}
}

pub(crate) fn closed() -> AppendError {
    AppendError::Unavailable("it was closed".into())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn start(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.into()).spawn(run).expect("the system lets us start a thread")
}
