//! The recorder over the in-memory log and status store: what receipts make of deliveries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::envelope::{OutcomeKind, Reason, Source};
use chat4all_proto::receipt::Failure;
use chat4all_proto::{
    DeadLetter, DeliveryStatus, Generation, Inbound, Key, Message, MessageStatus, Receipt, StatusEvent, StatusUpdate,
    Topic,
};
use chat4all_runtime::Shutdown;
use chat4all_runtime::supervisor::Handle;
use chat4all_runtime::worker::{Consumer, Limits};
use chat4all_storage::log::memory::MemoryLog;
use chat4all_storage::log::{Event, NewRecord, RecordId, TopicKind, TopicSpec};
use chat4all_storage::status::conformance::Sample;
use chat4all_storage::status::memory::MemoryStatus;
use chat4all_storage::status::{DeadLetterRow, JoinKey};
use chat4all_storage::{Log, Status};

use crate::{GROUP, PartitionRecorder, Settings, start_on};
use DeliveryStatus::{Delivered, Failed, Queued, Read, Sent, Unknown};

const WAIT: Duration = Duration::from_secs(10);
const PROVIDER_ID: &str = "wamid.1";

/// A recorder, and one message to one address that is recorded with what happens to it.
struct World {
    log: Arc<MemoryLog>,
    status: Arc<MemoryStatus>,
    sample: Sample,
    message: Message,
    recorders: Vec<Handle<Consumer<PartitionRecorder>>>,
}

const TOPICS: [Topic; 4] = [Topic::Messages, Topic::StatusUpdates, Topic::DeadLetters, Topic::Inbound];

impl World {
    async fn start() -> Self {
        let mut world = Self::without_recorder().await;
        world.record(&TOPICS);
        world
    }

    async fn without_recorder() -> Self {
        let (log, status, sample) = (MemoryLog::new(), MemoryStatus::new(), Sample::new());
        let kind = TopicKind::Stream { retention: Duration::from_secs(3_600) };
        let specs = TOPICS.map(|topic| TopicSpec { topic, partitions: 3, kind: kind.clone() });
        log.ensure_topics(&specs).await.unwrap();
        let message = sample.message(vec![sample.address("ana")]);
        Self { log, status, sample, message, recorders: Vec::new() }
    }

    /// Starts a recorder of these topics.
    fn record(&mut self, topics: &[Topic]) {
        let settings = Settings {
            limits: Limits { records_max: 1_000, bytes_max: 1 << 20 },
            commit_interval: Duration::from_millis(5),
        };
        let (log, status) = (Arc::clone(&self.log) as Arc<dyn Log>, Arc::clone(&self.status) as Arc<dyn Status>);
        let shutdown = Shutdown::new();
        let arbiter = actix::Arbiter::current();
        let start = |topic: &Topic| start_on(topic.clone(), &settings, &log, &status, &arbiter, &shutdown);
        self.recorders.extend(topics.iter().map(start));
    }

    fn event(&self, status: DeliveryStatus) -> Said {
        Said::Event(Box::new(Sample::event(&self.message, 0, status)))
    }

    /// The provider has answered the second attempt.
    fn sent(&self) -> Said {
        let mut event = Sample::event(&self.message, 0, Sent);
        event.attempt = Some(Sample::attempt(&self.message, 2, OutcomeKind::Accepted));
        event.provider_id = Some(PROVIDER_ID.into());
        Said::Event(Box::new(event))
    }

    fn receipt(&self, status: DeliveryStatus) -> Said {
        let failure = Failure { outcome: OutcomeKind::RecipientGone, code: Some("131026".into()) };
        let failure = (status == Failed).then_some(failure);
        Said::Receipt(Receipt { failure, ..self.sample.receipt(PROVIDER_ID, status) })
    }

    /// The delivery with this number of replays has failed, though an attempt may have been taken.
    fn failed_in_doubt(&self, generation: u32) -> Said {
        let event = Sample::event(&self.message, 0, Failed);
        Said::Event(Box::new(StatusEvent { generation: Generation(generation), awaits_receipt: true, ..event }))
    }

