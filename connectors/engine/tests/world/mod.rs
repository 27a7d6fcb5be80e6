//! The simulated world around one engine, and the rules it holds the engine to.

mod judge;
mod script;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_engine::{Arrival, Attempt, Command, Engine, Event, Finished, Now, Passed, Policy, retry};
use chat4all_proto::outcome::{Outcome, Report};
use chat4all_proto::progress::FinishedSet;
use chat4all_proto::{DeliveryStatus, Timestamp};

pub use judge::Figures;
use judge::Judge;
use script::{Random, Written};

const BEGIN: Timestamp = Timestamp::from_millis(1_795_300_000_000);
const COMMIT_EVERY_MS: u64 = 50;
const SLOTS: usize = 16;
/// Crashes and the provider's faults end here.
const FAULTS_END_MS: u64 = 40_000;
/// Whatever still waits for its retry has had its time.
const REST_MS: u64 = 400_000;

/// A rule that the world breaks, to prove the judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    None,
    CommitsWhatIsInFlight,
    ForgetsTheFinishedSet,
    ForgetsTheIds,
    ForgetsTheRouter,
    AcknowledgesUnwritten,
    MixesLanes,
    StartsWhileDraining,
}

/// What will happen, and under which lease it was set going: a crash cancels what the lease had waiting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Coming {
    Write,
    Commit,
    Crash,
    Drain,
    CallersDie,
    Wake { lease: u64 },
    Answer { lease: u64, callers: u64, offset: u64, answer: Answer },
    Acknowledge { lease: u64, offset: u64, ends: bool },
    Released { lease: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Taken,
    /// The receiver had it, and we never learnt.
    TakenAndLost,
    NotTakenAndLost,
    Failed,
    Slow,
    Refused,
    Gone,
}

pub struct World {
    random: Random,
    mutant: Mutant,
    begin: Instant,
    now_ms: u64,
    order: u64,
    coming: BinaryHeap<Reverse<(u64, u64, Coming)>>,
    /// Everything the router will write, and how much of it it has written.
    log: Vec<Written>,
    written: usize,
    fed: usize,
    committed: (u64, String),
    engine: Engine,
    lease: u64,
    /// Rises when all callers die: what they would have answered never comes.
    callers: u64,
    held: bool,
    draining: bool,
    judge: Judge,
}

impl World {
    pub fn new(seed: u64, mutant: Mutant) -> Self {
        let mut random = Random::new(seed);
        let log = script::write(&mut random, BEGIN);
        let judge = Judge::new(&log);
        let mut world = Self {
            engine: Engine::new(policy(), 0, FinishedSet::default()),
            random,
            mutant,
            begin: Instant::now(),
            now_ms: 0,
            order: 0,
            coming: BinaryHeap::new(),
            log,
            written: 0,
            fed: 0,
            committed: (0, String::new()),
            lease: 0,
            callers: 0,
            held: false,
            draining: false,
            judge,
        };
        world.after(0, Coming::Write);
        world.after(COMMIT_EVERY_MS, Coming::Commit);
        for _ in 0..3 + world.random.below(8) {
            let at = world.random.below(FAULTS_END_MS);
            let fault = match world.random.below(4) {
                0 => Coming::Drain,
                1 => Coming::CallersDie,
                _ => Coming::Crash,
            };
            world.after(at, fault);
        }
        world
    }

    pub fn run(mut self) -> Result<Figures, String> {
        while let Some(Reverse((at, _, coming))) = self.coming.pop() {
            self.now_ms = at;
            if at > REST_MS {
                break;
            }
            self.happen(coming)?;
            self.go_on()?;
        }
        self.judge.at_rest(self.committed.0, &self.log)
    }

    fn after(&mut self, ms: u64, coming: Coming) {
        self.order += 1;
        self.coming.push(Reverse((self.now_ms + ms, self.order, coming)));
    }

