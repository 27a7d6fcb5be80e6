//! The decider of one partition: what comes in, and where each record stands. Its attempts, the ends of deliveries and
//! parking have files of their own.

mod attempts;
mod ends;
mod entry;
mod parking;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_proto::progress::{Progress, SPAN_MAX};
use chat4all_proto::window::Window;
use chat4all_proto::{DeliveryStatus, Generation, Outbound, Parked, Timestamp};
use uuid::Uuid;

use self::ends::SWEEP_EVERY;
use self::entry::Entry;
use crate::event::{Arrival, At, Begin, Carried, Command, Commits, Event, Load, Now, Passed, Source};
use crate::gate::Gate;
use crate::lanes::{LaneId, Lanes};
use crate::mutant::{self, Mutant};
use crate::retry;

/// Ids of deliveries that are remembered to drop exact repeats: twice what a router may have uncommitted.
pub const WINDOW: usize = 8_192;
/// An attempt that takes longer shows as `sending`.
const SENDING_AFTER: Duration = Duration::from_millis(500);
/// The partition is held this much before the span is used up: records on their way still come.
const SPAN_RESERVE: u64 = 2_048;

/// Most ends that wait for the log's acknowledgement before nothing more is started: what a log takes with it when it goes
/// away is sent again after the next takeover.
pub const UNACKNOWLEDGED_MAX: usize = 256;

/// What the channel's configuration and nature decide.
#[derive(Debug, Clone)]
pub struct Policy {
    pub retry: retry::Policy,
    /// What the provider's acceptance means: `Sent` or `Delivered`.
    pub accepted: DeliveryStatus,
    /// Whether the provider reports more after a `Sent`.
    pub has_receipts: bool,
    /// Whether an attempt whose answer was lost is made again.
    pub resend_ambiguous: bool,
    /// Topic and partition, for dead letters.
    pub topic: String,
    pub partition: u32,
    /// How long a delivery is known as seen, at most: less than an idempotency key is kept.
    pub repeats_kept: Duration,
    /// The destination within a target, where the channel has many.
    pub destination: fn(&str) -> Option<&str>,
    /// With so much of a topic in memory, lanes that cannot move are parked.
    pub crowded: Load,
}

/// Decides for one partition under one lease.
///
/// Invariants: one attempt at a time per lane, deliveries of a lane in the order of their positions; a record is finished
/// only when its delivery's end, or its copy, is acknowledged by the log; what failed is not followed by its lane before a
/// commit has it; nothing is started after `Drain`.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    progress: [Progress; 2],
    window: Window<(Uuid, Generation)>,
    /// Highest router epoch seen: what an older router writes after that, the newer one routes again or has routed.
    router_epoch: u64,
    entries: HashMap<At, Entry>,
    load: [Load; 2],
    lanes: Lanes,
    /// Lanes that wait until their head's end is committed.
    closed: BTreeMap<At, LaneId>,
    /// Attempts by their start, to notice the slow ones.
    slow: VecDeque<(Instant, At, u32)>,
    held: [bool; 2],
    /// While the gate lets nobody start: when to ask it again.
    shut_until: Option<Instant>,
    sweep_at: Option<Instant>,
    park_at: [Option<Instant>; 2],
    draining: bool,
    /// Ends that are published and not acknowledged.
    unacknowledged: usize,
    /// Copies on their way to the parked topic.
    parking: usize,
    suppressed: u64,
    parked: u64,
}

impl Engine {
    /// Begins where an assignment starts.
    pub fn new(policy: Policy, outbound: Begin, parked: Begin) -> Self {
        Self {
            progress: [outbound, parked].map(|begin| Progress::resume(begin.offset, begin.finished)),
            window: Window::new(WINDOW, policy.repeats_kept),
            policy,
            router_epoch: 0,
            entries: HashMap::new(),
            load: Default::default(),
            lanes: Lanes::default(),
            closed: BTreeMap::new(),
            slow: VecDeque::new(),
            held: [false; 2],
            shut_until: None,
            sweep_at: None,
            park_at: [None; 2],
            draining: false,
            unacknowledged: 0,
            parking: 0,
            suppressed: 0,
            parked: 0,
        }
    }

    /// Notes deliveries that passed before this assignment, oldest first: repeats of them are dropped too, and so is what
    /// a router older than theirs still writes.
    pub fn remember(&mut self, recent: impl IntoIterator<Item = Passed>) {
        for Passed { id, router_epoch, at } in recent {
            if !self.is_outdated(router_epoch.unwrap_or(self.router_epoch)) {
                self.window.insert(id, at);
            }
        }
    }

