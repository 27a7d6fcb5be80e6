//! The dead letter desk: replay by filter and through another channel, and deletion.

use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::envelope::Reason;
use chat4all_proto::http::{DeadLetterPage, Deleted, Replayed, ReplayedMany};
use chat4all_proto::{Address, DeadLetter, DeliveryId, DeliveryStatus, Generation, Message};
use chat4all_runtime::clock;
use chat4all_storage::Status;
use chat4all_storage::log::RecordId;
use chat4all_storage::status::Write;
use chat4all_storage::status::conformance::Sample;
use serde_json::{Value, json};

use crate::dead_letters::failed;
use crate::support::{Harness, Mode, Reply};

async fn many(harness: &Harness, body: Value) -> ReplayedMany {
    let reply = Reply::of(harness.post("/v1/dead-letters/replay", body.to_string())).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    serde_json::from_str(&reply.text).unwrap()
}

async fn one(harness: &Harness, id: DeliveryId, body: Value) -> Reply {
    Reply::of(harness.post(&format!("/v1/dead-letters/{id}/replay"), body.to_string())).await
}

async fn delete(harness: &Harness, path: &str) -> Reply {
    Reply::of(harness.client.delete(format!("{}/v1/dead-letters{path}", harness.base))).await
}

async fn deleted(harness: &Harness, path: &str) -> Deleted {
    let reply = delete(harness, path).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    serde_json::from_str(&reply.text).unwrap()
}

async fn listed(harness: &Harness, query: &str) -> Vec<DeliveryId> {
    let reply = Reply::of(harness.get(&format!("/v1/dead-letters{query}"))).await;
    let page: DeadLetterPage = serde_json::from_str(&reply.text).unwrap_or_else(|_| panic!("{reply:?}"));
    page.dead_letters.into_iter().map(|letter| letter.delivery_id).collect()
}

/// What the recorder does with the replays that are on the log.
async fn recorded(harness: &Harness) {
    let replays = harness.log.messages().into_iter().filter(|message| message.generation > Generation(0));
    harness.status.write(replays.map(|message| Write::Message(Arc::new(message))).collect()).await.unwrap();
}

fn replays(harness: &Harness) -> Vec<Message> {
    harness.log.messages().into_iter().filter(|message| message.generation > Generation(0)).collect()
}

fn id(letter: &DeadLetter) -> DeliveryId {
    letter.delivery.delivery_id
}

#[tokio::test]
async fn a_filter_is_replayed_call_by_call_and_nothing_twice() {
    let harness = Harness::start();
    let mut letters = Vec::new();
    for _ in 0..5 {
        letters.extend(failed(&harness, &["hook:a", "sms:b"], Reason::AttemptsExhausted).await.1);
    }
    failed(&harness, &["hook:c"], Reason::RecipientGone).await;
    let asked = json!({"channel": "hook", "reason": "attempts_exhausted", "limit": 2});
    let mut body = asked.clone();
    let mut counts = Vec::new();
    loop {
        let answer = many(&harness, body.clone()).await;
        assert_eq!((answer.already_replayed, answer.skipped.len()), (0, 0), "{answer:?}");
        counts.push((answer.matched, answer.replayed));
        let Some(cursor) = answer.next_cursor else { break };
        body["cursor"] = cursor.into();
    }
    assert_eq!(counts, [(2, 2), (2, 2), (1, 1)]);
    let mut sent: Vec<DeliveryId> =
        replays(&harness).iter().map(|one| DeliveryId::of(one.message_id, &one.to[0])).collect();
    let mut expected: Vec<DeliveryId> =
        letters.iter().filter(|one| one.delivery.to.channel.as_str() == "hook").map(id).collect();
    sent.sort();
    expected.sort();
    assert_eq!(sent, expected);

    // What the recorder has not seen yet is appended under the same ids, which the router drops.
    let ids = |harness: &Harness| -> Vec<RecordId> {
        harness.log.records().iter().map(|record| record.id).filter(|id| id.generation > Generation(0)).collect()
    };
    let (first, _) = (ids(&harness), many(&harness, asked.clone()).await);
    assert!(ids(&harness)[first.len()..].iter().all(|id| first.contains(id)));
    recorded(&harness).await;
    assert_eq!(many(&harness, asked).await, ReplayedMany::default(), "all are on their way");
    assert_eq!(many(&harness, json!({"limit": 1000})).await.replayed, 6, "the others");
}

