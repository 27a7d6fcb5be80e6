//! The router over the in-memory log: what stands there twice under one id is routed once.

use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::{Generation, Message, Timestamp, Topic};
use chat4all_runtime::Shutdown;
use chat4all_runtime::supervisor::Handle;
use chat4all_runtime::worker::{Consumer, Limits};
use chat4all_storage::Log;
use chat4all_storage::log::memory::MemoryLog;
use chat4all_storage::log::{NewRecord, RecordId, TopicKind, TopicSpec};
use chat4all_storage::status::conformance::Sample;

use crate::metrics::REPEATED;
use crate::{GROUP, PartitionRouter, Settings, start};

const WAIT: Duration = Duration::from_secs(10);

/// A router, and a message that the log may get more than once, as Kafka does under an idempotency key.
struct World {
    log: Arc<MemoryLog>,
    message: Message,
    outbound: Topic,
    _router: Handle<Consumer<PartitionRouter>>,
}

impl World {
    async fn start() -> Self {
        let (log, sample) = (MemoryLog::new(), Sample::new());
        let outbound = Topic::Outbound(sample.channel.clone());
        let kind = TopicKind::Stream { retention: Duration::from_secs(3_600) };
        let topics = [Topic::Messages, Topic::StatusUpdates, outbound.clone()];
        let specs = topics.map(|topic| TopicSpec { topic, partitions: 3, kind: kind.clone() });
        log.ensure_topics(&specs).await.unwrap();
        let settings = Settings {
            channels: Arc::new([sample.channel.clone()].into()),
            limits: Limits { records_max: 1_000, bytes_max: 1 << 20 },
            commit_interval: Duration::from_millis(5),
            repeats_kept: Duration::from_secs(3_600),
        };
        let router = start(&settings, &(Arc::clone(&log) as Arc<dyn Log>), &Shutdown::new());
        let message =
            Message { expires_at: Timestamp::from_millis(u64::MAX / 2), ..sample.message(vec![sample.address("ana")]) };
        Self { log, message, outbound, _router: router }
    }

    /// Appends the message once more, accepted so much later, and waits until it is routed.
    async fn append(&self, later: Duration) {
        let accepted_at = self.message.accepted_at.saturating_add(later);
        let message = Message { accepted_at, ..self.message.clone() };
        let record = NewRecord {
            topic: Topic::Messages,
            key: message.key(),
            id: RecordId { uuid: message.message_id.as_uuid(), generation: Generation(0) },
            value: serde_json::to_vec(&message).unwrap().into(),
            traceparent: None,
            once: None,
        };
        self.log.append(vec![record]).await.unwrap();
        let routed = async {
            let messages = Topic::Messages;
            while self.log.committed(GROUP, &messages).await.unwrap() != self.log.ends(&messages).await.unwrap() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(WAIT, routed).await.expect("the router commits what it has read");
    }

    /// The ends of the outbound topic: another record moves one of them.
    async fn copies(&self) -> Vec<u64> {
        self.log.ends(&self.outbound).await.unwrap()
    }
}

#[actix::test]
async fn a_message_that_is_on_the_log_twice_is_routed_once_also_after_a_takeover() {
    let world = World::start().await;
    let (none, counted) = (world.copies().await, REPEATED.get());
    world.append(Duration::ZERO).await;
    let one = world.copies().await;
    assert_ne!(one, none);
    world.append(Duration::from_secs(1)).await;
    assert_eq!(world.copies().await, one);
    for takeover in 1..=2 {
        world.log.take_away(GROUP);
        world.append(Duration::from_secs(60)).await;
        assert_eq!(world.copies().await, one, "takeover {takeover}");
    }
    assert_eq!(REPEATED.get() - counted, 3, "each repeat is counted");
}
