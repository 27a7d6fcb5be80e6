//! The dead letters: listed, shown, sent again once.

use std::sync::Arc;

use chat4all_proto::envelope::{DeadLetter, Reason};
use chat4all_proto::http::{DeadLetterPage, DeadLetterView, Replayed};
use chat4all_proto::{DeliveryId, DeliveryStatus, Generation, Message, Timestamp, Topic};
use chat4all_runtime::clock;
use chat4all_storage::Status;
use chat4all_storage::log::RecordId;
use chat4all_storage::status::Write;
use chat4all_storage::status::conformance::Sample;
use serde_json::json;

use crate::support::{Harness, Mode, Reply};

/// Accepts a message to `targets`, and lets each of its deliveries fail.
pub async fn failed(harness: &Harness, targets: &[&str], reason: Reason) -> (Message, Vec<DeadLetter>) {
    let body = json!({"to": targets, "content": {"type": "text", "text": "hi"}, "metadata": {"a": 1}, "expires_in_seconds": 60});
    assert_eq!(harness.send(body.to_string()).await.status, 202);
    let message: Message = serde_json::from_slice(&harness.log.records().last().unwrap().value).unwrap();
    let letters: Vec<DeadLetter> =
        (0..targets.len()).map(|index| Sample::dead_letter(&message, index, reason)).collect();
    let writes = letters.iter().cloned().map(|letter| Write::DeadLetter(Arc::new(letter)));
    let writes = std::iter::once(Write::Message(Arc::new(message.clone()))).chain(writes).collect();
    harness.status.write(writes).await.unwrap();
    (message, letters)
}

