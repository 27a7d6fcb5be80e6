//! A log without files, for tests of those who use the port. Groups, epochs and fences are as elsewhere; nothing is
//! durable. Offsets have gaps on purpose: callers must not count on them.

mod consumer;
mod group;
mod topic;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat4all_proto::http::{ClusterView, GroupView, PartitionView, ProcessView};
use chat4all_proto::{Timestamp, Topic, TopicPartition};
use tokio::sync::{Notify, mpsc, watch};
use uuid::Uuid;

use self::consumer::MemoryConsumer;
use self::group::{Fence, Group};
use self::topic::MemoryTopic;
use super::outgoing::EVENTS_MAX;
use super::{
    AppendError, Appended, Error, Fingerprint, Guarantees, LatestValues, Log, NewRecord, Subscription, TopicSpec,
    check_counts,
};

/// How long an identity is kept that was written with `once`.
const ONCE: Duration = Duration::from_secs(24 * 3_600);

/// One handle on a log in memory.
pub struct MemoryLog {
    shared: Arc<Shared>,
    process: String,
    closed: AtomicBool,
}

/// What all handles and consumers share.
struct Shared {
    state: Mutex<State>,
    /// Somebody may have something to do.
    changed: Notify,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<Topic, MemoryTopic>,
    groups: BTreeMap<String, Group>,
    once: HashMap<Uuid, (Fingerprint, Timestamp)>,
    processes: BTreeMap<String, ProcessView>,
    unavailable: bool,
    last_member: u64,
}

impl MemoryLog {
    pub fn new() -> Arc<Self> {
        Self::of(Arc::new(Shared { state: Mutex::default(), changed: Notify::new() }))
    }

    /// Another handle on the same log, as another process would have.
    pub fn another(&self) -> Arc<Self> {
        Self::of(self.shared.clone())
    }

    fn of(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared, process: Uuid::new_v4().simple().to_string(), closed: AtomicBool::new(false) })
    }

    /// While not available, whatever writes fails with `Unavailable` and no member is current.
    pub fn set_available(&self, available: bool) {
        self.shared.lock().unavailable = !available;
    }

    /// Takes all partitions of `group` away from its members, as if they had hung; they get them back under new epochs.
    pub fn take_away(&self, group: &str) {
        let mut state = self.shared.lock();
        let state = &mut *state;
        if let Some(group) = state.groups.get_mut(group) {
            group.take_away();
            group.share_out(&state.topics);
        }
        self.shared.changed.notify_waiters();
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> Result<T, AppendError>) -> Result<T, AppendError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(AppendError::Unavailable("it was closed".into()));
        }
        self.shared.write(change)
    }

    fn read<T>(&self, query: impl FnOnce(&State) -> Result<T, Error>) -> Result<T, Error> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("it was closed".into()));
        }
        query(&self.shared.lock())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> Result<T, AppendError>) -> Result<T, AppendError> {
        let mut state = self.lock();
        if state.unavailable {
            return Err(AppendError::Unavailable("it was made so".into()));
        }
        let result = change(&mut state);
        drop(state);
        self.changed.notify_waiters();
        result
    }
}

impl State {
    fn topic(&self, topic: &Topic) -> Result<&MemoryTopic, Error> {
        self.topics.get(topic).ok_or_else(|| Error::Refused(format!("there is no topic `{topic}`")))
    }

    /// Writes all of `records`, or none.
    fn append(&mut self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        for record in &records {
            let topic = self.topic(&record.topic)?;
            if topic.is_latest() {
                return Err(AppendError::Refused(format!("the topic `{}` keeps latest values only", record.topic)));
            }
        }
        let at = now();
        Ok(records.into_iter().map(|record| self.append_one(record, at)).collect())
    }

    fn append_one(&mut self, record: NewRecord, at: Timestamp) -> Appended {
        if let Some(fingerprint) = record.once {
            match self.once.get(&record.id.uuid) {
                Some((known, first_at)) if at.saturating_since(*first_at) < ONCE => {
                    let first_at = *first_at;
                    return if *known == fingerprint { Appended::Repeated { first_at } } else { Appended::Conflict };
                }
                _ => drop(self.once.insert(record.id.uuid, (fingerprint, at))),
            }
        }
        self.topics.get_mut(&record.topic).expect("checked before").append(record, at)
    }

    fn append_fenced(&mut self, fence: &Fence, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        let holds = self.groups.get(&*fence.group).is_some_and(|group| group.holds(fence));
        if holds { self.append(records) } else { Err(AppendError::Fenced) }
    }
}

fn unavailable(error: AppendError) -> Error {
    match error {
        AppendError::Refused(reason) => Error::Refused(reason),
        other => Error::Unavailable(other.to_string()),
    }
}

fn now() -> Timestamp {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since_1970.as_millis().try_into().unwrap_or(u64::MAX))
}

