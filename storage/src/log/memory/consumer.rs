//! One membership in memory: a task hands its events on, the handle changes the group directly.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chat4all_proto::{Topic, TopicPartition};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};

use super::group::{Fence, Group};
use super::topic::MemoryTopic;
use super::{Shared, State};
use crate::log::{AppendError, Appended, Commit, Consumer, Error, Event, Lease, NewRecord, Recent, Record};

pub(super) struct MemoryConsumer {
    shared: Arc<Shared>,
    group: Arc<str>,
    member: u64,
}

impl MemoryConsumer {
    pub fn join(
        shared: Arc<Shared>,
        group: &str,
        topics: &[Topic],
        process: &str,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let mut state = shared.lock();
        state.last_member += 1;
        let member = state.last_member;
        let State { groups, topics: all, .. } = &mut *state;
        groups.entry(group.to_owned()).or_default().join(member, process, topics, all);
        drop(state);
        shared.changed.notify_waiters();
        tokio::spawn(hand_on(shared.clone(), group.into(), member, events));
        Self { shared, group: group.into(), member }
    }

    fn change(&self, change: impl FnOnce(&mut Group, &BTreeMap<Topic, MemoryTopic>)) {
        let mut state = self.shared.lock();
        let State { groups, topics, .. } = &mut *state;
        let group = groups.get_mut(&*self.group).expect("we joined it");
        change(group, topics);
        group.share_out(topics);
        drop(state);
        self.shared.changed.notify_waiters();
    }

    fn fence(&self, lease: &Lease) -> Fence {
        Fence { group: self.group.clone(), member: self.member, lease: lease.clone() }
    }
}

fn no_partition(partition: &TopicPartition) -> Error {
    Error::Refused(format!("there is no partition `{partition}`"))
}

/// Hands a member's events on until it is one no longer.
async fn hand_on(shared: Arc<Shared>, group: Arc<str>, member: u64, events: mpsc::Sender<Event>) {
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        // From here on no change is missed.
        changed.as_mut().enable();
        let (event, deadline) = {
            let mut state = shared.lock();
            let State { groups, topics, .. } = &mut *state;
            let group = groups.get_mut(&*group).expect("it was joined");
            if !group.is_member(member) {
                break;
            }
            (group.next_event(member, topics), group.deadline(member))
        };
        let pause =
            deadline.map_or(Duration::from_secs(3_600), |at| at.saturating_duration_since(tokio::time::Instant::now()));
        match event {
            Some(event) => {
                let overdue = matches!(event, Event::Lost(_));
                if events.send(event).await.is_err() {
                    break;
                }
                if overdue {
                    share_out(&shared, &group);
                }
            }
            None => tokio::select! {
                () = changed => {}
                () = sleep(pause) => {}
                () = events.closed() => break,
            },
        }
    }
    if let Some(group) = shared.lock().groups.get_mut(&*group) {
        group.leave(member);
    }
    share_out(&shared, &group);
}

fn share_out(shared: &Shared, group: &str) {
    let mut state = shared.lock();
    let State { groups, topics, .. } = &mut *state;
    if let Some(group) = groups.get_mut(group) {
        group.share_out(topics);
    }
    drop(state);
    shared.changed.notify_waiters();
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        self.change(|group, _| group.leave(self.member));
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    fn pause(&self, lease: &Lease) {
        self.change(|group, _| group.set_paused(self.member, lease, true));
    }

    fn resume(&self, lease: &Lease) {
        self.change(|group, _| group.set_paused(self.member, lease, false));
    }

    fn release(&self, lease: &Lease) {
        self.change(|group, _| group.release(self.member, lease));
    }

    fn restart(&self, lease: &Lease) {
        self.change(|group, topics| group.restart(self.member, lease, topics));
    }

    fn is_current(&self) -> bool {
        let state = self.shared.lock();
        !state.unavailable && state.groups.get(&*self.group).is_some_and(|group| group.is_member(self.member))
    }

    async fn commit(&self, commits: Vec<Commit>) -> Result<Vec<Lease>, Error> {
        commits.iter().try_for_each(Commit::check)?;
        let commit = |state: &mut State| {
            let group = state.groups.get_mut(&*self.group).expect("we joined it");
            Ok(commits
                .into_iter()
                .filter(|commit| !group.commit(self.member, commit))
                .map(|commit| commit.lease)
                .collect())
        };
        self.shared.write(commit).map_err(super::unavailable)
    }

    async fn append(&self, lease: &Lease, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.shared.write(|state| state.append_fenced(&self.fence(lease), records))
    }

    async fn append_and_commit(&self, records: Vec<NewRecord>, commit: Commit) -> Result<Vec<Appended>, AppendError> {
        self.shared.write(|state| {
            let results = state.append_fenced(&self.fence(&commit.lease), records)?;
            state.groups.get_mut(&*self.group).expect("we joined it").commit(self.member, &commit);
            Ok(results)
        })
    }

    async fn recent(&self, partition: &TopicPartition, offset: u64, count: usize) -> Result<Vec<Recent>, Error> {
        let state = self.shared.lock();
        let seen = state.topic(&partition.topic)?.recent(partition.partition, offset, count);
        seen.ok_or_else(|| no_partition(partition))
    }

    async fn read(&self, partition: &TopicPartition, from: u64, max: usize) -> Result<Vec<Arc<Record>>, Error> {
        let state = self.shared.lock();
        let found = state.topic(&partition.topic)?.fetch(partition.partition, from, max);
        found.ok_or_else(|| no_partition(partition))
    }

    async fn leave(&self) {
        self.change(|group, _| group.leave(self.member));
    }
}