#[tokio::test]
async fn a_dry_run_counts_and_writes_nothing() {
    let harness = Harness::start();
    failed(&harness, &["hook:a", "sms:b"], Reason::AttemptsExhausted).await;
    let appends = harness.log.appends();
    let answer = many(&harness, json!({"dry_run": true})).await;
    assert_eq!((answer.matched, answer.replayed, answer.next_cursor), (2, 2, None));
    assert_eq!(harness.log.appends(), appends);
}

#[tokio::test]
async fn what_cannot_be_replayed_is_skipped_and_named() {
    let harness = Harness::start();
    let (message, letters) = failed(&harness, &["hook:a", "hook:b", "sms:a", "hook:c"], Reason::Undelivered).await;
    // It has arrived, its address is taken, and this one's channel is gone.
    let arrived = letters[1].delivery.event(DeliveryStatus::Delivered, clock::now());
    let mut orphan = letters[3].clone();
    orphan.delivery.to = "fax:1".parse().unwrap();
    orphan.delivery.delivery_id = DeliveryId::of(message.message_id, &orphan.delivery.to);
    let writes = vec![Write::Event(Arc::new(arrived)), Write::DeadLetter(Arc::new(orphan.clone()))];
    harness.status.write(writes).await.unwrap();
    let codes = |answer: &ReplayedMany| {
        let mut codes: Vec<_> = answer.skipped.iter().map(|one| (one.delivery_id, one.code.clone())).collect();
        codes.sort();
        codes
    };
    let expected = |pairs: &[(&DeadLetter, &str)]| {
        let mut codes: Vec<_> = pairs.iter().map(|(letter, code)| (id(letter), (*code).to_owned())).collect();
        codes.sort();
        codes
    };
    let answer = many(&harness, json!({"dry_run": true})).await;
    assert_eq!((answer.matched, answer.replayed, answer.already_replayed), (5, 3, 0), "{answer:?}");
    assert_eq!(codes(&answer), expected(&[(&letters[1], "already_delivered"), (&orphan, "unknown_channel")]));
    let answer = many(&harness, json!({"dry_run": true, "to_channel": "sms"})).await;
    assert_eq!(codes(&answer), expected(&[(&letters[1], "already_delivered"), (&letters[0], "address_taken")]));
}

