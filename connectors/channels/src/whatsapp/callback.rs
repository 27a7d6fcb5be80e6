//! What WhatsApp calls us with: receipts (`statuses`) and messages to us.

use chat4all_proto::{Content, DeliveryStatus, Generation, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::codes::CODES;
use super::correlation;
use crate::meta::envelope::{self, id, part, timestamp};
use crate::meta::graph;
use crate::{Event, InboundMessage, Malformed, ReceiptOf};

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, default)]
    changes: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Change<'a> {
    field: Option<String>,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// What there is to say about one of our numbers.
#[derive(Deserialize)]
struct News<'a> {
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    contacts: Value,
    #[serde(borrow)]
    messages: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    statuses: Option<Vec<&'a RawValue>>,
    errors: Option<Vec<Value>>,
}

pub(super) fn read(body: &[u8], now: Timestamp) -> Result<Vec<Event>, Malformed> {
    envelope::read(body, "whatsapp_business_account", |entry: Entry<'_>| {
        entry.changes.into_iter().flat_map(|change| part(change, "change", |change| of_change(change, now))).collect()
    })
}

/// Changes of other fields are about templates, quality and the account.
fn of_change(change: Change<'_>, now: Timestamp) -> Vec<Event> {
    match change.field.as_deref() {
        None | Some("messages") => part(change.value, "value", |news: News<'_>| of_news(&news, now)),
        Some(_) => vec![Event::Ignored("change")],
    }
}

fn of_news(news: &News<'_>, now: Timestamp) -> Vec<Event> {
    let messages = news
        .messages
        .iter()
        .flatten()
        .map(|raw| message(news, raw, now).map_or(Event::Ignored("message"), Event::Inbound));
    let statuses = news.statuses.iter().flatten().map(|raw| status(news, raw, now));
    let errors = news.errors.iter().flatten().map(|_| Event::Ignored("error"));
    messages.chain(statuses).chain(errors).collect()
}

impl News<'_> {
    fn account(&self) -> Option<String> {
        id(&self.metadata["phone_number_id"])
    }
}

/// `None` when it does not say which it is, or from whom.
fn message(news: &News<'_>, raw: &RawValue, now: Timestamp) -> Option<InboundMessage> {
    let message: Value = serde_json::from_str(raw.get()).ok()?;
    Some(InboundMessage {
        account: news.account(),
        from: sender(&message, &news.contacts)?,
        provider_id: id(&message["id"])?,
        reply_to: id(&message["context"]["id"]),
        content: content(&message, raw),
        sent_at: timestamp(&message["timestamp"], now),
    })
}

/// As a target: whoever hides their number is known by a user id, in the message or as its only contact.
fn sender(message: &Value, contacts: &Value) -> Option<String> {
    if let Some(from) = id(&message["from"]) {
        let is_phone = from.bytes().all(|byte| byte.is_ascii_digit());
        return Some(if is_phone { format!("+{from}") } else { from });
    }
    let contact = contacts.as_array().filter(|contacts| contacts.len() == 1).map(|contacts| &contacts[0]["user_id"]);
    id(&message["from_user_id"]).or_else(|| id(&message["user_id"])).or_else(|| id(contact?))
}

fn content(message: &Value, raw: &RawValue) -> Content {
    match (message["type"].as_str(), message["text"]["body"].as_str()) {
        (Some("text"), Some(text)) => Content::Text { text: text.to_owned() },
        _ => Content::Raw { body: raw.to_owned() },
    }
}

