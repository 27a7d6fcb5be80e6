//! An engine with a hand-driven clock, for the tests of its rules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_engine::gate::{self, Gate, Limits};
use chat4all_engine::{
    Arrival, At, Attempt, Begin, Carried, Command, Engine, Event, Finished, Load, Now, Passed, Policy, Source, breaker,
    retry,
};
use chat4all_proto::envelope::{DeadLetter, V1};
use chat4all_proto::outcome::{Outcome, Report, Scope};
use chat4all_proto::progress::FinishedSet;
use chat4all_proto::{
    Content, DeliveryId, DeliveryStatus, Generation, MessageId, Outbound, Parked, StatusEvent, Timestamp,
};
use uuid::Uuid;

const BEGIN: Timestamp = Timestamp::from_millis(1_795_300_000_000);

/// One engine under test. The id of a delivery is 1,000 + its offset, unless given.
pub struct Bench {
    pub engine: Engine,
    pub gate: Gate,
    /// Taken by the next `restart` or `resume`.
    pub policy: Policy,
    /// From arrival to expiry, of what arrives next.
    pub lifetime: Duration,
    begin: Instant,
    passed: Duration,
}

impl Bench {
    pub fn new() -> Self {
        let policy = Policy {
            retry: retry::Policy::default(),
            accepted: DeliveryStatus::Delivered,
            has_receipts: false,
            resend_ambiguous: true,
            topic: "hook-outbound".into(),
            partition: 3,
            repeats_kept: Duration::from_secs(24 * 3_600),
            destination: |_| None,
            crowded: Load { records: 1_000_000, bytes: usize::MAX },
        };
        Self {
            engine: Engine::new(policy.clone(), Begin::default(), Begin::default()),
            gate: open_gate(),
            policy,
            lifetime: Duration::from_secs(24 * 3_600),
            begin: Instant::now(),
            passed: Duration::ZERO,
        }
    }

    /// A takeover from the engine's own commit, with no ids remembered.
    pub fn restart(&mut self) {
        let [outbound, parked] = self.engine.commit().map(|(offset, metadata)| Begin {
            offset,
            finished: FinishedSet::decode(&metadata, offset).expect("the engine wrote it"),
        });
        self.engine.abandon_all(&mut self.gate);
        self.engine = Engine::new(self.policy.clone(), outbound, parked);
    }

    /// A takeover at `offset`. `recent`: ids of the generation 0 below it, and the epochs of their routers.
    pub fn resume<const F: usize, const R: usize>(
        &mut self,
        offset: u64,
        finished: [u64; F],
        recent: [(u128, Option<u64>); R],
    ) {
        let outbound = Begin { offset, finished: FinishedSet::from_offsets(finished) };
        self.engine = Engine::new(self.policy.clone(), outbound, Begin::default());
        let at = self.now().wall;
        self.engine.remember(recent.map(|(id, router_epoch)| Passed {
            id: (Uuid::from_u128(id), Generation(0)),
            router_epoch,
            at,
        }));
    }

    /// The commit is written.
    pub fn commit(&mut self) {
        let commits = self.engine.commit();
        self.feed(Event::Committed(commits));
    }

    pub fn now(&self) -> Now {
        Now { instant: self.begin + self.passed, wall: self.wall() }
    }

    pub fn wall(&self) -> Timestamp {
        BEGIN.saturating_add(self.passed)
    }

    pub fn start_of_time(&self) -> Instant {
        self.begin
    }

    pub fn feed(&mut self, event: Event) -> Vec<Command> {
        let mut commands = Vec::new();
        let now = self.now();
        self.engine.handle(event, &mut self.gate, now, &mut commands);
        commands
    }

    /// Time passes, and the engine is told.
    pub fn advance(&mut self, by: Duration) -> Vec<Command> {
        self.passed += by;
        self.feed(Event::Tick)
    }

    pub fn arrive(&mut self, offset: u64, conversation: &str) -> Vec<Command> {
        self.arrive_to(offset, conversation, "http://x.test/")
    }

