//! Sends to WhatsApp.

use chat4all_simulator::credentials::{ACCESS_TOKEN, PHONE_NUMBER_ID};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Bench, whatsapp_text};

#[tokio::test]
async fn a_message_is_accepted_and_kept_without_the_token() {
    let bench = Bench::new();
    let (status, first) = bench.whatsapp("+5562996991812").await;
    assert_eq!((status, &first["messaging_product"]), (200, &json!("whatsapp")));
    assert_eq!(first["contacts"], json!([{"input": "+5562996991812", "wa_id": "5562996991812"}]));
    assert!(first["messages"][0]["id"].as_str().unwrap().starts_with("wamid."));
    let (_, second) = bench.whatsapp("5562996991812").await;
    assert_ne!(first["messages"], second["messages"]);
    let kept = bench.inbox("whatsapp/5562996991812").await;
    assert_eq!((kept.len(), &kept[0]["status"], &kept[0]["body"]["text"]["body"]), (2, &json!(200), &json!("hi")));
    assert_eq!(kept[0]["path"], format!("/v25.0/{PHONE_NUMBER_ID}/messages"));
    assert_eq!(kept[0]["headers"]["authorization"], "(hidden)");
    assert!(!json!(kept).to_string().contains(ACCESS_TOKEN));
}

#[tokio::test]
async fn an_ordinary_inbox_hides_the_authorization_too() {
    let bench = Bench::new();
    bench.call(Method::POST, "/inbox/ana?key=1", Some("secret"), r#"{"n":1}"#).await.unwrap();
    let kept = bench.inbox("ana").await;
    assert_eq!((&kept[0]["headers"]["authorization"], &kept[0]["body"]), (&json!("(hidden)"), &json!({"n": 1})));
    assert_eq!(kept[0]["headers"]["content-length"], "7");
}

#[tokio::test]
async fn a_template_is_accepted_as_such_and_a_user_id_stands_for_a_number() {
    let bench = Bench::new();
    let mut template = whatsapp_text("5562996991812", "");
    template["type"] = "template".into();
    template["template"] = json!({"name": "hello", "language": {"policy": "deterministic", "code": "en_US"}});
    let (status, answer) = bench.graph("1", template).await;
    assert_eq!((status, &answer["messages"][0]["message_status"]), (200, &json!("accepted")));
    let mut named = whatsapp_text("", "hi");
    named.as_object_mut().unwrap().remove("to");
    named["recipient"] = "US.abc".into();
    let (status, answer) = bench.graph("1", named).await;
    assert_eq!((status, &answer["contacts"][0]["user_id"]), (200, &json!("US.abc")));
    assert_eq!(bench.inbox("whatsapp/US.abc").await.len(), 1);
}

#[tokio::test]
async fn a_wrong_or_missing_token_is_told_and_the_send_kept() {
    let bench = Bench::new();
    let body = whatsapp_text("1234567", "hi").to_string();
    for (token, path, method) in [
        (None, "/v25.0/1/messages", Method::POST),
        (Some("wrong"), "/v25.0/1/messages", Method::POST),
        (Some("wrong"), "/v25.0/1", Method::GET),
    ] {
        let (status, answer) = bench.call(method, path, token, &body).await.unwrap();
        let error = &answer["error"];
        assert_eq!((status, &error["code"], &error["type"]), (401, &json!(190), &json!("OAuthException")), "{token:?}");
        assert!(error["fbtrace_id"].is_string() && error["message"].is_string());
    }
    let statuses: Vec<_> = bench.inbox("whatsapp/1234567").await.iter().map(|one| one["status"].clone()).collect();
    assert_eq!(statuses, [401, 401]);
    let look = bench.call(Method::GET, "/v25.0/42", Some(ACCESS_TOKEN), "").await.unwrap();
    assert_eq!(look, (200, json!({"id": "42"})));
}

#[tokio::test]
async fn a_bad_request_names_the_field_and_is_kept() {
    let bench = Bench::new();
    let (status, answer) = bench.graph("1", whatsapp_text("1234567", &"x".repeat(4_097))).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(100)));
    assert!(answer["error"]["error_data"]["details"].as_str().unwrap().contains("`text.body`"));
    assert_eq!(bench.inbox("whatsapp/1234567").await[0]["status"], 400);
    let (status, _) = bench.graph("1", json!({"messaging_product": "whatsapp"})).await;
    assert_eq!((status, bench.inbox("whatsapp/unknown").await.len()), (400, 1));
    let read = json!({"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.1"});
    assert_eq!(bench.graph("1", read).await, (200, json!({"success": true})));
}

