//! What a member does when the group gives it partitions, asks them back, or has taken them away. Runs inside the poll
//! of the poll thread: whatever happens here happens between two records.
//!
//! The group shares out the partitions of the topic that leads. Those of the same number in the other topics are assigned
//! here by hand beside them, and let go here: the group knows nothing of them, and takes none of them away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chat4all_proto::TopicPartition;
use chat4all_storage::log::outgoing::Outgoing;
use chat4all_storage::log::{Assignment, Error, Event, Lease};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tracing::{error, warn};

use crate::consumer::{Membership, Owned, Phase};
use crate::read::{number, raw};
use crate::shared::{ASK_MAX, lock};
use crate::{client, cluster, metrics, read};

/// Longest time to find out where new partitions start.
const PREPARE_MAX: Duration = Duration::from_secs(15);
const PREPARE_AGAIN: Duration = Duration::from_millis(200);
/// While partitions are awaited: at most so long between two attempts to hand events on.
const FLUSH_INTERVAL: Duration = Duration::from_millis(5);
const RELEASE_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) type MemberConsumer = BaseConsumer<Member>;

/// The context of a consumer that is a member.
pub(crate) struct Member {
    pub me: Arc<Membership>,
    /// Only the poll thread uses it.
    pub events: Mutex<Outgoing>,
    /// Why the membership cannot go on.
    pub failed: Mutex<Option<String>>,
}

/// Where a partition starts.
struct Start {
    offset: u64,
    metadata: String,
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        client::log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::told(&error, reason);
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &MemberConsumer, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assigned(consumer, list)
        } else {
            self.revoked(consumer, list)
        };
        if let Err(error) = done {
            self.fail(error.to_string());
        }
    }
}

impl Member {
    /// Ends the membership: the poll thread sees it next.
    pub fn fail(&self, reason: String) {
        lock(&self.failed).get_or_insert(reason);
    }

    fn assigned(&self, consumer: &MemberConsumer, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let starts = match self.prepare(consumer, &numbers(list)) {
            Ok(starts) => starts,
            Err(error) => {
                self.fail(error.to_string());
                Vec::new()
            }
        };
        let assigned = self.list(starts.iter().map(|(lease, start)| (&lease.partition, start.offset)))?;
        // Also when there are none: it ends this half of the rebalance.
        consumer.incremental_assign(&assigned)?;
        if assigned.count() > 0 {
            // librdkafka remembers a pause from the last time that a partition was ours: it would be silent for good.
            consumer.resume(&assigned)?;
        }
        self.begin(starts);
        Ok(())
    }

    /// Makes the partitions ours and tells the one who consumes.
    fn begin(&self, starts: Vec<(Lease, Start)>) {
        let mut assignments = Vec::with_capacity(starts.len());
        self.me.with(|state| {
            state.silent = false;
            state.assigned += 1;
            state.probe = true;
            for (lease, Start { offset, metadata }) in starts {
                let committed = (offset, metadata.clone());
                let owned =
                    Owned { lease: lease.clone(), committed, position: offset, paused: false, phase: Phase::Held };
                state.owned.insert(lease.partition.clone(), owned);
                assignments.push(Assignment { lease, offset, metadata });
            }
        });
        if !assignments.is_empty() {
            lock(&self.events).push(Event::Assigned(assignments));
        }
    }