    /// With our own id, as some providers give it back.
    fn receipt_by_delivery(&self, status: DeliveryStatus) -> Said {
        let Said::Receipt(receipt) = self.receipt(status) else { unreachable!("just made") };
        let delivery_id = Sample::event(&self.message, 0, Queued).delivery_id;
        Said::Receipt(Receipt { delivery_id: Some(delivery_id), ..receipt })
    }

    async fn append(&self, said: Said) {
        let (topic, key, value) = match said {
            Said::Message(message) => (Topic::Messages, message.key(), serde_json::to_vec(&message)),
            Said::Event(event) => (Topic::StatusUpdates, event.key(), serde_json::to_vec(&event)),
            Said::Receipt(receipt) => (Topic::StatusUpdates, receipt.key(), serde_json::to_vec(&receipt)),
            Said::DeadLetter(letter) => (Topic::DeadLetters, letter.key(), serde_json::to_vec(&letter)),
            Said::Inbound(inbound) => (Topic::Inbound, inbound.key(), serde_json::to_vec(&inbound)),
            Said::Nonsense(topic) => (topic, Key::raw("default/order-42"), Ok(b"{\"v\":1}".into())),
        };
        let id = RecordId { uuid: self.message.message_id.as_uuid(), generation: Generation(0) };
        let record = NewRecord { topic, key, id, value: value.unwrap().into(), traceparent: None, once: None };
        self.log.append(vec![record]).await.unwrap();
    }

    /// Appends each when all that was said before is recorded, and what it led to.
    async fn say(&self, all: impl IntoIterator<Item = Said>) {
        for said in all {
            self.append(said).await;
            self.settle().await;
        }
    }

    async fn say_message(&self) {
        self.say([Said::Message(self.message.clone())]).await;
    }

    /// What is appended is there before the record that led to it is finished: topics settle in this order.
    async fn settle(&self) {
        for topic in [Topic::Messages, Topic::StatusUpdates, Topic::DeadLetters, Topic::Inbound] {
            until("everything is recorded", async || {
                self.log.committed(GROUP, &topic).await.unwrap() == self.log.ends(&topic).await.unwrap()
            })
            .await;
        }
    }

    /// Every status of a delivery on the log, in order.
    async fn events(&self) -> Vec<StatusEvent> {
        let is_event = |value: &[u8]| match StatusUpdate::read(value).unwrap() {
            StatusUpdate::Event(event) => Some(*event),
            StatusUpdate::Receipt(_) => None,
        };
        self.read(Topic::StatusUpdates).await.iter().filter_map(|value| is_event(value)).collect()
    }

    /// The values of all records of a topic; those of one key in order.
    async fn read(&self, topic: Topic) -> Vec<Vec<u8>> {
        let ends = self.log.ends(&topic).await.unwrap();
        let mut left: BTreeMap<u32, u64> = (0..).zip(ends).filter(|(_, end)| *end > 0).collect();
        let mut values = Vec::new();
        let mut reader = self.log.subscribe("reader", &[topic]).await.unwrap();
        while !left.is_empty() {
            let event = tokio::time::timeout(WAIT, reader.events.recv()).await.expect("the log answers");
            let Event::Records { lease, records } = event.expect("the membership lasts") else { continue };
            let number = lease.partition.partition;
            if records.last().is_some_and(|last| Some(&(last.offset + 1)) == left.get(&number)) {
                left.remove(&number);
            }
            values.extend(records.iter().map(|record| record.value.to_vec()));
        }
        values
    }

    async fn dead_letter(&self) -> Option<DeadLetterRow> {
        let delivery = Sample::event(&self.message, 0, Queued).delivery_id;
        self.status.dead_letter(&self.sample.tenant, delivery).await.unwrap()
    }

    /// Where the delivery stands, which statuses are on the log, and how many dead letters.
    async fn check(&self, expected: DeliveryStatus, statuses: &[DeliveryStatus], dead_letters: usize) {
        let events: Vec<_> = self.events().await.iter().map(|event| event.status).collect();
        assert_eq!(events, statuses);
        assert_eq!(self.read(Topic::DeadLetters).await.len(), dead_letters);
        let now = self.sample.now();
        let seen = self.status.message(&self.sample.tenant, self.message.message_id, now).await.unwrap().unwrap();
        assert_eq!(seen.deliveries[0].status, expected);
        assert_eq!(seen.deliveries[0].provider_id.as_deref(), Some(PROVIDER_ID));
        assert_eq!(self.dead_letter().await.is_some(), dead_letters > 0);
    }
}

