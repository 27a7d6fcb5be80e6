//! The thread that keeps memberships true: writes our members' beats, buries processes that died, takes away what hung
//! members hold, and sees to retention. One a process.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::consumer::Membership;
use super::group::{self, Beat};
use super::job::{Failure, Size};
use super::processes::{self, Dead};
use super::retention;
use super::schema::millis;
use super::shared::{Shared, lock};

/// How often the others are probed.
const PROBE_EVERY: Duration = Duration::from_millis(150);
const RETENTION_EVERY: Duration = Duration::from_secs(30);

pub(super) struct Coordinator {
    shared: Arc<Shared>,
    observed: HashMap<i64, Observed>,
    answers: Arc<Answers>,
    beating: bool,
    /// Beats of ours that were written at all.
    beats_written: u64,
    retaining: bool,
}

/// What the writer's thread leaves for us.
#[derive(Default)]
struct Answers {
    beaten: Mutex<Option<Beaten>>,
    buried: Mutex<Vec<String>>,
    retained: Mutex<Option<bool>>,
}

struct Beaten {
    begun_ms: u64,
    ours: Vec<(Arc<Membership>, i64, i64)>,
    all: Result<Vec<Beat>, Failure>,
}

/// Another member's beat, since when it stands still, and how many of ours were written since.
struct Observed {
    beat: i64,
    since: Instant,
    beats_written: u64,
}