#[tokio::test]
async fn another_channel_carries_the_same_message_to_the_same_target_once() {
    let harness = Harness::start();
    let (message, letters) = failed(&harness, &["hook:a"], Reason::RecipientGone).await;
    let letter = &letters[0];
    let to: Address = "sms:a".parse().unwrap();
    let reply = one(&harness, id(letter), json!({"to_channel": "sms"})).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let replayed: Replayed = serde_json::from_str(&reply.text).unwrap();
    let delivery_id = DeliveryId::of(message.message_id, &to);
    let expected = Replayed {
        delivery_id,
        message_id: message.message_id,
        generation: Generation(1),
        status: None,
        to: Some(to.clone()),
    };
    assert_eq!(replayed, expected);
    let record = harness.log.records().last().unwrap().clone();
    let ours = RecordId { uuid: id(letter).as_uuid(), generation: Generation(1) };
    assert_eq!(record.id, ours, "as a replay to its own address has: of the two one is routed");
    let again: Message = serde_json::from_slice(&record.value).unwrap();
    assert_eq!((&again.to, &again.instead_of), (&vec![to.clone()], &Some(letter.delivery.to.clone())));

    recorded(&harness).await;
    assert_eq!(listed(&harness, "").await, [], "it is on its way again");
    let appends = harness.log.appends();
    let mut sent = letter.delivery.event(DeliveryStatus::Sent, clock::now());
    (sent.delivery_id, sent.address, sent.generation) = (delivery_id, to, Generation(1));
    harness.status.write(vec![Write::Event(Arc::new(sent))]).await.unwrap();
    for body in [json!({"to_channel": "sms"}), json!({}), json!({"to_channel": "hook"})] {
        let reply = one(&harness, id(letter), body.clone()).await;
        let again: Replayed = serde_json::from_str(&reply.text).unwrap();
        assert_eq!(again, Replayed { status: Some(DeliveryStatus::Sent), ..expected.clone() }, "{body}");
    }
    assert_eq!(harness.log.appends(), appends);

    // It fails there too, and goes back: a further generation of the first delivery.
    let mut there = Sample::dead_letter(&again, 0, Reason::MessageRejected);
    there.failed_at = clock::now();
    harness.status.write(vec![Write::DeadLetter(Arc::new(there.clone()))]).await.unwrap();
    assert_eq!(listed(&harness, "?channel=sms").await, [delivery_id]);
    // Only once its own way to there has failed, as far as one can tell.
    one(&harness, delivery_id, json!({"to_channel": "hook"})).await.expect(409, "address_taken");
    let gone = letter.delivery.event(DeliveryStatus::Failed, clock::now());
    harness.status.write(vec![Write::Event(Arc::new(gone))]).await.unwrap();
    let back: Replayed =
        serde_json::from_str(&one(&harness, delivery_id, json!({"to_channel": "hook"})).await.text).unwrap();
    assert_eq!((back.delivery_id, back.generation), (id(letter), Generation(2)));
}

#[tokio::test]
async fn what_another_channel_cannot_carry_is_refused() {
    let harness = Harness::start();
    let (_, letters) = failed(&harness, &["chat:nobody"], Reason::RecipientGone).await;
    let refused = one(&harness, id(&letters[0]), json!({"to_channel": "hook"})).await.expect(422, "invalid_field");
    assert_eq!(refused.field.as_deref(), Some("to_channel"));
    assert!(refused.detail.contains("hook") && refused.detail.contains("nobody is there"), "{refused:?}");
    let answer = many(&harness, json!({"to_channel": "hook"})).await;
    assert_eq!((answer.replayed, answer.skipped[0].code.as_str()), (0, "invalid_field"));
}

#[tokio::test]
async fn what_is_asked_wrongly_is_named() {
    let harness = Harness::start();
    for (body, code, field) in [
        (json!({"channel": "A b"}), "invalid_field", "channel"),
        (json!({"reason": "bad"}), "invalid_field", "reason"),
        (json!({"before": "yesterday"}), "invalid_field", "before"),
        (json!({"from": "2026-11-21T00:00:00Z", "before": "2026-11-20T00:00:00Z"}), "invalid_field", "before"),
        (json!({"limit": 0}), "invalid_field", "limit"),
        (json!({"limit": 1001}), "invalid_field", "limit"),
        (json!({"cursor": "x"}), "invalid_field", "cursor"),
        (json!({"rate": 5}), "invalid_field", "rate"),
        (json!({"to_channel": "fax"}), "unknown_channel", "to_channel"),
    ] {
        let reply = Reply::of(harness.post("/v1/dead-letters/replay", body.to_string())).await;
        assert_eq!(reply.expect(422, code).field.as_deref(), Some(field), "{body}");
    }
    for (path, field) in [
        ("?before=yesterday", "before"),
        ("?from=2026-11-21T00:00:00Z&before=2026-11-20T00:00:00Z", "before"),
        ("?reason=bad", "reason"),
        ("?status=failed", "status"),
        ("?all=yes", "all"),
        ("?all=true&channel=hook", "all"),
        ("", "all"),
    ] {
        let problem = delete(&harness, path).await.expect(422, "invalid_parameter");
        assert_eq!(problem.field.as_deref(), Some(field), "{path}");
    }
    let listed = Reply::of(harness.get("/v1/dead-letters?from=1")).await.expect(422, "invalid_parameter");
    assert_eq!(listed.field.as_deref(), Some("from"));
    delete(&harness, "/dlv_5c1f0e9a-8d7b-5c3e-9a55-3f1b7c0d2e4f").await.expect(404, "dead_letter_not_found");
    Reply::of(harness.get("/v1/dead-letters/replay")).await.expect(405, "method_not_allowed");
}