fn status(news: &News<'_>, raw: &RawValue, now: Timestamp) -> Event {
    let Ok(said) = serde_json::from_str::<Value>(raw.get()) else { return Event::Ignored("status") };
    let status = match said["status"].as_str() {
        Some("sent") => DeliveryStatus::Sent,
        Some("delivered") => DeliveryStatus::Delivered,
        Some("read") => DeliveryStatus::Read,
        Some("failed") => DeliveryStatus::Failed,
        Some("deleted") => return Event::Ignored("deleted"),
        _ => return Event::Ignored("status"),
    };
    let Some(provider_id) = id(&said["id"]) else { return Event::Ignored("status") };
    let failure = (status == DeliveryStatus::Failed).then(|| graph::failure(&said["errors"][0], CODES));
    let (failure, code_is_unknown) = failure.map_or((None, false), |(failure, unknown)| (Some(failure), unknown));
    let ours = said["biz_opaque_callback_data"].as_str().and_then(correlation::read);
    let (delivery_id, generation) = ours.map_or((None, Generation(0)), |(id, generation)| (Some(id), generation));
    Event::Receipt(ReceiptOf {
        account: news.account(),
        provider_id,
        delivery_id,
        generation,
        status,
        at: timestamp(&said["timestamp"], now),
        failure,
        code_is_unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat4all_proto::envelope::OutcomeKind;
    use chat4all_proto::receipt::Failure;

    const NOW: Timestamp = Timestamp::from_millis(1_795_300_424_123);
    const SENT_AT: Timestamp = Timestamp::from_millis(1_795_300_400_000);

    /// A call with `news` in the one change of its one entry.
    fn events(news: &str) -> Vec<Event> {
        let metadata =
            r#""messaging_product":"whatsapp","metadata":{"display_phone_number":"1","phone_number_id":"1065"}"#;
        let change = format!(r#"{{"field":"messages","value":{{{metadata},{news}}}}}"#);
        read(
            format!(r#"{{"object":"whatsapp_business_account","entry":[{{"id":"1","changes":[{change}]}}]}}"#)
                .as_bytes(),
            NOW,
        )
        .unwrap()
    }

    fn check_status(status: &str, expected: Event) {
        assert_eq!(events(&format!(r#""statuses":[{status}]"#)), [expected], "{status}");
    }

    fn receipt(status: DeliveryStatus) -> ReceiptOf {
        ReceiptOf {
            account: Some("1065".into()),
            provider_id: "wamid.1".into(),
            delivery_id: None,
            generation: Generation(0),
            status,
            at: SENT_AT,
            failure: None,
            code_is_unknown: false,
        }
    }

    #[test]
    fn a_status_is_a_receipt_with_our_delivery_id_if_it_has_one() {
        for (name, status) in
            [("sent", DeliveryStatus::Sent), ("delivered", DeliveryStatus::Delivered), ("read", DeliveryStatus::Read)]
        {
            let said = |more: &str| {
                format!(r#"{{"id":"wamid.1","status":"{name}","timestamp":"1795300400","recipient_id":"1"{more}}}"#)
            };
            check_status(&said(""), Event::Receipt(receipt(status)));
            check_status(&said(r#","conversation":{},"pricing":null"#), Event::Receipt(receipt(status)));
            let id = "dlv_018f4e0e-0000-7000-8000-000000000002";
            let ours = ReceiptOf { delivery_id: Some(id.parse().unwrap()), ..receipt(status) };
            check_status(&said(&format!(r#","biz_opaque_callback_data":"{id}""#)), Event::Receipt(ours));
            let replay =
                ReceiptOf { delivery_id: Some(id.parse().unwrap()), generation: Generation(2), ..receipt(status) };
            check_status(&said(&format!(r#","biz_opaque_callback_data":"{id}/2""#)), Event::Receipt(replay));
            for foreign in [r#""order-42""#, r#""""#, "7", "null", r#""msg_018f4e0e-0000-7000-8000-000000000002""#] {
                let said = said(&format!(r#","biz_opaque_callback_data":{foreign}"#));
                check_status(&said, Event::Receipt(receipt(status)));
            }
        }
    }

    #[test]
    fn a_failure_is_sorted_by_its_code() {
        let check = |errors: &str, outcome, code: Option<&str>, code_is_unknown| {
            let failure = Some(Failure { outcome, code: code.map(str::to_owned) });
            let expected = ReceiptOf { failure, code_is_unknown, ..receipt(DeliveryStatus::Failed) };
            let status = format!(r#"{{"id":"wamid.1","status":"failed","timestamp":"1795300400"{errors}}}"#);
            check_status(&status, Event::Receipt(expected));
        };
        check(
            r#","errors":[{"code":131026,"title":"t"},{"code":1}]"#,
            OutcomeKind::RecipientGone,
            Some("131026"),
            false,
        );
        check(r#","errors":[{"code":131047}]"#, OutcomeKind::MessageRejected, Some("131047"), false);
        check(r#","errors":[{"code":131053}]"#, OutcomeKind::Transient, Some("131053"), false);
        check(r#","errors":[{"code":131048}]"#, OutcomeKind::Throttled, Some("131048"), false);
        check(r#","errors":[{"code":131042}]"#, OutcomeKind::AccountProblem, Some("131042"), false);
        check(r#","errors":[{"code":987654}]"#, OutcomeKind::MessageRejected, Some("987654"), true);
        check(r#","errors":[]"#, OutcomeKind::MessageRejected, None, false);
        check("", OutcomeKind::MessageRejected, None, false);
    }

    #[test]
    fn statuses_of_no_use_are_passed_over() {
        check_status(r#"{"id":"wamid.1","status":"deleted"}"#, Event::Ignored("deleted"));
        for other in [
            r#"{"id":"wamid.1","status":"played"}"#,
            r#"{"id":"wamid.1"}"#,
            r#"{"status":"read"}"#,
            r#"{"id":"","status":"read"}"#,
            r#"{"id":null,"status":"read"}"#,
            "7",
        ] {
            check_status(other, Event::Ignored("status"));
        }
    }

    #[test]
    fn a_time_may_come_in_milliseconds_as_a_number_or_not_at_all() {
        let check = |timestamp: &str, at| {
            let status = format!(r#"{{"id":"wamid.1","status":"read"{timestamp}}}"#);
            check_status(&status, Event::Receipt(ReceiptOf { at, ..receipt(DeliveryStatus::Read) }));
        };
        check(r#","timestamp":1795300400"#, SENT_AT);
        check(r#","timestamp":"1795300400000""#, SENT_AT);
        check(r#","timestamp":"2026-11-21T22:33:44Z""#, NOW);
        check("", NOW);
    }

    fn inbound(content: Content) -> InboundMessage {
        InboundMessage {
            account: Some("1065".into()),
            from: "+5562996991812".into(),
            provider_id: "wamid.1".into(),
            reply_to: None,
            content,
            sent_at: SENT_AT,
        }
    }

    fn check_message(message: &str, expected: InboundMessage) {
        assert_eq!(events(&format!(r#""messages":[{message}]"#)), [Event::Inbound(expected)], "{message}");
    }

    #[test]
    fn a_text_is_understood() {
        let text = inbound(Content::Text { text: "olá 🚚".into() });
        let message = r#"{"from":"5562996991812","id":"wamid.1","timestamp":"1795300400","type":"text",
            "text":{"body":"ol\u00e1 \ud83d\ude9a"}}"#;
        check_message(message, text.clone());
        let reply = message.replacen('{', r#"{"context":{"from":"1","id":"wamid.0"},"#, 1);
        check_message(&reply, InboundMessage { reply_to: Some("wamid.0".into()), ..text.clone() });
        let forwarded = message.replacen('{', r#"{"context":{"forwarded":true},"#, 1);
        check_message(&forwarded, text);
    }

    #[test]
    fn anything_else_is_raw_byte_for_byte() {
        for rest in [
            r#""type":"image","image":{"id":"1", "sha256":"\/","n":1.10 }"#,
            r#""type":"interactive","interactive":{"type":"button_reply","button_reply":{"id":"a","title":"A"}}"#,
            r#""type":"text","text":{}"#,
            r#""type":"text","text":"a""#,
            r#""type":"unsupported","errors":[{"code":131051}]"#,
            r#""text":{"body":"no type"}"#,
        ] {
            let message = format!(r#"{{"from":"5562996991812","id":"wamid.1","timestamp":"1795300400", {rest}}}"#);
            let [Event::Inbound(InboundMessage { content: Content::Raw { body }, .. })] =
                &events(&format!(r#""messages":[ {message} ]"#))[..]
            else {
                panic!("{message}")
            };
            assert_eq!(body.get(), message);
        }
    }

    #[test]
    fn a_sender_without_a_number_is_known_by_a_user_id() {
        let check = |who: &str, contacts: &str, expected: Option<&str>| {
            let message =
                format!(r#"{{{who}"id":"wamid.1","timestamp":"1795300400","type":"text","text":{{"body":"a"}}}}"#);
            let expected = expected.map_or(Event::Ignored("message"), |from| {
                Event::Inbound(InboundMessage { from: from.into(), ..inbound(Content::Text { text: "a".into() }) })
            });
            assert_eq!(
                events(&format!(r#""contacts":{contacts},"messages":[{message}]"#)),
                [expected],
                "{who} {contacts}"
            );
        };
        let contact = r#"[{"user_id":"US.2"}]"#;
        check(r#""from":"15551234567","from_user_id":"US.1","#, contact, Some("+15551234567"));
        check(r#""from_user_id":"US.1","#, contact, Some("US.1"));
        check(r#""user_id":"US.1","#, contact, Some("US.1"));
        check(r#""from":"","#, contact, Some("US.2"));
        check(r#""from":"US.1","#, contact, Some("US.1"));
        check("", contact, Some("US.2"));
        check("", r#"[{"user_id":"US.2"},{"user_id":"US.3"}]"#, None);
        check("", "null", None);
    }

    #[test]
    fn one_call_may_hold_much_and_what_cannot_be_read_spoils_nothing_else() {
        let news = |number: &str| {
            let status = |id: &str| format!(r#"{{"id":{id},"status":"read","timestamp":"1795300400"}}"#);
            let message =
                r#"{"from":"5562996991812","id":"wamid.1","timestamp":"1795300400","type":"text","text":{"body":"a"}}"#;
            format!(
                r#"{{"field":"messages","value":{{"metadata":{{"phone_number_id":"{number}"}},"messages":[{{"id":"wamid.0"}},
                {message}],"statuses":[{},{{}},7,{}],"errors":[{{"code":1}}]}}}}"#,
                status("null"),
                status("\"wamid.1\"")
            )
        };
        let body = format!(
            r#"{{"object":"whatsapp_business_account","entry":[{{"changes":[{},{{"field":"messages","value":7}},
            {{"field":"account_update","value":{{"statuses":7}}}},7]}},7,{{"changes":[{}]}}]}}"#,
            news("1065"),
            news("1066"),
        );
        let of = |number: &str| {
            let account = || Some(number.to_owned());
            let text = InboundMessage { account: account(), ..inbound(Content::Text { text: "a".into() }) };
            vec![
                Event::Ignored("message"),
                Event::Inbound(text),
                Event::Ignored("status"),
                Event::Ignored("status"),
                Event::Ignored("status"),
                Event::Receipt(ReceiptOf { account: account(), ..receipt(DeliveryStatus::Read) }),
                Event::Ignored("error"),
            ]
        };
        let between = ["value", "change", "change", "entry"].map(Event::Ignored).to_vec();
        assert_eq!(read(body.as_bytes(), NOW).unwrap(), [of("1065"), between, of("1066")].concat());
    }

    #[test]
    fn a_call_about_another_product_is_passed_over_and_an_empty_one_says_nothing() {
        assert_eq!(
            read(br#"{"object":"instagram","entry":[{"changes":[]}]}"#, NOW),
            Ok(vec![Event::Ignored("object")])
        );
        assert_eq!(read(br#"{"object":"whatsapp_business_account","entry":[{}]}"#, NOW), Ok(vec![]));
    }
}