    pub fn arrive_to(&mut self, offset: u64, conversation: &str, target: &str) -> Vec<Command> {
        let delivery = self.delivery(conversation, target, 1_000 + u128::from(offset), Generation(0), 1);
        self.feed(outbound(offset, Carried::Outbound(Arc::new(delivery))))
    }

    pub fn arrive_as(
        &mut self,
        offset: u64,
        conversation: &str,
        id: u128,
        generation: Generation,
        router_epoch: u64,
    ) -> Vec<Command> {
        let delivery = self.delivery(conversation, "http://x.test/", id, generation, router_epoch);
        self.feed(outbound(offset, Carried::Outbound(Arc::new(delivery))))
    }

    pub fn arrive_unreadable(&mut self, offset: u64) -> Vec<Command> {
        self.feed(outbound(offset, Carried::Unreadable))
    }

    pub fn slots(&mut self, slots: usize) -> Vec<Command> {
        self.feed(Event::Slots(slots))
    }

    /// The offsets whose attempts start with so many slots.
    pub fn start(&mut self, slots: usize) -> Vec<u64> {
        start_of(&self.slots(slots))
    }

    /// The one attempt that starts with one slot.
    pub fn start_one(&mut self) -> Attempt {
        let mut commands = self.slots(1);
        match (commands.pop(), commands.is_empty()) {
            (Some(Command::Start(attempt)), true) => attempt,
            other => panic!("not one attempt: {other:?}"),
        }
    }

    /// The number of the attempt that starts next for `offset`, if it is the next to start.
    pub fn start_number(&mut self, offset: u64) -> Option<u32> {
        self.slots(1).into_iter().find_map(|command| match command {
            Command::Start(attempt) if attempt.at == out(offset) => Some(attempt.number),
            _ => None,
        })
    }

    pub fn finish(&mut self, offset: u64, report: Report) -> Vec<Command> {
        self.finish_with(offset, report, 0.5)
    }

    pub fn finish_with(&mut self, offset: u64, report: Report, jitter: f64) -> Vec<Command> {
        let took = Duration::from_millis(5);
        self.feed(Event::Finished(Finished { at: out(offset), report, took, jitter: retry::Unit::new(jitter) }))
    }

    /// The deliveries that came in at these offsets are cancelled.
    pub fn cancel<const N: usize>(&mut self, offsets: [u64; N]) {
        let ids = offsets.map(|offset| MessageId::from_uuid(Uuid::from_u128(1_000 + u128::from(offset))));
        self.gate.set_cancelled(Arc::new(ids.into_iter().collect()));
    }

    /// The new holder finds this on the parked topic.
    pub fn rebuild(&mut self, conversation: &str, position: u64) {
        let delivery = self.delivery(conversation, "http://x.test/", 1_000 + u128::from(position), Generation(0), 1);
        let parked = Parked { v: V1, position, attempts: 0, burnt: 0, delivery: Arc::new(delivery) };
        self.engine.rebuild(&parked, self.wall());
    }

    /// A copy is read from the parked topic: at `offset`, of the delivery that came in at `position`.
    pub fn come_back(&mut self, offset: u64, conversation: &str, position: u64) -> Vec<Command> {
        let delivery = self.delivery(conversation, "http://x.test/", 1_000 + u128::from(position), Generation(0), 1);
        let parked = Parked { v: V1, position, attempts: 0, burnt: 0, delivery: Arc::new(delivery) };
        self.feed(Event::Arrived(Arrival { at: aside(offset), bytes: 100, carried: Carried::Parked(parked) }))
    }

    /// The offsets and sources whose attempts start with so many slots.
    pub fn start_at(&mut self, slots: usize) -> Vec<At> {
        let commands = self.slots(slots);
        let started = commands.into_iter().filter_map(|command| match command {
            Command::Start(attempt) => Some(attempt.at),
            _ => None,
        });
        started.collect()
    }

    pub fn finish_at(&mut self, at: At, report: Report) -> Vec<Command> {
        let (took, jitter) = (Duration::from_millis(5), retry::Unit::new(0.5));
        self.feed(Event::Finished(Finished { at, report, took, jitter }))
    }