/// Something on the log.
enum Said {
    Message(Message),
    Event(Box<StatusEvent>),
    Receipt(Receipt),
    DeadLetter(DeadLetter),
    Inbound(Inbound),
    Nonsense(Topic),
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(WAIT, waiting).await.unwrap_or_else(|_| panic!("not within {WAIT:?}: {what}"));
}

#[actix::test]
async fn a_receipt_after_the_answer_raises_the_delivery() {
    let world = World::start().await;
    world.say_message().await;
    world.say([world.event(Queued), world.sent(), world.receipt(Sent), world.receipt(Delivered)]).await;
    world.check(Delivered, &[Queued, Sent, Delivered], 0).await;
    let joined = world.events().await.pop().unwrap();
    let expected = StatusEvent { status: Delivered, at: world.sample.now(), ..Sample::event(&world.message, 0, Sent) };
    assert_eq!(joined, expected, "of no attempt, and with no id to join by again");
}

#[actix::test]
async fn a_receipt_before_the_answer_waits_for_it() {
    let world = World::start().await;
    world.say_message().await;
    world.say([world.receipt(Delivered), world.event(Queued)]).await;
    assert_eq!(world.events().await.len(), 1, "nobody knows yet whose it is");
    world.say([world.sent()]).await;
    world.check(Delivered, &[Queued, Sent, Delivered], 0).await;
}

#[actix::test]
async fn receipts_may_come_twice_and_in_any_order() {
    let world = World::start().await;
    world.say_message().await;
    world.say([world.sent(), world.receipt(Read), world.receipt(Delivered), world.receipt(Read)]).await;
    world.check(Read, &[Sent, Read, Read, Read], 0).await;
}

#[actix::test]
async fn a_receipt_for_an_unknown_id_changes_nothing() {
    let world = World::start().await;
    world.say_message().await;
    let of_another = Receipt { provider_id: "theirs".into(), ..world.sample.receipt(PROVIDER_ID, Read) };
    world.say([world.sent(), Said::Receipt(of_another)]).await;
    world.check(Sent, &[Sent], 0).await;
}

#[actix::test]
async fn a_lost_answer_is_found_by_the_delivery_id() {
    for receipt_first in [false, true] {
        let world = World::start().await;
        world.say_message().await;
        let mut said = [world.event(Unknown), world.receipt_by_delivery(Delivered)];
        if receipt_first {
            said.reverse();
        }
        world.say(said).await;
        world.check(Delivered, &[Unknown, Delivered], 0).await;
        world.say([world.receipt(Read)]).await;
        world.check(Read, &[Unknown, Delivered, Read], 0).await;
        let (tenant, address) = (&world.sample.tenant, &world.message.to[0]);
        let conversation = world.status.conversation_with(tenant, address).await.unwrap();
        assert_eq!(conversation.as_ref(), Some(&world.message.conversation_id));
    }
}

#[actix::test]
async fn a_failure_makes_a_dead_letter() {
    let world = World::start().await;
    world.say_message().await;
    world.say([world.sent(), world.receipt(Failed)]).await;
    world.check(Failed, &[Sent, Failed], 1).await;
    let letter = world.dead_letter().await.unwrap().letter;
    assert_eq!((letter.reason, letter.attempts), (Reason::RecipientGone, 2));
    assert_eq!((letter.code.as_deref(), letter.failed_at), (Some("131026"), world.sample.now()));
    let receipts = Key::of_receipt(&world.sample.channel, PROVIDER_ID).partition(3);
    let Source { topic, partition, .. } = letter.source;
    assert_eq!((topic, partition), (Topic::StatusUpdates.to_string(), receipts));
    assert_eq!(letter.delivery.content, world.message.content);
    assert_eq!(letter.delivery.expires_at, world.message.expires_at);
    let event = world.events().await.pop().unwrap();
    assert_eq!(event.reason, Some(Reason::RecipientGone));
}

#[actix::test]
async fn a_failure_of_what_was_delivered_changes_nothing() {
    for reached in [Delivered, Read] {
        let world = World::start().await;
        world.say_message().await;
        world.say([world.sent(), world.receipt(reached), world.receipt(Failed)]).await;
        world.check(reached, &[Sent, reached, reached], 0).await;
    }
}

