//! One group in memory: members, leases, and how partitions are shared out among the members.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chat4all_proto::{Topic, TopicPartition};
use tokio::time::{Duration, Instant};

use super::topic::{FETCH_MAX, MemoryTopic};
use crate::log::{Assignment, Commit, Event, Lease};

/// Who does not release a partition in this time loses it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(super) struct Group {
    leases: BTreeMap<TopicPartition, LeaseState>,
    members: BTreeMap<u64, Member>,
}

#[derive(Default)]
pub(super) struct LeaseState {
    pub member: Option<u64>,
    pub epoch: u64,
    pub committed: Option<u64>,
    pub metadata: String,
}

struct Member {
    process: String,
    topics: Vec<Topic>,
    held: BTreeMap<TopicPartition, Held>,
    /// Events that come before further records.
    events: VecDeque<Event>,
    /// The partition served last.
    turn: Option<TopicPartition>,
}

struct Held {
    epoch: u64,
    position: u64,
    paused: bool,
    revoked_at: Option<Instant>,
}

/// On whose behalf something is written.
pub(super) struct Fence {
    pub group: Arc<str>,
    pub member: u64,
    pub lease: Lease,
}

impl Group {
    /// The first of `topics` leads.
    pub fn join(&mut self, member: u64, process: &str, topics: &[Topic], all: &BTreeMap<Topic, MemoryTopic>) {
        let partitions = topics.iter().flat_map(|topic| partitions(topic, all));
        for partition in partitions {
            self.leases.entry(partition).or_default();
        }
        let (process, topics) = (process.to_owned(), topics.to_vec());
        let member_state = Member { process, topics, held: BTreeMap::new(), events: VecDeque::new(), turn: None };
        self.members.insert(member, member_state);
        self.share_out(all);
    }

    pub fn is_member(&self, member: u64) -> bool {
        self.members.contains_key(&member)
    }

    pub fn leave(&mut self, member: u64) {
        self.members.remove(&member);
        self.leases.values_mut().filter(|lease| lease.member == Some(member)).for_each(|lease| lease.member = None);
    }

    pub fn remove_process(&mut self, process: &str) {
        let of_process = |(id, member): (&u64, &Member)| (member.process == process).then_some(*id);
        let members: Vec<u64> = self.members.iter().filter_map(of_process).collect();
        members.into_iter().for_each(|member| self.leave(member));
    }

    pub fn take_away(&mut self) {
        for member in self.members.values_mut() {
            let held = std::mem::take(&mut member.held);
            let lost = held.into_iter().map(|(partition, held)| Lease { partition, epoch: held.epoch }).collect();
            member.events.push_back(Event::Lost(lost));
        }
        self.leases.values_mut().for_each(|lease| lease.member = None);
    }

    /// Gives free partitions to those who have fewer than their share, and asks back from those who have more.
    pub fn share_out(&mut self, all: &BTreeMap<Topic, MemoryTopic>) {
        for (topic, state) in all {
            let leads = |member: &Member| member.topics.first() == Some(topic);
            let members: Vec<u64> =
                self.members.iter().filter(|(_, member)| leads(member)).map(|(id, _)| *id).collect();
            for (place, member) in members.iter().enumerate() {
                let odd = place < state.count() % members.len();
                self.balance(*member, topic, state.count() / members.len() + usize::from(odd), all);
            }
        }
    }

    /// Gives and asks back partitions of `topic`, which leads, and those that go with them.
    fn balance(&mut self, id: u64, topic: &Topic, share: usize, all: &BTreeMap<Topic, MemoryTopic>) {
        let member = self.members.get_mut(&id).expect("a member of the list");
        let held = member.held.iter().filter(|(at, held)| at.topic == *topic && held.revoked_at.is_none());
        let kept: Vec<u32> = held.map(|(at, _)| at.partition).collect();
        let free = self.leases.iter().filter(|(at, lease)| at.topic == *topic && lease.member.is_none());
        let free: Vec<u32> = free.map(|(at, _)| at.partition).take(share.saturating_sub(kept.len())).collect();
        let granted: Vec<Assignment> =
            free.into_iter().flat_map(|number| member.take(id, number, &mut self.leases, all)).collect();
        if !granted.is_empty() {
            member.events.push_back(Event::Assigned(granted));
        }
        let surplus: Vec<Lease> = kept.into_iter().skip(share).flat_map(|number| member.revoke(number)).collect();
        if !surplus.is_empty() {
            member.events.push_back(Event::Revoking(surplus));
        }
    }

    pub fn holds(&self, fence: &Fence) -> bool {
        let lease = self.leases.get(&fence.lease.partition);
        lease.is_some_and(|lease| lease.member == Some(fence.member) && lease.epoch == fence.lease.epoch)
    }

    /// False if its lease is gone.
    pub fn commit(&mut self, member: u64, commit: &Commit) -> bool {
        let fits = |lease: &&mut LeaseState| lease.member == Some(member) && lease.epoch == commit.lease.epoch;
        let Some(lease) = self.leases.get_mut(&commit.lease.partition).filter(fits) else { return false };
        lease.committed = Some(commit.offset);
        lease.metadata.clone_from(&commit.metadata);
        true
    }

    pub fn committed(&self, partition: &TopicPartition) -> Option<u64> {
        self.leases.get(partition)?.committed
    }

    /// The first offset that this group needs; `None` if it never joined there.
    pub fn needed_from(&self, partition: &TopicPartition, start: u64) -> Option<u64> {
        self.leases.get(partition).map(|lease| lease.committed.unwrap_or(start))
    }

