//! A batch is one append, with a result for each message in the order sent.

use crate::support::{Harness, Mode, Reply, hello};

const GOOD: &str = r#"{"to":"hook:ana","content":{"type":"text","text":"hi"}}"#;
const BAD: &str = r#"{"to":"hook:ana","content":{"type":"text"}}"#;

async fn json(harness: &Harness, messages: &[&str]) -> Reply {
    Reply::of(harness.post("/v1/messages/batch", format!(r#"{{"messages":[{}]}}"#, messages.join(",")))).await
}

async fn ndjson(harness: &Harness, body: impl Into<String>) -> Reply {
    let request = harness.client.post(format!("{}/v1/messages/batch", harness.base)).body(body.into());
    Reply::of(request.header("content-type", "application/x-ndjson")).await
}

/// Status, and code and field of the error, of each result.
#[track_caller]
fn check(reply: &Reply, expected: &[(u64, &str, &str)]) {
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    let results: Vec<_> = body["results"].as_array().unwrap().iter().collect();
    let got: Vec<_> = results
        .iter()
        .map(|result| {
            let text = |name: &str| result["error"][name].as_str().unwrap_or_default();
            assert_eq!(result["status"] == 202, result["accepted_at"].is_string(), "{result}");
            (result["status"].as_u64().unwrap(), text("code"), text("field"))
        })
        .collect();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn a_bad_message_fails_alone_and_the_rest_is_one_append() {
    let harness = Harness::start();
    let reply = json(&harness, &[GOOD, BAD, GOOD, "7"]).await;
    check(&reply, &[(202, "", ""), (422, "invalid_field", "content.text"), (202, "", ""), (422, "invalid_field", "")]);
    assert_eq!((harness.log.appends(), harness.log.records().len()), (1, 2));
    let ids: Vec<_> = harness.log.messages().iter().map(|message| message.message_id.to_string()).collect();
    assert_eq!(
        [&reply.json()["results"][0]["message_id"], &reply.json()["results"][2]["message_id"]],
        [&ids[0], &ids[1]]
    );
}

#[tokio::test]
async fn lines_are_messages_and_a_malformed_line_fails_alone() {
    let harness = Harness::start();
    let large = format!(r#"{{"to":"hook:ana","content":{{"type":"text","text":"{}"}}}}"#, "x".repeat(256 * 1024));
    let reply = ndjson(&harness, format!("{GOOD}\r\n\n{{\n{large}\n{GOOD}")).await;
    check(&reply, &[(202, "", ""), (400, "malformed_json", ""), (413, "body_too_large", ""), (202, "", "")]);
    assert_eq!(harness.log.appends(), 1);
}

#[tokio::test]
async fn an_id_that_repeats_within_a_batch_is_one_message() {
    let harness = Harness::start();
    let with = |text: &str| {
        let id = "msg_018f4e0e-0000-7000-8000-000000000001";
        format!(r#"{{"to":"hook:ana","message_id":"{id}","content":{{"type":"text","text":"{text}"}}}}"#)
    };
    let reply = json(&harness, &[&with("a"), &with("a"), &with("b")]).await;
    check(&reply, &[(202, "", ""), (202, "", ""), (409, "idempotency_conflict", "message_id")]);
    assert_eq!(harness.log.records().len(), 1);
}

#[tokio::test]
async fn a_batch_has_from_1_to_1000_messages() {
    let harness = Harness::start();
    check(&json(&harness, &[GOOD; 1_000]).await, &[(202, "", ""); 1_000]);
    for reply in [json(&harness, &[GOOD; 1_001]).await, json(&harness, &[]).await, ndjson(&harness, "\n\n").await] {
        assert_eq!(reply.expect(422, "invalid_field").field.as_deref(), Some("messages"));
    }
    let reply = Reply::of(harness.post("/v1/messages/batch", r#"{"messages":[],"x":1}"#)).await;
    assert_eq!(reply.expect(422, "invalid_field").field.as_deref(), Some("x"));
    Reply::of(harness.post("/v1/messages/batch", "[")).await.expect(400, "malformed_json");
}

#[tokio::test]
async fn nothing_handed_over_is_503_for_the_whole_batch() {
    let harness = Harness::start();
    harness.log.set_mode(Mode::Unavailable);
    json(&harness, &[GOOD, BAD]).await.expect(503, "log_unavailable");
    check(&json(&harness, &[BAD]).await, &[(422, "invalid_field", "content.text")]);
}

#[tokio::test]
async fn what_may_have_been_written_is_said_for_each_message() {
    let harness = Harness::start();
    harness.log.set_mode(Mode::Unknown);
    let reply = json(&harness, &[&hello(), BAD]).await;
    check(&reply, &[(503, "outcome_unknown", ""), (422, "invalid_field", "content.text")]);
    assert!(reply.json()["results"][0]["message_id"].as_str().unwrap().starts_with("msg_"), "{reply:?}");
}

#[tokio::test]
async fn batches_beyond_the_room_for_them_are_told_to_come_back() {
    let harness = Harness::with(|options| {
        options.append_timeout = std::time::Duration::from_secs(10);
        options.batch_bytes_in_flight_max = 4 * 1_024;
    });
    let padded = format!(r#"{{"messages":[{GOOD}]}}{}"#, " ".repeat(3 * 1_024));
    harness.log.set_mode(Mode::Hang);
    let under_way = tokio::spawn(Reply::of(harness.post("/v1/messages/batch", padded.clone())));
    harness.log.appending.notified().await;
    Reply::of(harness.post("/v1/messages/batch", padded.clone())).await.expect(503, "overloaded");
    harness.log.release();
    check(&under_way.await.unwrap(), &[(202, "", "")]);
    check(&Reply::of(harness.post("/v1/messages/batch", padded)).await, &[(202, "", "")]);
}
