//! The decider of one partition.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_proto::envelope::{self, Attempt as AttemptRecord, DeadLetter, Reason, V1};
use chat4all_proto::outcome::{Outcome, Report};
use chat4all_proto::progress::{FinishedSet, Progress, SPAN_MAX};
use chat4all_proto::window::Window;
use chat4all_proto::{DeliveryStatus, Generation, Outbound, Parked, StatusEvent, Timestamp};
use uuid::Uuid;

use crate::gate::{Answered, Call, Cleared, Gate, On, Pass, Wait};
use crate::lanes::{LaneId, Lanes, Line};
use crate::mutant::{self, Mutant};
use crate::retry::{self, Unit};

/// Ids of deliveries that are remembered to drop exact repeats: twice what a router may have uncommitted.
pub const WINDOW: usize = 8_192;
/// An attempt that takes longer shows as `sending`.
const SENDING_AFTER: Duration = Duration::from_millis(500);
/// The partition is held this much before the span is used up: records on their way still come.
const SPAN_RESERVE: u64 = 2_048;

/// Most ends that wait for the log's acknowledgement before nothing more is started: what a log takes with it when it goes
/// away is sent again after the next takeover.
pub const UNACKNOWLEDGED_MAX: usize = 256;

/// A lane that will not move for so long may be parked.
const STUCK: Duration = Duration::from_secs(1);
/// How often lanes are parked that wait on the outbound topic, and on the parked one itself, where they go to its end and
/// come round again.
const PARK_EVERY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// How often what waits is looked through for what has expired or was cancelled.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

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

/// How much of one topic's partition is in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    pub records: usize,
    pub bytes: usize,
}

/// One of the two topics that an engine works off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Outbound,
    /// Where lanes go that cannot move, out of the way of the others.
    Parked,
}

impl Source {
    pub const ALL: [Source; 2] = [Source::Outbound, Source::Parked];
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    pub source: Source,
    pub offset: u64,
}

/// Where an assignment starts on one of the topics: everything below `offset` is finished, and `finished` above it.
#[derive(Debug, Clone, Default)]
pub struct Begin {
    pub offset: u64,
    pub finished: FinishedSet,
}

/// The time of an event, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub instant: Instant,
    pub wall: Timestamp,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A record came in; offsets rise on each topic.
    Arrived(Arrival),
    /// As many attempts may be started now.
    Slots(usize),
    /// An attempt has ended.
    Finished(Finished),
    /// Nothing became of a started attempt, through no fault of the provider: whoever made it died.
    Abandoned { at: At },
    /// The end of this delivery is acknowledged by the log.
    Published { at: At },
    /// Its copy on the parked topic is.
    Parked { at: At },
    /// What `commit` gave is written.
    Committed(Commits),
    /// Time passed, or the gate has changed.
    Tick,
    /// The partition goes elsewhere: start nothing more.
    Drain,
}

/// For each source the watermark and the metadata that names what is finished above it. They are written together.
pub type Commits = [(u64, String); 2];

#[derive(Debug)]
pub struct Arrival {
    pub at: At,
    /// What it is counted as in memory.
    pub bytes: usize,
    pub carried: Carried,
}

#[derive(Debug)]
pub enum Carried {
    Outbound(Arc<Outbound>),
    Parked(Parked),
    /// It is passed over.
    Unreadable,
}

/// A delivery that passed before this assignment, as far as the log tells without its content.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    pub id: (Uuid, Generation),
    /// Of the router that wrote it; `None` where the log keeps an older router's records from following a newer one's.
    pub router_epoch: Option<u64>,
    pub at: Timestamp,
}

#[derive(Debug)]
pub struct Finished {
    pub at: At,
    pub report: Report,
    /// How long the attempt took.
    pub took: Duration,
    /// For the wait before the next attempt, if there is one.
    pub jitter: Unit,
}