    /// Finds out where the partitions of `numbers` start and takes their leases. Tries for a while.
    fn prepare(&self, consumer: &MemberConsumer, numbers: &[u32]) -> Result<Vec<(Lease, Start)>, Error> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + PREPARE_MAX;
        loop {
            match self.try_prepare(consumer, numbers) {
                Err(Error::Unavailable(reason)) if Instant::now() < deadline => {
                    warn!(group = &*self.me.group, reason, "could not take partitions, trying again");
                    self.me.wait(PREPARE_AGAIN, |state| state.leave.is_some());
                }
                done => return done,
            }
        }
    }

    fn try_prepare(&self, consumer: &MemberConsumer, numbers: &[u32]) -> Result<Vec<(Lease, Start)>, Error> {
        let partitions = self.together(numbers);
        let committed = self.committed(consumer, &partitions)?;
        let mut starts = Vec::with_capacity(partitions.len());
        for partition in &partitions {
            let name = self.me.shared.name(&partition.topic);
            let (low, _) = read::bounds(&self.me.shared, &name, partition.partition)?;
            starts.push(start(partition, low, committed.get(partition)));
        }
        let epochs = self.take(numbers)?;
        let lease = |partition: TopicPartition| Lease { epoch: epochs[&partition.partition], partition };
        Ok(partitions.into_iter().map(lease).zip(starts).collect())
    }

    /// Takes the leases of `numbers`: the epoch of each.
    fn take(&self, numbers: &[u32]) -> Result<BTreeMap<u32, u64>, Error> {
        let epochs = cluster::take(&self.me, numbers).map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(numbers.iter().copied().zip(epochs).collect())
    }

    fn committed(
        &self,
        consumer: &MemberConsumer,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, (u64, String)>, Error> {
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            asked.add_partition(&self.me.shared.name(&partition.topic), number(partition.partition));
        }
        let found = consumer.committed_offsets(asked, ASK_MAX).map_err(|error| client::failure(&error))?;
        let mut committed = BTreeMap::new();
        for element in found.elements() {
            element.error().map_err(|error| client::failure(&error))?;
            let partition = self.partition(element.topic(), element.partition());
            if let (Some(partition), Offset::Offset(offset)) = (partition, element.offset()) {
                committed.insert(partition, (u64::try_from(offset).unwrap_or(0), element.metadata().to_owned()));
            }
        }
        Ok(committed)
    }

    fn revoked(&self, consumer: &MemberConsumer, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let partitions = self.together(&numbers(list));
        if consumer.assignment_lost() {
            self.lose(&partitions);
        } else {
            self.hand_over(consumer, &partitions);
        }
        // Also those that the group knows nothing of: what is not let go here would be consumed twice from now on.
        consumer.incremental_unassign(&self.list(partitions.iter().map(|partition| (partition, 0)))?)
    }

    /// They are gone already.
    fn lose(&self, partitions: &[TopicPartition]) {
        self.me.unconfirm();
        let lost = self.me.with(|state| {
            state.silent = true;
            take(&mut state.owned, partitions)
        });
        self.tell_lost(lost);
    }

    /// Asks for their work to end, and waits for that within bounds. Kept partitions go on with what is queued.
    fn hand_over(&self, consumer: &MemberConsumer, partitions: &[TopicPartition]) {
        let revoking = self.me.with(|state| {
            let mut revoking = Vec::new();
            for partition in partitions {
                if let Some(owned) = state.owned.get_mut(partition) {
                    // What is to be taken again was told of by nobody else: it is just dropped.
                    if owned.phase == Phase::Held {
                        owned.phase = Phase::Revoking;
                        revoking.push(owned.lease.clone());
                    } else {
                        owned.phase = Phase::Released;
                    }
                }
            }
            revoking
        });
        if !revoking.is_empty() {
            let mut events = lock(&self.events);
            events.forget(&revoking);
            events.push(Event::Revoking(revoking));
        }
        self.await_releases(consumer, partitions);
        let (lost, _) = self.me.with(|state| {
            let overdue = |partition: &&TopicPartition| {
                state.owned.get(*partition).is_some_and(|owned| owned.phase == Phase::Revoking)
            };
            let overdue: Vec<TopicPartition> = partitions.iter().filter(overdue).cloned().collect();
            (take(&mut state.owned, &overdue), take(&mut state.owned, partitions))
        });
        for lease in &lost {
            warn!(group = &*self.me.group, partition = %lease.partition, epoch = lease.epoch, "not released in time, given up");
        }
        self.tell_lost(lost);
    }

    fn await_releases(&self, consumer: &MemberConsumer, partitions: &[TopicPartition]) {
        let deadline = Instant::now() + self.me.shared.options.release_timeout;
        loop {
            let clear = lock(&self.events).flush();
            let pause = if clear { RELEASE_INTERVAL } else { FLUSH_INTERVAL };
            let mut released = false;
            self.me.wait(pause.min(deadline.saturating_duration_since(Instant::now())), |state| {
                let awaited =
                    |partition| state.owned.get(partition).is_some_and(|owned| owned.phase == Phase::Revoking);
                released = state.leave.is_some() || !partitions.iter().any(awaited);
                released
            });
            let closed = lock(&self.events).is_closed() || self.me.shared.is_closing();
            if released || closed || Instant::now() >= deadline || consumer.assignment_lost() {
                return;
            }
        }
    }

    fn tell_lost(&self, lost: Vec<Lease>) {
        if !lost.is_empty() {
            let mut events = lock(&self.events);
            events.forget(&lost);
            events.push(Event::Lost(lost));
        }
    }

    /// Gives the partitions of a number up and takes them again, from their last commits on.
    pub fn restart(&self, consumer: &MemberConsumer, number: u32) -> Result<(), Error> {
        let epoch = self.take(&[number])?[&number];
        let (mut old, mut starts) = (Vec::new(), Vec::new());
        self.me.peek(|state| {
            for owned in self.me.together(number).filter_map(|partition| state.owned.get(&partition)) {
                let (offset, metadata) = owned.committed.clone();
                old.push(owned.lease.clone());
                starts.push((Lease { epoch, ..owned.lease.clone() }, Start { offset, metadata }));
            }
        });
        let list = self.list(starts.iter().map(|(lease, start)| (&lease.partition, start.offset)));
        let reassigned = list.and_then(|list| self.reassign(consumer, &list, false));
        reassigned.map_err(|error| client::failure(&error))?;
        lock(&self.events).forget(&old);
        self.begin(starts);
        Ok(())
    }

    /// Fetches partitions that are ours from the offsets of `list` on, once they are not `paused`.
    pub fn reassign(
        &self,
        consumer: &MemberConsumer,
        list: &TopicPartitionList,
        paused: bool,
    ) -> Result<(), KafkaError> {
        consumer.incremental_unassign(list)?;
        consumer.incremental_assign(list)?;
        if paused { Ok(()) } else { consumer.resume(list) }
    }

    /// Partitions as Kafka knows them, each with an offset.
    pub fn list<'a>(
        &self,
        places: impl IntoIterator<Item = (&'a TopicPartition, u64)>,
    ) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (at, offset) in places {
            list.add_partition_offset(&self.me.shared.name(&at.topic), number(at.partition), raw(offset))?;
        }
        Ok(list)
    }

    pub fn partition(&self, name: &str, number: i32) -> Option<TopicPartition> {
        let (_, topic) = self.me.topics.iter().find(|(known, _)| known == name)?;
        Some(TopicPartition::new(topic.clone(), u32::try_from(number).ok()?))
    }

    fn together(&self, numbers: &[u32]) -> Vec<TopicPartition> {
        numbers.iter().flat_map(|number| self.me.together(*number)).collect()
    }
}

