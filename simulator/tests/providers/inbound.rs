//! Messages from the other side.

use chat4all_simulator::credentials::{INSTAGRAM_ACCOUNT_ID, PHONE_NUMBER_ID, SECRET_TOKEN};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Bench;

impl Bench {
    async fn inbound(&self, provider: &str, message: Value) -> (u16, Value) {
        let path = format!("/inbound/{provider}");
        self.call(Method::POST, &path, None, &message.to_string()).await.unwrap()
    }
}

#[tokio::test]
async fn whatsapp_brings_a_signed_message_and_its_answer_is_told() {
    let (bench, mut receiver) = Bench::with_receiver().await;
    let message = json!({"from": "+5562996991812", "text": "olá", "reply_to": "wamid.1"});
    let (status, answer) = bench.inbound("whatsapp", message).await;
    assert_eq!((status, &answer["status"]), (200, &json!(200)));
    let call = receiver.next().await;
    call.assert_signed();
    assert_eq!(call.path, "/v1/callbacks/whatsapp");
    let value = &call.body["entry"][0]["changes"][0]["value"];
    assert_eq!(value["metadata"]["phone_number_id"], PHONE_NUMBER_ID);
    let got = &value["messages"][0];
    assert_eq!((&got["id"], &got["from"]), (&answer["provider_id"], &json!("5562996991812")));
    assert_eq!((&got["text"]["body"], &got["context"]["id"]), (&json!("olá"), &json!("wamid.1")));
}

#[tokio::test]
async fn instagram_brings_a_signed_message_to_the_account_asked_for() {
    let (bench, mut receiver) = Bench::with_receiver().await;
    let (_, answer) = bench.inbound("instagram", json!({"from": "17000", "text": "hi", "reply_to": "m_1"})).await;
    let call = receiver.next().await;
    call.assert_signed();
    assert_eq!(call.body["entry"][0]["id"], INSTAGRAM_ACCOUNT_ID);
    let event = &call.body["entry"][0]["messaging"][0];
    let expected = json!({"mid": answer["provider_id"], "text": "hi", "reply_to": {"mid": "m_1"}});
    assert_eq!((&event["sender"]["id"], &event["message"]), (&json!("17000"), &expected));
    bench.inbound("instagram", json!({"from": "17000", "text": "hi", "account": "42"})).await;
    assert_eq!(receiver.next().await.body["entry"][0]["id"], "42");
}

#[tokio::test]
async fn telegram_brings_updates_that_count_up_with_the_secret_token() {
    let (bench, mut receiver) = Bench::with_receiver().await;
    bench.inbound("telegram", json!({"from": "42", "text": "hi"})).await;
    let (_, answer) = bench.inbound("telegram", json!({"from": "42", "text": "hi", "reply_to": "1"})).await;
    let (first, second) = (receiver.next().await, receiver.next().await);
    assert_eq!(first.headers["x-telegram-bot-api-secret-token"], SECRET_TOKEN);
    let number = |update: &Value| update["update_id"].as_u64().unwrap();
    assert_eq!(number(&first.body) + 1, number(&second.body));
    let message = &second.body["message"];
    assert_eq!((&message["message_id"], &answer["provider_id"]), (&json!(2), &json!("2")));
    assert_eq!((&message["chat"]["id"], &message["reply_to_message"]["message_id"]), (&json!(42), &json!(1)));
}

#[tokio::test]
async fn one_that_is_taken_late_is_told_when_it_is() {
    let (bench, receiver) = Bench::with_receiver().await;
    receiver.answer(&[503]);
    let (_, answer) = bench.inbound("whatsapp", json!({"from": "1234567", "text": "hi"})).await;
    assert_eq!(answer["status"], 200);
}

#[tokio::test]
async fn one_that_is_not_taken_shows_its_last_answer_after_a_while() {
    let (bench, receiver) = Bench::with_receiver().await;
    receiver.answer(&[401; 100]);
    let (_, answer) = bench.inbound("whatsapp", json!({"from": "1234567", "text": "hi"})).await;
    assert_eq!(answer["status"], 401);
}

#[tokio::test]
async fn what_no_provider_would_bring_is_refused_by_field() {
    let (bench, _receiver) = Bench::with_receiver().await;
    let check = async |provider: &str, message: Value, expected: (u16, Value)| {
        let (status, problem) = bench.inbound(provider, message.clone()).await;
        assert_eq!((status, problem["field"].clone()), expected, "{message}");
    };
    check("whatsapp", json!({"from": "ana", "text": "hi"}), (422, json!("from"))).await;
    check("instagram", json!({"from": "1", "text": "hi", "account": "x"}), (422, json!("account"))).await;
    check("telegram", json!({"from": "1", "text": "hi", "reply_to": "x"}), (422, json!("reply_to"))).await;
    check("telegram", json!({"text": "hi"}), (422, Value::Null)).await;
    check("pigeon", json!({"from": "1", "text": "hi"}), (404, Value::Null)).await;
    let nobody = Bench::new().inbound("whatsapp", json!({"from": "1", "text": "hi"})).await;
    assert_eq!((nobody.0, &nobody.1["code"]), (409, &json!("no_callbacks")));
}
