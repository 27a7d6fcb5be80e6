//! The decider of one partition.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_proto::envelope::{Attempt as AttemptRecord, DeadLetter, Reason, Source, V1};
use chat4all_proto::outcome::{Outcome, Report};
use chat4all_proto::progress::{FinishedSet, Progress, SPAN_MAX};
use chat4all_proto::window::Window;
use chat4all_proto::{DeliveryStatus, Generation, Outbound, StatusEvent, Timestamp};
use uuid::Uuid;

use crate::lanes::{LaneId, Lanes};
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
    /// A record came in; offsets rise.
    Arrived(Arrival),
    /// As many attempts may be started now.
    Slots(usize),
    /// An attempt has ended.
    Finished(Finished),
    /// Nothing became of a started attempt, through no fault of the provider: whoever made it died.
    Abandoned { offset: u64 },
    /// What was published last about this offset is acknowledged by the log.
    Published { offset: u64 },
    /// What `commit` gave is written.
    Committed { watermark: u64, metadata: String },
    /// Time passed.
    Tick,
    /// The partition goes elsewhere: start nothing more.
    Drain,
}

#[derive(Debug)]
pub struct Arrival {
    pub offset: u64,
    /// `None` if the record cannot be read: it is passed over.
    pub delivery: Option<Arc<Outbound>>,
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
    pub offset: u64,
    pub report: Report,
    /// How long the attempt took.
    pub took: Duration,
    /// For the wait before the next attempt, if there is one.
    pub jitter: Unit,
}

/// One call of the provider to be made.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub offset: u64,
    pub delivery: Arc<Outbound>,
    /// 1 is the first call for this delivery under this lease.
    pub number: u32,
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Call the provider and answer with `Finished`.
    Start(Attempt),
    /// Append to the log. Where `ends` is true, answer with `Published` once it is acknowledged: only then does the
    /// offset count as finished.
    Publish { offset: u64, event: Box<StatusEvent>, dead_letter: Option<Box<DeadLetter>>, ends: bool },
    /// Nothing is left to do for this record.
    Finish { offset: u64 },
    /// Fetch no further records until told otherwise.
    Hold(bool),
}

#[derive(Debug)]
struct Entry {
    delivery: Arc<Outbound>,
    lane: LaneId,
    /// Calls made, under this lease.
    calls: u32,
    /// Calls that count against `attempts_max`.
    burnt: u32,
    /// Answers in a row that burnt nothing.
    held: u32,
    started_at: Timestamp,
    in_flight: bool,
}