#[async_trait]
impl Log for MemoryLog {
    fn guarantees(&self) -> Guarantees {
        Guarantees { writes_once: true, retention_awaits_groups: true, fences_writes: true }
    }

    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), Error> {
        let ensure = |state: &mut State| {
            for spec in topics {
                if let Some(known) = state.topics.get(&spec.topic) {
                    known.check(spec)?;
                }
            }
            for spec in topics {
                let topic = state.topics.entry(spec.topic.clone()).or_insert_with(|| MemoryTopic::new(spec));
                topic.set_retention(spec);
            }
            Ok(())
        };
        self.write(ensure).map_err(unavailable)
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.write(|state| state.append(records))
    }

    fn oldest_unacknowledged(&self) -> Option<Duration> {
        None
    }

    async fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Subscription, Error> {
        self.read(|state| {
            let counts: Result<Vec<_>, Error> =
                topics.iter().map(|topic| Ok((topic, state.topic(topic)?.count()))).collect();
            check_counts(counts?)
        })?;
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let consumer = MemoryConsumer::join(self.shared.clone(), group, topics, &self.process, events);
        Ok(Subscription { consumer: Arc::new(consumer), events: received })
    }

    async fn ends(&self, topic: &Topic) -> Result<Vec<u64>, Error> {
        self.read(|state| Ok(state.topic(topic)?.ends()))
    }

    async fn committed(&self, group: &str, topic: &Topic) -> Result<Vec<u64>, Error> {
        self.read(|state| {
            let starts = state.topic(topic)?.starts();
            let committed = (0..).zip(starts).map(|(number, start)| {
                let partition = TopicPartition::new(topic.clone(), number);
                state.groups.get(group).and_then(|group| group.committed(&partition)).unwrap_or(start).max(start)
            });
            Ok(committed.collect())
        })
    }

    async fn put_latest(&self, topic: &Topic, key: &str, value: Option<Bytes>) -> Result<(), AppendError> {
        self.write(|state| {
            state.topic(topic)?;
            state.topics.get_mut(topic).expect("found just now").put_latest(key, value)
        })
    }

    async fn follow_latest(&self, topic: &Topic) -> Result<watch::Receiver<Arc<LatestValues>>, Error> {
        self.read(|state| state.topic(topic)?.follow_latest())
    }

    fn process(&self) -> &str {
        &self.process
    }

    async fn announce(&self, roles: Vec<String>, listens: Vec<String>) -> Result<(), Error> {
        let process = ProcessView {
            process: self.process.clone(),
            pid: std::process::id(),
            roles,
            listens,
            started_at: now(),
            alive: true,
        };
        let announce = |state: &mut State| {
            state.processes.insert(self.process.clone(), process);
            Ok(())
        };
        self.write(announce).map_err(unavailable)
    }

    async fn cluster(&self) -> Result<ClusterView, Error> {
        self.read(|state| {
            let groups = state.groups.iter().map(|(name, group)| GroupView {
                group: name.clone(),
                partitions: group
                    .leases()
                    .map(|(partition, lease, holder)| view(state, partition, lease, holder))
                    .collect(),
            });
            Ok(ClusterView { processes: state.processes.values().cloned().collect(), groups: groups.collect() })
        })
    }

    async fn enforce_retention(&self) -> Result<(), Error> {
        let enforce = |state: &mut State| {
            for (name, topic) in &mut state.topics {
                let groups = &state.groups;
                topic.delete_old(now(), |number, start| {
                    let partition = TopicPartition::new(name.clone(), number);
                    groups.values().filter_map(|group| group.needed_from(&partition, start)).min()
                });
            }
            Ok(())
        };
        self.write(enforce).map_err(unavailable)
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let mut state = self.shared.lock();
        let state = &mut *state;
        for group in state.groups.values_mut() {
            group.remove_process(&self.process);
            group.share_out(&state.topics);
        }
        self.shared.changed.notify_waiters();
    }
}

fn view(state: &State, partition: &TopicPartition, lease: &group::LeaseState, holder: Option<&str>) -> PartitionView {
    let topic = &state.topics[&partition.topic];
    let number = partition.partition as usize;
    let (start, end) = (topic.starts()[number], topic.ends()[number]);
    let committed = lease.committed.unwrap_or(start).max(start);
    PartitionView {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        holder: holder.map(str::to_owned),
        epoch: lease.epoch,
        committed,
        end,
        lag: end.saturating_sub(committed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::conformance::{self, Store};

    struct Memory(Arc<MemoryLog>);

    #[async_trait]
    impl Store for Memory {
        async fn open(&self) -> Arc<dyn Log> {
            self.0.another()
        }
    }

    #[tokio::test]
    async fn the_log_keeps_the_ports_promises() {
        conformance::all(|| Memory(MemoryLog::new())).await;
    }
}
