//! The handle of one membership, and what it shares with its poll thread and its commit thread.
//!
//! Invariant: whoever commits or appends under a lease checks our own list of leases first. The coordinator knows
//! members only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chat4all_proto::{Topic, TopicPartition};
use chat4all_storage::crash_point;
use chat4all_storage::log::{AppendError, Appended, Commit, Consumer, Error, Lease, NewRecord, Recent, Record};
use tokio::sync::{oneshot, watch};

use crate::commit::Job;
use crate::shared::{KeepOpen, Sender, Shared, lock};
use crate::topics::TopicInfo;
use crate::{read, topics};

/// Longest wait for a commit: a rebalance may hold it up.
pub(crate) const COMMIT_MAX: Duration = Duration::from_secs(10);

/// One membership, shared by its handle and its threads.
pub(crate) struct Membership {
    pub shared: Arc<Shared>,
    pub group: Arc<str>,
    /// The topics with their names in Kafka. The first one leads: the group knows of no other.
    pub topics: Vec<(String, Topic)>,
    state: Mutex<State>,
    changed: Condvar,
    /// When the last request was begun by which the coordinator confirmed that we are a member.
    confirmed: watch::Sender<Option<Instant>>,
}

/// What the handle and the threads tell one another.
#[derive(Default)]
pub(crate) struct State {
    pub owned: BTreeMap<TopicPartition, Owned>,
    /// For the poll thread.
    pub requests: Vec<Request>,
    /// The handle is gone or asked to leave; each of these awaits the end.
    pub leave: Option<Vec<oneshot::Sender<()>>>,
    /// For the commit thread.
    pub jobs: VecDeque<Job>,
    /// From the loss of our membership to the next assignment: a commit now would throw the next membership away.
    pub silent: bool,
    /// Assignments so far: what is learnt about an earlier membership says nothing about this one.
    pub assigned: u64,
    /// The commit thread shall find out at once whether we are a member.
    pub probe: bool,
    /// The poll thread is gone: nobody reads requests and jobs any more.
    pub ended: bool,
}

/// What a handle asks of its poll thread.
#[derive(Debug)]
pub(crate) enum Request {
    Pause(Lease),
    Resume(Lease),
    Restart(Lease),
    /// As `Restart`, not asked for by the one who works on it: its records have stopped coming.
    Retake(Lease),
}

/// A partition that is ours.
#[derive(Debug)]
pub(crate) struct Owned {
    pub lease: Lease,
    /// Offset and metadata as last committed, or the start of the partition.
    pub committed: (u64, String),
    /// One past the last record read.
    pub position: u64,
    pub paused: bool,
    pub phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Held,
    /// Its work was asked to end; commits and appends go on until it is released.
    Revoking,
    Released,
    /// It is to be taken again.
    Restarting,
}

impl Membership {
    pub fn new(shared: Arc<Shared>, group: &str, topics: Vec<(String, Topic)>) -> Self {
        Self {
            shared,
            group: group.into(),
            topics,
            state: Mutex::default(),
            changed: Condvar::new(),
            confirmed: watch::Sender::new(None),
        }
    }

    /// The partitions of one number: they are ours together or not at all.
    pub fn together(&self, number: u32) -> impl Iterator<Item = TopicPartition> {
        self.topics.iter().map(move |(_, topic)| TopicPartition::new(topic.clone(), number))
    }

