//! One attempt's request. The body is the same in every attempt of a delivery; `webhook-timestamp` is the attempt's.

use bytes::Bytes;
use chat4all_proto::time::rfc3339;
use chat4all_proto::{Address, Content, ConversationId, DeliveryId, MessageId, Outbound, Timestamp};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value};

use super::signature::{self, Key};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Room for a short text and its ids, so that the buffer seldom grows.
const BODY_BYTES_USUAL: usize = 1_536;

#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    /// When the message was accepted, not when it is sent: a repeat must have the same bytes.
    #[serde(with = "rfc3339")]
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    message_id: MessageId,
    conversation_id: &'a ConversationId,
    to: &'a Address,
    content: &'a Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    metadata: &'a Map<String, Value>,
}

/// What every request carries.
pub(super) fn fixed_headers() -> HeaderMap {
    // Room for the three that `headers` adds.
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("chat4all/", env!("CARGO_PKG_VERSION"))));
    headers
}

/// JSON, or the bytes of a `raw` content as they were given.
pub(super) fn body(delivery: &Outbound) -> Bytes {
    if let Content::Raw { body } = &delivery.content {
        return Bytes::copy_from_slice(body.get().as_bytes());
    }
    let event = Event {
        r#type: "message",
        timestamp: delivery.accepted_at,
        data: Data {
            message_id: delivery.message_id,
            conversation_id: &delivery.conversation_id,
            to: &delivery.to,
            content: &delivery.content,
            reply_to: delivery.reply_to.as_deref(),
            metadata: &delivery.metadata,
        },
    };
    let mut json = Vec::with_capacity(BODY_BYTES_USUAL);
    serde_json::to_writer(&mut json, &event).expect("these types have no key that is not text, and a Vec takes all");
    json.into()
}

/// The headers of the attempt made at `now`.
pub(super) fn headers(fixed: &HeaderMap, keys: &[Key], id: &DeliveryId, now: Timestamp, body: &[u8]) -> HeaderMap {
    let (id, timestamp) = (id.to_string(), now.as_secs().to_string());
    let mut headers = fixed.clone();
    if !keys.is_empty() {
        headers.insert(SIGNATURE, ascii(signature::header(keys, &id, &timestamp, body)));
    }
    headers.insert(ID, ascii(id));
    headers.insert(TIMESTAMP, ascii(timestamp));
    headers
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("ids, numbers and base64 are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Webhook};
    use super::*;
    use crate::{Channel, Outgoing, Request};
    use secrecy::SecretString;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn delivery(content: &str) -> Outbound {
        serde_json::from_str(&format!(
            r#"{{"v":1,"tenant":"default","delivery_id":"dlv_018f4e0e-0000-7000-8000-000000000002","generation":0,
            "router_epoch":1,"message_id":"msg_018f4e0e-0000-7000-8000-000000000001","conversation_id":"order-42",
            "to":"hook:http://example.com/in?a=1","content":{content},"metadata":{{"campaign":"x"}},
            "accepted_at":1795300424123,"expires_at":1795386824123}}"#
        ))
        .unwrap()
    }

    fn request(signing_secret: Option<&str>, content: &str, now: Timestamp) -> Request {
        let config = Config { signing_secret: signing_secret.map(SecretString::from), ..Config::default() };
        Webhook::new(config).ok().unwrap().request(&delivery(content), now).unwrap()
    }

    const TEXT: &str = r#"{"type":"text","text":"olá"}"#;
    const AT: Timestamp = Timestamp::from_millis(1_795_300_500_999);

    #[test]
    fn a_text_is_the_documented_event() {
        let request = request(None, TEXT, AT);
        assert_eq!((request.method, request.url.as_str()), (http::Method::POST, "http://example.com/in?a=1"));
        assert_eq!(
            str::from_utf8(&request.body).unwrap(),
            r#"{"type":"message","timestamp":"2026-11-21T22:33:44.123Z","data":{"message_id":"msg_018f4e0e-0000-7000-8000-000000000001","conversation_id":"order-42","to":"hook:http://example.com/in?a=1","content":{"type":"text","text":"olá"},"metadata":{"campaign":"x"}}}"#
        );
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["user-agent"], concat!("chat4all/", env!("CARGO_PKG_VERSION")));
        assert_eq!(request.headers["webhook-id"], "dlv_018f4e0e-0000-7000-8000-000000000002");
        assert_eq!(request.headers["webhook-timestamp"], "1795300500");
    }

    #[test]
    fn what_it_answers_is_told_but_not_beside_raw_content() {
        let answers = |content: &str| Outbound { reply_to: Some("wamid.1".into()), ..delivery(content) };
        let webhook = Webhook::new(Config::default()).ok().unwrap();
        let body = webhook.request(&answers(TEXT), AT).unwrap().body;
        assert!(
            str::from_utf8(&body).unwrap().contains(r#""content":{"type":"text","text":"olá"},"reply_to":"wamid.1","#)
        );
        let raw = answers(r#"{"type":"raw","body":{}}"#);
        assert_eq!(webhook.check(&Outgoing::of(&raw)).unwrap_err().field, "reply_to");
    }

    #[test]
    fn raw_content_is_sent_byte_for_byte() {
        let request = request(None, r#"{"type":"raw","body":{"b": 1.10, "a":[ 1]}}"#, AT);
        assert_eq!(request.body, br#"{"b": 1.10, "a":[ 1]}"#[..]);
    }

    #[test]
    fn the_signature_covers_the_bytes_sent_and_is_absent_without_a_secret() {
        assert!(!request(None, TEXT, AT).headers.contains_key("webhook-signature"));
        let request = request(Some(SECRET), TEXT, AT);
        let (id, timestamp) = (&request.headers["webhook-id"], &request.headers["webhook-timestamp"]);
        let (id, timestamp) = (id.to_str().unwrap(), timestamp.to_str().unwrap());
        let expected = signature::header(&[Key::parse(SECRET).ok().unwrap()], id, timestamp, &request.body);
        assert_eq!(request.headers["webhook-signature"], expected);
    }

    #[test]
    fn a_repeat_differs_in_time_and_signature_only() {
        let first = request(Some(SECRET), TEXT, AT);
        let second = request(Some(SECRET), TEXT, Timestamp::from_millis(AT.as_millis() + 4_000));
        assert_eq!(first.body, second.body);
        assert_eq!(first.headers["webhook-id"], second.headers["webhook-id"]);
        assert_ne!(first.headers["webhook-timestamp"], second.headers["webhook-timestamp"]);
        assert_ne!(first.headers["webhook-signature"], second.headers["webhook-signature"]);
    }

    #[test]
    fn a_target_refused_at_the_door_is_refused_here_too() {
        let mut delivery = delivery(TEXT);
        delivery.to = "hook:http://127.0.0.1/".parse().unwrap();
        let webhook = Webhook::new(Config::default()).ok().unwrap();
        let expected = webhook.check(&Outgoing::of(&delivery)).unwrap_err();
        assert_eq!(webhook.request(&delivery, AT).unwrap_err(), expected);
    }
}