impl Coordinator {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            observed: HashMap::new(),
            answers: Arc::default(),
            beating: false,
            beats_written: 0,
            retaining: false,
        }
    }

    pub(super) fn run(mut self) {
        let mut beat_at = Instant::now();
        let mut retain_at = Instant::now() + RETENTION_EVERY;
        let mut burying = HashSet::new();
        self.clear_missing();
        while !self.shared.has_ended() {
            let now = Instant::now();
            self.take_answers(&mut burying);
            if now >= beat_at && !self.beating {
                self.beat();
                beat_at = now + self.shared.options.heartbeat_interval;
            }
            self.bury_dead(&mut burying);
            if now >= retain_at && !self.retaining {
                self.retain();
                retain_at = now + RETENTION_EVERY;
            }
            let pause = PROBE_EVERY.min(self.shared.options.heartbeat_interval);
            self.shared.coordinator.wait(pause);
        }
    }

    fn take_answers(&mut self, burying: &mut HashSet<String>) {
        for process in lock(&self.answers.buried).drain(..) {
            burying.remove(&process);
        }
        let beaten = lock(&self.answers.beaten).take();
        if let Some(beaten) = beaten {
            self.beating = false;
            self.take_beaten(beaten);
        }
        let retained = lock(&self.answers.retained).take();
        if let Some(more) = retained {
            self.retaining = false;
            if more {
                self.retain();
            }
        }
    }

    /// Writes what our poll threads have counted.
    fn beat(&mut self) {
        let ours: Vec<_> = self
            .shared
            .memberships()
            .into_iter()
            .filter_map(|membership| {
                let beat = membership.beat.load(Ordering::SeqCst);
                membership.member_id().map(|member| (membership, member, beat))
            })
            .collect();
        if ours.is_empty() {
            return;
        }
        self.beating = true;
        let begun_ms = millis(self.shared.started.elapsed());
        let rows: Vec<(i64, i64)> = ours.iter().map(|(_, member, beat)| (*member, *beat)).collect();
        let (answers, shared) = (self.answers.clone(), self.shared.clone());
        let reply = move |all| {
            *lock(&answers.beaten) = Some(Beaten { begun_ms, ours, all });
            shared.coordinator.raise();
        };
        self.shared.submit(Size::default(), move |tx| group::beat(tx, &rows), reply);
    }

    fn take_beaten(&mut self, beaten: Beaten) {
        let all = match beaten.all {
            Ok(all) => all,
            Err(failure) => {
                warn!(?failure, "the heartbeat could not be written");
                return;
            }
        };
        self.beats_written += 1;
        for (membership, member, beat) in beaten.ours {
            if !all.iter().any(|other| other.member == member) {
                membership.tell(|inbox| inbox.look = true);
            } else if self.observed.get(&member).is_none_or(|observed| observed.beat != beat) {
                // A poll thread that stands still is not confirmed.
                membership.confirm(beaten.begun_ms);
            }
        }
        self.observe(all);
    }

    /// Takes away what a member holds whose beat stood still for a session, if we ourselves could write all the while.
    fn observe(&mut self, all: Vec<Beat>) {
        let Options { session, beats_min } = Options::of(&self.shared);
        let present: HashSet<i64> = all.iter().map(|beat| beat.member).collect();
        self.observed.retain(|member, _| present.contains(member));
        for beat in all {
            let fresh = || Observed { beat: beat.beat, since: Instant::now(), beats_written: self.beats_written };
            let observed = self.observed.entry(beat.member).or_insert_with(fresh);
            if observed.beat != beat.beat {
                *observed = fresh();
            } else if observed.since.elapsed() >= session && self.beats_written - observed.beats_written >= beats_min {
                let stood_still = observed.since.elapsed();
                *observed = fresh();
                self.take_from_hung(beat, stood_still);
            }
        }
    }

    fn take_from_hung(&self, hung: Beat, stood_still: Duration) {
        let (member, beat) = (hung.member, hung.beat);
        let reply = move |removed: Result<bool, Failure>| {
            if matches!(removed, Ok(true)) {
                warn!(
                    pid = hung.pid,
                    process = hung.process,
                    stood_still_ms = millis(stood_still),
                    "a member hangs: its partitions go to others"
                );
            }
        };
        self.shared.submit(Size::default(), move |tx| group::remove_hung(tx, member, beat), reply);
    }

    fn clear_missing(&self) {
        let members = self.shared.folder.join(processes::FOLDER);
        let run = move |tx: &mut super::tx::Tx<'_>| group::remove_missing(tx, |process| members.join(process).exists());
        self.shared.submit(Size::default(), run, |removed| {
            if let Err(failure) = removed {
                warn!(?failure, "processes of another copy of this folder could not be cleared away");
            }
        });
    }

    fn bury_dead(&self, burying: &mut HashSet<String>) {
        match processes::find_dead(&self.shared.folder.join(processes::FOLDER), &self.shared.process) {
            Ok((dead, alive)) => {
                if self.shared.others.swap(alive > 0, Ordering::SeqCst) != (alive > 0) {
                    self.shared.watcher.raise();
                }
                for dead in dead {
                    if burying.insert(dead.process.clone()) {
                        self.bury(dead);
                    }
                }
            }
            Err(error) => warn!(%error, "the other processes cannot be probed"),
        }
    }

    fn bury(&self, dead: Dead) {
        let process = dead.process.clone();
        let (answers, shared) = (self.answers.clone(), self.shared.clone());
        let reply = move |removed| {
            lock(&answers.buried).push(dead.process.clone());
            report_burial(&removed);
            if removed.is_ok() {
                dead.remove_file();
            }
            shared.coordinator.raise();
        };
        self.shared.submit(Size::default(), move |tx| group::remove_process(tx, &process), reply);
    }

    fn retain(&mut self) {
        self.retaining = true;
        let (answers, shared) = (self.answers.clone(), self.shared.clone());
        let reply = move |more: Result<bool, Failure>| {
            *lock(&answers.retained) = Some(more.unwrap_or(false));
            shared.coordinator.raise();
        };
        self.shared.submit(Size::default(), retention::delete_some, reply);
    }
}

fn report_burial(removed: &Result<Option<(u32, usize)>, Failure>) {
    match removed {
        Ok(Some((pid, partitions))) if *partitions > 0 => {
            warn!(pid, partitions, "a process died: its partitions go to others");
        }
        Ok(Some((pid, _))) => info!(pid, "a process died; it held no partition"),
        Ok(None) => {}
        Err(failure) => warn!(?failure, "a dead process could not be cleared away, trying again"),
    }
}

/// The rule of when a member hangs.
struct Options {
    session: Duration,
    /// So many heartbeats of our own must have been written since.
    beats_min: u64,
}

impl Options {
    fn of(shared: &Shared) -> Self {
        let (session, interval) = (shared.options.session_timeout, shared.options.heartbeat_interval);
        let beats = session.as_millis() / interval.as_millis().max(1);
        Self { session, beats_min: u64::try_from(beats).unwrap_or(u64::MAX).max(1) }
    }
}