/// One call of the provider to be made.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub at: At,
    pub delivery: Arc<Outbound>,
    /// 1 is the first call for this delivery, as far as this lease knows.
    pub number: u32,
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Call the provider and answer with `Finished`.
    Start(Attempt),
    /// Append to the log. Where `ends` is true, answer with `Published` once it is acknowledged: only then does the
    /// record count as finished.
    Publish { at: At, event: Box<StatusEvent>, dead_letter: Option<Box<DeadLetter>>, ends: bool },
    /// Append to the parked topic, after all that was to be appended before, and answer with `Parked`.
    Park { at: At, parked: Box<Parked> },
    /// Nothing is left to do for this record.
    Finish { at: At },
    /// Fetch no further records of this topic until told otherwise.
    Hold(Source, bool),
}

#[derive(Debug)]
struct Entry {
    delivery: Arc<Outbound>,
    lane: LaneId,
    /// Its place in the lane: the offset of its record on the outbound topic.
    position: u64,
    bytes: usize,
    /// Calls made, as far as we know.
    calls: u32,
    /// Calls that count against `attempts_max`.
    burnt: u32,
    /// Answers in a row that burnt nothing.
    held: u32,
    /// Whether the provider has answered it with an error.
    has_failed: bool,
    /// Whether the next call is one that the budget of retries is for.
    is_retry: bool,
    /// When it was last tried, or came: an outage burns nothing unless somebody else succeeded since.
    tried_at: Instant,
    started_at: Timestamp,
    cleared: Cleared,
    /// There while a call is in flight.
    pass: Option<Pass>,
}

impl Entry {
    fn new(delivery: Arc<Outbound>, lane: LaneId, position: u64, bytes: usize, now: Instant) -> Self {
        Self {
            delivery,
            lane,
            position,
            bytes,
            calls: 0,
            burnt: 0,
            held: 0,
            has_failed: false,
            is_retry: false,
            tried_at: now,
            started_at: Timestamp::default(),
            cleared: Cleared::default(),
            pass: None,
        }
    }

    /// Counts an answer that burns no attempt.
    fn spare(&mut self) -> u32 {
        self.held += 1;
        self.held
    }

    /// Counts an attempt that failed in a way that bears `attempts_max` attempts, or as many as the channel allows.
    fn burn(
        &mut self,
        policy: &retry::Policy,
        attempts_max: Option<u32>,
        asked: Option<Duration>,
        jitter: Unit,
    ) -> Next {
        self.burnt += 1;
        self.held = 0;
        if self.burnt >= attempts_max.unwrap_or(u32::MAX).min(policy.attempts_max) {
            return Next::fail(Reason::AttemptsExhausted);
        }
        Next::Retry(policy.delay(self.burnt, asked, jitter))
    }
}

/// What follows from a finished attempt.
enum Next {
    Retry(Duration),
    /// With the provider's id, if it gave one.
    End(DeliveryStatus, Option<Reason>, Option<String>),
}

impl Next {
    fn fail(reason: Reason) -> Self {
        Next::End(DeliveryStatus::Failed, Some(reason), None)
    }
}

/// How a delivery ended.
struct End {
    status: DeliveryStatus,
    reason: Option<Reason>,
    attempt: Option<AttemptRecord>,
    provider_id: Option<String>,
}

impl End {
    fn untried(status: DeliveryStatus) -> Self {
        Self { status, reason: None, attempt: None, provider_id: None }
    }
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

