//! The simulated world: two partitions of a channel, two processes with a gate each, a log, routers, a provider. Virtual
//! time; everything follows from one seed.

mod judge;
mod provider;
mod script;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_engine::gate::{self, Gate, Limits};
use chat4all_engine::{
    Arrival, At, Attempt, Begin, Carried, Command, Commits, Engine, Event, Finished, Load, Now, Passed, Policy, Source,
    breaker, retry,
};
use chat4all_proto::envelope::{Parked, Reason};
use chat4all_proto::progress::FinishedSet;
use chat4all_proto::{DeliveryId, DeliveryStatus, MessageId, Timestamp};

pub use judge::Figures;
use judge::{Judge, RETURN_MAX_MS};
use provider::{Answer, Kind, Provider};
use script::{Fate, Fault, HOSTS, Random, Written};

const BEGIN: Timestamp = Timestamp::from_millis(1_795_300_000_000);
const COMMIT_EVERY_MS: u64 = 50;
/// Of a process.
const SLOTS: usize = 16;
/// Most records of a topic's partition in memory, but for a batch.
const RECORDS_MAX: usize = 60;
const BATCH: usize = 10;
/// Crashes and the provider's faults end here.
const FAULTS_END_MS: u64 = 60_000;
/// Whatever still waits for its retry has had its time.
const REST_MS: u64 = 900_000;
/// In calm worlds: until when what was written must have ended long ago.
const CALM_MS: u64 = 45_000;

/// A rule that the world breaks, to prove the judge. The engine's own defects are `chat4all_engine::mutant::Mutant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A commit of a lease that is gone is written.
    IgnoresLease,
    /// A commit loses the finished set.
    ForgetsFinishedSet,
    /// A commit says that everything read is finished.
    CommitsWhatIsInFlight,
    /// The log acknowledges what it has not written.
    AcknowledgesUnwritten,
}

/// What will happen, and under which lease it was set going: a takeover cancels what the lease had waiting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Coming {
    Write {
        partition: usize,
    },
    Commit {
        partition: usize,
    },
    Fault(Fault),
    Resume,
    Wake {
        partition: usize,
        lease: u64,
    },
    Answer {
        partition: usize,
        lease: u64,
        callers: u64,
        at: (bool, u64),
        answer: Answer,
    },
    Flushed {
        partition: usize,
        lease: u64,
    },
    Released {
        partition: usize,
        lease: u64,
    },
    /// What a former holder had on its way to the log.
    LateCopies {
        partition: usize,
        copies: usize,
    },
    LateCommit {
        partition: usize,
        lease: u64,
    },
    /// A provider has been back for long enough that somebody must have called.
    Returned {
        side: usize,
        at_ms: u64,
    },
    Calm,
}

/// What waits to be appended.
enum Item {
    Status,
    End(At),
    Park(At, Parked),
}

struct Process {
    gate: Gate,
    /// Rises when it loses sight of calls.
    life: u64,
    callers: u64,
}

struct Partition {
    /// Everything the routers will write, and how much of it they have written.
    log: Vec<Written>,
    written: usize,
    router_epoch: u64,
    parked: Vec<Parked>,
    fed: [usize; 2],
    in_memory: [usize; 2],
    /// By the bound on what is in memory, and by the engine.
    full: [bool; 2],
    held: [bool; 2],
    committed: Commits,
    /// What was committed in truth, where a broken world wrote something else.
    true_commits: Commits,
    engine: Engine,
    lease: u64,
    process: usize,
    draining: bool,
    outbox: VecDeque<Item>,
    under_way: Vec<Item>,
    /// What former holders still have on their way.
    late: HashMap<u64, Commits>,
    late_copies: VecDeque<Vec<Parked>>,
    woken_for: Option<Instant>,
}

pub struct World {
    random: Random,
    broken: Option<Broken>,
    begin: Instant,
    now_ms: u64,
    skew_ms: i64,
    order: u64,
    coming: BinaryHeap<Reverse<(u64, u64, Coming)>>,
    hosts: bool,
    fates: Vec<Fate>,
    index_of: HashMap<DeliveryId, usize>,
    message_of: Vec<MessageId>,
    provider: Provider,
    partitions: Vec<Partition>,
    processes: Vec<Process>,
    /// Process, life, and when it ended.
    lives: Vec<(usize, u64, u64)>,
    paused: u32,
    cancelled: Arc<HashSet<MessageId>>,
    disturbed_ms: u64,
    judge: Judge,
    trace: Option<Vec<String>>,
}