    fn happen(&mut self, coming: Coming) -> Result<(), String> {
        match coming {
            Coming::Write => {
                self.written = (self.written + 1 + self.random.below(10) as usize).min(self.log.len());
                if self.written < self.log.len() {
                    let pause = self.random.below(300);
                    self.after(pause, Coming::Write);
                }
            }
            Coming::Commit => {
                self.commit();
                let (watermark, metadata) = self.committed.clone();
                self.feed(Event::Committed { watermark, metadata })?;
                self.after(COMMIT_EVERY_MS, Coming::Commit);
            }
            Coming::Crash => {
                self.judge.crashed();
                self.cut_off()?;
                self.take_over();
            }
            Coming::Drain => {
                self.feed(Event::Drain)?;
                self.draining = true;
                self.judge.draining();
            }
            Coming::CallersDie => {
                for offset in self.cut_off()? {
                    self.feed(Event::Abandoned { offset })?;
                }
            }
            Coming::Wake { lease } if lease == self.lease => self.feed(Event::Tick)?,
            Coming::Answer { lease, callers, offset, answer } if (lease, callers) == (self.lease, self.callers) => {
                self.answer(offset, answer)?;
            }
            Coming::Acknowledge { lease, offset, ends } if lease == self.lease => {
                if let Some(status) = self.judge.acknowledged(offset, ends)
                    && ends
                {
                    self.judge.ended(offset, status)?;
                    if self.mutant != Mutant::AcknowledgesUnwritten {
                        self.feed(Event::Published { offset })?;
                    }
                }
            }
            Coming::Released { lease } if lease == self.lease => {
                self.commit();
                self.judge.released()?;
                self.take_over();
            }
            Coming::Wake { .. } | Coming::Answer { .. } | Coming::Acknowledge { .. } | Coming::Released { .. } => {}
        }
        Ok(())
    }

    /// Whoever called the provider is gone: some of the requests had arrived. What was in flight.
    fn cut_off(&mut self) -> Result<Vec<u64>, String> {
        self.callers += 1;
        let offsets = self.judge.cut_off();
        for &offset in &offsets {
            if self.random.below(2) == 0 {
                self.judge.taken(offset, false)?;
            }
        }
        Ok(offsets)
    }

    fn commit(&mut self) {
        self.committed = self.engine.commit();
        if self.mutant == Mutant::CommitsWhatIsInFlight {
            self.committed = (self.log[..self.fed].last().map_or(0, |written| written.offset + 1), String::new());
        }
        if self.mutant == Mutant::ForgetsTheFinishedSet {
            self.committed.1.clear();
        }
    }

    /// The next holder begins from the last commit; nothing of the last one is left but what the log has.
    fn take_over(&mut self) {
        let (watermark, metadata) = self.committed.clone();
        let finished = FinishedSet::decode(&metadata, watermark).expect("the engine wrote it");
        self.fed = self.log.partition_point(|written| written.offset < watermark);
        // The judge knows the true commit, whatever a mutant made of it.
        let (true_watermark, true_metadata) = self.engine.commit();
        let known = match self.mutant {
            Mutant::ForgetsTheFinishedSet => {
                (true_watermark, FinishedSet::decode(&true_metadata, true_watermark).expect("the engine wrote it"))
            }
            _ => (watermark, finished.clone()),
        };
        self.judge.taken_over(known.0, &known.1, &self.log);
        self.engine = Engine::new(policy(), watermark, finished);
        if self.mutant != Mutant::ForgetsTheIds {
            let at = self.now().wall;
            let recent = self.log[..self.fed].iter().map(|written| Passed {
                id: written.id(),
                router_epoch: (self.mutant != Mutant::ForgetsTheRouter).then_some(written.delivery.router_epoch),
                at,
            });
            self.engine.remember(recent);
        }
        self.lease += 1;
        (self.held, self.draining) = (false, false);
    }

    /// Feeds what the log has, starts what can start, and notes when to look again.
    fn go_on(&mut self) -> Result<(), String> {
        while !self.held && !self.draining && self.fed < self.written {
            let written = &self.log[self.fed];
            let arrival = Arrival { offset: written.offset, delivery: Some(Arc::clone(&written.delivery)) };
            self.fed += 1;
            self.feed(Event::Arrived(arrival))?;
        }
        let slots = SLOTS - self.engine.in_flight().min(SLOTS);
        self.feed(Event::Slots(slots))?;
        if let Some(wake) = self.engine.next_wake() {
            let in_ms = wake.saturating_duration_since(self.instant()).as_micros().div_ceil(1_000) as u64;
            let lease = self.lease;
            self.after(in_ms.max(1), Coming::Wake { lease });
        }
        if self.draining && self.engine.is_quiet() {
            let lease = self.lease;
            self.after(1, Coming::Released { lease });
        }
        Ok(())
    }

    fn feed(&mut self, event: Event) -> Result<(), String> {
        let mut commands = Vec::new();
        self.engine.handle(event, self.now(), &mut commands);
        commands.into_iter().try_for_each(|command| self.obey(command))
    }

