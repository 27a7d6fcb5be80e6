//! The handle of one membership, and what it shares with its poll thread and the coordinator.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chat4all_proto::TopicPartition;
use chat4all_storage::log::outgoing::RECORDS_BYTES_MAX;
use chat4all_storage::log::{AppendError, Appended, Commit, Consumer, Error, Lease, NewRecord, Recent, Record};
use tokio::sync::oneshot;

use super::append::{self, Fence, Position};
use super::group::Seen;
use super::job::{Failure, Size, Urgency};
use super::shared::{Shared, lock};
use super::topics::TopicInfo;
use super::{Opened, batch, read};

/// What a handle asks of its poll thread.
pub(super) enum Request {
    Pause(Lease),
    Resume(Lease),
    Release(Lease),
    Restart(Lease),
}

/// One membership, shared by its handle, its poll thread, the coordinator and the writer.
pub(super) struct Membership {
    pub shared: Arc<Shared>,
    pub group: Arc<str>,
    pub topics: Arc<[Arc<TopicInfo>]>,
    by_id: HashMap<u32, TopicPartition>,
    by_name: HashMap<TopicPartition, u32>,
    inbox: Mutex<Inbox>,
    woken: Condvar,
    group_id: AtomicI64,
    member_id: AtomicI64,
    /// Raised by the poll thread each time round.
    pub beat: AtomicI64,
    /// The newest generation of the group that anybody here heard of.
    generation: AtomicU64,
    /// Milliseconds after `Shared::started` at which the last confirmed heartbeat was begun, plus 1; 0: none.
    confirmed_at: AtomicU64,
}

/// What waits for the poll thread.
#[derive(Default)]
pub(super) struct Inbox {
    woken: bool,
    pub requests: Vec<Request>,
    pub seen: Option<Result<Seen, Failure>>,
    pub look: bool,
    /// The handle is gone or asked to leave; each of these awaits the end.
    pub leave: Option<Vec<oneshot::Sender<()>>>,
    /// The poll thread is gone: nobody reads this any more.
    ended: bool,
}

impl Membership {
    pub(super) fn new(shared: Arc<Shared>, group: &str, topics: Vec<Arc<TopicInfo>>) -> Self {
        let named = |topic: &Arc<TopicInfo>| {
            let name = topic.topic.clone();
            (0..).zip(topic.partitions.clone()).map(move |(number, id)| (id, TopicPartition::new(name.clone(), number)))
        };
        let by_id: HashMap<_, _> = topics.iter().flat_map(named).collect();
        Self {
            shared,
            group: group.into(),
            by_name: by_id.iter().map(|(id, partition)| (partition.clone(), *id)).collect(),
            by_id,
            topics: topics.into(),
            inbox: Mutex::default(),
            woken: Condvar::new(),
            group_id: AtomicI64::new(0),
            member_id: AtomicI64::new(0),
            beat: AtomicI64::new(0),
            generation: AtomicU64::new(0),
            confirmed_at: AtomicU64::new(0),
        }
    }

    /// Ids of the partitions of one number: they are held together or not at all.
    pub(super) fn together(&self, number: u32) -> impl Iterator<Item = u32> {
        self.topics.iter().map(move |topic| topic.partitions[number as usize])
    }

    pub(super) fn partition(&self, id: u32) -> TopicPartition {
        self.by_id[&id].clone()
    }

    pub(super) fn id_of(&self, partition: &TopicPartition) -> Option<u32> {
        self.by_name.get(partition).copied()
    }

    /// The group's row; `None` before the first join.
    pub(super) fn group_id(&self) -> Option<i64> {
        Some(self.group_id.load(Ordering::SeqCst)).filter(|id| *id != 0)
    }

    /// Our row; `None` while we are no member.
    pub(super) fn member_id(&self) -> Option<i64> {
        Some(self.member_id.load(Ordering::SeqCst)).filter(|id| *id != 0)
    }