impl Entry {
    /// Counts an answer that burns no attempt; the wait it asks for.
    fn hold_back(&mut self, policy: &retry::Policy, asked: Option<Duration>, jitter: Unit) -> Duration {
        self.held += 1;
        policy.hold(self.held, asked, jitter)
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

/// Decides for one partition under one lease.
///
/// Invariants: one attempt at a time per lane, heads in the order they arrived; an offset is finished only when its end
/// is acknowledged by the log; what failed is not followed by its lane before a commit has it; nothing is started after
/// `Drain`.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    progress: Progress,
    window: Window<(Uuid, Generation)>,
    /// Highest router epoch seen: what an older router writes after that, the newer one routes again or has routed.
    router_epoch: u64,
    entries: HashMap<u64, Entry>,
    lanes: Lanes,
    /// Lanes that wait until their head's end is committed, by its offset.
    closed: BTreeMap<u64, LaneId>,
    /// Attempts by their start, to notice the slow ones.
    slow: VecDeque<(Instant, u64, u32)>,
    held: bool,
    draining: bool,
    /// Ends that are published and not acknowledged.
    unacknowledged: usize,
    suppressed: u64,
}

impl Engine {
    /// Begins where an assignment starts.
    pub fn new(policy: Policy, offset: u64, finished: FinishedSet) -> Self {
        Self {
            progress: Progress::resume(offset, finished),
            window: Window::new(WINDOW, policy.repeats_kept),
            policy,
            router_epoch: 0,
            entries: HashMap::new(),
            lanes: Lanes::default(),
            closed: BTreeMap::new(),
            slow: VecDeque::new(),
            held: false,
            draining: false,
            unacknowledged: 0,
            suppressed: 0,
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

    /// Whether a record of a router of this epoch comes too late. Such a record is dropped and its id not remembered: the
    /// newer router's own may be yet to come.
    fn is_outdated(&mut self, router_epoch: u64) -> bool {
        let outdated = router_epoch < self.router_epoch;
        self.router_epoch = self.router_epoch.max(router_epoch);
        outdated
    }

    /// Takes one event and adds what follows from it to `commands`.
    pub fn handle(&mut self, event: Event, now: Now, commands: &mut Vec<Command>) {
        match event {
            Event::Arrived(arrival) => self.arrived(arrival, now, commands),
            Event::Slots(slots) => self.start(slots, now, commands),
            Event::Finished(finished) => self.finished(finished, now, commands),
            Event::Abandoned { offset } => self.abandoned(offset, now),
            Event::Published { offset } => {
                self.unacknowledged -= 1;
                self.finish(offset, commands);
            }
            Event::Committed { watermark, metadata } => self.committed(watermark, &metadata),
            Event::Tick => self.tick(now, commands),
            Event::Drain => self.draining = true,
        }
        self.hold(commands);
    }

    /// Attempts that could start if there were slots for them.
    pub fn ready(&self) -> usize {
        if self.draining || self.unacknowledged >= UNACKNOWLEDGED_MAX { 0 } else { self.lanes.ready() }
    }

    pub fn waiting(&self) -> usize {
        self.lanes.waiting()
    }

    pub fn in_flight(&self) -> usize {
        self.lanes.in_flight()
    }

    /// Exact repeats dropped so far.
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Whether nothing is under way any more: no attempt, no end that waits for the log.
    pub fn is_quiet(&self) -> bool {
        self.lanes.in_flight() == 0 && self.unacknowledged == 0
    }

    /// When `Tick` has something to do next.
    pub fn next_wake(&self) -> Option<Instant> {
        let slow = self.slow.front().map(|&(started, ..)| started + SENDING_AFTER);
        let waiting = if self.draining { None } else { self.lanes.next_wake() };
        [slow, waiting].into_iter().flatten().min()
    }

    /// What a commit should write now: the watermark and the metadata that names what is finished above it.
    pub fn commit(&self) -> (u64, String) {
        let watermark = self.progress.watermark();
        (watermark, self.progress.finished_above().encode(watermark))
    }

    fn arrived(&mut self, Arrival { offset, delivery }: Arrival, now: Now, commands: &mut Vec<Command>) {
        let unfinished = self.progress.receive(offset);
        let Some(delivery) = delivery else { return self.finish(offset, commands) };
        let outdated = self.is_outdated(delivery.router_epoch);
        let repeat = !outdated && !self.window.insert((delivery.delivery_id.as_uuid(), delivery.generation), now.wall);
        if !unfinished {
            return commands.push(Command::Finish { offset });
        }
        if outdated || repeat {
            self.suppressed += 1;
            return self.finish(offset, commands);
        }
        let lane = self.lanes.enqueue(offset, &delivery);
        let entry =
            Entry { delivery, lane, calls: 0, burnt: 0, held: 0, started_at: Timestamp::default(), in_flight: false };
        self.entries.insert(offset, entry);
    }

    fn start(&mut self, mut slots: usize, now: Now, commands: &mut Vec<Command>) {
        while slots > 0 && self.ready() > 0 {
            let Some(offset) = self.lanes.start() else { return };
            let entry = self.entries.get_mut(&offset).expect("what waits in a lane has an entry");
            if entry.delivery.expires_at <= now.wall {
                let end = End { status: DeliveryStatus::Expired, reason: None, attempt: None, provider_id: None };
                self.end(offset, end, now, commands);
                continue;
            }
            entry.calls += 1;
            entry.in_flight = true;
            entry.started_at = now.wall;
            self.slow.push_back((now.instant, offset, entry.calls));
            commands.push(Command::Start(Attempt {
                offset,
                delivery: Arc::clone(&entry.delivery),
                number: entry.calls,
            }));
            slots -= 1;
        }
    }

    fn finished(&mut self, finished: Finished, now: Now, commands: &mut Vec<Command>) {
        let Finished { offset, report, took, jitter } = finished;
        let Some(entry) = self.entries.get_mut(&offset).filter(|entry| entry.in_flight) else { return };
        entry.in_flight = false;
        let attempt = AttemptRecord {
            number: entry.calls,
            started_at: entry.started_at,
            duration_ms: took.as_millis().try_into().unwrap_or(u64::MAX),
            outcome: report.outcome.kind(),
            code: report.code,
            detail: report.detail,
        };
        let retry = &self.policy.retry;
        let next = match report.outcome {
            Outcome::Accepted { provider_id } => Next::End(self.policy.accepted, None, provider_id),
            Outcome::RecipientGone => Next::fail(Reason::RecipientGone),
            Outcome::MessageRejected => Next::fail(Reason::MessageRejected),
            Outcome::Ambiguous if !self.policy.resend_ambiguous => Next::End(DeliveryStatus::Unknown, None, None),
            Outcome::Throttled { after } => Next::Retry(entry.hold_back(retry, after, jitter)),
            Outcome::AccountProblem => Next::Retry(entry.hold_back(retry, None, jitter)),
            Outcome::Transient { after, attempts_max } => entry.burn(retry, attempts_max, after, jitter),
            Outcome::Ambiguous => entry.burn(retry, None, None, jitter),
        };
        match next {
            Next::Retry(delay) => self.retry(offset, delay, attempt, now, commands),
            Next::End(status, reason, provider_id) => {
                self.end(offset, End { status, reason, attempt: Some(attempt), provider_id }, now, commands);
            }
        }
    }

    fn retry(&mut self, offset: u64, delay: Duration, attempt: AttemptRecord, now: Now, commands: &mut Vec<Command>) {
        let entry = &self.entries[&offset];
        let left = entry.delivery.expires_at.saturating_since(now.wall);
        let mut event = entry.delivery.event(DeliveryStatus::Retrying, now.wall);
        event.attempt = Some(attempt);
        event.retry_at = Some(now.wall.saturating_add(delay));
        // Woken at its expiry if that comes first: it ends then.
        self.lanes.wait(entry.lane, now.instant + delay.min(left));
        commands.push(Command::Publish { offset, event: Box::new(event), dead_letter: None, ends: false });
    }

    /// The lane's head has ended: its offset is finished when the log has the end. Its lane goes on at once if the
    /// provider has it or never will. Otherwise a crash before the commit would have it tried again: its successors wait
    /// for the commit, so that it cannot be taken after them.
    fn end(&mut self, offset: u64, end: End, now: Now, commands: &mut Vec<Command>) {
        let entry = self.entries.remove(&offset).expect("only deliveries that are being worked on end");
        match end.status {
            DeliveryStatus::Failed | DeliveryStatus::Unknown => {
                self.lanes.close(entry.lane);
                self.closed.insert(offset, entry.lane);
            }
            _ => self.lanes.pop(entry.lane),
        }
        self.unacknowledged += 1;
        let End { status, reason, attempt, provider_id } = end;
        let dead_letter = reason.map(|reason| {
            Box::new(DeadLetter {
                v: V1,
                reason,
                attempts: entry.calls,
                code: attempt.as_ref().and_then(|attempt| attempt.code.clone()),
                failed_at: now.wall,
                source: Source { topic: self.policy.topic.clone(), partition: self.policy.partition, offset },
                delivery: Outbound::clone(&entry.delivery),
            })
        });
        let mut event = entry.delivery.event(status, now.wall);
        event.attempt = attempt;
        event.provider_id = provider_id;
        event.reason = reason;
        event.awaits_receipt = self.policy.has_receipts;
        commands.push(Command::Publish { offset, event: Box::new(event), dead_letter, ends: true });
    }

    /// Lets the lanes go on whose heads no takeover would try again.
    fn committed(&mut self, watermark: u64, metadata: &str) {
        if self.closed.is_empty() {
            return;
        }
        let finished = FinishedSet::decode(metadata, watermark).unwrap_or_default();
        self.closed.retain(|&offset, &mut lane| {
            let committed = offset < watermark || finished.contains(offset);
            if committed {
                self.lanes.pop(lane);
            }
            !committed
        });
    }

    /// The attempt's maker died: nobody knows whether it was sent. It is sent again, as after a crash, without being
    /// counted.
    fn abandoned(&mut self, offset: u64, now: Now) {
        let Some(entry) = self.entries.get_mut(&offset).filter(|entry| entry.in_flight) else { return };
        entry.in_flight = false;
        let lane = entry.lane;
        self.lanes.wait(lane, now.instant + Duration::from_millis(100));
    }

    fn tick(&mut self, now: Now, commands: &mut Vec<Command>) {
        self.lanes.wake(now.instant);
        while let Some(&(started, offset, call)) = self.slow.front() {
            let under_way = self.entries.get(&offset).is_some_and(|entry| entry.in_flight && entry.calls == call);
            if under_way && started + SENDING_AFTER > now.instant {
                return;
            }
            self.slow.pop_front();
            if under_way {
                let event = self.entries[&offset].delivery.event(DeliveryStatus::Sending, now.wall);
                commands.push(Command::Publish { offset, event: Box::new(event), dead_letter: None, ends: false });
            }
        }
    }

    fn finish(&mut self, offset: u64, commands: &mut Vec<Command>) {
        self.progress.finish(offset);
        commands.push(Command::Finish { offset });
    }

    fn hold(&mut self, commands: &mut Vec<Command>) {
        let full = self.progress.span() >= SPAN_MAX - SPAN_RESERVE;
        if full != self.held {
            self.held = full;
            commands.push(Command::Hold(full));
        }
    }
}
