//! Checks that neither order nor repetition changes what stays.

use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::envelope::{OutcomeKind, Reason};
use chat4all_proto::http::MessageView;
use chat4all_proto::receipt::Failure;
use chat4all_proto::{
    DeadLetter, DeliveryId, DeliveryStatus, Generation, Inbound, Message, MessageStatus, Outbound, Receipt,
    StatusEvent, TenantId,
};

use super::sample::{Random, Sample, of};
use super::views::{view, write};
use crate::status::{DeadLetterRow, Join, JoinKey, Status, Write};

/// Ids that providers give in random writes: few, so that many share one.
const PROVIDER_IDS: usize = 100;

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
    let (here, there) = (Sample::new(), Sample::new().tenant);
    let writes = here.random_writes(&mut random, count);
    let moved: Vec<Write> = writes.iter().map(|write| write_of(write, &there)).collect();
    for writes in [&writes, &moved] {
        for batch in shuffled_batches(writes, &mut random) {
            write(&*status, batch).await;
        }
    }
    let seed = random.seed;
    let mut compared = 0;
    for write in &writes {
        let Write::Message(message) = write else { continue };
        let other = message_of(message, &there);
        let (one, two) = (view(&*status, message, here.now()).await, view(&*status, &other, here.now()).await);
        assert_eq!(comparable(two), comparable(one.map(|view| view_of(view, &there))), "seed {seed}");
        for address in &message.to {
            let contact = async |tenant| status.conversation_with(tenant, address).await.expect("the store answers");
            assert_eq!(contact(&here.tenant).await, contact(&there).await, "seed {seed}");
            let delivery = DeliveryId::of(message.message_id, address);
            let letter = async |tenant| status.dead_letter(tenant, delivery).await.expect("the store answers");
            let one = letter(&here.tenant).await;
            let expected = one.map(|row| DeadLetterRow { letter: letter_of(&row.letter, &there), ..row });
            assert_eq!(letter(&there).await, expected, "seed {seed}");
        }
        compared += 1;
    }
    assert!(compared > 0, "seed {seed} made no message");

    let ids: Vec<String> = (0..PROVIDER_IDS).map(|number| format!("p-{number}")).collect();
    let joins = async |ids: Vec<String>| {
        let keys: Vec<JoinKey> = ids.iter().map(|id| JoinKey::new(&here.channel, id)).collect();
        status.joins(&keys).await.expect("the store answers")
    };
    let expected: Vec<Join> = joins(ids.clone()).await.into_iter().map(|join| join_of(join, &there)).collect();
    assert_eq!(joins(ids.iter().map(|id| id_of(id, &there)).collect()).await, expected, "seed {seed}");
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

/// The same write of another tenant, whose providers give other ids.
fn write_of(write: &Write, tenant: &TenantId) -> Write {
    match write {
        Write::Message(message) => Write::Message(Arc::new(message_of(message, tenant))),
        Write::Event(event) => of(event_of(event, tenant)),
        Write::Receipt(receipt) => Write::Receipt(Arc::new(receipt_of(receipt, tenant))),
        Write::DeadLetter(letter) => Write::DeadLetter(Arc::new(letter_of(letter, tenant))),
        Write::Inbound(inbound) => {
            Write::Inbound(Arc::new(Inbound { tenant: tenant.clone(), ..Inbound::clone(inbound) }))
        }
    }
}

fn message_of(message: &Message, tenant: &TenantId) -> Message {
    Message { tenant: tenant.clone(), ..message.clone() }
}

fn event_of(event: &StatusEvent, tenant: &TenantId) -> StatusEvent {
    let provider_id = event.provider_id.as_ref().map(|id| id_of(id, tenant));
    StatusEvent { tenant: tenant.clone(), provider_id, ..event.clone() }
}

fn receipt_of(receipt: &Receipt, tenant: &TenantId) -> Receipt {
    Receipt { provider_id: id_of(&receipt.provider_id, tenant), ..receipt.clone() }
}