    /// Notes that this delivery is parked and unfinished. To be told of every such record that was on the log when the
    /// assignment began, before any event: new deliveries of its lane have to go behind it.
    pub fn rebuild(&mut self, parked: &Parked, now: Timestamp) {
        let delivery = &parked.delivery;
        // Its record on the outbound topic may come again, should the commit not know yet that it was parked.
        self.window.insert((delivery.delivery_id.as_uuid(), delivery.generation), now);
        if mutant::is(Mutant::ForgetsParked) {
            return;
        }
        let lane = self.lane(delivery);
        self.lanes.lane_mut(lane).away.insert(parked.position);
    }

    /// Whether a router of this epoch comes too late. Its record is dropped and its id not remembered: the newer router's
    /// own may be yet to come.
    fn is_outdated(&mut self, router_epoch: u64) -> bool {
        let outdated = router_epoch < self.router_epoch;
        self.router_epoch = self.router_epoch.max(router_epoch);
        outdated && !mutant::is(Mutant::IgnoresRouterEpoch)
    }

    /// Takes one event and adds what follows from it to `commands`.
    pub fn handle(&mut self, event: Event, gate: &mut Gate, now: Now, commands: &mut Vec<Command>) {
        match event {
            Event::Arrived(arrival) => self.arrived(arrival, now, commands),
            Event::Slots(slots) => self.start(slots, gate, now, commands),
            Event::Finished(finished) => self.finished(finished, gate, now, commands),
            Event::Abandoned { at } => self.abandoned(at, gate, now),
            Event::Published { at } => {
                self.unacknowledged -= 1;
                self.finish(at, commands);
            }
            Event::Parked { at } => {
                self.parking -= 1;
                self.finish(at, commands);
            }
            Event::Committed(commits) => self.committed(&commits),
            Event::Tick => self.tick(gate, now, commands),
            Event::Drain => self.draining = !mutant::is(Mutant::IgnoresDrain),
        }
        self.hold(gate, now, commands);
        self.relieve(gate, now, commands);
    }

    /// Attempts that could start now if there were slots for them.
    pub fn wanted(&mut self, gate: &mut Gate, now: Instant) -> usize {
        if self.draining || self.unacknowledged >= UNACKNOWLEDGED_MAX || self.is_shut(now) || self.lanes.ready() == 0 {
            return 0;
        }
        let room = gate.room(now);
        if room == 0 {
            self.shut_until = Some(gate.look_again(now));
        }
        self.lanes.ready().min(room)
    }

    fn is_shut(&self, now: Instant) -> bool {
        self.shut_until.is_some_and(|until| now < until)
    }

    /// Lanes whose head could move, as far as the lanes themselves go.
    pub fn ready(&self) -> usize {
        self.lanes.ready()
    }

    pub fn waiting(&self) -> usize {
        self.lanes.waiting()
    }

    pub fn in_flight(&self) -> usize {
        self.lanes.in_flight()
    }

    /// Deliveries in memory.
    pub fn load(&self, source: Source) -> Load {
        self.load[source as usize]
    }

    /// Exact repeats dropped so far.
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Deliveries parked so far.
    pub fn parked(&self) -> u64 {
        self.parked
    }

    /// Whether nothing is under way any more: no attempt, no end and no copy that waits for the log.
    pub fn is_quiet(&self) -> bool {
        self.lanes.in_flight() == 0 && self.unacknowledged == 0 && self.parking == 0
    }

    /// When `Tick` has something to do next.
    pub fn next_wake(&self) -> Option<Instant> {
        let slow = self.slow.front().map(|&(started, ..)| started + SENDING_AFTER);
        if self.draining {
            return slow;
        }
        [slow, self.lanes.next_wake(), self.shut_until, self.sweep_at].into_iter().flatten().min()
    }

    /// What a commit should write now.
    pub fn commit(&self) -> Commits {
        let one = |progress: &Progress| {
            let watermark = progress.watermark();
            (watermark, progress.finished_above().encode(watermark))
        };
        [one(&self.progress[0]), one(&self.progress[1])]
    }

    /// Gives back the passes of all attempts in flight: nobody waits for their outcome any more.
    pub fn abandon_all(&mut self, gate: &mut Gate) {
        self.entries.values_mut().filter_map(|entry| entry.pass.take()).for_each(|pass| gate.abandon(pass));
    }

