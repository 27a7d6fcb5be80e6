//! The commit thread of one membership. It is not the polling thread: a commit during a rebalance may block for seconds.
//! All commits that wait go in one request; when none does, one of them is repeated, since each answer confirms that the
//! coordinator still counts us among its members.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_proto::TopicPartition;
use chat4all_storage::log::{Commit, Error, Lease};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use crate::client::failure;
use crate::consumer::{Membership, State};
use crate::metrics;
use crate::read::{number, raw};
use crate::rebalance::MemberConsumer;

/// Before a commit is tried again that a rebalance held up.
const RETRY: Duration = Duration::from_millis(100);
/// All commits that stand are repeated so often. For a topic that the group does not know, Kafka forgets a commit some
/// time after it was made (`offsets.retention.minutes`), though we go on holding the partition.
const RENEW_INTERVAL: Duration = Duration::from_secs(3_600);

/// Commits of one call, and who waits for them.
pub(crate) struct Job {
    pub commits: Vec<Commit>,
    pub reply: oneshot::Sender<Result<Vec<Lease>, Error>>,
    pub deadline: Instant,
}

impl Job {
    /// Tells the caller which leases were not `written`.
    pub fn answer(self, written: impl Fn(&Lease) -> bool) {
        let mut refused: Vec<Lease> = Vec::new();
        for Commit { lease, .. } in self.commits {
            if !written(&lease) && !refused.contains(&lease) {
                refused.push(lease);
            }
        }
        metrics::record_refused(refused.len());
        let _ = self.reply.send(Ok(refused));
    }

    fn fail(self, error: Error) {
        let _ = self.reply.send(Err(error));
    }
}

pub(crate) struct Committer {
    me: Arc<Membership>,
    consumer: Arc<MemberConsumer>,
    probe_interval: Duration,
    probed_at: Option<Instant>,
    renewed_at: Instant,
}

/// What goes in one request.
struct Round {
    jobs: Vec<Job>,
    commits: BTreeMap<TopicPartition, Commit>,
    /// The assignments up to then.
    assigned: u64,
}

impl Committer {
    pub fn new(me: Arc<Membership>, consumer: Arc<MemberConsumer>) -> Self {
        let probe_interval = me.shared.options.session_timeout / 10;
        Self { me, consumer, probe_interval, probed_at: None, renewed_at: Instant::now() }
    }

    /// Until the poll thread has ended the membership.
    pub fn run(mut self) {
        loop {
            let due = self.probed_at.map_or(Duration::ZERO, |at| self.probe_interval.saturating_sub(at.elapsed()));
            self.me.wait(due, |state| state.ended || !state.silent && (state.probe || !state.jobs.is_empty()));
            let mut ended = false;
            let renew = self.renewed_at.elapsed() >= RENEW_INTERVAL;
            let round = self.me.with(|state| {
                ended = state.ended;
                gather(state, renew)
            });
            if ended {
                return;
            }
            // Even when there is nothing to probe with: it would be due all the time.
            self.probed_at = Some(Instant::now());
            if renew && !round.commits.is_empty() {
                self.renewed_at = Instant::now();
            }
            if !round.commits.is_empty() {
                self.write(round);
            }
        }
    }

    fn write(&self, round: Round) {
        let begun = Instant::now();
        match list(&self.me, &round.commits).and_then(|list| self.consumer.commit(&list, CommitMode::Sync)) {
            Ok(()) => {
                self.me.confirm(begun);
                self.written(round);
            }
            Err(error) => self.failed(round, &error),
        }
    }

    fn written(&self, Round { jobs, commits, .. }: Round) {
        self.me.with(|state| {
            for (partition, commit) in &commits {
                if let Some(owned) = state.owned.get_mut(partition).filter(|owned| owned.lease == commit.lease) {
                    owned.committed = (commit.offset, commit.metadata.clone());
                }
            }
        });
        let written = |lease: &Lease| commits.get(&lease.partition).is_some_and(|commit| commit.lease == *lease);
        jobs.into_iter().for_each(|job| job.answer(written));
    }

    fn failed(&self, round: Round, error: &KafkaError) {
        match error.rdkafka_error_code() {
            Some(Code::UnknownMemberId | Code::FencedInstanceId) => {
                debug!(group = &*self.me.group, %error, "a commit came too late");
                self.me.with(|state| {
                    // An answer may be so late that we have joined again meanwhile.
                    if state.assigned == round.assigned {
                        state.silent = true;
                        self.me.unconfirm();
                    }
                });
                round.jobs.into_iter().for_each(|job| job.answer(|_| false));
            }
            Some(
                Code::IllegalGeneration
                | Code::RebalanceInProgress
                | Code::NotCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::WaitingForCoordinator,
            ) => {
                debug!(group = &*self.me.group, %error, "a commit is held up, trying again");
                self.me.with(|state| round.jobs.into_iter().rev().for_each(|job| state.jobs.push_front(job)));
                self.me.wait(RETRY, |state| state.ended || state.probe);
            }
            _ => {
                warn!(group = &*self.me.group, %error, "a commit failed");
                round.jobs.into_iter().for_each(|job| job.fail(failure(error)));
            }
        }
    }
}