fn letter_of(letter: &DeadLetter, tenant: &TenantId) -> DeadLetter {
    let delivery = Outbound { tenant: tenant.clone(), ..letter.delivery.clone() };
    DeadLetter { delivery, ..letter.clone() }
}

fn view_of(mut view: MessageView, tenant: &TenantId) -> MessageView {
    for id in view.deliveries.iter_mut().filter_map(|delivery| delivery.provider_id.as_mut()) {
        *id = id_of(id, tenant);
    }
    view
}

fn join_of(Join { event, attempts, receipt }: Join, tenant: &TenantId) -> Join {
    Join {
        event: event.map(|event| event_of(&event, tenant)),
        attempts,
        receipt: receipt.map(|receipt| receipt_of(&receipt, tenant)),
    }
}

fn id_of(provider_id: &str, tenant: &TenantId) -> String {
    format!("{provider_id} of {tenant}")
}

impl Sample {
    /// Messages from either side and, for each about seven, what is said about them: events of every status and three
    /// generations, repeated attempts that do not agree, events of equal precedence that differ, receipts that share ids,
    /// dead letters, replays; and much about messages that never come.
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
            writes.push(match random.below(16) {
                0 => Write::Inbound(Arc::new(self.inbound("user-0"))),
                1 => Write::Message(Arc::new(random_replay(message, random))),
                2 => Write::DeadLetter(Arc::new(random_letter(message, random))),
                3 | 4 => Write::Receipt(Arc::new(self.random_receipt(message, random))),
                _ => of(self.random_event(message, random)),
            });
        }
        writes
    }

    fn random_receipt(&self, message: &Message, random: &mut Random) -> Receipt {
        use DeliveryStatus::{Delivered, Failed, Read, Sent};
        let mut receipt = self.receipt(&random_id(random), [Sent, Failed, Delivered, Read][random.below(4)]);
        let address = &message.to[random.below(message.to.len())];
        receipt.delivery_id = (random.below(2) == 0).then(|| DeliveryId::of(message.message_id, address));
        receipt.at = message.accepted_at.saturating_add(Duration::from_millis(random.below(3) as u64));
        receipt.failure = (random.below(2) == 0)
            .then(|| Failure { outcome: OutcomeKind::RecipientGone, code: Some(random.below(3).to_string()) });
        receipt
    }

    fn random_event(&self, message: &Message, random: &mut Random) -> StatusEvent {
        let reached = DeliveryStatus::ALL[random.below(DeliveryStatus::ALL.len())];
        let mut event = Sample::event(message, random.below(message.to.len()), reached);
        event.generation = Generation(random.below(3) as u32);
        event.at = message.accepted_at.saturating_add(Duration::from_millis(random.below(3) as u64));
        event.reason = [None, Some(Reason::MessageRejected), Some(Reason::RecipientGone)][random.below(3)];
        event.retry_at = (random.below(2) == 0).then_some(event.at);
        event.provider_id = (random.below(4) == 0).then(|| random_id(random));
        if random.below(2) == 0 {
            let mut attempt = Sample::attempt(message, 1 + random.below(5) as u32, OutcomeKind::Transient);
            attempt.duration_ms = random.below(1_000) as u64;
            attempt.code = (random.below(2) == 0).then(|| "503".into());
            event.attempt = Some(attempt);
        }
        event
    }
}

fn random_id(random: &mut Random) -> String {
    format!("p-{}", random.below(PROVIDER_IDS))
}

fn random_replay(message: &Message, random: &mut Random) -> Message {
    let to = vec![message.to[random.below(message.to.len())].clone()];
    Message { generation: Generation(1 + random.below(3) as u32), to, ..message.clone() }
}

fn random_letter(message: &Message, random: &mut Random) -> DeadLetter {
    let reason = Reason::ALL[random.below(Reason::ALL.len())];
    let mut letter = Sample::dead_letter(message, random.below(message.to.len()), reason);
    letter.delivery.generation = Generation(random.below(3) as u32);
    letter.failed_at = message.accepted_at.saturating_add(Duration::from_millis(random.below(3) as u64));
    letter.attempts = random.below(3) as u32;
    letter
}