    fn obey(&mut self, command: Command) -> Result<(), String> {
        match command {
            Command::Start(attempt) => self.call(attempt),
            Command::Publish { offset, event, dead_letter, ends } => {
                if (event.status == DeliveryStatus::Failed) != dead_letter.is_some() {
                    return Err(format!("offset {offset}: failed and dead letter go together"));
                }
                self.judge.published(offset, event.status, ends)?;
                let (delay, lease) = (1 + self.random.below(20), self.lease);
                if ends && self.mutant == Mutant::AcknowledgesUnwritten {
                    // Told that it is written; a crash before `delay` has passed takes it away.
                    self.feed(Event::Published { offset })?;
                }
                self.after(delay, Coming::Acknowledge { lease, offset, ends });
                Ok(())
            }
            Command::Finish { .. } => Ok(()),
            Command::Hold(held) => {
                self.held = held;
                Ok(())
            }
        }
    }

    fn call(&mut self, attempt: Attempt) -> Result<(), String> {
        if self.mutant == Mutant::MixesLanes && self.random.below(4) == 0 {
            let (lease, callers, offset) = (self.lease, self.callers, attempt.offset);
            self.after(2_000, Coming::Answer { lease, callers, offset, answer: Answer::Taken });
            self.judge.started(&attempt, self.now().wall)?;
            // Tells the engine that it failed long before the truth is known.
            let report = Report::new(Outcome::MessageRejected, None, None);
            let jitter = retry::Unit::new(0.5);
            return self.feed(Event::Finished(Finished { offset, report, took: Duration::ZERO, jitter }));
        }
        self.judge.started(&attempt, self.now().wall)?;
        let calm = self.now_ms > FAULTS_END_MS;
        let answer = match self.random.below(100) {
            _ if calm => Answer::Taken,
            0..70 => Answer::Taken,
            70..75 => Answer::TakenAndLost,
            75..80 => Answer::NotTakenAndLost,
            80..92 => Answer::Failed,
            92..97 => Answer::Slow,
            97..99 => Answer::Refused,
            _ => Answer::Gone,
        };
        let took = if self.random.below(20) == 0 { self.random.below(3_000) } else { self.random.below(40) };
        let (lease, callers, offset) = (self.lease, self.callers, attempt.offset);
        self.after(1 + took, Coming::Answer { lease, callers, offset, answer });
        Ok(())
    }

    fn answer(&mut self, offset: u64, answer: Answer) -> Result<(), String> {
        if matches!(answer, Answer::Taken | Answer::TakenAndLost) {
            self.judge.taken(offset, answer == Answer::Taken)?;
        }
        self.judge.answered(offset);
        let outcome = match answer {
            Answer::Taken => Outcome::Accepted { provider_id: None },
            Answer::TakenAndLost | Answer::NotTakenAndLost => Outcome::Ambiguous,
            Answer::Failed => Outcome::TRANSIENT,
            Answer::Slow => Outcome::Throttled { after: Some(Duration::from_millis(self.random.below(5_000))) },
            Answer::Refused => Outcome::MessageRejected,
            Answer::Gone => Outcome::RecipientGone,
        };
        self.judge.counted(offset, &outcome);
        let report = Report::new(outcome, None, None);
        let jitter = retry::Unit::new(self.random.below(1_000) as f64 / 1_000.0);
        self.feed(Event::Finished(Finished { offset, report, took: Duration::from_millis(1), jitter }))?;
        if self.mutant == Mutant::StartsWhileDraining && self.draining {
            // A holder that takes up work again after it had said that it would not.
            let (watermark, metadata) = self.engine.commit();
            let finished = FinishedSet::decode(&metadata, watermark).expect("the engine wrote it");
            self.engine = Engine::new(policy(), watermark, finished);
            self.fed = self.log.partition_point(|written| written.offset < watermark);
            self.draining = false;
        }
        Ok(())
    }

    fn instant(&self) -> Instant {
        self.begin + Duration::from_millis(self.now_ms)
    }

    fn now(&self) -> Now {
        Now { instant: self.instant(), wall: BEGIN.saturating_add(Duration::from_millis(self.now_ms)) }
    }
}

fn policy() -> Policy {
    Policy {
        retry: retry::Policy::default(),
        accepted: DeliveryStatus::Delivered,
        has_receipts: false,
        resend_ambiguous: true,
        topic: "hook-outbound".into(),
        partition: 0,
        repeats_kept: Duration::from_secs(3_600),
    }
}
