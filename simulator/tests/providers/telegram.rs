//! Calls of a bot.

use chat4all_simulator::credentials::BOT_TOKEN;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Bench;

impl Bench {
    /// A refusal, whole.
    async fn check_refused(&self, method: &str, body: Value, expected: Value) {
        let (status, answer) = self.bot(method, body.clone()).await;
        assert_eq!((json!(status), &answer), (expected["error_code"].clone(), &expected), "{body}");
    }
}

fn refusal(error_code: u16, description: &str) -> Value {
    json!({"ok": false, "error_code": error_code, "description": description})
}

#[tokio::test]
async fn messages_are_counted_by_chat_and_kept_without_the_token() {
    let bench = Bench::new();
    let send =
        async |chat: Value| bench.bot("sendMessage", json!({"chat_id": chat, "text": "hi"})).await.1["result"].take();
    let first = send(json!(42)).await;
    assert_eq!((&first["message_id"], &first["text"]), (&json!(1), &json!("hi")));
    assert_eq!(first["chat"], json!({"id": 42, "type": "private"}));
    assert!(first["date"].as_u64().unwrap() < 100_000_000_000, "seconds");
    assert_eq!(send(json!("42")).await["message_id"], 2);
    assert_eq!(send(json!(-100_123)).await["message_id"], 1);
    assert_eq!(send(json!("@news")).await["message_id"], 1);
    let kept = bench.inbox("telegram/42").await;
    assert_eq!((kept.len(), &kept[0]["path"]), (2, &json!("/bot(hidden)/sendMessage")));
    assert!(!json!(kept).to_string().contains(BOT_TOKEN));
    assert_eq!((bench.inbox("telegram/-100123").await.len(), bench.inbox("telegram/@news").await.len()), (1, 1));
}

#[tokio::test]
async fn every_kind_of_media_has_its_method() {
    let bench = Bench::new();
    for field in ["photo", "video", "audio", "voice", "animation", "document"] {
        let method = format!("send{}{}", field[..1].to_uppercase(), &field[1..]);
        let body = json!({"chat_id": 42, field: "https://example.com/a", "caption": "look"});
        let (status, answer) = bench.bot(&method, body).await;
        assert_eq!((status, &answer["result"]["caption"]), (200, &json!("look")), "{method}");
        assert!(!answer["result"][field].is_null(), "{method}");
        let missing = refusal(400, &format!("Bad Request: there is no {field} in the request"));
        bench.check_refused(&method, json!({"chat_id": 42}), missing).await;
    }
}

#[tokio::test]
async fn a_bad_token_is_unauthorized_or_not_found() {
    let bench = Bench::new();
    let check = async |token: &str, path: &str, expected: (u16, Value)| {
        let body = r#"{"chat_id":42,"text":"hi"}"#;
        let got = bench.call(Method::POST, &format!("/bot{token}/{path}"), None, body).await.unwrap();
        assert_eq!(got, expected, "{token}");
    };
    check("123:abc", "sendMessage", (401, refusal(401, "Unauthorized"))).await;
    check("123:abc", "getMe", (401, refusal(401, "Unauthorized"))).await;
    check("abc", "sendMessage", (404, refusal(404, "Not Found"))).await;
    check(BOT_TOKEN, "sendSmoke", (404, refusal(404, "Not Found"))).await;
    assert_eq!(bench.inbox("telegram/42").await.len(), 2);
    let (status, me) = bench.call(Method::GET, &format!("/bot{BOT_TOKEN}/getMe"), None, "").await.unwrap();
    assert_eq!((status, &me["result"]["is_bot"]), (200, &json!(true)));
}

#[tokio::test]
async fn a_bad_request_is_told_in_telegrams_words() {
    let bench = Bench::new();
    let check = async |body: Value, description: &str| {
        bench.check_refused("sendMessage", body, refusal(400, &format!("Bad Request: {description}"))).await;
    };
    check(json!({"text": "hi"}), "chat_id is empty").await;
    check(json!({"chat_id": "ana", "text": "hi"}), "chat not found").await;
    check(json!({"chat_id": 42}), "message text is empty").await;
    check(json!({"chat_id": 42, "text": "x".repeat(4_097)}), "message is too long").await;
    check(json!({"chat_id": 42, "text": "hi", "reply_markup": []}), "object expected as reply markup").await;
    check(json!("hello"), "chat_id is empty").await;
    assert_eq!(bench.inbox("telegram/unknown").await.len(), 2);
}

#[tokio::test]
async fn a_magic_chat_is_refused_and_an_upgraded_one_named() {
    let bench = Bench::new();
    let text = |chat: i64| json!({"chat_id": chat, "text": "hi"});
    let blocked = refusal(403, "Forbidden: bot was blocked by the user");
    bench.check_refused("sendMessage", text(99_940_300), blocked).await;
    let mut throttled = refusal(429, "Too Many Requests: retry after 1");
    throttled["parameters"] = json!({"retry_after": 1});
    bench.check_refused("sendMessage", text(99_942_900), throttled).await;
    let (status, answer) = bench.bot("sendMessage", text(99_940_000)).await;
    let upgraded = answer["parameters"]["migrate_to_chat_id"].as_i64().unwrap();
    assert_eq!((status, bench.bot("sendMessage", text(upgraded)).await.0), (400, 200));
}

#[tokio::test]
async fn faults_by_name_are_played_in_the_providers_words() {
    let bench = Bench::new();
    let check = async |fault: Value, expected: Value| {
        bench.fault("telegram/42", fault).await;
        bench.check_refused("sendMessage", json!({"chat_id": 42, "text": "hi"}), expected).await;
    };
    check(json!({"status": 500, "times": 1}), refusal(500, "Internal Server Error")).await;
    check(json!({"status": 403}), refusal(403, "Forbidden")).await;
    let mut throttled = refusal(429, "Too Many Requests: retry after 7");
    throttled["parameters"] = json!({"retry_after": 7});
    check(json!({"status": 429, "retry_after": "7s"}), throttled).await;
}