    pub(super) fn set_ids(&self, group: i64, member: Option<i64>) {
        self.group_id.store(group, Ordering::SeqCst);
        self.member_id.store(member.unwrap_or(0), Ordering::SeqCst);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The group changed, or records came to some partitions: wakes the poll thread if that concerns it.
    pub(super) fn notice(&self, generation: Option<u64>, partitions: &[u32]) {
        let news =
            generation.is_some_and(|generation| self.generation.fetch_max(generation, Ordering::SeqCst) < generation);
        if news || partitions.iter().any(|partition| self.by_id.contains_key(partition)) {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        self.tell(|_| ());
    }

    /// Changes the inbox and wakes the poll thread.
    pub(super) fn tell(&self, change: impl FnOnce(&mut Inbox)) {
        let mut inbox = lock(&self.inbox);
        change(&mut inbox);
        inbox.woken = true;
        self.woken.notify_one();
    }

    /// The poll thread ends: whoever waits for it need not.
    pub(super) fn end(&self) {
        *lock(&self.inbox) = Inbox { ended: true, ..Inbox::default() };
    }

    pub(super) fn take_inbox(&self) -> Inbox {
        std::mem::take(&mut *lock(&self.inbox))
    }

    /// Until somebody wakes the poll thread, or `time_max` is over.
    pub(super) fn sleep(&self, time_max: Duration) {
        let inbox = lock(&self.inbox);
        let waited = self.woken.wait_timeout_while(inbox, time_max, |inbox| !inbox.woken);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Milliseconds of our monotonic clock.
    pub(super) fn clock_ms(&self) -> u64 {
        super::schema::millis(self.shared.started.elapsed())
    }

    /// A heartbeat begun at `begun_ms` was written.
    pub(super) fn confirm(&self, begun_ms: u64) {
        self.confirmed_at.fetch_max(begun_ms + 1, Ordering::SeqCst);
    }

    pub(super) fn unconfirm(&self) {
        self.confirmed_at.store(0, Ordering::SeqCst);
    }

    fn is_current(&self) -> bool {
        let half_session_ms = super::schema::millis(self.shared.options.session_timeout) / 2;
        match self.confirmed_at.load(Ordering::SeqCst) {
            0 => false,
            _ if self.member_id().is_none() || self.shared.is_closing() => false,
            at => self.clock_ms() < at - 1 + half_session_ms,
        }
    }

    /// The fence of a lease; `None` if it cannot be ours.
    fn fence(&self, lease: &Lease) -> Option<Fence> {
        let (group, member) = (self.group_id()?, self.member_id()?);
        Some(Fence { group, member, partition: self.id_of(&lease.partition)?, epoch: lease.epoch })
    }

    async fn append(
        &self,
        lease: &Lease,
        records: Vec<NewRecord>,
        commit: Option<Commit>,
    ) -> Result<Vec<Appended>, AppendError> {
        let batch = batch(&self.shared, records).await?;
        let Some(fence) = self.fence(lease) else { return Err(AppendError::Fenced) };
        let position = match commit {
            Some(commit) => Some(position(fence, commit)?),
            None => None,
        };
        let urgency = if position.is_some() { Urgency::HandOn } else { Urgency::Tell };
        let written = self.shared.write_as(batch.size(), urgency, move |tx| {
            if !append::holds(tx, fence)? {
                return Ok(None);
            }
            let results = batch.write(tx)?;
            if let Some(position) = &position {
                append::commit(tx, position)?;
            }
            Ok(Some(results))
        });
        written.await?.ok_or(AppendError::Fenced)
    }
}

fn position(fence: Fence, commit: Commit) -> Result<Position, Error> {
    commit.check()?;
    Ok(Position { fence, offset: commit.offset, metadata: commit.metadata })
}

/// The handle that the caller holds. It keeps the log open; dropping it ends the membership.
pub(super) struct Handle(pub Arc<Membership>, #[expect(dead_code, reason = "held, not used")] pub Arc<Opened>);

impl Handle {
    fn ask(&self, request: Request) {
        self.0.tell(|inbox| inbox.requests.push(request));
    }

    /// The id of a partition, whoever holds it.
    async fn existing(&self, partition: &TopicPartition) -> Result<u32, Error> {
        let topic = self.0.shared.topic(&partition.topic).await?;
        let id = topic.and_then(|topic| topic.partitions.get(partition.partition as usize).copied());
        id.ok_or_else(|| Error::Refused(format!("there is no partition `{partition}`")))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.tell(|inbox| {
            inbox.leave.get_or_insert_default();
        });
    }
}

#[async_trait]
impl Consumer for Handle {
    fn pause(&self, lease: &Lease) {
        self.ask(Request::Pause(lease.clone()));
    }

    fn resume(&self, lease: &Lease) {
        self.ask(Request::Resume(lease.clone()));
    }

    fn release(&self, lease: &Lease) {
        self.ask(Request::Release(lease.clone()));
    }

    fn restart(&self, lease: &Lease) {
        self.ask(Request::Restart(lease.clone()));
    }

    fn is_current(&self) -> bool {
        self.0.is_current()
    }

    async fn commit(&self, commits: Vec<Commit>) -> Result<Vec<Lease>, Error> {
        let (mut refused, mut leases, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for commit in commits {
            match self.0.fence(&commit.lease) {
                None => refused.push(commit.lease),
                Some(fence) => {
                    leases.push(commit.lease.clone());
                    positions.push(position(fence, commit)?);
                }
            }
        }
        if positions.is_empty() {
            return Ok(refused);
        }
        let run = move |tx: &mut super::tx::Tx<'_>| {
            positions.iter().map(|position| append::commit(tx, position)).collect::<rusqlite::Result<Vec<_>>>()
        };
        let written = self.0.shared.write_as(Size::default(), Urgency::Finish, run).await?;
        refused.extend(leases.into_iter().zip(written).filter(|(_, written)| !written).map(|(lease, _)| lease));
        Ok(refused)
    }

    async fn append(&self, lease: &Lease, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.0.append(lease, records, None).await
    }

    async fn append_and_commit(&self, records: Vec<NewRecord>, commit: Commit) -> Result<Vec<Appended>, AppendError> {
        self.0.append(&commit.lease.clone(), records, Some(commit)).await
    }

    async fn recent(&self, partition: &TopicPartition, offset: u64, count: usize) -> Result<Vec<Recent>, Error> {
        let id = self.existing(partition).await?;
        self.0.shared.read(move |connection| read::recent(connection, id, offset, count)).await
    }

    async fn read(&self, partition: &TopicPartition, from: u64, max: usize) -> Result<Vec<Arc<Record>>, Error> {
        let (id, bounds) = (self.existing(partition).await?, (max, RECORDS_BYTES_MAX));
        self.0.shared.read(move |connection| read::records(connection, id, from, bounds)).await
    }

    async fn leave(&self) {
        let (left, done) = oneshot::channel();
        self.0.tell(|inbox| {
            if !inbox.ended {
                inbox.leave.get_or_insert_default().push(left);
            }
        });
        // An error means that the membership is over, which is what we wait for.
        let _ = done.await;
    }
}
