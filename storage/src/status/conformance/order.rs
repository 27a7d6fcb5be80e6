//! Checks that neither order nor repetition changes what stays.

use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::envelope::{OutcomeKind, Reason};
use chat4all_proto::http::MessageView;
use chat4all_proto::{DeliveryStatus, Generation, Message, MessageStatus, StatusEvent, TenantId};

use super::sample::{Random, Sample, of};
use super::views::{view, write};
use crate::status::{Status, Write};

/// Every pair of statuses, in either order, in one write and in two.
pub async fn the_highest_rank_stays(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let (mut writes, mut expected) = ([Vec::new(), Vec::new()], Vec::new());
    for first in DeliveryStatus::ALL {
        for second in DeliveryStatus::ALL {
            let (row, message) = sample.message_to(&["one-write", "two-writes"]);
            writes[0].extend([row, of(Sample::event(&message, 0, first)), of(Sample::event(&message, 0, second))]);
            writes[0].push(of(Sample::event(&message, 1, first)));
            writes[1].push(of(Sample::event(&message, 1, second)));
            expected.push((message, first, second));
        }
    }
    for batch in writes {
        write(&*status, batch).await;
    }
    for (message, first, second) in expected {
        let seen = view(&*status, &message, sample.now()).await.expect("it was written");
        for delivery in seen.deliveries {
            assert_eq!(delivery.status, first.max(second), "`{first}` then `{second}`, {}", delivery.to);
        }
    }
}

pub async fn a_replay_starts_anew(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["ana"]);
    let mut replayed = Sample::event(&message, 0, DeliveryStatus::Queued);
    replayed.generation = Generation(1);
    let steps = [
        (Sample::event(&message, 0, DeliveryStatus::Failed), 0, DeliveryStatus::Failed),
        (replayed.clone(), 1, DeliveryStatus::Queued),
        (Sample::event(&message, 0, DeliveryStatus::Read), 1, DeliveryStatus::Queued),
        (StatusEvent { status: DeliveryStatus::Delivered, ..replayed }, 1, DeliveryStatus::Delivered),
    ];
    write(&*status, vec![row]).await;
    for (event, generation, reached) in steps {
        write(&*status, vec![of(event)]).await;
        let seen = view(&*status, &message, sample.now()).await.expect("it was written");
        assert_eq!((seen.deliveries[0].generation, seen.deliveries[0].status), (Generation(generation), reached));
    }
}

pub async fn a_replayed_message_changes_no_row(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["ana", "bob"]);
    let replay = Message { generation: Generation(1), to: vec![message.to[1].clone()], ..(*message).clone() };
    let replay = Write::Message(Arc::new(replay));
    write(&*status, vec![replay.clone()]).await;
    assert_eq!(view(&*status, &message, sample.now()).await, None, "a replay alone makes no message");
    write(&*status, vec![replay.clone(), row, replay.clone()]).await;
    write(&*status, vec![replay]).await;
    let seen = view(&*status, &message, sample.now()).await.expect("it was written");
    assert_eq!((&seen.to, seen.status), (&message.to, MessageStatus::Accepted));
}

/// Two tenants get the same `count` writes, each in an order, with repeats and in batches of its own: they end alike.
pub async fn order_and_repetition_do_not_matter(status: Arc<dyn Status>, mut random: Random, count: usize) {
    let (first, second) = (Sample::new(), Sample::new());
    let writes = first.random_writes(&mut random, count);
    let there: Vec<Write> = writes.iter().map(|write| for_tenant(write, &second.tenant)).collect();
    for writes in [&writes, &there] {
        for batch in shuffled_batches(writes, &mut random) {
            write(&*status, batch).await;
        }
    }
    let mut compared = 0;
    for write in &writes {
        let Write::Message(message) = write else { continue };
        let other = Message { tenant: second.tenant.clone(), ..(**message).clone() };
        let (here, there) = (view(&*status, message, first.now()).await, view(&*status, &other, first.now()).await);
        assert_eq!(comparable(here), comparable(there), "seed {}", random.seed);
        compared += 1;
    }
    assert!(compared > 0, "seed {} made no message", random.seed);
}

/// Of two reports about one attempt any may stay: what they say is left out.
fn comparable(view: Option<MessageView>) -> Option<MessageView> {
    view.map(|mut view| {
        for attempt in view.deliveries.iter_mut().flat_map(|delivery| &mut delivery.attempts) {
            (attempt.duration_ms, attempt.code) = (0, None);
        }
        view
    })
}

/// `writes` in random order, a third of them repeated, in batches of 1 to 300.
pub fn shuffled_batches(writes: &[Write], random: &mut Random) -> Vec<Vec<Write>> {
    let mut order: Vec<&Write> = writes.iter().collect();
    for _ in 0..writes.len() / 3 {
        order.push(&writes[random.below(writes.len())]);
    }
    random.shuffle(&mut order);
    let mut batches = Vec::new();
    while !order.is_empty() {
        let size = (1 + random.below(300)).min(order.len());
        batches.push(order.drain(..size).cloned().collect());
    }
    batches
}

fn for_tenant(write: &Write, tenant: &TenantId) -> Write {
    match write {
        Write::Message(message) => Write::Message(Arc::new(Message { tenant: tenant.clone(), ..(**message).clone() })),
        Write::Event(event) => of(StatusEvent { tenant: tenant.clone(), ..(**event).clone() }),
    }
}

impl Sample {
    /// Messages and, for each about seven, events about them: every status, three generations, repeated attempts that
    /// do not agree, events of equal precedence that differ, replays, and messages that never come.
    pub fn random_writes(&self, random: &mut Random, count: usize) -> Vec<Write> {
        let messages: Vec<Arc<Message>> = (0..count.div_ceil(8))
            .map(|_| {
                let to = (0..=random.below(3)).map(|n| self.address(&format!("user-{n}"))).collect();
                Arc::new(Message { generation: Generation(u32::from(random.below(16) == 0)), ..self.message(to) })
            })
            .collect();
        let mut writes: Vec<Write> = messages.iter().cloned().map(Write::Message).collect();
        while writes.len() < count {
            let message = &messages[random.below(messages.len())];
            writes.push(of(self.random_event(message, random)));
        }
        writes
    }

    fn random_event(&self, message: &Message, random: &mut Random) -> StatusEvent {
        let reached = DeliveryStatus::ALL[random.below(DeliveryStatus::ALL.len())];
        let mut event = Sample::event(message, random.below(message.to.len()), reached);
        event.generation = Generation(random.below(3) as u32);
        event.at = message.accepted_at.saturating_add(Duration::from_millis(random.below(3) as u64));
        event.reason = [None, Some(Reason::MessageRejected), Some(Reason::RecipientGone)][random.below(3)];
        event.retry_at = (random.below(2) == 0).then_some(event.at);
        event.provider_id = (random.below(4) == 0).then(|| format!("p-{}", random.below(100)));
        if random.below(2) == 0 {
            let mut attempt = Sample::attempt(message, 1 + random.below(5) as u32, OutcomeKind::Transient);
            attempt.duration_ms = random.below(1_000) as u64;
            attempt.code = (random.below(2) == 0).then(|| "503".into());
            event.attempt = Some(attempt);
        }
        event
    }
}