/// Which of a seed's faults happen: all, or those of these numbers.
pub type Only<'a> = Option<&'a [usize]>;

impl World {
    pub fn new(seed: u64, broken: Option<Broken>, only: Only<'_>) -> Self {
        let mut random = Random::new(seed);
        let hosts = random.one_in(2);
        let calm = hosts && random.one_in(3);
        let mut fates = Vec::new();
        let logs: Vec<Vec<Written>> =
            (0..2).map(|partition| script::write(&mut random, BEGIN, partition, hosts, &mut fates)).collect();
        let mut message_of = vec![MessageId::from_uuid(Default::default()); fates.len()];
        let mut index_of = HashMap::new();
        for written in logs.iter().flatten() {
            message_of[written.index] = written.delivery.message_id;
            index_of.insert(written.delivery.delivery_id, written.index);
        }
        if calm {
            // A destination that answers with 500s may well be left alone for a while.
            fates
                .iter_mut()
                .filter(|fate| matches!(fate, Fate::Poison | Fate::Moody))
                .for_each(|fate| *fate = Fate::Taken);
        }
        let judge = Judge::new([&logs[0], &logs[1]], &fates, |written| side_of(hosts, written));
        let provider = Provider::new(&mut random, hosts, calm);
        let partitions = logs.into_iter().enumerate().map(|(number, log)| Partition::new(log, hosts, number)).collect();
        let mut world = Self {
            broken,
            begin: Instant::now(),
            now_ms: 0,
            skew_ms: 0,
            order: 0,
            coming: BinaryHeap::new(),
            hosts,
            index_of,
            message_of,
            provider,
            partitions,
            processes: (0..2).map(|_| Process { gate: new_gate(), life: 0, callers: 0 }).collect(),
            lives: Vec::new(),
            paused: 0,
            cancelled: Arc::default(),
            disturbed_ms: 0,
            judge,
            trace: None,
            random,
            fates,
        };
        for partition in 0..2 {
            world.processes[partition].gate.join();
            world.after(0, Coming::Write { partition });
            world.after(COMMIT_EVERY_MS, Coming::Commit { partition });
        }
        for spell in world.provider.spells.clone() {
            if spell.kind.is_outage() {
                // A probe of the last moment may hang for as long as an attempt may take.
                let late = if spell.kind == Kind::Hangs { provider::DEADLINE_MS } else { 0 };
                let coming = Coming::Returned { side: spell.side, at_ms: spell.to_ms };
                world.after(spell.to_ms + RETURN_MAX_MS + late, coming);
            }
        }
        if calm {
            world.after(FAULTS_END_MS - 500, Coming::Calm);
        }
        let faults = script::faults(&mut world.random, world.fates.len());
        for (number, (at, fault)) in faults.into_iter().enumerate() {
            let happens = only.is_none_or(|only| only.contains(&number));
            // A calm world is at rest when it is looked at.
            let disturbs = calm && (at > 10_000 || matches!(fault, Fault::Pause { .. }));
            if happens && !disturbs {
                world.judge.figures.faults += 1;
                world.after(at, Coming::Fault(fault));
            }
        }
        world
    }

    /// Keeps what happened, for people.
    pub fn traced(mut self) -> Self {
        self.trace = Some(Vec::new());
        self
    }

    /// What it came to: figures, or what was wrong and what had happened until then, if it was traced.
    pub fn run(mut self) -> Result<Figures, (String, Vec<String>)> {
        match self.live() {
            Ok(()) => {
                let (lives, trace) = (std::mem::take(&mut self.lives), self.trace.take().unwrap_or_default());
                self.judge.at_rest(&self.provider.spells, &lives).map_err(|fault| (fault, trace))
            }
            Err(fault) => {
                let mut trace = self.trace.take().unwrap_or_default();
                trace.extend(self.partitions.iter().map(Partition::summary));
                Err((fault, trace))
            }
        }
    }

