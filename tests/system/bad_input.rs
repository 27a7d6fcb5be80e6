//! What the API refuses, over real HTTP: the status, the code, and the field at fault.

use serde_json::json;

use crate::harness::client::Api;
use crate::harness::cluster::Cluster;
use crate::harness::receiver::Receiver;
use crate::harness::{run, turn};

/// A body, and the status, code and field of its refusal.
type Row = (&'static str, u16, &'static str, Option<&'static str>);

const TEXT: &str = r#""content":{"type":"text","text":"hi"}"#;

/// `TO` stands for a good address, `TEXT` for a good content.
const ROWS: &[Row] = &[
    (r#"{"to":["TO"],TEXT"#, 400, "malformed_json", None),
    (r#"[]"#, 422, "invalid_field", None),
    (r#"[["TO"],{"type":"text","text":"hi"},"c",null,{},null,null,null,null,null,null]"#, 422, "invalid_field", None),
    (r#"{"to":["TO"],TEXT,"colour":"red"}"#, 422, "invalid_field", Some("colour")),
    (r#"{TEXT}"#, 422, "invalid_field", Some("to")),
    (r#"{"to":[],TEXT}"#, 422, "invalid_field", Some("to")),
    (r#"{"to":["TO"]}"#, 422, "invalid_field", Some("content")),
    (r#"{"to":["TO","TO"],TEXT}"#, 422, "invalid_field", Some("to[1]")),
    (r#"{"to":["nobody"],TEXT}"#, 422, "invalid_field", Some("to[0]")),
    (r#"{"to":["hook:not a url"],TEXT}"#, 422, "invalid_field", Some("to[0]")),
    (r#"{"to":["pigeon:coop-7"],TEXT}"#, 422, "unknown_channel", Some("to[0]")),
    (r#"{"to":["TO"],"content":{"type":"smoke"}}"#, 422, "invalid_field", Some("content")),
    (r#"{"to":["TO"],"content":{"type":"text"}}"#, 422, "invalid_field", Some("content")),
    (r#"{"to":["TO"],TEXT,"conversation_id":"a\u0000b"}"#, 422, "invalid_field", Some("conversation_id")),
    (r#"{"to":["TO"],TEXT,"conversation_id":""}"#, 422, "invalid_field", Some("conversation_id")),
    (r#"{"to":["TO"],TEXT,"message_id":"msg_1"}"#, 422, "invalid_field", Some("message_id")),
    (r#"{"to":["TO"],TEXT,"expires_in_seconds":0}"#, 422, "invalid_field", Some("expires_in_seconds")),
    (r#"{"to":["TO"],TEXT,"expires_in_seconds":604801}"#, 422, "invalid_field", Some("expires_in_seconds")),
    (r#"{"to":["TO"],TEXT,"mode":"first"}"#, 422, "not_supported", Some("mode")),
    (r#"{"to":["TO"],TEXT,"deliver_at":"2030-01-01T00:00:00Z"}"#, 422, "not_supported", Some("deliver_at")),
    (r#"{"to":["TO"],TEXT,"priority":"high"}"#, 422, "not_supported", Some("priority")),
    (r#"{"to":["TO"],TEXT,"callback_url":"http://x.test/"}"#, 422, "not_supported", Some("callback_url")),
    (r#"{"to":["TO"],TEXT,"from":"me"}"#, 422, "not_supported", Some("from")),
];

#[test]
fn bad_input_is_refused_by_name_and_never_accepted() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let mut cluster = Cluster::new();
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        let to = receiver.target("/inbox");
        let mut wrong = Vec::new();
        for &(body, status, code, field) in ROWS {
            let body = body.replace("TO", &to).replace("TEXT", TEXT);
            let answer = api.post_raw("/v1/messages", "application/json", body.clone()).await.expect("an answer");
            let problem = answer.json();
            let as_expected = answer.status == status
                && (code.is_empty() || problem["code"] == code)
                && (field.is_none() || problem["field"].as_str().is_some_and(|at| at.starts_with(field.unwrap())));
            if !as_expected {
                wrong.push(format!(
                    "{body}\n  wanted {status} {code} {field:?}\n  got {} {}",
                    answer.status, answer.text
                ));
            }
            assert!(answer.header("content-type").starts_with("application/problem+json"), "{body}");
            assert!(!answer.text.contains("SendRequest"), "it tells of our insides: {}", answer.text);
            assert!(problem["request_id"].is_string() && problem["detail"].is_string(), "{}", answer.text);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));

        let unknown = api.post("/v1/messages", &crate::harness::client::message("pigeon:x", "c", "hi")).await;
        assert!(unknown.expect("an answer").text.contains("hook"), "it lists the channels there are");
        let plain = api.post_raw("/v1/messages", "text/plain", "hi").await.expect("an answer");
        assert_eq!((plain.status, plain.json()["code"].as_str()), (415, Some("unsupported_media_type")));
        let none = api.get("/v1/stats/summary").await.expect("an answer");
        assert_eq!((none.status, none.json()["code"].as_str()), (404, Some("not_supported")), "{}", none.text);
        let missing = api.get("/v1/messages/msg_018f4e0e-0000-7000-8000-000000000001").await.expect("an answer");
        assert_eq!(missing.status, 404);

        let body = json!({"to": to, "content": {"type": "text", "text": "a"}});
        let other = json!({"to": to, "content": {"type": "text", "text": "b"}});
        let first = api.post_keyed(&body, "key").await.expect("an answer");
        let again = api.post_keyed(&body, "key").await.expect("an answer");
        assert_eq!((first.status, again.status), (202, 202));
        assert_eq!(first.json()["message_id"], again.json()["message_id"]);
        let conflict = api.post_keyed(&other, "key").await.expect("an answer");
        assert_eq!((conflict.status, conflict.json()["code"].as_str()), (409, Some("idempotency_conflict")));
        let id = first.json()["message_id"].as_str().expect("an id").to_owned();
        api.ended(&id, std::time::Duration::from_secs(10)).await;
        assert_eq!(receiver.requests().len(), 1, "nothing refused was sent, and the repeat only once");
    });
}

#[test]
fn in_a_batch_each_message_stands_for_itself() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let mut cluster = Cluster::new();
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        let to = receiver.target("/inbox");
        let good = |text: &str| json!({"to": to, "conversation_id": "c", "content": {"type": "text", "text": text}});
        let bad = json!({"to": "pigeon:x", "content": {"type": "text", "text": "hi"}});
        let batch = json!({"messages": [good("0"), bad, good("2"), {"colour": "red"}, good("4")]});
        let answer = api.post("/v1/messages/batch", &batch).await.expect("an answer");
        check(&answer.json(), &["202", "422 unknown_channel", "202", "422 invalid_field", "202"]);

        let lines = format!("{}\n{}\n{{\n{}\n", good("5"), bad, good("8"));
        let answer = api.post_raw("/v1/messages/batch", "application/x-ndjson", lines).await.expect("an answer");
        check(&answer.json(), &["202", "422 unknown_channel", "400 malformed_json", "202"]);
        let last = answer.json()["results"][3]["message_id"].as_str().expect("an id").to_owned();
        api.ended(&last, std::time::Duration::from_secs(10)).await;
        let texts: Vec<String> = receiver
            .requests()
            .iter()
            .map(|request| request.body["data"]["content"]["text"].as_str().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(texts, ["0", "2", "4", "5", "8"], "in the order of the batches");

        let many = json!({"messages": vec![good("x"); 1_001]});
        let refused = api.post("/v1/messages/batch", &many).await.expect("an answer");
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert_eq!(receiver.requests().len(), 5);
    });

    fn check(answer: &serde_json::Value, expected: &[&str]) {
        let results = answer["results"].as_array().unwrap_or_else(|| panic!("no results: {answer}"));
        let said: Vec<String> = results
            .iter()
            .map(|result| format!("{} {}", result["status"], result["error"]["code"].as_str().unwrap_or_default()))
            .collect();
        assert_eq!(said.iter().map(|said| said.trim()).collect::<Vec<_>>(), expected, "{answer}");
    }
}