    /// Each lease with the process that holds it.
    pub fn leases(&self) -> impl Iterator<Item = (&TopicPartition, &LeaseState, Option<&str>)> {
        self.leases.iter().map(|(partition, lease)| {
            let holder = lease.member.and_then(|member| self.members.get(&member));
            (partition, lease, holder.map(|member| &*member.process))
        })
    }

    pub fn set_paused(&mut self, member: u64, lease: &Lease, paused: bool) {
        if let Some(held) = self.held(member, lease) {
            held.paused = paused;
        }
    }

    /// With those that were assigned with it.
    pub fn release(&mut self, id: u64, lease: &Lease) {
        if self.held(id, lease).is_none() {
            return;
        }
        let member = self.members.get_mut(&id).expect("it holds something");
        for partition in member.together(lease.partition.partition) {
            member.held.remove(&partition);
            self.leases.get_mut(&partition).expect("it is held").member = None;
        }
    }

    pub fn restart(&mut self, id: u64, lease: &Lease, all: &BTreeMap<Topic, MemoryTopic>) {
        let Some(held) = self.held(id, lease) else { return };
        if held.revoked_at.is_some() {
            return self.release(id, lease);
        }
        let member = self.members.get_mut(&id).expect("it holds something");
        let assignments = member.take(id, lease.partition.partition, &mut self.leases, all);
        member.events.push_back(Event::Assigned(assignments));
    }

    fn held(&mut self, member: u64, lease: &Lease) -> Option<&mut Held> {
        self.members.get_mut(&member)?.held.get_mut(&lease.partition).filter(|held| held.epoch == lease.epoch)
    }

    /// What `member` is to be told next.
    pub fn next_event(&mut self, member: u64, all: &BTreeMap<Topic, MemoryTopic>) -> Option<Event> {
        self.lose_overdue(member);
        let member = self.members.get_mut(&member)?;
        member.events.pop_front().or_else(|| member.next_records(all))
    }

    /// When something is due without anybody's doing.
    pub fn deadline(&self, member: u64) -> Option<Instant> {
        let held = self.members.get(&member)?.held.values();
        held.filter_map(|held| held.revoked_at).min().map(|at| at + RELEASE_TIMEOUT)
    }

    fn lose_overdue(&mut self, id: u64) {
        let Some(member) = self.members.get(&id) else { return };
        let overdue = |held: &Held| held.revoked_at.is_some_and(|at| at + RELEASE_TIMEOUT <= Instant::now());
        let lost: Vec<Lease> = member
            .held
            .iter()
            .filter(|(_, held)| overdue(held))
            .map(|(partition, held)| Lease { partition: partition.clone(), epoch: held.epoch })
            .collect();
        if !lost.is_empty() {
            for lease in &lost {
                self.release(id, lease);
            }
            self.members.get_mut(&id).expect("found above").events.push_back(Event::Lost(lost));
        }
    }
}

impl Member {
    /// The partitions of one number: they are held together or not at all.
    fn together(&self, number: u32) -> Vec<TopicPartition> {
        self.topics.iter().map(|topic| TopicPartition::new(topic.clone(), number)).collect()
    }

    fn take(
        &mut self,
        id: u64,
        number: u32,
        leases: &mut BTreeMap<TopicPartition, LeaseState>,
        all: &BTreeMap<Topic, MemoryTopic>,
    ) -> Vec<Assignment> {
        let together = self.together(number);
        let epoch = together.iter().map(|partition| leases[partition].epoch).max().unwrap_or(0) + 1;
        let take = |partition: TopicPartition| {
            let lease = leases.get_mut(&partition).expect("made when it joined");
            (lease.member, lease.epoch) = (Some(id), epoch);
            let start = all[&partition.topic].starts()[number as usize];
            let offset = lease.committed.unwrap_or(start).max(start);
            self.held.insert(partition.clone(), Held { epoch, position: offset, paused: false, revoked_at: None });
            Assignment { lease: Lease { partition, epoch }, offset, metadata: lease.metadata.clone() }
        };
        together.into_iter().map(take).collect()
    }

    fn revoke(&mut self, number: u32) -> Vec<Lease> {
        let (now, together) = (Instant::now(), self.together(number));
        let revoke = |partition: TopicPartition| {
            let held = self.held.get_mut(&partition).expect("one of those that are kept");
            held.revoked_at = Some(now);
            Lease { partition, epoch: held.epoch }
        };
        together.into_iter().map(revoke).collect()
    }

    /// Records of the partitions in turn.
    fn next_records(&mut self, all: &BTreeMap<Topic, MemoryTopic>) -> Option<Event> {
        let after = |partition: &TopicPartition| self.turn.as_ref().is_some_and(|turn| partition <= turn);
        let mut in_turn: Vec<TopicPartition> = self.held.keys().cloned().collect();
        in_turn.sort_by_key(|partition| (after(partition), partition.clone()));
        for partition in in_turn {
            let held = self.held.get_mut(&partition).expect("one of its keys");
            if held.paused || held.revoked_at.is_some() {
                continue;
            }
            let records = all[&partition.topic].fetch(partition.partition, held.position, FETCH_MAX);
            if let Some(records) = records
                && let Some(last) = records.last()
            {
                held.position = last.offset + 1;
                let lease = Lease { partition: partition.clone(), epoch: held.epoch };
                self.turn = Some(partition);
                return Some(Event::Records { lease, records });
            }
        }
        None
    }
}

fn partitions(topic: &Topic, all: &BTreeMap<Topic, MemoryTopic>) -> Vec<TopicPartition> {
    (0..).take(all[topic].count()).map(|number| TopicPartition::new(topic.clone(), number)).collect()
}
