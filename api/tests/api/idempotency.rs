//! The same key and contents are one message; the same key with other contents is a conflict.

use chat4all_proto::{ConversationId, MessageId, TenantId};
use chat4all_runtime::clock;

use crate::support::{Harness, Reply, hello};

async fn keyed(harness: &Harness, key: &str, body: &str) -> Reply {
    Reply::of(harness.post("/v1/messages", body).header("idempotency-key", key)).await
}

#[tokio::test]
async fn a_message_is_accepted_with_its_id_place_and_time() {
    let harness = Harness::start();
    let reply = harness.send(hello()).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let body = reply.json();
    let id = body["message_id"].as_str().unwrap();
    assert_eq!(reply.header("location"), Some(format!("/v1/messages/{id}").as_str()));
    assert_eq!(body["status"], "accepted");
    let message = harness.log.messages().remove(0);
    assert_eq!(message.message_id.to_string(), id);
    assert_eq!(message.conversation_id, ConversationId::of(message.message_id));
    assert_eq!(body["conversation_id"], message.conversation_id.as_str());
    assert_eq!(body["accepted_at"], message.accepted_at.to_string());
    assert_eq!(message.expires_at.saturating_since(message.accepted_at).as_secs(), 86_400);
    assert!(harness.log.records()[0].once.is_none());
}

#[tokio::test]
async fn the_same_key_and_contents_are_one_message_however_they_are_spelt() {
    let harness = Harness::start();
    let first = r#"{"to":"hook:ana","content":{"type":"text","text":"hi"},"metadata":{"a":1,"b":2}}"#;
    let again = r#"{ "metadata":{"b":2,"a":1}, "expires_in_seconds":86400, "mode":"all",
        "content":{"text":"h\u0069","type":"text"},"to":["hook:ana"]}"#;
    let (first, again) = (keyed(&harness, "k", first).await, keyed(&harness, "k", again).await);
    assert_eq!((first.status, again.status), (202, 202), "{again:?}");
    assert_eq!(first.json(), again.json());
    assert_eq!(harness.log.records().len(), 1);
    let expected = MessageId::from_idempotency_key(&TenantId::default(), "k");
    assert_eq!(harness.log.messages()[0].message_id, expected);
}

#[tokio::test]
async fn a_repeat_answers_the_time_of_the_first() {
    let harness = Harness::start();
    let first = keyed(&harness, "k", &hello()).await.json();
    let answered = clock::now();
    while clock::now() == answered {
        tokio::task::yield_now().await;
    }
    assert_eq!(keyed(&harness, "k", &hello()).await.json()["accepted_at"], first["accepted_at"]);
}

#[tokio::test]
async fn the_same_key_with_other_contents_is_a_conflict() {
    let harness = Harness::start();
    assert_eq!(keyed(&harness, "k", &hello()).await.status, 202);
    let text = r#""content":{"type":"text","text":"hi"}"#;
    for other in [
        r#"{"to":"hook:ana","content":{"type":"text","text":"ho"}}"#.to_owned(),
        format!(r#"{{"to":"hook:bob",{text}}}"#),
        format!(r#"{{"to":"hook:ana","conversation_id":"c",{text}}}"#),
        format!(r#"{{"to":"hook:ana","metadata":{{"a":1}},{text}}}"#),
        format!(r#"{{"to":"hook:ana","expires_in_seconds":60,{text}}}"#),
    ] {
        let problem = keyed(&harness, "k", &other).await.expect(409, "idempotency_conflict");
        assert_eq!(problem.field.as_deref(), Some("idempotency-key"), "{other}");
    }
    assert_eq!(harness.log.records().len(), 1);
}

#[tokio::test]
async fn an_id_that_the_client_chose_is_used_once() {
    let harness = Harness::start();
    let id = "msg_018f4e0e-0000-7000-8000-000000000001";
    let body =
        |text: &str| format!(r#"{{"to":"hook:ana","message_id":"{id}","content":{{"type":"text","text":"{text}"}}}}"#);
    assert_eq!(harness.send(body("hi")).await.json()["message_id"], id);
    assert_eq!(harness.send(body("hi")).await.status, 202);
    let problem = harness.send(body("ho")).await.expect(409, "idempotency_conflict");
    assert_eq!(problem.field.as_deref(), Some("message_id"));
    assert_eq!(harness.log.records().len(), 1);
}

#[tokio::test]
async fn the_trace_context_goes_with_the_record() {
    let harness = Harness::start();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for traceparent in [trace, "rubbish"] {
        assert_eq!(
            Reply::of(harness.post("/v1/messages", hello()).header("traceparent", traceparent)).await.status,
            202
        );
    }
    let traces: Vec<_> = harness.log.records().into_iter().map(|record| record.traceparent).collect();
    assert_eq!(traces, [Some(trace.into()), None]);
}
