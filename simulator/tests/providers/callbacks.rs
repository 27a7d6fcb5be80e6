//! Receipts: their order, signatures and repeats.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Bench, RECEIPT_DELAY, Received, Receiver, whatsapp_text};

/// The states of the next receipts.
async fn check(receiver: &mut Receiver, expected: &[&str]) -> Vec<Received> {
    let mut all = Vec::new();
    for expected in expected {
        let receipt = receiver.next().await;
        assert_eq!(receipt.status()["status"], *expected);
        all.push(receipt);
    }
    all
}

#[tokio::test]
async fn receipts_come_signed_in_order_and_with_what_was_given() {
    let (bench, mut receiver) = Bench::with_receiver().await;
    let sent = Instant::now();
    let mut message = whatsapp_text("+5562996991812", "hi");
    message["biz_opaque_callback_data"] = "entrega é 😀".into();
    let (_, answer) = bench.graph("42", message).await;
    let receipts = check(&mut receiver, &["sent", "delivered", "read"]).await;
    assert!(sent.elapsed() >= 2 * RECEIPT_DELAY);
    for receipt in &receipts {
        receipt.assert_signed();
        assert_eq!(receipt.path, "/v1/callbacks/whatsapp");
        assert_eq!(receipt.body["object"], "whatsapp_business_account");
        assert_eq!(receipt.body["entry"][0]["changes"][0]["value"]["metadata"]["phone_number_id"], "42");
        let status = receipt.status();
        assert_eq!((&status["id"], &status["recipient_id"]), (&answer["messages"][0]["id"], &json!("5562996991812")));
        assert_eq!(status["biz_opaque_callback_data"], "entrega é 😀");
        assert_eq!(status["timestamp"].as_str().unwrap().len(), 10, "seconds");
    }
    let shown = bench.settled().await;
    assert_eq!((&shown["delivered"], &shown["given_up"], &shown["dropped"]), (&json!(3), &json!(0), &json!(0)));
}

#[tokio::test]
async fn what_is_not_taken_is_repeated_byte_for_byte() {
    let (bench, mut receiver) = Bench::with_receiver().await;
    // Not even one, to its end: `sent` alone until the next report is due.
    bench.control(Method::PUT, "/callbacks", json!({"receipt_delay": "1h"})).await;
    receiver.answer(&[503, 0]);
    let start = Instant::now();
    bench.whatsapp("1234567").await;
    let tries = check(&mut receiver, &["sent", "sent", "sent"]).await;
    assert!(start.elapsed().as_millis() >= 750);
    assert!(tries.iter().all(|one| one.raw == tries[0].raw));
}

#[tokio::test]
async fn a_repeat_does_not_hold_up_what_follows() {
    let (bench, mut receiver) = Bench::with_receiver().await;
    receiver.answer(&[503]);
    bench.whatsapp("1234567").await;
    check(&mut receiver, &["sent", "delivered", "read", "sent"]).await;
    assert_eq!(bench.settled().await["delivered"], 3);
}

#[tokio::test]
async fn magic_numbers_fail_later_or_are_never_reported_on() {
    let (bench, mut receiver) = Bench::with_receiver().await;
    assert_eq!(bench.whatsapp("+9971234").await.0, 200);
    assert_eq!(bench.whatsapp("+998131047").await.0, 200);
    let failed = check(&mut receiver, &["failed"]).await;
    failed[0].assert_signed();
    assert_eq!(failed[0].status()["errors"][0]["code"], 131_047);
    assert_eq!(bench.settled().await["delivered"], 1);
    assert!(receiver.is_empty());
}

#[tokio::test]
async fn a_lost_answer_is_still_reported_on_and_a_refusal_is_not() {
    let (bench, mut receiver) = Bench::with_receiver().await;
    bench.fault("whatsapp/1234567", json!({"status": 500, "times": 1})).await;
    bench.whatsapp("1234567").await;
    bench.fault("whatsapp/1234567", json!({"truncate": true})).await;
    let body = whatsapp_text("1234567", "hi").to_string();
    let token = chat4all_simulator::credentials::ACCESS_TOKEN;
    assert!(bench.call(Method::POST, "/v25.0/1/messages", Some(token), &body).await.is_err());
    check(&mut receiver, &["sent", "delivered", "read"]).await;
    assert_eq!(bench.settled().await["delivered"], 3);
}

#[tokio::test]
async fn settings_are_shown_and_changed_or_refused_by_field() {
    let (bench, mut receiver) = Bench::with_receiver().await;
    let shown = bench.control(Method::GET, "/callbacks", Value::Null).await;
    let expected = json!({
        "base": receiver.base, "receipt_delay": "40ms", "waiting": 0, "delivered": 0, "given_up": 0, "dropped": 0,
        "channels": {"whatsapp": "whatsapp", "instagram": "instagram", "telegram": "telegram"},
    });
    assert_eq!(shown, expected);
    bench.control(Method::PUT, "/callbacks", json!({"channels": {"whatsapp": "wa-two"}})).await;
    bench.whatsapp("1234567").await;
    assert_eq!(receiver.next().await.path, "/v1/callbacks/wa-two");
    let (status, problem) = bench.call(Method::PUT, "/callbacks", None, r#"{"base":"ftp://a"}"#).await.unwrap();
    assert_eq!((status, &problem["field"]), (422, &json!("base")));
    assert_eq!(bench.call(Method::DELETE, "/callbacks", None, "").await.unwrap().0, 405);
}

#[tokio::test]
async fn without_anybody_to_call_nothing_waits() {
    let bench = Bench::new();
    assert_eq!(bench.whatsapp("1234567").await.0, 200);
    assert_eq!(bench.control(Method::GET, "/callbacks", Value::Null).await["waiting"], 0);
}