    /// Reads or changes the state and wakes whoever waits for a change.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state);
        drop(state);
        self.changed.notify_all();
        result
    }

    /// As `with`, for what concerns nobody else.
    pub fn peek<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut lock(&self.state))
    }

    /// Waits until `done` says so or `time_max` is over; `done` may change the state.
    pub fn wait(&self, time_max: Duration, mut done: impl FnMut(&mut State) -> bool) {
        let state = lock(&self.state);
        let waited = self.changed.wait_timeout_while(state, time_max, |state| !done(state));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The coordinator took a request begun at `at` as a member's.
    pub fn confirm(&self, at: Instant) {
        self.confirmed.send_replace(Some(at));
    }

    pub fn unconfirm(&self) {
        self.confirmed.send_replace(None);
    }

    fn is_fresh(&self, confirmed: Option<Instant>) -> bool {
        confirmed.is_some_and(|at| at.elapsed() < self.shared.options.session_timeout / 2)
    }

    pub fn is_current(&self) -> bool {
        self.is_fresh(*self.confirmed.borrow()) && !self.shared.is_closing() && !lock(&self.state).ended
    }

    pub fn holds(&self, lease: &Lease) -> bool {
        lock(&self.state).holds(lease)
    }

    /// Waits until our membership is confirmed: right after an assignment or a rebalance it may take a moment.
    async fn await_current(&self, lease: &Lease) -> Result<(), AppendError> {
        let mut confirmed = self.confirmed.subscribe();
        let fresh = confirmed.wait_for(|confirmed| self.is_fresh(*confirmed) || !self.holds(lease));
        let waited = tokio::time::timeout(self.shared.options.session_timeout / 2, fresh).await.is_ok();
        match (self.holds(lease), waited) {
            (false, _) => Err(AppendError::Fenced),
            (true, true) => Ok(()),
            (true, false) => Err(AppendError::Unavailable("the membership is not confirmed".into())),
        }
    }

    async fn append(&self, lease: &Lease, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        if !self.holds(lease) {
            return Err(AppendError::Fenced);
        }
        self.await_current(lease).await?;
        self.shared.append(records, Sender::Worker { epoch: lease.epoch }).await
    }

    async fn commit(&self, commits: Vec<Commit>) -> Result<Vec<Lease>, Error> {
        commits.iter().try_for_each(Commit::check)?;
        let (reply, answer) = oneshot::channel();
        self.with(|state| state.submit(commits, reply));
        match tokio::time::timeout(COMMIT_MAX + Duration::from_secs(1), answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Unavailable("the membership ended".into())),
            Err(_) => Err(Error::Unavailable("the coordinator did not answer".into())),
        }
    }
}

impl State {
    /// Whether commits and appends under `lease` are ours to make.
    pub fn holds(&self, lease: &Lease) -> bool {
        matches!(self.phase(lease), Some(Phase::Held | Phase::Revoking))
    }

    /// The membership is over: nothing is ours, and whoever waits need not.
    pub fn end(&mut self) {
        self.ended = true;
        self.owned.clear();
        self.requests.clear();
        self.leave = None;
        self.jobs.drain(..).for_each(|job| job.answer(|_| false));
    }

    /// `None`: not under this lease.
    pub fn phase(&self, lease: &Lease) -> Option<Phase> {
        self.owned.get(&lease.partition).filter(|owned| owned.lease == *lease).map(|owned| owned.phase)
    }

    /// Sets it for all partitions of a number; their leases.
    pub fn set_phase(&mut self, number: u32, phase: Phase) -> Vec<Lease> {
        let mut leases = Vec::new();
        for owned in self.owned.values_mut().filter(|owned| owned.lease.partition.partition == number) {
            owned.phase = phase;
            leases.push(owned.lease.clone());
        }
        leases
    }

    fn submit(&mut self, commits: Vec<Commit>, reply: oneshot::Sender<Result<Vec<Lease>, Error>>) {
        let job = Job { commits, reply, deadline: Instant::now() + COMMIT_MAX };
        if self.ended || !job.commits.iter().any(|commit| self.holds(&commit.lease)) {
            job.answer(|_| false);
        } else {
            self.jobs.push_back(job);
        }
    }

    fn release(&mut self, lease: &Lease) {
        if self.phase(lease) == Some(Phase::Revoking) {
            self.set_phase(lease.partition.partition, Phase::Released);
        }
    }

    fn restart(&mut self, lease: &Lease) {
        if self.phase(lease) == Some(Phase::Held) {
            self.set_phase(lease.partition.partition, Phase::Restarting);
            self.requests.push(Request::Restart(lease.clone()));
        } else {
            self.release(lease);
        }
    }
}

