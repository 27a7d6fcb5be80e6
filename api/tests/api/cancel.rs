//! Cancelling a message.

use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::control::Cancelled;
use chat4all_proto::envelope::Reason;
use chat4all_proto::{DeliveryStatus, Message};
use chat4all_runtime::clock;
use chat4all_storage::Status;
use chat4all_storage::status::Write;
use chat4all_storage::status::conformance::Sample;

use crate::support::{Harness, Mode, Reply, hello};

/// Accepts a message to these targets of `hook`, whose deliveries then reach these statuses.
async fn sent(harness: &Harness, statuses: &[DeliveryStatus]) -> Message {
    let to: Vec<_> = (0..statuses.len()).map(|number| format!("hook:{number}")).collect();
    let body = serde_json::json!({"to": to, "content": {"type": "text", "text": "hi"}, "expires_in_seconds": 60});
    assert_eq!(harness.send(body.to_string()).await.status, 202);
    let message: Message = serde_json::from_slice(&harness.log.records().last().unwrap().value).unwrap();
    let mut writes = vec![Write::Message(Arc::new(message.clone()))];
    for (index, status) in statuses.iter().enumerate() {
        writes.push(Write::Event(Arc::new(Sample::event(&message, index, *status))));
    }
    harness.status.write(writes).await.unwrap();
    message
}

async fn cancel(harness: &Harness, message: &Message) -> Reply {
    Reply::of(harness.post(&format!("/v1/messages/{}/cancel", message.message_id), "")).await
}

fn key(message: &Message) -> String {
    format!("cancelled/{}", message.message_id)
}

#[tokio::test]
async fn what_is_under_way_is_cancelled_for_as_long_as_it_may_be_under_way() {
    let harness = Harness::start();
    let message = sent(&harness, &[DeliveryStatus::Queued, DeliveryStatus::Delivered]).await;
    let first = cancel(&harness, &message).await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(first.header("location"), Some(format!("/v1/messages/{}", message.message_id).as_str()));
    let expected = serde_json::json!({"message_id": message.message_id, "status": "queued"});
    assert_eq!(first.json(), expected);
    let value: Cancelled = serde_json::from_slice(&harness.log.control()[&key(&message)]).unwrap();
    let kept = value.until.saturating_since(message.expires_at);
    assert!((Duration::from_secs(3_600)..Duration::from_secs(3_610)).contains(&kept), "{kept:?}");
    let written = harness.log.control();
    let again = cancel(&harness, &message).await;
    assert_eq!((again.status, again.json()), (202, expected), "asking again is no error");
    assert_eq!(harness.log.control(), written, "and writes nothing");
}

#[tokio::test]
async fn a_message_that_is_not_routed_yet_can_be_cancelled() {
    let harness = Harness::start();
    harness.send(hello()).await;
    let unrouted: Message = serde_json::from_slice(&harness.log.records().last().unwrap().value).unwrap();
    harness.status.write(vec![Write::Message(Arc::new(unrouted.clone()))]).await.unwrap();
    let reply = cancel(&harness, &unrouted).await;
    assert_eq!((reply.status, &reply.json()["status"]), (202, &"accepted".into()));
    assert!(harness.log.control().contains_key(&key(&unrouted)));
}

#[tokio::test]
async fn too_late_is_too_late() {
    let harness = Harness::start();
    use DeliveryStatus::{Cancelled, Delivered, Expired, Failed, Read, Sent, Unknown};
    for statuses in [&[Sent][..], &[Delivered, Read], &[Failed, Expired], &[Unknown]] {
        let message = sent(&harness, statuses).await;
        let problem = cancel(&harness, &message).await.expect(409, "too_late");
        assert_eq!(problem.message_id, Some(message.message_id), "{statuses:?}");
    }
    let ended = sent(&harness, &[Cancelled, Delivered]).await;
    assert_eq!(cancel(&harness, &ended).await.status, 202, "it was cancelled before");
    let inbound = Sample::new().inbound("ana");
    let inbound = chat4all_proto::Inbound { tenant: Default::default(), ..inbound };
    harness.status.write(vec![Write::Inbound(Arc::new(inbound.clone()))]).await.unwrap();
    let path = format!("/v1/messages/{}/cancel", inbound.message_id);
    Reply::of(harness.post(&path, "")).await.expect(409, "too_late");
    assert!(harness.log.control().is_empty());
}

#[tokio::test]
async fn what_is_asked_wrongly_is_named() {
    let harness = Harness::start();
    harness.log.commit_all(crate::support::ROUTER);
    harness.log.commit_all(crate::support::RECORDER);
    let path = "/v1/messages/msg_018f4e0e-0000-7000-8000-000000000001/cancel";
    Reply::of(harness.post(path, "")).await.expect(404, "message_not_found");
    let bad = Reply::of(harness.post("/v1/messages/42/cancel", "")).await.expect(422, "invalid_parameter");
    assert_eq!(bad.field.as_deref(), Some("id"));
    Reply::of(harness.post(path, r#"{"why":1}"#)).await.expect(422, "invalid_field");
    Reply::of(harness.get(path)).await.expect(405, "method_not_allowed");
    let message = sent(&harness, &[DeliveryStatus::Queued]).await;
    harness.log.set_mode(Mode::Unavailable);
    cancel(&harness, &message).await.expect(503, "log_unavailable");
    harness.log.set_mode(Mode::Unknown);
    cancel(&harness, &message).await.expect(503, "outcome_unknown");
    harness.status.set_available(false);
    cancel(&harness, &message).await.expect(503, "status_unavailable");
}

#[tokio::test]
async fn what_was_cancelled_is_not_replayed_while_it_would_end_at_once() {
    let harness = Harness::start();
    let message = sent(&harness, &[DeliveryStatus::Failed, DeliveryStatus::Queued]).await;
    let letter = Sample::dead_letter(&message, 0, Reason::MessageRejected);
    harness.status.write(vec![Write::DeadLetter(Arc::new(letter.clone()))]).await.unwrap();
    assert_eq!(cancel(&harness, &message).await.status, 202);
    let path = format!("/v1/dead-letters/{}/replay", letter.delivery.delivery_id);
    let problem = Reply::of(harness.post(&path, "")).await.expect(409, "message_cancelled");
    assert_eq!(problem.message_id, Some(message.message_id));
}

#[tokio::test]
async fn what_is_over_is_deleted_from_the_topic() {
    let harness = Harness::with(|options| options.sweep_interval = Duration::from_millis(10));
    let [old, young] = ["1", "2"].map(|end| format!("cancelled/msg_018f4e0e-0000-7000-8000-00000000000{end}"));
    harness.log.put(&old, r#"{"v":1,"at":7,"until":8}"#).await;
    let until = clock::now().saturating_add(Duration::from_secs(60)).as_millis();
    harness.log.put(&young, Box::leak(format!(r#"{{"v":1,"at":7,"until":{until}}}"#).into_boxed_str())).await;
    harness.log.put("drain/gone", r#"{"v":1,"at":7}"#).await;
    harness.log.put("paused/gone", r#"{"v":1,"since":7}"#).await;
    let swept = async {
        while harness.log.control().len() > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), swept).await.expect("in time");
    assert_eq!(harness.log.control().keys().collect::<Vec<_>>(), [&young, "paused/gone"]);
}
