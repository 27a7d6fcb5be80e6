//! What providers call: handshakes, who is believed, what reaches the log, and when the answer is 2xx.

use chat4all_proto::{DeliveryStatus, Inbound, Message, Receipt, StatusEvent, Topic};
use chat4all_storage::Status;
use chat4all_storage::status::Write;
use serde_json::json;
use std::sync::Arc;

use std::sync::atomic::Ordering;
use tokio::io::AsyncWriteExt;

use crate::support::{Harness, Mode, Reply, VERIFIED};

const SECRET: &str = "chat-secret";

async fn call(harness: &Harness, channel: &str, secret: &str, body: &serde_json::Value) -> Reply {
    let request = harness.post(&format!("/v1/callbacks/{channel}"), body.to_string());
    Reply::of(request.header("x-chat-secret", secret)).await
}

fn read_receipt(account: &str) -> serde_json::Value {
    json!([{"account": account, "id": "p-1", "status": "read"}])
}

fn receipts(harness: &Harness) -> Vec<Receipt> {
    let records = harness.log.records().into_iter().filter(|record| record.topic == Topic::StatusUpdates);
    records.map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
}

fn inbound(harness: &Harness) -> Vec<Inbound> {
    let records = harness.log.records().into_iter().filter(|record| record.topic == Topic::Inbound);
    records.map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
}

#[tokio::test]
async fn a_handshake_is_answered_with_its_challenge_and_needs_no_api_key() {
    let harness = Harness::with(|options| options.api_key = Some("canary-key-4711".into()));
    let reply = Reply::of(harness.get("/v1/callbacks/chat?challenge=abc")).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, "abc"));
    Reply::of(harness.get("/v1/callbacks/chat")).await.expect(403, "handshake_refused");
    Reply::of(harness.get("/v1/callbacks/hook?challenge=abc")).await.expect(404, "not_found");
    Reply::of(harness.get("/v1/callbacks/nobody?challenge=abc")).await.expect(404, "not_found");
    assert_eq!(call(&harness, "chat", SECRET, &read_receipt("1")).await.status, 200);
}

#[tokio::test]
async fn only_a_verified_call_reaches_the_log() {
    let harness = Harness::start();
    let body = read_receipt("1");
    assert_eq!(
        call(&harness, "chat", "wrong", &body).await.expect(401, "unverified_callback").field.unwrap(),
        "x-chat-secret"
    );
    Reply::of(harness.post("/v1/callbacks/chat", body.to_string())).await.expect(401, "unverified_callback");
    let unset = call(&harness, "chat-unset", SECRET, &read_receipt("4")).await.expect(401, "unverified_callback");
    assert!(unset.detail.contains("`secret`"), "{unset:?}");
    call(&harness, "chat", SECRET, &json!({"no": "list"})).await.expect(400, "bad_request");
    let too_long = json!([{"account": "1", "id": "x".repeat(5 << 20), "status": "read"}]);
    call(&harness, "chat", SECRET, &too_long).await.expect(413, "body_too_large");
    assert_eq!(harness.log.appends(), 0);
}

#[tokio::test]
async fn several_events_of_several_accounts_go_to_their_channels() {
    let harness = Harness::start();
    let body = json!([
        {"account": "1", "id": "p-1", "status": "delivered"},
        {"account": "2", "id": "p-2", "status": "read"},
        {"account": "3", "id": "p-3", "status": "read"},
        {"account": "99", "id": "p-4", "status": "read"},
        {"account": "1", "id": "p-5"},
    ]);
    assert_eq!(call(&harness, "chat", SECRET, &body).await.status, 200);
    let receipts = receipts(&harness);
    let got: Vec<_> = receipts.iter().map(|one| (one.channel.as_str(), one.provider_id.as_str(), one.status)).collect();
    // Whoever knows the secret of `chat` may not speak for the account of another app, nor for one that is not ours.
    assert_eq!(got, [("chat", "p-1", DeliveryStatus::Delivered), ("chat-two", "p-2", DeliveryStatus::Read)]);
    assert_eq!(harness.log.appends(), 1, "one append for one call");
    let metrics = Reply::of(harness.get("/metrics")).await.text;
    for line in [
        r#"{channel="chat",event="foreign"}"#,
        r#"{channel="chat-two",event="read"}"#,
        r#"{channel="chat",event="ignored"}"#,
    ] {
        assert!(metrics.contains(&format!("chat4all_callback_events_total{line}")), "{line}");
    }
}