#[tokio::test]
async fn they_are_listed_and_replayed_by_time() {
    let harness = Harness::start();
    let mut letters = Vec::new();
    for _ in 0..4 {
        letters.extend(failed(&harness, &["hook:a"], Reason::RecipientGone).await.1);
        tokio::time::sleep(Duration::from_millis(2)).await; // so that each failed at another time
    }
    let (second, fourth) = (letters[1].failed_at, letters[3].failed_at);
    let expected = [id(&letters[2]), id(&letters[1])];
    assert_eq!(listed(&harness, &format!("?from={second}&before={fourth}")).await, expected);
    let body = json!({"from": second.to_string(), "before": fourth.to_string()});
    assert_eq!(many(&harness, body).await.replayed, 2);
    let sent: Vec<_> = replays(&harness).iter().map(|one| DeliveryId::of(one.message_id, &one.to[0])).collect();
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_does_not_come_back() {
    let harness = Harness::start();
    let mut letters = Vec::new();
    for _ in 0..3 {
        letters.extend(failed(&harness, &["hook:a", "sms:b"], Reason::RecipientGone).await.1);
    }
    let first = id(&letters[0]);
    assert_eq!(deleted(&harness, &format!("/{first}")).await, Deleted { deleted: 1, more: false });
    delete(&harness, &format!("/{first}")).await.expect(404, "dead_letter_not_found");
    one(&harness, first, json!({})).await.expect(404, "dead_letter_not_found");
    assert_eq!(deleted(&harness, "?channel=hook").await, Deleted { deleted: 2, more: false });
    assert_eq!(listed(&harness, "").await.len(), 3);
    let writes = letters.iter().cloned().map(|letter| Write::DeadLetter(Arc::new(letter))).collect();
    harness.status.write(writes).await.unwrap();
    assert_eq!(listed(&harness, "").await.len(), 3, "also where the recorder reads them once more");
    assert_eq!(deleted(&harness, "?all=true").await, Deleted { deleted: 3, more: false });
    assert_eq!(listed(&harness, "").await, []);
}

#[tokio::test]
async fn a_thousand_are_deleted_a_call() {
    let harness = Harness::start();
    let (message, letters) = failed(&harness, &["hook:a"], Reason::RecipientGone).await;
    let other = |number: u32| {
        let mut letter = Sample::dead_letter(&message, 0, Reason::RecipientGone);
        letter.delivery.to.target = format!("{number}").into();
        letter.delivery.delivery_id = DeliveryId::of(message.message_id, &letter.delivery.to);
        Write::DeadLetter(Arc::new(letter))
    };
    harness.status.write((0..1_200).map(other).collect()).await.unwrap();
    assert_eq!(deleted(&harness, "?channel=hook").await, Deleted { deleted: 1_000, more: true });
    assert_eq!(deleted(&harness, "?channel=hook").await, Deleted { deleted: 201, more: false });
    assert_eq!(letters.len(), 1);
}

#[tokio::test]
async fn an_outage_in_between_loses_nothing() {
    let harness = Harness::start();
    failed(&harness, &["hook:a", "hook:b"], Reason::RecipientGone).await;
    let refused = async |status: u16, code: &str| {
        Reply::of(harness.post("/v1/dead-letters/replay", "{}")).await.expect(status, code);
    };
    harness.log.set_mode(Mode::Unavailable);
    refused(503, "log_unavailable").await;
    harness.log.set_mode(Mode::Unknown);
    refused(503, "outcome_unknown").await;
    harness.log.set_mode(Mode::Write);
    harness.status.set_available(false);
    refused(503, "status_unavailable").await;
    delete(&harness, "?all=true").await.expect(503, "status_unavailable");
    harness.status.set_available(true);
    assert_eq!(many(&harness, json!({})).await.replayed, 2);
}