#[tokio::test]
async fn a_magic_number_is_refused_with_its_code() {
    let bench = Bench::new();
    for (number, status, code) in [
        ("+999131026", 400, 131_026),
        ("999130429", 429, 130_429),
        ("+999000190", 401, 190),
        ("+999131000", 500, 131_000),
        ("+999123456", 400, 123_456),
    ] {
        let (got, answer) = bench.whatsapp(number).await;
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{number}");
    }
    assert_eq!(bench.inbox("whatsapp/999131026").await[0]["status"], 400);
}

#[tokio::test]
async fn faults_by_name_are_played_in_the_providers_words() {
    let bench = Bench::new();
    let check = async |fault: Value, status: u16, expected: Value| {
        bench.fault("whatsapp/1234567", fault.clone()).await;
        let (got, answer) = bench.whatsapp("+1234567").await;
        let error = &answer["error"];
        assert_eq!((got, json!([error["code"], error["error_subcode"]])), (status, expected), "{fault}");
        assert_eq!(bench.whatsapp("+1234567").await.0, 200, "{fault}");
    };
    check(json!({"status": 500, "times": 1}), 500, json!([131_000, null])).await;
    check(json!({"status": 429, "times": 1}), 429, json!([130_429, null])).await;
    check(json!({"status": 401, "times": 1}), 401, json!([190, null])).await;
    check(json!({"status": 400, "times": 1, "code": 131_026}), 400, json!([131_026, null])).await;
    check(json!({"status": 400, "times": 1, "code": 100, "subcode": 33}), 400, json!([100, 33])).await;
    check(json!({"status": 200, "times": 1}), 200, json!([null, null])).await;
}

#[tokio::test]
async fn connections_break_by_name_before_or_after_the_message_is_kept() {
    let bench = Bench::new();
    let body = whatsapp_text("1234567", "hi").to_string();
    let send = || bench.call(Method::POST, "/v25.0/1/messages", Some(ACCESS_TOKEN), &body);
    bench.fault("whatsapp/1234567", json!({"reset": "before_reading", "times": 1})).await;
    assert!(send().await.is_err());
    assert!(bench.inbox("whatsapp/1234567").await.is_empty());
    bench.fault("whatsapp/1234567", json!({"reset": "after_reading", "times": 1})).await;
    assert!(send().await.is_err());
    let kept = bench.inbox("whatsapp/1234567").await;
    assert_eq!((&kept[0]["status"], &kept[0]["fault"]), (&Value::Null, &json!("reset_after_reading")));
    assert_eq!(send().await.unwrap().0, 200);
}

#[tokio::test]
async fn other_paths_are_told_where_help_is() {
    let bench = Bench::new();
    for path in ["/v25.0/me/likes", "/25.0/1/messages", "/v25.0/ana/messages", "/v25/1/messages"] {
        assert_eq!(bench.call(Method::POST, path, Some(ACCESS_TOKEN), "{}").await.unwrap().0, 404, "{path}");
    }
    let (_, help) = bench.call(Method::GET, "/", None, "").await.unwrap();
    for path in ["/v25.0/ACCOUNT/messages", "/botTOKEN/sendMessage", "/callbacks", "/inbound/whatsapp"] {
        assert!(help.as_str().unwrap().contains(path), "{path}");
    }
}