/// Takes the jobs that can be done now, the newest commit of each partition, or one to probe with; with `renew`, all the
/// others that stand too.
fn gather(state: &mut State, renew: bool) -> Round {
    let mut round = Round { jobs: Vec::new(), commits: BTreeMap::new(), assigned: state.assigned };
    for job in std::mem::take(&mut state.jobs) {
        if !job.commits.iter().any(|commit| state.holds(&commit.lease)) {
            job.answer(|_| false);
        } else if job.deadline <= Instant::now() {
            job.fail(Error::Unavailable("a rebalance took too long".into()));
        } else if state.silent {
            state.jobs.push_back(job);
        } else {
            let held = job.commits.iter().filter(|commit| state.holds(&commit.lease));
            let held: Vec<_> = held.map(|commit| (commit.lease.partition.clone(), commit.clone())).collect();
            round.commits.extend(held);
            round.jobs.push(job);
        }
    }
    if !state.silent {
        if renew {
            standing(state).for_each(|commit| {
                round.commits.entry(commit.lease.partition.clone()).or_insert(commit);
            });
        } else if round.commits.is_empty() {
            let shortest = standing(state).min_by_key(|commit| commit.metadata.len());
            round.commits.extend(shortest.map(|commit| (commit.lease.partition.clone(), commit)));
        }
        state.probe = false;
    }
    round
}

/// The commits that are there already.
fn standing(state: &State) -> impl Iterator<Item = Commit> {
    state.owned.values().filter(|owned| state.holds(&owned.lease)).map(|owned| {
        let (offset, metadata) = owned.committed.clone();
        Commit { lease: owned.lease.clone(), offset, metadata }
    })
}

/// A new list each time: metadata set twice on one would leak.
fn list(me: &Membership, commits: &BTreeMap<TopicPartition, Commit>) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for (partition, commit) in commits {
        let mut element = list.add_partition(&me.shared.name(&partition.topic), number(partition.partition));
        element.set_offset(raw(commit.offset))?;
        if !commit.metadata.is_empty() {
            element.set_metadata(&commit.metadata);
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use chat4all_proto::Topic;

    use super::*;
    use crate::consumer::{Owned, Phase};

    fn lease(partition: u32, epoch: u64) -> Lease {
        Lease { partition: TopicPartition::new(Topic::Messages, partition), epoch }
    }

    fn commit(lease: Lease, offset: u64) -> Commit {
        Commit { lease, offset, metadata: String::new() }
    }

    /// A member that holds partition 0 under epoch 5, with one job that commits `commits`.
    fn state(phase: Phase, commits: Vec<Commit>) -> (State, oneshot::Receiver<Result<Vec<Lease>, Error>>) {
        let mut state = State::default();
        let lease = lease(0, 5);
        let owned = Owned { lease: lease.clone(), committed: (3, "m".into()), position: 9, paused: false, phase };
        state.owned.insert(lease.partition.clone(), owned);
        let (reply, answer) = oneshot::channel();
        state.jobs.push_back(Job { commits, reply, deadline: Instant::now() + Duration::from_secs(60) });
        (state, answer)
    }

    fn offsets(round: &Round) -> Vec<u64> {
        round.commits.values().map(|commit| commit.offset).collect()
    }

    #[test]
    fn the_newest_commit_of_a_held_lease_is_written() {
        let check = |phase, commits: &[(u64, u64)], expected: &[u64]| {
            let commits = commits.iter().map(|(epoch, offset)| commit(lease(0, *epoch), *offset)).collect();
            let (mut state, _answer) = state(phase, commits);
            assert_eq!(offsets(&gather(&mut state, false)), expected);
        };
        check(Phase::Held, &[(5, 7), (5, 8)], &[8]);
        check(Phase::Held, &[(5, 7), (4, 8)], &[7]);
        check(Phase::Revoking, &[(5, 7)], &[7]);
        check(Phase::Released, &[(5, 7)], &[]);
        check(Phase::Restarting, &[(5, 7)], &[]);
        check(Phase::Held, &[(4, 7)], &[3]); // the probe
    }

    #[test]
    fn what_stands_is_renewed_beside_what_is_new() {
        let (mut state, _answer) = state(Phase::Held, vec![commit(lease(0, 5), 7)]);
        let (lease, committed) = (lease(1, 6), (4, "m".into()));
        let owned = Owned { lease: lease.clone(), committed, position: 9, paused: false, phase: Phase::Held };
        state.owned.insert(lease.partition.clone(), owned);
        assert_eq!(offsets(&gather(&mut state, true)), [7, 4]);
        assert_eq!(offsets(&gather(&mut state, true)), [3, 4]);
        state.silent = true;
        assert!(offsets(&gather(&mut state, true)).is_empty());
    }

    #[test]
    fn a_stale_lease_is_answered_at_once() {
        let (mut state, mut answer) = state(Phase::Held, vec![commit(lease(0, 4), 7), commit(lease(1, 5), 7)]);
        gather(&mut state, false);
        assert_eq!(answer.try_recv(), Ok(Ok(vec![lease(0, 4), lease(1, 5)])));
    }

    #[test]
    fn a_silent_member_commits_nothing() {
        let (mut state, mut answer) = state(Phase::Held, vec![commit(lease(0, 5), 7)]);
        state.silent = true;
        assert!(offsets(&gather(&mut state, false)).is_empty());
        assert!(answer.try_recv().is_err(), "it waits");
        state.silent = false;
        assert_eq!(offsets(&gather(&mut state, false)), [7]);
    }
}