    /// A copy was read. The lane's next one is taken in, one that stands before its turn goes to the end of the topic, and
    /// one that was taken in or has ended already is a repeat.
    fn came_back(&mut self, at: At, bytes: usize, parked: Parked, now: Now, commands: &mut Vec<Command>) {
        let Parked { position, attempts, burnt, delivery, .. } = parked;
        let lane = self.lanes.find(&delivery);
        let Some(lane) = lane.filter(|lane| self.lanes.lane(*lane).away.contains(&position)) else {
            return self.finish(at, commands);
        };
        let entry = Entry { calls: attempts, burnt, ..Entry::new(delivery, lane, position, bytes, now.instant) };
        let away = &mut self.lanes.lane_mut(lane).away;
        if away.first() == Some(&position) || mutant::is(Mutant::TakesCopiesUnordered) {
            away.remove(&position);
            self.take_in(at, entry);
        } else {
            self.park(at, entry, commands);
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

    fn park(&mut self, at: At, entry: Entry, commands: &mut Vec<Command>) {
        self.parking += 1;
        self.parked += 1;
        self.lanes.lane_mut(entry.lane).away.insert(entry.position);
        let Entry { delivery, position, calls, burnt, .. } = entry;
        commands
            .push(Command::Park { at, parked: Box::new(Parked { v: V1, position, attempts: calls, burnt, delivery }) });
        if mutant::is(Mutant::ParksEarly) {
            self.progress[at.source as usize].finish(at.offset);
        }
    }

    fn start(&mut self, mut slots: usize, gate: &mut Gate, now: Now, commands: &mut Vec<Command>) {
        while slots > 0 && !self.draining && self.unacknowledged < UNACKNOWLEDGED_MAX && !self.is_shut(now.instant) {
            self.shut_until = None;
            let Some(lane) = self.lanes.next() else { return };
            let at = self.lanes.head(lane);
            if let Some(status) = self.ended_by_itself(at, gate, now) {
                self.lanes.launch(lane);
                self.end(at, End::untried(status), now, commands);
                continue;
            }
            match self.ask(lane, at, gate, now.instant) {
                Ok(pass) => {
                    self.lanes.launch(lane);
                    let entry = self.entries.get_mut(&at).expect("a head has an entry");
                    entry.calls += 1;
                    entry.pass = Some(pass);
                    entry.cleared = Cleared::default();
                    entry.started_at = now.wall;
                    self.slow.push_back((now.instant, at, entry.calls));
                    commands.push(Command::Start(Attempt {
                        at,
                        delivery: Arc::clone(&entry.delivery),
                        number: entry.calls,
                    }));
                    slots -= 1;
                }
                Err((None, until)) => {
                    self.lanes.put_back(lane);
                    self.shut_until = until;
                }
                Err((Some(line), until)) => self.lanes.stand_in_line(lane, line, until),
            }
        }
    }

    /// Leave for the lane's head to call, or the line where it has to wait (none: nobody may call) and until when, unless
    /// others in the line know.
    fn ask(
        &mut self,
        lane: LaneId,
        at: At,
        gate: &mut Gate,
        now: Instant,
    ) -> Result<Pass, (Option<Line>, Option<Instant>)> {
        let entry = self.entries.get_mut(&at).expect("a head has an entry");
        if self.lanes.has_lines() {
            for on in [On::Destination, On::Recipient, On::Tenant, On::Retries] {
                let concerns_it = on != On::Retries || entry.is_retry;
                if concerns_it
                    && !entry.cleared.has(on)
                    && let Some(line) = self.lanes.line(lane, on)
                    && self.lanes.must_stand_behind(lane, &line)
                {
                    return Err((Some(line), None));
                }
            }
        }
        let kept = self.lanes.lane(lane);
        let call = Call {
            destination: kept.destination.as_ref(),
            recipient: &kept.key.address.target,
            tenant: &kept.key.tenant,
            is_retry: entry.is_retry,
        };
        gate.ask(call, &mut entry.cleared, now).map_err(|Wait { on, until }| (self.lanes.line(lane, on), Some(until)))
    }

    /// What a delivery that is not in flight ends as, if it needs no further attempt.
    fn ended_by_itself(&self, at: At, gate: &Gate, now: Now) -> Option<DeliveryStatus> {
        let delivery = &self.entries[&at].delivery;
        if gate.is_cancelled(&delivery.message_id) && !mutant::is(Mutant::IgnoresCancel) {
            Some(DeliveryStatus::Cancelled)
        } else {
            let expired = delivery.expires_at <= now.wall && !mutant::is(Mutant::IgnoresExpiry);
            expired.then_some(DeliveryStatus::Expired)
        }
    }

    fn finished(&mut self, finished: Finished, gate: &mut Gate, now: Now, commands: &mut Vec<Command>) {
        let Finished { at, report, took, jitter } = finished;
        let Some(entry) = self.entries.get_mut(&at) else { return };
        let Some(pass) = entry.pass.take() else { return };
        let lane = self.lanes.lane(entry.lane);
        let answered = Answered { report: &report, took, jitter, failed_before: entry.has_failed };
        gate.settle(pass, &lane.key.address.target, answered, now.instant);
        let answered_with_error = matches!(report.outcome, Outcome::Transient { .. } | Outcome::Ambiguous);
        entry.has_failed |= answered_with_error && !report.outage_like;
        // Others have succeeded since it was last tried: so it is not the provider that is away.
        let others_succeed =
            gate.last_success(lane.destination.as_ref()).is_some_and(|success| success > entry.tried_at)
                || mutant::is(Mutant::OutagesBurn);
        entry.tried_at = now.instant;
        self.shut_until = None;
        if let Some(destination) = &lane.destination
            && self.lanes.has_lines()
        {
            let line = Line::Destination(Arc::clone(destination));
            self.lanes.wake_line(&line);
        }
        let attempt = AttemptRecord {
            number: entry.calls,
            started_at: entry.started_at,
            duration_ms: took.as_millis().try_into().unwrap_or(u64::MAX),
            outcome: report.outcome.kind(),
            code: report.code,
            detail: report.detail,
        };
        let retry = &self.policy.retry;
        entry.is_retry = !matches!(report.outcome, Outcome::Throttled { .. });
        let next = match report.outcome {
            Outcome::Accepted { provider_id } => Next::End(self.policy.accepted, None, provider_id),
            Outcome::RecipientGone => Next::fail(Reason::RecipientGone),
            Outcome::MessageRejected => Next::fail(Reason::MessageRejected),
            Outcome::Ambiguous if !self.policy.resend_ambiguous => Next::End(DeliveryStatus::Unknown, None, None),
            Outcome::Throttled { after, .. } => Next::Retry(retry.hold(entry.spare(), after, jitter)),
            Outcome::AccountProblem => Next::Retry(retry.outage(entry.spare(), None, jitter)),
            Outcome::Transient { after, .. } if report.outage_like && !others_succeed => {
                Next::Retry(retry.outage(entry.spare(), after, jitter))
            }
            Outcome::Ambiguous if report.outage_like && !others_succeed => {
                Next::Retry(retry.outage(entry.spare(), None, jitter))
            }
            Outcome::Transient { after, attempts_max } => entry.burn(retry, attempts_max, after, jitter),
            Outcome::Ambiguous => entry.burn(retry, None, None, jitter),
        };
        match next {
            Next::Retry(delay) => self.retry(at, delay, attempt, now, commands),
            Next::End(status, reason, provider_id) => {
                self.end(at, End { status, reason, attempt: Some(attempt), provider_id }, now, commands);
            }
        }
    }

    fn retry(&mut self, at: At, delay: Duration, attempt: AttemptRecord, now: Now, commands: &mut Vec<Command>) {
        let entry = &self.entries[&at];
        let left = entry.delivery.expires_at.saturating_since(now.wall);
        let mut event = entry.delivery.event(DeliveryStatus::Retrying, now.wall);
        event.attempt = Some(attempt);
        event.retry_at = Some(now.wall.saturating_add(delay));
        // Woken at its expiry if that comes first: it ends then.
        self.lanes.wait(entry.lane, now.instant + delay.min(left));
        if mutant::is(Mutant::OvertakesRetry) {
            self.lanes.overtake(entry.lane);
        }
        commands.push(Command::Publish { at, event: Box::new(event), dead_letter: None, ends: false });
    }

    /// The lane's head, in flight until now, has ended: its record is finished when the log has the end. Its lane goes on
    /// at once if the provider has it or never will. Otherwise a crash before the commit would have it tried again: its
    /// successors wait for the commit, so that it cannot be taken after them.
    fn end(&mut self, at: At, end: End, now: Now, commands: &mut Vec<Command>) {
        let entry = self.take_out(at);
        match end.status {
            DeliveryStatus::Failed | DeliveryStatus::Unknown if !mutant::is(Mutant::OvertakesFailure) => {
                self.lanes.close(entry.lane);
                self.closed.insert(at, entry.lane);
            }
            _ => self.lanes.pop(entry.lane),
        }
        self.publish_end(at, &entry, end, now, commands);
    }

    fn publish_end(&mut self, at: At, entry: &Entry, end: End, now: Now, commands: &mut Vec<Command>) {
        self.unacknowledged += 1;
        if mutant::is(Mutant::FinishesEarly) {
            self.progress[at.source as usize].finish(at.offset);
        }
        let End { status, reason, attempt, provider_id } = end;
        let dead_letter = reason.map(|reason| {
            Box::new(DeadLetter {
                v: V1,
                reason,
                attempts: entry.calls,
                code: attempt.as_ref().and_then(|attempt| attempt.code.clone()),
                failed_at: now.wall,
                source: envelope::Source {
                    topic: self.policy.topic.clone(),
                    partition: self.policy.partition,
                    offset: entry.position,
                },
                delivery: Outbound::clone(&entry.delivery),
            })
        });
        let mut event = entry.delivery.event(status, now.wall);
        event.attempt = attempt;
        event.provider_id = provider_id;
        event.reason = reason;
        event.awaits_receipt = self.policy.has_receipts;
        commands.push(Command::Publish { at, event: Box::new(event), dead_letter, ends: true });
    }

    /// Lets the lanes go on whose heads no takeover would try again.
    fn committed(&mut self, commits: &Commits) {
        if self.closed.is_empty() {
            return;
        }
        let finished = commits.each_ref().map(|(at, metadata)| FinishedSet::decode(metadata, *at).unwrap_or_default());
        self.closed.retain(|at, &mut lane| {
            let source = at.source as usize;
            let committed = at.offset < commits[source].0 || finished[source].contains(at.offset);
            if committed {
                self.lanes.pop(lane);
            }
            !committed
        });
    }

    /// The attempt's maker died: nobody knows whether it was sent. It is sent again, as after a crash, without being
    /// counted.
    fn abandoned(&mut self, at: At, gate: &mut Gate, now: Now) {
        let Some(entry) = self.entries.get_mut(&at) else { return };
        if mutant::is(Mutant::KeepsAbandoned) {
            return;
        }
        let Some(pass) = entry.pass.take() else { return };
        gate.abandon(pass);
        let lane = entry.lane;
        self.lanes.wait(lane, now.instant + Duration::from_millis(100));
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

    /// Ends what has expired or was cancelled, wherever it stands in its lane.
    fn sweep(&mut self, gate: &Gate, now: Now, commands: &mut Vec<Command>) {
        if self.draining || self.sweep_at.is_some_and(|at| now.instant < at) {
            return;
        }
        let waits = self.entries.len() > self.lanes.in_flight();
        self.sweep_at = waits.then(|| now.instant + SWEEP_EVERY);
        let waiting = self.entries.iter().filter(|(_, entry)| entry.pass.is_none());
        let mut ended: Vec<(At, DeliveryStatus)> =
            waiting.filter_map(|(at, _)| Some((*at, self.ended_by_itself(*at, gate, now)?))).collect();
        ended.sort_unstable_by_key(|(at, _)| *at);
        for (at, status) in ended {
            let entry = self.take_out(at);
            self.lanes.remove(entry.lane, at);
            self.publish_end(at, &entry, End::untried(status), now, commands);
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

    /// Parks lanes that cannot move, the oldest first, where they take up the room of those that can.
    fn relieve(&mut self, gate: &mut Gate, now: Now, commands: &mut Vec<Command>) {
        if self.draining || gate.is_shut(now.instant) || mutant::is(Mutant::NeverParks) {
            return;
        }
        for source in Source::ALL {
            let number = source as usize;
            if !self.is_crowded(source, self.policy.crowded) || self.park_at[number].is_some_and(|at| now.instant < at)
            {
                continue;
            }
            self.park_at[number] = Some(now.instant + PARK_EVERY[number]);
            let mut stuck: Vec<(At, LaneId)> = self
                .lanes
                .stuck(now.instant + STUCK)
                .filter_map(|lane| Some((self.lanes.queue(lane).find(|at| at.source == source)?, lane)))
                .collect();
            stuck.sort_unstable();
            let Load { records, bytes } = self.policy.crowded;
            let relieved = Load { records: records / 2, bytes: bytes / 2 };
            for (_, lane) in stuck {
                if !self.is_crowded(source, relieved) {
                    break;
                }
                for at in self.lanes.take_all(lane) {
                    let entry = self.take_out(at);
                    self.park(at, entry, commands);
                }
            }
        }
    }

    fn is_crowded(&self, source: Source, limit: Load) -> bool {
        let Load { records, bytes } = self.load[source as usize];
        records >= limit.records || bytes >= limit.bytes || self.progress[source as usize].span() >= SPAN_MAX / 2
    }
}
