//! What Instagram calls us with: messages to us, and who read ours.

use chat4all_proto::{Content, DeliveryStatus, Generation, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::meta::envelope::{self, id, part, timestamp};
use crate::{Event, InboundMessage, Malformed, ReceiptOf};

#[derive(Deserialize)]
struct Entry<'a> {
    /// Our account.
    #[serde(default)]
    id: Value,
    #[serde(borrow, default)]
    messaging: Vec<&'a RawValue>,
    /// Comments, mentions and the like.
    #[serde(borrow, default)]
    changes: Vec<&'a RawValue>,
}

pub(super) fn read(body: &[u8], now: Timestamp) -> Result<Vec<Event>, Malformed> {
    envelope::read(body, "instagram", |entry: Entry<'_>| {
        let messaging = entry
            .messaging
            .iter()
            .flat_map(|raw| part(raw, "messaging", |said| Item { account: id(&entry.id), raw, said, now }.events()));
        messaging.chain(entry.changes.iter().map(|_| Event::Ignored("change"))).collect()
    })
}

/// One thing that happened in a conversation.
struct Item<'a> {
    account: Option<String>,
    raw: &'a RawValue,
    /// The same, parsed.
    said: Value,
    now: Timestamp,
}

impl Item<'_> {
    /// Counted and no more: reactions, edits, referrals and whatever comes to be.
    fn events(&self) -> Vec<Event> {
        let part = |name: &str| self.said.get(name);
        if let Some(message) = part("message") {
            vec![self.message(message)]
        } else if let Some(postback) = part("postback") {
            vec![self.inbound(postback, self.whole())]
        } else if let Some(read) = part("read") {
            vec![self.receipt(&read["mid"], DeliveryStatus::Read)]
        } else if let Some(delivery) = part("delivery") {
            let mids = delivery["mids"].as_array().into_iter().flatten();
            mids.map(|mid| self.receipt(mid, DeliveryStatus::Delivered)).collect()
        } else {
            vec![Event::Ignored("messaging")]
        }
    }

    fn message(&self, message: &Value) -> Event {
        for ignored in ["is_echo", "is_deleted"] {
            if message[ignored] == true {
                return Event::Ignored(ignored);
            }
        }
        self.inbound(message, content(message).unwrap_or_else(|| self.whole()))
    }

    fn inbound(&self, part: &Value, content: Content) -> Event {
        let (Some(from), Some(provider_id)) = (id(&self.said["sender"]["id"]), id(&part["mid"])) else {
            return Event::Ignored("message");
        };
        Event::Inbound(InboundMessage {
            account: self.account.clone(),
            from,
            provider_id,
            reply_to: id(&part["reply_to"]["mid"]),
            content,
            sent_at: self.at(),
        })
    }

    fn receipt(&self, mid: &Value, status: DeliveryStatus) -> Event {
        let Some(provider_id) = id(mid) else { return Event::Ignored("receipt") };
        Event::Receipt(ReceiptOf {
            account: self.account.clone(),
            provider_id,
            delivery_id: None,
            generation: Generation(0),
            status,
            at: self.at(),
            failure: None,
            code_is_unknown: false,
        })
    }

    fn whole(&self) -> Content {
        Content::Raw { body: self.raw.to_owned() }
    }

    fn at(&self) -> Timestamp {
        timestamp(&self.said["timestamp"], self.now)
    }
}