/// What the group gives or asks back, all of it of the topic that leads.
fn numbers(list: &TopicPartitionList) -> Vec<u32> {
    list.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok()).collect()
}

/// Where a partition starts whose first record is `low`.
fn start(partition: &TopicPartition, low: u64, committed: Option<&(u64, String)>) -> Start {
    match committed {
        Some((offset, metadata)) if *offset >= low => Start { offset: *offset, metadata: metadata.clone() },
        Some((offset, _)) => {
            error!(%partition, committed = offset, start = low, "records were deleted that this group had not finished");
            metrics::record_skipped(&partition.topic);
            Start { offset: low, metadata: String::new() }
        }
        None => Start { offset: low, metadata: String::new() },
    }
}

/// Removes `partitions` from what is ours.
fn take(owned: &mut BTreeMap<TopicPartition, Owned>, partitions: &[TopicPartition]) -> Vec<Lease> {
    partitions.iter().filter_map(|partition| owned.remove(partition)).map(|owned| owned.lease).collect()
}

#[cfg(test)]
mod tests {
    use chat4all_proto::Topic;

    use super::*;

    #[test]
    fn a_partition_starts_at_its_commit_or_at_the_first_record_there_is() {
        let check = |low, committed: Option<(u64, &str)>, expected: (u64, &str)| {
            let committed = committed.map(|(offset, metadata)| (offset, metadata.to_owned()));
            let start = start(&TopicPartition::new(Topic::Messages, 0), low, committed.as_ref());
            assert_eq!((start.offset, &*start.metadata), expected);
        };
        check(0, None, (0, ""));
        check(5, None, (5, ""));
        check(5, Some((5, "m")), (5, "m"));
        check(5, Some((9, "m")), (9, "m"));
        check(5, Some((4, "m")), (5, ""));
    }
}