#[actix::test]
async fn what_failed_in_doubt_and_arrived_all_the_same_is_known_by_the_delivery_id() {
    let world = World::start().await;
    world.say_message().await;
    world.say([world.failed_in_doubt(0), world.receipt_by_delivery(Read)]).await;
    world.check(Read, &[Failed, Read], 0).await;
}

#[actix::test]
async fn a_receipt_of_an_earlier_way_says_nothing_about_a_replay() {
    let world = World::start().await;
    world.say_message().await;
    world.say([world.sent(), world.receipt_by_delivery(Failed)]).await;
    let mut unknown = Sample::event(&world.message, 0, Unknown);
    unknown.generation = Generation(1);
    world.say([Said::Event(Box::new(unknown))]).await;
    world.check(Unknown, &[Sent, Failed, Unknown], 1).await;
}

#[actix::test]
async fn a_row_that_cannot_be_read_holds_up_nobody_else() {
    let world = World::start().await;
    world.say_message().await;
    world.status.damage(&JoinKey::new(&world.sample.channel, "damaged"));
    let damaged = Receipt { provider_id: "damaged".into(), ..world.sample.receipt(PROVIDER_ID, Read) };
    world.append(world.sent()).await;
    world.say([Said::Receipt(damaged), world.receipt(Read)]).await;
    world.check(Read, &[Sent, Read], 0).await;
}

#[actix::test]
async fn a_failure_waits_for_the_row_of_its_message() {
    let mut world = World::without_recorder().await;
    world.record(&TOPICS[1..]);
    world.append(Said::Message(world.message.clone())).await;
    world.append(world.sent()).await;
    world.append(world.receipt(Failed)).await;
    let key = [JoinKey::new(&world.sample.channel, PROVIDER_ID)];
    until("the receipt is written", async || world.status.joins(&key).await.unwrap()[0].receipt.is_some()).await;
    assert_eq!(world.events().await.len(), 1, "no status goes out before its dead letter can");
    world.record(&TOPICS[..1]);
    world.settle().await;
    world.check(Failed, &[Sent, Failed], 1).await;
}

#[actix::test]
async fn a_failure_whose_message_is_nowhere_goes_out_without_a_dead_letter() {
    let world = World::start().await;
    world.say([world.sent(), world.receipt(Failed)]).await;
    let statuses: Vec<_> = world.events().await.iter().map(|event| event.status).collect();
    assert_eq!(statuses, [Sent, Failed]);
    assert_eq!(world.read(Topic::DeadLetters).await.len(), 0);
    assert_eq!(world.dead_letter().await, None);
}

#[actix::test]
async fn dead_letters_and_received_messages_are_recorded_and_nonsense_is_passed_over() {
    let world = World::start().await;
    let letter = Sample::dead_letter(&world.message, 0, Reason::AttemptsExhausted);
    let inbound = world.sample.inbound("ana");
    for topic in [Topic::Messages, Topic::StatusUpdates, Topic::DeadLetters, Topic::Inbound] {
        world.say([Said::Nonsense(topic)]).await;
    }
    world.say([Said::DeadLetter(letter.clone()), Said::Inbound(inbound.clone())]).await;
    assert_eq!(world.dead_letter().await.map(|row| row.letter), Some(letter));
    let now = world.sample.now();
    let seen = world.status.message(&world.sample.tenant, inbound.message_id, now).await.unwrap();
    assert_eq!(seen.map(|seen| seen.status), Some(MessageStatus::Received));
}

#[actix::test]
async fn what_cannot_be_appended_now_is_told_later() {
    let world = World::start().await;
    world.say_message().await;
    world.status.set_available(false);
    world.append(world.sent()).await;
    world.append(world.receipt(Delivered)).await;
    world.log.set_available(false);
    world.status.set_available(true);
    let key = [JoinKey::new(&world.sample.channel, PROVIDER_ID)];
    until("both halves are written", async || {
        let join = world.status.joins(&key).await.unwrap().remove(0);
        join.event.is_some() && join.receipt.is_some()
    })
    .await;
    world.log.set_available(true);
    world.settle().await;
    let events = world.events().await;
    assert!(events.iter().any(|event| event.status == Delivered), "{events:?}");
}