#[tokio::test]
async fn a_stranger_is_refused_before_the_body_is_read_and_takes_no_room_from_others() {
    let harness = Harness::start();
    let (_sender, stuck) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(tokio_stream(stuck));
    let stranger = harness.client.post(format!("{}/v1/callbacks/chat", harness.base)).body(body);
    Reply::of(stranger).await.expect(401, "unverified_callback");

    // Those whose header looks right may send slowly, as many as they like.
    let mut slow = Vec::new();
    for _ in 0..64 {
        let mut stream = tokio::net::TcpStream::connect(harness.addr()).await.unwrap();
        let head = "POST /v1/callbacks/chat HTTP/1.1\r\nhost: a\r\nx-chat-secret: chat-secret\r\ncontent-length: 4000000\r\n\r\n[";
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    assert_eq!(call(&harness, "chat", SECRET, &read_receipt("1")).await.status, 200);
    let batch = json!({"messages": [{"to": "hook:ana", "content": {"type": "text", "text": "hi"}}]});
    assert_eq!(Reply::of(harness.post("/v1/messages/batch", batch.to_string())).await.status, 200);
}

/// As a stream of a request's body.
fn tokio_stream<T: Send + 'static>(
    mut receiver: tokio::sync::mpsc::Receiver<T>,
) -> impl futures_util::Stream<Item = T> {
    futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx))
}

#[tokio::test]
async fn another_channels_secret_is_asked_once_a_call_however_many_events_it_has() {
    let harness = Harness::start();
    let events: Vec<_> =
        (0..2_000).map(|n| json!({"account": "2", "id": format!("p-{n}"), "status": "read"})).collect();
    let before = VERIFIED.load(Ordering::SeqCst);
    assert_eq!(call(&harness, "chat", SECRET, &json!(events)).await.status, 200);
    assert_eq!(receipts(&harness).len(), 2_000);
    let asked = VERIFIED.load(Ordering::SeqCst) - before;
    assert!(asked < 100, "other tests ask too, but not so often: {asked}");
}

#[tokio::test]
async fn receipts_of_one_message_share_a_partition() {
    let harness = Harness::start();
    for status in ["read", "delivered", "read"] {
        call(&harness, "chat", SECRET, &json!([{"account": "1", "id": "p-1", "status": status}])).await;
    }
    let keys: Vec<_> = harness.log.records().into_iter().map(|record| record.key).collect();
    assert!(keys.len() == 3 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn with_the_log_away_the_provider_has_to_call_again() {
    let harness = Harness::start();
    for mode in [Mode::Unavailable, Mode::Unknown] {
        harness.log.set_mode(mode);
        call(&harness, "chat", SECRET, &read_receipt("1")).await.expect(503, "log_unavailable");
    }
    harness.log.set_mode(Mode::Write);
    assert_eq!(call(&harness, "chat", SECRET, &read_receipt("1")).await.status, 200);
    assert_eq!(receipts(&harness).len(), 1);
}

#[tokio::test]
async fn a_received_message_is_appended_once_however_often_it_comes() {
    let harness = Harness::start();
    let body = json!([{"account": "2", "id": "p-9", "from": "+5562996991812", "reply_to": "p-1"}]);
    for _ in 0..3 {
        assert_eq!(call(&harness, "chat", SECRET, &body).await.status, 200);
    }
    let [inbound] = inbound(&harness).try_into().expect("one");
    assert_eq!(inbound.from.to_string(), "chat-two:+5562996991812");
    assert_eq!((inbound.provider_id.as_str(), inbound.reply_to.as_deref()), ("p-9", Some("p-1")));
    assert_eq!(inbound.conversation_id.as_str(), "chat-two:+5562996991812", "it answers nothing that is known");
}

#[tokio::test]
async fn a_received_message_joins_the_conversation_it_answers_else_the_latest_with_its_sender() {
    let harness = Harness::start();
    let sent = async |conversation: &str, provider_id: &str| {
        let body =
            json!({"to": "chat:ana", "conversation_id": conversation, "content": {"type": "text", "text": "hi"}});
        assert_eq!(harness.send(body.to_string()).await.status, 202);
        let message: Message = serde_json::from_slice(&harness.log.records().last().unwrap().value).unwrap();
        let mut event = event_of(&message);
        event.provider_id = Some(provider_id.into());
        harness.status.write(vec![Write::Message(Arc::new(message)), Write::Event(Arc::new(event))]).await.unwrap();
    };
    sent("order-42", "p-1").await;
    sent("order-43", "p-2").await;
    let received = async |id: &str, reply_to: Option<&str>| {
        let body = json!([{"account": "1", "id": id, "from": "ana", "reply_to": reply_to}]);
        assert_eq!(call(&harness, "chat", SECRET, &body).await.status, 200);
        inbound(&harness).last().unwrap().conversation_id.as_str().to_owned()
    };
    assert_eq!(received("i-1", Some("p-1")).await, "order-42");
    assert_eq!(received("i-2", None).await, "order-43");
    harness.status.set_available(false);
    assert_eq!(received("i-3", None).await, "chat:ana", "the store may be away");
}

fn event_of(message: &Message) -> StatusEvent {
    let to = &message.to[0];
    serde_json::from_value(json!({
        "v": 1, "tenant": message.tenant, "message_id": message.message_id,
        "delivery_id": chat4all_proto::DeliveryId::of(message.message_id, to), "conversation_id": message.conversation_id,
        "address": to, "generation": 0, "status": "sent", "at": message.accepted_at,
        "accepted_at": message.accepted_at, "expires_at": message.expires_at,
    }))
    .unwrap()
}