async fn page(harness: &Harness, query: &str) -> DeadLetterPage {
    let reply = Reply::of(harness.get(&format!("/v1/dead-letters{query}"))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    serde_json::from_str(&reply.text).unwrap()
}

async fn replay(harness: &Harness, id: DeliveryId) -> Reply {
    Reply::of(harness.post(&format!("/v1/dead-letters/{id}/replay"), "")).await
}

#[tokio::test]
async fn they_are_listed_by_channel_and_reason_page_by_page_and_shown_whole() {
    let harness = Harness::start();
    let (message, letters) = failed(&harness, &["hook:a", "sms:b"], Reason::AttemptsExhausted).await;
    failed(&harness, &["hook:c"], Reason::RecipientGone).await;
    assert_eq!(page(&harness, "").await.dead_letters.len(), 3);
    assert_eq!(page(&harness, "?channel=hook").await.dead_letters.len(), 2);
    let found = page(&harness, "?channel=hook&reason=attempts_exhausted").await.dead_letters;
    assert_eq!(found.iter().map(|letter| letter.delivery_id).collect::<Vec<_>>(), [letters[0].delivery.delivery_id]);
    let first = page(&harness, "?limit=2").await;
    let rest = page(&harness, &format!("?limit=2&cursor={}", first.next_cursor.unwrap())).await;
    assert_eq!((first.dead_letters.len(), rest.dead_letters.len(), rest.next_cursor), (2, 1, None));

    let id = letters[1].delivery.delivery_id;
    let shown = Reply::of(harness.get(&format!("/v1/dead-letters/{id}"))).await;
    let shown: DeadLetterView = serde_json::from_str(&shown.text).unwrap();
    assert_eq!((shown.message_id, shown.to.to_string(), shown.attempts), (message.message_id, "sms:b".into(), 5));
    assert_eq!((shown.code.as_deref(), shown.replayed, shown.metadata), (Some("131026"), false, message.metadata));
}

#[tokio::test]
async fn what_is_asked_wrongly_is_named() {
    let harness = Harness::start();
    let refused = async |path: &str, status: u16, code: &str| Reply::of(harness.get(path)).await.expect(status, code);
    assert_eq!(refused("/v1/dead-letters?reason=bad", 422, "invalid_parameter").await.field.unwrap(), "reason");
    assert_eq!(refused("/v1/dead-letters?status=failed", 422, "invalid_parameter").await.field.unwrap(), "status");
    assert_eq!(refused("/v1/dead-letters?cursor=x", 422, "invalid_parameter").await.field.unwrap(), "cursor");
    assert_eq!(refused("/v1/dead-letters/42", 422, "invalid_parameter").await.field.unwrap(), "id");
    refused("/v1/dead-letters/dlv_5c1f0e9a-8d7b-5c3e-9a55-3f1b7c0d2e4f", 404, "dead_letter_not_found").await;
    let (_, letters) = failed(&harness, &["hook:a"], Reason::RecipientGone).await;
    let path = format!("/v1/dead-letters/{}/replay", letters[0].delivery.delivery_id);
    Reply::of(harness.post(&path, r#"{"rate":5}"#)).await.expect(422, "invalid_field");
    harness.status.set_available(false);
    refused("/v1/dead-letters", 503, "status_unavailable").await;
}

#[tokio::test]
async fn a_replay_is_the_next_generation_of_the_same_delivery_with_a_life_of_its_own() {
    let harness = Harness::start();
    let (message, letters) = failed(&harness, &["hook:a", "hook:b"], Reason::RecipientGone).await;
    for letter in &letters {
        let id = letter.delivery.delivery_id;
        let reply = replay(&harness, id).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let replayed: Replayed = serde_json::from_str(&reply.text).unwrap();
        assert_eq!(
            replayed,
            Replayed {
                delivery_id: id,
                message_id: message.message_id,
                generation: Generation(1),
                status: None,
                to: None
            }
        );
        let record = harness.log.records().last().unwrap().clone();
        assert_eq!(record.topic, Topic::Messages);
        assert_eq!(record.id, RecordId { uuid: id.as_uuid(), generation: Generation(1) }, "each delivery by itself");
        let again: Message = serde_json::from_slice(&record.value).unwrap();
        assert_eq!(again.to.as_slice(), std::slice::from_ref(&letter.delivery.to));
        assert_eq!((again.message_id, &again.conversation_id), (message.message_id, &message.conversation_id));
        assert_eq!(
            (again.generation, &again.content, &again.metadata),
            (Generation(1), &message.content, &message.metadata)
        );
        let life = again.expires_at.saturating_since(clock::now()).as_secs();
        assert!((50..=60).contains(&life), "{life} s");
        // Another way and another hour later it has as long again, not more.
        let mut later = Sample::dead_letter(&again, 0, Reason::AttemptsExhausted);
        later.delivery.expires_at = Timestamp::from_millis(later.delivery.expires_at.as_millis() + 3_600_000);
        harness.status.write(vec![Write::DeadLetter(Arc::new(later))]).await.unwrap();
        replay(&harness, id).await;
        let third: Message = serde_json::from_slice(&harness.log.records().last().unwrap().value).unwrap();
        let life = third.expires_at.saturating_since(clock::now()).as_secs();
        assert!(third.generation == Generation(2) && (50..=60).contains(&life), "{life} s");
    }
}

#[tokio::test]
async fn a_letter_that_was_replayed_is_answered_alike_and_sent_no_more() {
    let harness = Harness::start();
    let (_, letters) = failed(&harness, &["hook:a"], Reason::RecipientGone).await;
    let id = letters[0].delivery.delivery_id;
    let first = replay(&harness, id).await;
    let again: Message = serde_json::from_slice(&harness.log.records().last().unwrap().value).unwrap();
    harness.status.write(vec![Write::Message(Arc::new(again.clone()))]).await.unwrap();
    let appends = harness.log.appends();
    let second = replay(&harness, id).await;
    assert_eq!((second.status, &second.text), (202, &first.text), "nothing is known of it yet");
    assert_eq!(harness.log.appends(), appends);
    let mut event = letters[0].delivery.event(DeliveryStatus::Sent, clock::now());
    event.generation = Generation(1);
    harness.status.write(vec![Write::Event(Arc::new(event))]).await.unwrap();
    let known: Replayed = serde_json::from_str(&replay(&harness, id).await.text).unwrap();
    assert_eq!((known.generation, known.status), (Generation(1), Some(DeliveryStatus::Sent)));
    assert_eq!(page(&harness, "").await.dead_letters, []);

    let mut failed_again = Sample::dead_letter(&again, 0, Reason::MessageRejected);
    failed_again.failed_at = Timestamp::from_millis(failed_again.failed_at.as_millis() + 1);
    harness.status.write(vec![Write::DeadLetter(Arc::new(failed_again))]).await.unwrap();
    let [shown] = page(&harness, "").await.dead_letters.try_into().expect("one");
    assert_eq!((shown.delivery_id, shown.generation, shown.reason), (id, Generation(1), Reason::MessageRejected));
    let third: Replayed = serde_json::from_str(&replay(&harness, id).await.text).unwrap();
    assert_eq!(third.generation, Generation(2));
}

#[tokio::test]
async fn what_arrived_all_the_same_is_not_sent_again() {
    let harness = Harness::start();
    let (_, letters) = failed(&harness, &["hook:a"], Reason::Undelivered).await;
    let delivery = &letters[0].delivery;
    let event = delivery.event(DeliveryStatus::Delivered, clock::now());
    harness.status.write(vec![Write::Event(Arc::new(event))]).await.unwrap();
    let appends = harness.log.appends();
    replay(&harness, delivery.delivery_id).await.expect(409, "already_delivered");
    assert_eq!(harness.log.appends(), appends);
}

#[tokio::test]
async fn a_replay_needs_the_log_and_the_channel() {
    let harness = Harness::start();
    let (message, letters) = failed(&harness, &["hook:a"], Reason::RecipientGone).await;
    let id = letters[0].delivery.delivery_id;
    harness.log.set_mode(Mode::Unavailable);
    replay(&harness, id).await.expect(503, "log_unavailable");
    harness.log.set_mode(Mode::Unknown);
    let unknown = replay(&harness, id).await.expect(503, "outcome_unknown");
    assert_eq!(unknown.message_id, Some(message.message_id));
    harness.log.set_mode(Mode::Write);
    let mut orphan = Sample::dead_letter(&message, 0, Reason::ChannelRemoved);
    orphan.delivery.to = "fax:1".parse().unwrap();
    orphan.delivery.delivery_id = DeliveryId::of(message.message_id, &orphan.delivery.to);
    harness.status.write(vec![Write::DeadLetter(Arc::new(orphan.clone()))]).await.unwrap();
    let refused = replay(&harness, orphan.delivery.delivery_id).await.expect(422, "unknown_channel");
    assert!(refused.detail.contains("fax"), "{refused:?}");
}
