//! Sends to Instagram.

use chat4all_simulator::credentials::INSTAGRAM_ACCOUNT_ID;
use serde_json::{Value, json};

use crate::support::Bench;

fn text(to: &str, text: &str) -> Value {
    json!({"messaging_type": "RESPONSE", "recipient": {"id": to}, "message": {"text": text}})
}

#[tokio::test]
async fn a_message_is_accepted_kept_and_reported_as_read_with_its_account() {
    let (bench, mut receiver) = Bench::with_receiver().await;
    let (status, answer) = bench.graph("42", text("17000", "hi")).await;
    assert_eq!((status, &answer["recipient_id"]), (200, &json!("17000")));
    assert_eq!(bench.inbox("instagram/17000").await.len(), 1);
    let read = receiver.next().await;
    read.assert_signed();
    assert_eq!(read.path, "/v1/callbacks/instagram");
    assert_eq!((&read.body["object"], &read.body["entry"][0]["id"]), (&json!("instagram"), &json!("42")));
    let event = &read.body["entry"][0]["messaging"][0];
    assert_eq!((&event["sender"]["id"], &event["recipient"]["id"]), (&json!("17000"), &json!("42")));
    assert_eq!(event["read"], json!({"mid": answer["message_id"]}));
    assert!(event["timestamp"].as_u64().unwrap() > 1_000_000_000_000, "milliseconds");
    assert_eq!(bench.settled().await["delivered"], 1);
}

#[tokio::test]
async fn a_text_is_measured_in_bytes_and_a_body_that_is_not_json_refused() {
    let bench = Bench::new();
    assert_eq!(bench.graph("me", text("17000", &"x".repeat(1_000))).await.0, 200);
    let (status, answer) = bench.graph("me", text("17000", &"é".repeat(501))).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(100)));
    let (status, answer) = bench.graph(INSTAGRAM_ACCOUNT_ID, json!("hello")).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(100)));
    assert_eq!(bench.inbox("instagram/unknown").await.len(), 1);
}

#[tokio::test]
async fn a_magic_id_is_refused_with_its_code_and_subcode() {
    let bench = Bench::new();
    for (id, status, expected) in [
        ("999000102018278", 403, json!([10, 2_018_278])),
        ("99900190463", 401, json!([190, 463])),
        ("99901200", 500, json!([1_200, null])),
        ("99980006", 400, json!([80_006, null])),
        ("99912345", 400, json!([12_345, null])),
    ] {
        let (got, answer) = bench.graph("me", text(id, "hi")).await;
        let error = &answer["error"];
        assert_eq!((got, json!([error["code"], error["error_subcode"]])), (status, expected), "{id}");
    }
}

#[tokio::test]
async fn faults_by_name_are_played_in_the_providers_words() {
    let bench = Bench::new();
    bench.fault("instagram/17000", json!({"status": 503, "times": 1})).await;
    let (status, answer) = bench.graph("me", text("17000", "hi")).await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!(1)));
    assert_eq!(bench.graph("me", text("17000", "hi")).await.0, 200);
}