/// A message that is nothing but text, or one link. A tapped button is more: its id is beside the text.
fn content(message: &Value) -> Option<Content> {
    let text = message["text"].as_str().filter(|text| !text.is_empty());
    let attachments = message["attachments"].as_array().map_or(&[][..], Vec::as_slice);
    match (text, attachments) {
        _ if !message["quick_reply"].is_null() => None,
        (Some(text), []) => Some(Content::Text { text: text.to_owned() }),
        (None, [attachment]) => {
            let url = attachment["payload"]["url"].as_str()?.to_owned();
            Some(Content::Media { url, caption: None, mime_type: None })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_300_424_123);

    /// The events of one entry whose `messaging` is `items`.
    fn events(items: &str) -> Vec<Event> {
        let body = format!(r#"{{"object":"instagram","entry":[{{"id":"1784","time":1,"messaging":[{items}]}}]}}"#);
        read(body.as_bytes(), NOW).unwrap()
    }

    /// An item as Instagram sends it, with `part` in it.
    fn item(part: &str) -> String {
        format!(r#"{{"sender":{{"id":"842"}},"recipient":{{"id":"1784"}},"timestamp":1795300424999,{part}}}"#)
    }

    fn inbound(content: Content) -> InboundMessage {
        InboundMessage {
            account: Some("1784".into()),
            from: "842".into(),
            provider_id: "m_1".into(),
            reply_to: None,
            content,
            sent_at: Timestamp::from_millis(1_795_300_424_999),
        }
    }

    fn receipt(provider_id: &str, status: DeliveryStatus) -> Event {
        Event::Receipt(ReceiptOf {
            account: Some("1784".into()),
            provider_id: provider_id.into(),
            delivery_id: None,
            generation: Generation(0),
            status,
            at: Timestamp::from_millis(1_795_300_424_999),
            failure: None,
            code_is_unknown: false,
        })
    }

    fn check(part: &str, expected: &[Event]) {
        assert_eq!(events(&item(part)), expected, "{part}");
    }

    /// The item comes on as it is, byte for byte.
    fn check_raw(part: &str) {
        let item = item(part);
        let [Event::Inbound(InboundMessage { content: Content::Raw { body }, provider_id, from, .. })] =
            &events(&item)[..]
        else {
            panic!("{part}: {:?}", events(&item))
        };
        assert_eq!((body.get(), provider_id.as_str(), from.as_str()), (item.as_str(), "m_1", "842"));
    }

    #[test]
    fn text_and_a_single_link_are_understood_and_anything_else_is_raw() {
        let text = || Content::Text { text: "olá 🚚".into() };
        check(r#""message":{"mid":"m_1","text":"ol\u00e1 \ud83d\ude9a"}"#, &[Event::Inbound(inbound(text()))]);
        check(r#""message":{"mid":"m_1","text":"olá 🚚","attachments":[]}"#, &[Event::Inbound(inbound(text()))]);
        let media = || Content::Media { url: "https://x/a?b=1".into(), caption: None, mime_type: None };
        let image = r#"{"type":"image","payload":{"url":"https://x/a?b=1"}}"#;
        check(&format!(r#""message":{{"mid":"m_1","attachments":[{image}]}}"#), &[Event::Inbound(inbound(media()))]);
        check(
            &format!(r#""message":{{"mid":"m_1","text":"","attachments":[{image}]}}"#),
            &[Event::Inbound(inbound(media()))],
        );
        check_raw(&format!(r#""message":{{"mid":"m_1","attachments":[{image}, {image}]}}"#));
        check_raw(&format!(r#""message":{{"mid":"m_1","text":"a","attachments":[{image}]}}"#));
        check_raw(r#""message":{"mid":"m_1","attachments":[{"type":"share","payload":{"n": 1.10}}]}"#);
        check_raw(r#""message":{"mid":"m_1","is_unsupported":true}"#);
        check_raw(r#""message":{"mid":"m_1","text":"A","quick_reply":{"payload":"a"}}"#);
        check_raw(r#""postback":{"mid":"m_1","title":"A","payload":"a"}"#);
    }

    #[test]
    fn a_reply_names_the_message_that_it_answers() {
        let reply = InboundMessage { reply_to: Some("m_0".into()), ..inbound(Content::Text { text: "a".into() }) };
        check(r#""message":{"mid":"m_1","text":"a","reply_to":{"mid":"m_0"}}"#, &[Event::Inbound(reply)]);
        let to_story = inbound(Content::Text { text: "a".into() });
        check(r#""message":{"mid":"m_1","text":"a","reply_to":{"story":{"id":"1"}}}"#, &[Event::Inbound(to_story)]);
    }

    #[test]
    fn receipts_are_by_message_id() {
        check(r#""read":{"mid":"m_1"}"#, &[receipt("m_1", DeliveryStatus::Read)]);
        let delivered = [receipt("m_1", DeliveryStatus::Delivered), receipt("m_2", DeliveryStatus::Delivered)];
        check(r#""delivery":{"mids":["m_1","m_2"],"watermark":1}"#, &delivered);
        check(r#""delivery":{"watermark":1}"#, &[]);
    }

    #[test]
    fn our_own_messages_and_the_rest_are_passed_over() {
        check(r#""message":{"mid":"m_1","text":"a","is_echo":true}"#, &[Event::Ignored("is_echo")]);
        check(r#""message":{"mid":"m_1","is_deleted":true}"#, &[Event::Ignored("is_deleted")]);
        check(
            r#""message":{"mid":"m_1","text":"a","is_echo":false}"#,
            &[Event::Inbound(inbound(Content::Text { text: "a".into() }))],
        );
        for other in [
            r#""reaction":{"mid":"m_1","action":"react"}"#,
            r#""message_edit":{"mid":"m_1"}"#,
            r#""referral":{}"#,
            r#""a":1"#,
        ] {
            check(other, &[Event::Ignored("messaging")]);
        }
        check(r#""message":{"text":"a"}"#, &[Event::Ignored("message")]);
        check(r#""read":{"watermark":1}"#, &[Event::Ignored("receipt")]);
        assert_eq!(events(r#"{"message":{"mid":"m_1","text":"a"}}"#), [Event::Ignored("message")]);
    }

    #[test]
    fn one_call_may_hold_much_and_what_cannot_be_read_spoils_nothing_else() {
        let read_1 = item(r#""read":{"mid":"m_1"}"#);
        let body = format!(
            r#"{{"object":"instagram","entry":[{{"id":"1784","messaging":[{read_1},7,{},{read_1}]}},"entry",
            {{"id":"1785","messaging":[{read_1}],"changes":[{{"field":"comments"}}]}}]}}"#,
            item(r#""read":{"mid":""}"#),
        );
        let read_event = || receipt("m_1", DeliveryStatus::Read);
        let Event::Receipt(of_other) = read_event() else { panic!("no receipt") };
        let expected = [
            read_event(),
            Event::Ignored("messaging"),
            Event::Ignored("receipt"),
            read_event(),
            Event::Ignored("entry"),
            Event::Receipt(ReceiptOf { account: Some("1785".into()), ..of_other }),
            Event::Ignored("change"),
        ];
        assert_eq!(read(body.as_bytes(), NOW).unwrap(), expected);
    }

    #[test]
    fn a_call_about_another_product_is_passed_over() {
        let body = br#"{"object":"page","entry":[{"id":"1","messaging":[{}]}]}"#;
        assert_eq!(read(body, NOW), Ok(vec![Event::Ignored("object")]));
    }

    #[test]
    fn a_missing_time_is_now() {
        let [Event::Receipt(receipt)] = &events(r#"{"read":{"mid":"m_1"}}"#)[..] else { panic!("no receipt") };
        assert_eq!(receipt.at, NOW);
    }
}