    fn live(&mut self) -> Result<(), String> {
        while let Some(Reverse((at, _, coming))) = self.coming.pop() {
            if at > REST_MS || (at > 2 * FAULTS_END_MS + RETURN_MAX_MS && self.is_over()) {
                break;
            }
            self.now_ms = at;
            if let Some(trace) = &mut self.trace
                && !matches!(coming, Coming::Commit { .. } | Coming::Wake { .. } | Coming::Flushed { .. })
            {
                trace.push(format!("{at} ms: {coming:?}"));
            }
            self.happen(coming)?;
            for partition in 0..2 {
                self.go_on(partition)?;
            }
        }
        for (number, partition) in self.partitions.iter().enumerate() {
            let end = partition.log.last().map_or(0, |written| written.offset + 1);
            let committed = (partition.committed[0].0, partition.committed[1].0);
            if committed != (end, partition.parked.len() as u64) {
                let parked = partition.parked.len();
                return Err(format!("stuck: partition {number} has committed {committed:?} of ({end}, {parked})"));
            }
            self.judge.figures.parked += parked_once(partition);
        }
        for (number, process) in self.processes.iter().enumerate() {
            self.lives.push((number, process.life, REST_MS));
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.partitions.iter().all(|partition| {
            let end = partition.log.last().map_or(0, |written| written.offset + 1);
            (partition.committed[0].0, partition.committed[1].0) == (end, partition.parked.len() as u64)
        })
    }

    fn after(&mut self, ms: u64, coming: Coming) {
        self.order += 1;
        self.coming.push(Reverse((self.now_ms + ms, self.order, coming)));
    }

    fn is_current(&self, partition: usize, lease: u64) -> bool {
        self.partitions[partition].lease == lease
    }

    fn happen(&mut self, coming: Coming) -> Result<(), String> {
        match coming {
            Coming::Write { partition } => self.write(partition),
            Coming::Commit { partition } => {
                self.commit(partition)?;
                self.after(COMMIT_EVERY_MS, Coming::Commit { partition });
            }
            Coming::Fault(fault) => self.fault(fault)?,
            Coming::Resume => {
                self.paused -= 1;
                self.pause();
            }
            Coming::Wake { partition, lease } if self.is_current(partition, lease) => {
                self.partitions[partition].woken_for = None;
                self.feed(partition, Event::Tick)?;
                if self.partitions[partition].engine.next_wake().is_some_and(|wake| wake <= self.instant()) {
                    return Err(format!("partition {partition} spins: {:?}", self.partitions[partition].engine));
                }
            }
            Coming::Answer { partition, lease, callers, at: (parked, offset), answer } => {
                let process = self.partitions[partition].process;
                if self.is_current(partition, lease) && self.processes[process].callers == callers {
                    let source = if parked { Source::Parked } else { Source::Outbound };
                    self.answer(partition, At { source, offset }, answer)?;
                }
            }
            Coming::Flushed { partition, lease } if self.is_current(partition, lease) => self.flushed(partition)?,
            Coming::Released { partition, lease } if self.is_current(partition, lease) => {
                self.commit(partition)?;
                self.judge.released(partition)?;
                self.take_over(partition, 1 - self.partitions[partition].process)?;
            }
            Coming::LateCopies { partition, copies } => {
                let late = self.partitions[partition].late_copies.pop_front().unwrap_or_default();
                self.partitions[partition].parked.extend(late.into_iter().take(copies));
            }
            Coming::LateCommit { partition, lease } => {
                let late = self.partitions[partition].late.remove(&lease);
                if let Some(commits) = late.filter(|_| self.broken == Some(Broken::IgnoresLease)) {
                    self.partitions[partition].committed = commits;
                }
            }
            Coming::Returned { side, at_ms } => self.returned(side, at_ms)?,
            Coming::Calm => self.judge.must_have_ended(HOSTS - 1, CALM_MS)?,
            Coming::Wake { .. } | Coming::Flushed { .. } | Coming::Released { .. } => {}
        }
        Ok(())
    }

    fn write(&mut self, number: usize) {
        let more = 1 + self.random.below(5) as usize;
        let partition = &mut self.partitions[number];
        let upto = (partition.written + more).min(partition.log.len());
        for written in &partition.log[partition.written..upto] {
            // What a router that was replaced still writes is written again by its successor.
            partition.router_epoch = partition.router_epoch.max(written.delivery.router_epoch);
            if written.delivery.router_epoch == partition.router_epoch {
                self.judge.written(written.index, self.now_ms);
            }
        }
        partition.written = upto;
        if upto < partition.log.len() {
            let pause = self.random.below(300);
            self.after(pause, Coming::Write { partition: number });
        }
    }

    fn fault(&mut self, fault: Fault) -> Result<(), String> {
        if !matches!(fault, Fault::Cancel { .. }) {
            self.disturbed_ms = self.now_ms;
        }
        match fault {
            Fault::Crash { process } => {
                self.judge.figures.crashes += 1;
                self.forgets_calls(process);
                let life = self.processes[process].life;
                self.processes[process] = Process { gate: new_gate(), life, callers: 0 };
                self.pause();
                for partition in 0..2 {
                    if self.partitions[partition].process == process {
                        self.lose(partition)?;
                        self.take_over(partition, 1 - process)?;
                    }
                }
            }
            Fault::HandOver { partition } if !self.partitions[partition].draining => {
                self.feed(partition, Event::Drain)?;
                self.partitions[partition].draining = true;
                self.judge.draining(partition);
            }
            Fault::HandOver { .. } => {}
            Fault::Lost { partition } => {
                let process = self.partitions[partition].process;
                self.forgets_calls(process);
                self.lose(partition)?;
                let lost = &mut self.partitions[partition];
                let mut engine =
                    std::mem::replace(&mut lost.engine, new_engine(self.hosts, Default::default(), partition));
                engine.abandon_all(&mut self.processes[process].gate);
                self.processes[process].gate.leave();
                self.take_over(partition, 1 - process)?;
            }
            Fault::CallersDie { process } => {
                self.forgets_calls(process);
                self.processes[process].callers += 1;
                for partition in 0..2 {
                    if self.partitions[partition].process != process {
                        continue;
                    }
                    for at in self.cut_off(partition)? {
                        self.feed(partition, Event::Abandoned { at })?;
                    }
                }
            }
            Fault::Pause { for_ms } => {
                self.paused += 1;
                self.pause();
                self.after(for_ms, Coming::Resume);
            }
            Fault::Cancel { index } => {
                self.judge.cancelled(index);
                Arc::make_mut(&mut self.cancelled).insert(self.message_of[index]);
                for other in 0..self.message_of.len() {
                    if self.message_of[other] == self.message_of[index] {
                        self.judge.cancelled(other);
                    }
                }
                self.pause();
            }
            Fault::ClockJump { by_ms } => self.skew_ms += by_ms,
        }
        Ok(())
    }

    /// Calls were cut off whose outcome a process will never learn.
    fn forgets_calls(&mut self, process: usize) {
        self.lives.push((process, self.processes[process].life, self.now_ms));
        self.processes[process].life += 1;
    }

    /// Tells the gates what operators want.
    fn pause(&mut self) {
        self.judge.set_paused(self.paused > 0);
        for process in &mut self.processes {
            process.gate.set_paused(self.paused > 0);
            process.gate.set_cancelled(Arc::clone(&self.cancelled));
        }
        self.disturbed_ms = if self.paused > 0 { self.now_ms } else { self.disturbed_ms };
    }

    /// The holder is gone. Of what it had on its way to the log, some is written now, some later, some never.
    fn lose(&mut self, number: usize) -> Result<(), String> {
        self.cut_off(number)?;
        let commits = self.partitions[number].engine.commit();
        let lease = self.partitions[number].lease;
        let partition = &mut self.partitions[number];
        partition.late.insert(lease, commits);
        let items = std::mem::take(&mut partition.under_way);
        partition.outbox.clear();
        let copies: Vec<Parked> = items
            .into_iter()
            .filter_map(|item| match item {
                Item::Park(_, copy) => Some(copy),
                Item::Status | Item::End(_) => None,
            })
            .collect();
        let delay = 1 + self.random.below(3_000);
        self.after(delay, Coming::LateCommit { partition: number, lease });
        match self.random.below(3) {
            0 => self.partitions[number].parked.extend(copies),
            1 => {
                let count = copies.len();
                self.partitions[number].late_copies.push_back(copies);
                self.after(delay, Coming::LateCopies { partition: number, copies: count });
            }
            _ => {}
        }
        Ok(())
    }

    /// Whoever called for a partition is gone: some of the requests had arrived. Where the records stand.
    fn cut_off(&mut self, number: usize) -> Result<Vec<At>, String> {
        let indices = self.judge.cut_off(number);
        for &index in &indices {
            let side = self.judge.deliveries[index].side;
            let there = self.provider.answer(side, self.fates[index], self.now_ms, &mut self.random).0.is_taken();
            if there && self.random.one_in(2) {
                self.judge.taken(index, false)?;
            }
        }
        let partition = &self.partitions[number];
        let outbound = partition.log[..partition.fed[0]]
            .iter()
            .map(|written| (At { source: Source::Outbound, offset: written.offset }, written.index));
        let parked = partition.parked[..partition.fed[1]].iter().enumerate().map(|(offset, copy)| {
            (At { source: Source::Parked, offset: offset as u64 }, self.index_of[&copy.delivery.delivery_id])
        });
        // Of several records of a delivery only the one in flight minds.
        Ok(outbound.chain(parked).filter(|(_, index)| indices.contains(index)).map(|(at, _)| at).collect())
    }

    fn commit(&mut self, number: usize) -> Result<(), String> {
        let partition = &mut self.partitions[number];
        let before = [partition.committed[0].0, partition.committed[1].0];
        partition.true_commits = partition.engine.commit();
        partition.committed = partition.true_commits.clone();
        if self.broken == Some(Broken::CommitsWhatIsInFlight) {
            let read = partition.log[..partition.fed[0]].last().map_or(0, |written| written.offset + 1);
            partition.committed[0] = (read.max(partition.committed[0].0), String::new());
        }
        if self.broken == Some(Broken::ForgetsFinishedSet) {
            partition.committed[0].1.clear();
        }
        if (0..2).any(|source| partition.committed[source].0 < before[source]) {
            return Err(format!("partition {number}'s watermark went back from {before:?}"));
        }
        let commits = partition.committed.clone();
        self.feed(number, Event::Committed(commits))
    }

    /// The next holder begins from the last commit; nothing of the last one is left but what the log has.
    fn take_over(&mut self, number: usize, process: usize) -> Result<(), String> {
        let former = self.partitions[number].process;
        if self.partitions[number].draining {
            self.processes[former].gate.leave();
        }
        self.processes[process].gate.join();
        let now = self.now();
        let partition = &mut self.partitions[number];
        let begins = partition.committed.clone().map(|(offset, metadata)| Begin {
            offset,
            finished: FinishedSet::decode(&metadata, offset).expect("the engine wrote it"),
        });
        partition.fed =
            [partition.log.partition_point(|written| written.offset < begins[0].offset), begins[1].offset as usize];
        let mut engine = new_engine(self.hosts, begins.clone(), number);
        engine.remember(partition.log[..partition.fed[0]].iter().map(|written| Passed {
            id: written.id(),
            router_epoch: Some(written.delivery.router_epoch),
            at: now.wall,
        }));
        let mut parked = HashSet::new();
        for (offset, copy) in partition.parked.iter().enumerate().skip(partition.fed[1]) {
            if !begins[1].finished.contains(offset as u64) {
                engine.rebuild(copy, now.wall);
                parked.insert(self.index_of[&copy.delivery.delivery_id]);
            }
        }
        partition.engine = engine;
        partition.lease += 1;
        partition.process = process;
        partition.draining = false;
        partition.woken_for = None;
        (partition.held, partition.full, partition.in_memory) = ([false; 2], [false; 2], [0; 2]);
        partition.outbox.clear();
        partition.under_way.clear();
        // The judge knows the true commit, whatever a broken world made of it.
        let (offset, metadata) = &partition.true_commits[0];
        let outbound =
            Begin { offset: *offset, finished: FinishedSet::decode(metadata, *offset).expect("the engine wrote it") };
        self.judge.taken_over(
            number,
            &partition.log,
            |offset| offset < outbound.offset || outbound.finished.contains(offset),
            &parked,
        );
        Ok(())
    }

    /// Feeds what the log has, starts what can start, and notes when to look again.
    fn go_on(&mut self, number: usize) -> Result<(), String> {
        self.start(number)?;
        self.fetch(number)?;
        self.start(number)?;
        self.flush(number);
        let (instant, partition) = (self.instant(), &mut self.partitions[number]);
        let lease = partition.lease;
        if let Some(wake) = partition.engine.next_wake() {
            let wake = wake.max(instant + Duration::from_millis(1));
            if partition.woken_for.is_none_or(|known| wake < known) {
                partition.woken_for = Some(wake);
                let in_ms = wake.duration_since(instant).as_micros().div_ceil(1_000) as u64;
                self.after(in_ms, Coming::Wake { partition: number, lease });
            }
        }
        let partition = &self.partitions[number];
        if partition.draining
            && partition.engine.is_quiet()
            && partition.under_way.is_empty()
            && partition.outbox.is_empty()
        {
            self.after(1, Coming::Released { partition: number, lease });
        }
        Ok(())
    }

    fn start(&mut self, number: usize) -> Result<(), String> {
        let instant = self.instant();
        let process = self.partitions[number].process;
        let here = self.partitions.iter().filter(|partition| partition.process == process);
        let in_flight: usize = here.map(|partition| partition.engine.in_flight()).sum();
        if in_flight > SLOTS {
            return Err(format!("process {process} has {in_flight} calls in flight, of {SLOTS} slots"));
        }
        let partition = &mut self.partitions[number];
        let wanted = partition.engine.wanted(&mut self.processes[process].gate, instant);
        self.feed(number, Event::Slots(wanted.min(SLOTS - in_flight)))
    }

    fn fetch(&mut self, number: usize) -> Result<(), String> {
        for source in Source::ALL {
            let s = source as usize;
            loop {
                let partition = &mut self.partitions[number];
                partition.full[s] = if partition.full[s] {
                    partition.in_memory[s] > RECORDS_MAX / 2
                } else {
                    partition.in_memory[s] >= RECORDS_MAX
                };
                let on_log = if s == 0 { partition.written } else { partition.parked.len() };
                if partition.held[s] || partition.full[s] || partition.draining || partition.fed[s] >= on_log {
                    break;
                }
                if self.processes[partition.process].gate.is_shut(self.begin + Duration::from_millis(self.now_ms)) {
                    return Err(format!("partition {number} fetches though nobody may call"));
                }
                for _ in 0..BATCH {
                    let partition = &mut self.partitions[number];
                    if partition.fed[s] >= on_log {
                        break;
                    }
                    let place = partition.fed[s];
                    let (offset, carried) = if s == 0 {
                        let written = &partition.log[place];
                        (written.offset, Carried::Outbound(Arc::clone(&written.delivery)))
                    } else {
                        (place as u64, Carried::Parked(partition.parked[place].clone()))
                    };
                    partition.fed[s] += 1;
                    partition.in_memory[s] += 1;
                    let at = At { source, offset };
                    self.feed(number, Event::Arrived(Arrival { at, bytes: 100, carried }))?;
                }
                let partition = &self.partitions[number];
                let load = partition.engine.load(source).records;
                if load > RECORDS_MAX + BATCH {
                    return Err(format!("partition {number} has {load} records of {source:?} in memory"));
                }
            }
        }
        Ok(())
    }

    /// Appends what has come about, one batch at a time.
    fn flush(&mut self, number: usize) {
        let delay = 1 + self.random.below(20);
        let partition = &mut self.partitions[number];
        if partition.under_way.is_empty() && !partition.outbox.is_empty() {
            partition.under_way = partition.outbox.drain(..).collect();
            let lease = partition.lease;
            self.after(delay, Coming::Flushed { partition: number, lease });
        }
    }

    /// A batch is on the log, and its writer learns so.
    fn flushed(&mut self, number: usize) -> Result<(), String> {
        // Now and then it is not, and is appended again with what came since.
        if self.random.one_in(50) {
            let partition = &mut self.partitions[number];
            let batch = std::mem::take(&mut partition.under_way);
            if self.random.one_in(2) {
                // It was written all the same.
                let copies = batch.iter().filter_map(|item| match item {
                    Item::Park(_, copy) => Some(copy.clone()),
                    _ => None,
                });
                partition.parked.extend(copies);
            }
            for item in batch.into_iter().rev() {
                partition.outbox.push_front(item);
            }
            return Ok(());
        }
        for item in std::mem::take(&mut self.partitions[number].under_way) {
            match item {
                Item::Status => {}
                Item::End(at) => {
                    let index = self.index_at(number, at);
                    self.judge.acknowledged(index)?;
                    if self.broken != Some(Broken::AcknowledgesUnwritten) {
                        self.feed(number, Event::Published { at })?;
                    }
                }
                Item::Park(at, copy) => {
                    self.partitions[number].parked.push(copy);
                    self.feed(number, Event::Parked { at })?;
                }
            }
        }
        Ok(())
    }

    fn index_at(&self, number: usize, at: At) -> usize {
        let partition = &self.partitions[number];
        match at.source {
            Source::Outbound => {
                let place = partition.log.partition_point(|written| written.offset < at.offset);
                partition.log[place].index
            }
            Source::Parked => self.index_of[&partition.parked[at.offset as usize].delivery.delivery_id],
        }
    }

    fn feed(&mut self, number: usize, event: Event) -> Result<(), String> {
        let now = self.now();
        let partition = &mut self.partitions[number];
        let mut commands = Vec::new();
        partition.engine.handle(event, &mut self.processes[partition.process].gate, now, &mut commands);
        commands.into_iter().try_for_each(|command| self.obey(number, command))
    }

    fn obey(&mut self, number: usize, command: Command) -> Result<(), String> {
        match command {
            Command::Start(attempt) => self.call(number, attempt),
            Command::Publish { at, event, dead_letter, ends } => {
                let index = self.index_of[&event.delivery_id];
                if (event.status == DeliveryStatus::Failed) != dead_letter.is_some() {
                    return Err(format!("delivery {index}: failed and dead letter go together"));
                }
                let exhausted = event.reason == Some(Reason::AttemptsExhausted);
                self.judge.published(index, event.status, exhausted, ends)?;
                self.partitions[number].outbox.push_back(if ends { Item::End(at) } else { Item::Status });
                if ends && self.broken == Some(Broken::AcknowledgesUnwritten) {
                    // Told that it is written; a crash before it is takes it away.
                    self.feed(number, Event::Published { at })?;
                }
                Ok(())
            }
            Command::Park { at, parked } => {
                if let Some(trace) = &mut self.trace {
                    let index = self.index_of[&parked.delivery.delivery_id];
                    trace.push(format!("{} ms: park {index} from {at:?} of {}", self.now_ms, parked.delivery.to));
                }
                self.partitions[number].outbox.push_back(Item::Park(at, *parked));
                Ok(())
            }
            Command::Finish { at } => {
                self.partitions[number].in_memory[at.source as usize] -= 1;
                Ok(())
            }
            Command::Hold(source, held) => {
                self.partitions[number].held[source as usize] = held;
                Ok(())
            }
        }
    }

    fn call(&mut self, number: usize, attempt: Attempt) -> Result<(), String> {
        let index = self.index_of[&attempt.delivery.delivery_id];
        let partition = &self.partitions[number];
        let (lease, process) = (partition.lease, partition.process);
        let Process { life, callers, .. } = self.processes[process];
        self.judge.started(index, (process, life), self.now_ms, self.now().wall)?;
        let side = self.judge.deliveries[index].side;
        let (answer, took) = self.provider.answer(side, self.fates[index], self.now_ms, &mut self.random);
        if let Some(trace) = &mut self.trace {
            let Attempt { at, number, .. } = attempt;
            trace.push(format!("{} ms: call {number} for {index} at {at:?}: {answer:?} in {took} ms", self.now_ms));
        }
        let at = (attempt.at.source == Source::Parked, attempt.at.offset);
        self.after(took, Coming::Answer { partition: number, lease, callers, at, answer });
        Ok(())
    }

    fn answer(&mut self, number: usize, at: At, answer: Answer) -> Result<(), String> {
        let index = self.index_at(number, at);
        if answer.is_taken() {
            self.judge.taken(index, answer == Answer::Taken)?;
        }
        self.judge.answered(index, answer, self.now_ms);
        let jitter = retry::Unit::new(self.random.below(1_000) as f64 / 1_000.0);
        let took = Duration::from_millis(if answer == Answer::TimedOut { provider::DEADLINE_MS } else { 20 });
        self.feed(number, Event::Finished(Finished { at, report: answer.report(), took, jitter }))
    }

    /// Unless something else has come between, somebody has called by now.
    fn returned(&mut self, side: usize, at_ms: u64) -> Result<(), String> {
        let since = at_ms.saturating_sub(1_000);
        let others = self.provider.spells.iter();
        let away_again = others.filter(|spell| spell.side == side && spell.to_ms > since && spell.to_ms != at_ms);
        if self.disturbed_ms > since || away_again.count() > 0 {
            return Ok(());
        }
        self.judge.figures.returns += 1;
        if self.judge.waits_for(side, self.now().wall) && !self.judge.was_called(side, at_ms) {
            return Err(format!("side {side} is back since {at_ms} ms and nobody called it until {} ms", self.now_ms));
        }
        Ok(())
    }

    fn instant(&self) -> Instant {
        self.begin + Duration::from_millis(self.now_ms)
    }

    fn now(&self) -> Now {
        let wall = BEGIN.as_millis().saturating_add(self.now_ms).saturating_add_signed(self.skew_ms);
        Now { instant: self.instant(), wall: Timestamp::from_millis(wall) }
    }
}

impl Partition {
    fn new(log: Vec<Written>, hosts: bool, number: usize) -> Self {
        Self {
            log,
            written: 0,
            router_epoch: 0,
            parked: Vec::new(),
            fed: [0; 2],
            in_memory: [0; 2],
            full: [false; 2],
            held: [false; 2],
            committed: Default::default(),
            true_commits: Default::default(),
            engine: new_engine(hosts, Default::default(), number),
            lease: 1,
            process: number,
            draining: false,
            outbox: VecDeque::new(),
            under_way: Vec::new(),
            late: HashMap::new(),
            late_copies: VecDeque::new(),
            woken_for: None,
        }
    }
}

impl Partition {
    /// Where it stands, for people.
    fn summary(&self) -> String {
        let Self { fed, in_memory, full, held, engine, .. } = self;
        format!(
            "read {fed:?} of {:?}, committed {:?}; in memory {in_memory:?}, full {full:?}, held {held:?}; \
             ready {}, in flight {}, waiting {}, load {:?}",
            [self.written, self.parked.len()],
            [self.committed[0].0, self.committed[1].0],
            engine.ready(),
            engine.in_flight(),
            engine.waiting(),
            Source::ALL.map(|source| engine.load(source).records),
        )
    }
}

fn parked_once(partition: &Partition) -> u64 {
    partition.parked.iter().map(|copy| copy.delivery.delivery_id).collect::<HashSet<_>>().len() as u64
}

fn side_of(hosts: bool, written: &Written) -> usize {
    if !hosts {
        return 0;
    }
    let host = host_of(&written.delivery.to.target).expect("a host");
    host.trim_start_matches("host-").parse().expect("a number")
}

fn host_of(target: &str) -> Option<&str> {
    target.strip_prefix("http://")?.strip_suffix('/')
}

fn new_gate() -> Gate {
    let breaker = breaker::Policy::default();
    Gate::new(gate::Policy { breaker, limits: Limits::default(), slots: SLOTS, partitions: 2 })
}

fn new_engine(hosts: bool, begins: [Begin; 2], partition: usize) -> Engine {
    let policy = Policy {
        retry: retry::Policy::default(),
        accepted: DeliveryStatus::Delivered,
        has_receipts: false,
        resend_ambiguous: true,
        topic: "hook-outbound".into(),
        partition: partition as u32,
        repeats_kept: Duration::from_secs(3_600),
        destination: if hosts { host_of } else { |_| None },
        crowded: Load { records: RECORDS_MAX / 2, bytes: usize::MAX },
    };
    let [outbound, parked] = begins;
    Engine::new(policy, outbound, parked)
}
