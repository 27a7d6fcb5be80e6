//! An engine with lanes that wait, most of them parked as in production, and messages that pass them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_engine::gate::{self, Gate, Limits};
use chat4all_engine::{
    Arrival, At, Begin, Carried, Command, Engine, Event, Finished, Load, Now, Policy, Source, breaker, retry,
};
use chat4all_proto::envelope::V1;
use chat4all_proto::outcome::{Outcome, Report, Scope};
use chat4all_proto::{Content, DeliveryId, DeliveryStatus, Generation, MessageId, Outbound, Timestamp};
use uuid::Uuid;

const BEGIN: Timestamp = Timestamp::from_millis(1_795_300_000_000);
/// Lanes that the passing messages use.
const PASSING: u64 = 64;

pub struct Work {
    engine: Engine,
    gate: Gate,
    now: Instant,
    next: u64,
    commands: Vec<Command>,
}

impl Work {
    /// So many lanes wait for an hour: each is throttled by itself.
    pub fn beside(lanes: u64) -> Self {
        let policy = Policy {
            retry: retry::Policy::default(),
            accepted: DeliveryStatus::Delivered,
            has_receipts: false,
            resend_ambiguous: true,
            topic: "hook-outbound".into(),
            partition: 0,
            repeats_kept: Duration::from_secs(24 * 3_600),
            destination: |_| None,
            crowded: Load { records: 1_000, bytes: usize::MAX },
        };
        let breaker = breaker::Policy::default();
        let limits = Limits::default();
        let mut work = Self {
            engine: Engine::new(policy, Begin::default(), Begin::default()),
            gate: Gate::new(gate::Policy { breaker, limits, slots: 1_000, partitions: 1 }),
            now: Instant::now(),
            next: 0,
            commands: Vec::new(),
        };
        for lane in 0..lanes {
            let after = Some(Duration::from_secs(3_600));
            work.now += Duration::from_millis(1);
            work.one(&format!("waiting {lane}"), &Outcome::Throttled { after, scope: Scope::Recipient });
        }
        work
    }

    /// So many messages arrive, are sent, and end.
    pub fn pass(&mut self, messages: u64) {
        let conversations: Vec<String> = (0..PASSING).map(|lane| format!("passing {lane}")).collect();
        for number in 0..messages {
            self.one(&conversations[(number % PASSING) as usize], &Outcome::Accepted { provider_id: None });
        }
    }

    fn one(&mut self, conversation: &str, outcome: &Outcome) {
        let at = At { source: Source::Outbound, offset: self.next };
        self.next += 1;
        let delivery = Arc::new(delivery(at.offset, conversation));
        self.feed(Event::Arrived(Arrival { at, bytes: 500, carried: Carried::Outbound(delivery) }));
        let wanted = self.engine.wanted(&mut self.gate, self.now);
        self.feed(Event::Slots(wanted));
        let report = Report::new(outcome.clone(), None, None);
        let took = Duration::from_millis(5);
        self.feed(Event::Finished(Finished { at, report, took, jitter: retry::Unit::new(0.5) }));
        if matches!(outcome, Outcome::Accepted { .. }) {
            self.feed(Event::Published { at });
        }
    }

    fn feed(&mut self, event: Event) {
        let now = Now { instant: self.now, wall: BEGIN };
        self.engine.handle(event, &mut self.gate, now, &mut self.commands);
        for command in std::mem::take(&mut self.commands) {
            if let Command::Park { at, .. } = command {
                self.engine.handle(Event::Parked { at }, &mut self.gate, now, &mut self.commands);
            }
        }
        self.commands.clear();
    }
}

fn delivery(number: u64, conversation: &str) -> Outbound {
    let id = Uuid::from_u128(u128::from(number) + 1);
    Outbound {
        v: V1,
        tenant: Default::default(),
        delivery_id: DeliveryId::from_uuid(id),
        generation: Generation(0),
        router_epoch: 1,
        message_id: MessageId::from_uuid(id),
        conversation_id: conversation.parse().expect("a conversation"),
        to: format!("telegram:{conversation}").parse().expect("an address"),
        content: Content::Text { text: "Your parcel is here, and it waits for you at the counter.".into() },
        reply_to: None,
        metadata: Default::default(),
        accepted_at: BEGIN,
        expires_at: BEGIN.saturating_add(Duration::from_secs(86_400)),
    }
}