    /// The provider takes it and the log acknowledges the end.
    pub fn deliver(&mut self, offset: u64) -> Vec<Command> {
        let mut commands = self.finish(offset, took());
        commands.extend(self.feed(Event::Published { at: out(offset) }));
        commands
    }

    fn delivery(
        &self,
        conversation: &str,
        target: &str,
        id: u128,
        generation: Generation,
        router_epoch: u64,
    ) -> Outbound {
        Outbound {
            v: V1,
            tenant: Default::default(),
            delivery_id: DeliveryId::from_uuid(Uuid::from_u128(id)),
            generation,
            router_epoch,
            message_id: MessageId::from_uuid(Uuid::from_u128(id)),
            conversation_id: conversation.parse().expect("a conversation"),
            to: format!("hook:{target}").parse().expect("an address"),
            content: Content::Text { text: "hi".into() },
            reply_to: None,
            metadata: Default::default(),
            accepted_at: self.wall(),
            expires_at: self.wall().saturating_add(self.lifetime),
        }
    }
}

/// A gate that only an account's problem shuts.
pub fn open_gate() -> Gate {
    let never = breaker::Policy { window: 1_000_000, consecutive: u32::MAX, ..breaker::Policy::default() };
    Gate::new(gate::Policy { breaker: never, limits: Limits::default(), slots: 1_000_000, partitions: 1 })
}

/// A gate as a channel has it by default.
pub fn gate_with_breaker() -> Gate {
    let breaker = breaker::Policy::default();
    Gate::new(gate::Policy { breaker, limits: Limits::default(), slots: 64, partitions: 1 })
}

/// A place on the outbound topic.
pub fn out(offset: u64) -> At {
    At { source: Source::Outbound, offset }
}

/// A place on the parked topic.
pub fn aside(offset: u64) -> At {
    At { source: Source::Parked, offset }
}

fn outbound(offset: u64, carried: Carried) -> Event {
    Event::Arrived(Arrival { at: out(offset), bytes: 100, carried })
}

pub fn said(outcome: Outcome, code: Option<&str>) -> Report {
    Report::new(outcome, code.map(str::to_owned), None)
}

pub fn took() -> Report {
    said(Outcome::Accepted { provider_id: None }, Some("200"))
}

/// Nobody is there.
pub fn away() -> Report {
    Report { outage_like: true, ..said(Outcome::TRANSIENT, None) }
}

pub fn transient() -> Report {
    said(Outcome::TRANSIENT, Some("500"))
}

pub fn ambiguous() -> Report {
    said(Outcome::Ambiguous, None)
}

pub fn throttled(after: Option<Duration>) -> Report {
    said(Outcome::Throttled { after, scope: Scope::Recipient }, Some("429"))
}

pub fn start_of(commands: &[Command]) -> Vec<u64> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Start(attempt) => Some(attempt.at.offset),
            _ => None,
        })
        .collect()
}

pub fn finishes_of(commands: &[Command]) -> Vec<u64> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Finish { at } => Some(at.offset),
            _ => None,
        })
        .collect()
}

/// What goes to the parked topic: from where, and the copy.
pub fn parked_of(commands: &[Command]) -> Vec<(At, Parked)> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Park { at, parked } => Some((*at, Parked::clone(parked))),
            _ => None,
        })
        .collect()
}

/// The one event that is published.
pub fn event_of(commands: &[Command]) -> &StatusEvent {
    let mut events = commands.iter().filter_map(|command| match command {
        Command::Publish { event, .. } => Some(&**event),
        _ => None,
    });
    match (events.next(), events.next()) {
        (Some(event), None) => event,
        _ => panic!("not one event: {commands:?}"),
    }
}

pub fn letter_of(commands: &[Command]) -> Option<&DeadLetter> {
    commands.iter().find_map(|command| match command {
        Command::Publish { dead_letter, .. } => dead_letter.as_deref(),
        _ => None,
    })
}

/// The offset and status of a published end.
pub fn end_of(command: &Command) -> Option<(u64, DeliveryStatus)> {
    match command {
        Command::Publish { at, event, ends: true, .. } => Some((at.offset, event.status)),
        _ => None,
    }
}