    fn lane(&mut self, delivery: &Outbound) -> LaneId {
        let destination = self.policy.destination;
        self.lanes.find_or_make(delivery, |target| destination(target).map(Arc::from))
    }

    fn arrived(&mut self, Arrival { at, bytes, carried }: Arrival, now: Now, commands: &mut Vec<Command>) {
        let unfinished = self.progress[at.source as usize].receive(at.offset);
        match carried {
            Carried::Outbound(delivery) => self.routed(at, bytes, delivery, unfinished, now, commands),
            Carried::Parked(parked) if unfinished => self.came_back(at, bytes, parked, now, commands),
            Carried::Parked(_) => commands.push(Command::Finish { at }),
            Carried::Unreadable => self.finish(at, commands),
        }
    }

    fn routed(
        &mut self,
        at: At,
        bytes: usize,
        delivery: Arc<Outbound>,
        unfinished: bool,
        now: Now,
        commands: &mut Vec<Command>,
    ) {
        let outdated = self.is_outdated(delivery.router_epoch);
        let id = (delivery.delivery_id.as_uuid(), delivery.generation);
        let repeat = !outdated && !self.window.insert(id, now.wall) && !mutant::is(Mutant::ForgetsIds);
        if !unfinished {
            return commands.push(Command::Finish { at });
        }
        if outdated || repeat {
            self.suppressed += 1;
            return self.finish(at, commands);
        }
        let (lane, position) = (self.lane(&delivery), at.offset);
        let away = &self.lanes.lane(lane).away;
        if away.contains(&position) {
            // Parked before the takeover, which the commit does not know yet.
            return self.finish(at, commands);
        }
        let entry = Entry::new(delivery, lane, position, bytes, now.instant);
        match self.lanes.lane(lane).away.first() {
            Some(first) if position > *first && !mutant::is(Mutant::OvertakesParked) => self.park(at, entry, commands),
            _ => self.take_in(at, entry),
        }
    }

    fn take_in(&mut self, at: At, entry: Entry) {
        let load = &mut self.load[at.source as usize];
        load.records += 1;
        load.bytes += entry.bytes;
        self.lanes.push(entry.lane, at);
        self.entries.insert(at, entry);
    }

    fn take_out(&mut self, at: At) -> Entry {
        let entry = self.entries.remove(&at).expect("what stands in a lane has an entry");
        let load = &mut self.load[at.source as usize];
        load.records -= 1;
        load.bytes -= entry.bytes;
        entry
    }

    fn tick(&mut self, gate: &mut Gate, now: Now, commands: &mut Vec<Command>) {
        self.shut_until = None;
        if !mutant::is(Mutant::ForgetsTimers) {
            self.lanes.wake(now.instant);
        }
        self.sweep(gate, now, commands);
        while let Some(&(started, at, call)) = self.slow.front() {
            let under_way = self.entries.get(&at).is_some_and(|entry| entry.pass.is_some() && entry.calls == call);
            if under_way && started + SENDING_AFTER > now.instant {
                return;
            }
            self.slow.pop_front();
            if under_way {
                let event = self.entries[&at].delivery.event(DeliveryStatus::Sending, now.wall);
                commands.push(Command::Publish { at, event: Box::new(event), dead_letter: None, ends: false });
            }
        }
    }

    fn finish(&mut self, at: At, commands: &mut Vec<Command>) {
        self.progress[at.source as usize].finish(at.offset);
        commands.push(Command::Finish { at });
    }

    /// Fetches nothing more where the span is used up or nobody may call anyway.
    fn hold(&mut self, gate: &mut Gate, now: Now, commands: &mut Vec<Command>) {
        let shut = gate.is_shut(now.instant);
        for source in Source::ALL {
            let held = !mutant::is(Mutant::NeverHolds)
                && (shut || self.progress[source as usize].span() >= SPAN_MAX - SPAN_RESERVE);
            if held != self.held[source as usize] {
                self.held[source as usize] = held;
                commands.push(Command::Hold(source, held));
            }
        }
        if shut {
            // To hear of it when the gate opens, though nothing is here.
            let look_again = gate.look_again(now.instant);
            self.shut_until = Some(self.shut_until.map_or(look_again, |until| until.min(look_again)));
        }
        if self.sweep_at.is_none() && self.entries.len() > self.lanes.in_flight() {
            self.sweep_at = Some(now.instant + SWEEP_EVERY);
        }
    }
}