/// The handle that the caller holds. It keeps the log open; dropping it ends the membership.
pub(crate) struct Handle(pub Arc<Membership>, #[expect(dead_code, reason = "held, not used")] pub Arc<KeepOpen>);

impl Handle {
    /// The topic of a partition that is there, whoever holds it.
    async fn topic_of(&self, partition: &TopicPartition) -> Result<Arc<TopicInfo>, Error> {
        let topic = topics::existing(&self.0.shared, &partition.topic).await?;
        if partition.partition < topic.partitions {
            Ok(topic)
        } else {
            Err(Error::Refused(format!("there is no partition `{partition}`")))
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.leave.get_or_insert_default();
        });
    }
}

#[async_trait]
impl Consumer for Handle {
    fn pause(&self, lease: &Lease) {
        self.0.with(|state| state.requests.push(Request::Pause(lease.clone())));
    }

    fn resume(&self, lease: &Lease) {
        self.0.with(|state| state.requests.push(Request::Resume(lease.clone())));
    }

    fn release(&self, lease: &Lease) {
        self.0.with(|state| state.release(lease));
    }

    fn restart(&self, lease: &Lease) {
        self.0.with(|state| state.restart(lease));
    }

    fn is_current(&self) -> bool {
        self.0.is_current()
    }

    async fn commit(&self, commits: Vec<Commit>) -> Result<Vec<Lease>, Error> {
        self.0.commit(commits).await
    }

    async fn append(&self, lease: &Lease, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.0.append(lease, records).await
    }

    async fn append_and_commit(&self, records: Vec<NewRecord>, commit: Commit) -> Result<Vec<Appended>, AppendError> {
        commit.check()?;
        let appended = self.0.append(&commit.lease, records).await?;
        crash_point("kafka-log::before-commit");
        match self.0.commit(vec![commit]).await {
            Ok(refused) if refused.is_empty() => Ok(appended),
            Ok(_) => Err(AppendError::Fenced),
            Err(error) if appended.is_empty() => Err(error.into()),
            Err(error) => Err(AppendError::Unknown(format!("the records are there, their commit is not: {error}"))),
        }
    }

    async fn recent(&self, partition: &TopicPartition, offset: u64, count: usize) -> Result<Vec<Recent>, Error> {
        let (topic, number) = (self.topic_of(partition).await?, partition.partition);
        self.0.shared.blocking(move |shared| read::recent(shared, &topic.name, number, offset, count)).await
    }

    async fn read(&self, partition: &TopicPartition, from: u64, max: usize) -> Result<Vec<Arc<Record>>, Error> {
        let (topic, number) = (self.topic_of(partition).await?, partition.partition);
        self.0.shared.blocking(move |shared| read::records(shared, &topic.name, number, from, max)).await
    }

    async fn leave(&self) {
        let (left, done) = oneshot::channel();
        self.0.with(|state| {
            if !state.ended {
                state.leave.get_or_insert_default().push(left);
            }
        });
        // An error means that the membership is over, which is what we wait for.
        let _ = done.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    #[tokio::test]
    async fn who_is_not_confirmed_appends_nothing() {
        // Nobody listens there: nothing is asked of a broker either.
        let options = Options { session_timeout: Duration::from_millis(200), ..Options::new("127.0.0.1:9") };
        let shared = Arc::new(Shared::new(options, "p".into()).unwrap());
        let me = Membership::new(shared, "g", Vec::new());
        let lease = Lease { partition: TopicPartition::new(Topic::Messages, 0), epoch: 5 };
        let committed = (0, String::new());
        let owned = Owned { lease: lease.clone(), committed, position: 0, paused: false, phase: Phase::Held };
        me.with(|state| state.owned.insert(lease.partition.clone(), owned));
        let refused = me.append(&lease, vec![]).await;
        assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
        me.confirm(Instant::now());
        assert_eq!(me.append(&lease, vec![]).await, Ok(vec![]));
        me.confirm(Instant::now().checked_sub(Duration::from_millis(100)).unwrap());
        assert!(!me.is_current(), "half a session later");
        let newer = Lease { epoch: 6, ..lease };
        assert_eq!(me.append(&newer, vec![]).await, Err(AppendError::Fenced));
    }
}
