//! Listings, channels, processes, metrics.

use std::sync::Arc;

use chat4all_storage::Status;
use chat4all_storage::status::Write;

use crate::support::{Harness, Reply, hello};

fn in_conversation(id: &str) -> String {
    format!(r#"{{"to":"hook:ana","conversation_id":"{id}","content":{{"type":"text","text":"hi"}}}}"#)
}

async fn recorded(harness: &Harness) {
    let writes = harness.log.messages().into_iter().map(|message| Write::Message(Arc::new(message))).collect();
    harness.status.write(writes).await.unwrap();
}

async fn ids(harness: &Harness, path: &str) -> (Vec<String>, Option<String>) {
    let reply = Reply::of(harness.get(path)).await;
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    let body = reply.json();
    let ids = body["messages"].as_array().unwrap().iter();
    let ids = ids.map(|message| message["message_id"].as_str().unwrap().to_owned()).collect();
    (ids, body["next_cursor"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn a_conversation_is_read_page_by_page() {
    let harness = Harness::start();
    let id = "order/42 ção %2F+";
    for _ in 0..5 {
        assert_eq!(harness.send(in_conversation(id)).await.status, 202);
    }
    harness.send(hello()).await;
    recorded(&harness).await;
    let path = "/v1/conversations/order%2F42%20%C3%A7%C3%A3o%20%252F%2B/messages?limit=2";
    let (mut found, mut cursor) = ids(&harness, path).await;
    while let Some(next) = cursor {
        let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let page = ids(&harness, &format!("{path}&cursor={next}")).await;
        found.extend(page.0);
        cursor = page.1;
    }
    let mut expected: Vec<_> = harness.log.messages().iter().map(|message| message.message_id.to_string()).collect();
    expected.truncate(5);
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(ids(&harness, "/v1/conversations/unknown/messages").await.0, Vec::<String>::new());
}

#[tokio::test]
async fn messages_are_listed_by_status_and_channel() {
    let harness = Harness::start();
    harness.send(hello()).await;
    recorded(&harness).await;
    assert_eq!(ids(&harness, "/v1/messages?status=failed&channel=hook&limit=200").await.0, Vec::<String>::new());
}

#[tokio::test]
async fn requests_and_messages_are_counted() {
    let harness = Harness::start();
    harness.send(hello()).await;
    harness.send("{}").await;
    let reply = Reply::of(harness.get("/metrics")).await;
    for series in [
        r#"chat4all_http_requests_total{method="POST",path="/v1/messages",status="202"} "#,
        r#"chat4all_http_request_duration_seconds_count{method="POST",path="/v1/messages"} "#,
        "chat4all_messages_accepted_total ",
        r#"chat4all_messages_rejected_total{reason="invalid_field"} "#,
        r#"chat4all_log_publish_duration_seconds_count{topic="messages"} "#,
    ] {
        let line = reply.text.lines().find(|line| line.starts_with(series));
        let value: f64 = line.unwrap_or_else(|| panic!("no {series}")).rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(value >= 1.0, "{line:?}");
    }
}

#[tokio::test]
async fn a_head_request_has_the_answer_of_get_without_its_body() {
    let harness = Harness::start();
    let reply = Reply::of(harness.client.head(format!("{}/health/ready", harness.base))).await;
    assert_eq!((reply.status, reply.text.as_str()), (200, ""));
}
