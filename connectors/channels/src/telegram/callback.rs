//! What Telegram calls us with: one update a call, with the secret that `setWebhook` was given in a header.

use std::collections::BTreeMap;

use chat4all_proto::{Content, Timestamp};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Event, InboundMessage, Malformed, Unverified};

const HEADER: &str = "x-telegram-bot-api-secret-token";

/// The secret token's hash. Hashes are compared, so that the time that takes shows no length either.
pub(super) struct Secret([u8; 32]);

impl Secret {
    pub(super) fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }

    pub(super) fn verify(&self, headers: &HeaderMap) -> Result<(), Unverified> {
        let given = headers.get(HEADER).ok_or(Unverified::Missing { header: HEADER })?;
        let given: [u8; 32] = Sha256::digest(given.as_bytes()).into();
        if self.0.ct_eq(&given).into() { Ok(()) } else { Err(Unverified::Wrong { header: HEADER }) }
    }
}

/// The updates that this version has no use for.
const IGNORED: [&str; 20] = [
    "edited_message",
    "edited_channel_post",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "message_reaction",
    "message_reaction_count",
    "inline_query",
    "chosen_inline_result",
    "shipping_query",
    "pre_checkout_query",
    "purchased_paid_media",
    "poll",
    "poll_answer",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
    "chat_boost",
    "removed_chat_boost",
];

pub(super) fn read(body: &[u8], now: Timestamp) -> Result<Event, Malformed> {
    let update: BTreeMap<String, &RawValue> = serde_json::from_slice(body).map_err(|_| malformed("the call"))?;
    let id = update.get("update_id").map(|id| serde_json::from_str::<i64>(id.get()));
    if !matches!(id, Some(Ok(_))) {
        return Err(malformed("`update_id`"));
    }
    if let Some(message) = update.get("message").or_else(|| update.get("channel_post")) {
        return of_message(message).map(Event::Inbound);
    }
    if let Some(query) = update.get("callback_query") {
        return of_callback_query(query, now).map(Event::Inbound);
    }
    Ok(Event::Ignored(IGNORED.into_iter().find(|&name| update.contains_key(name)).unwrap_or("other")))
}

/// Repeats nothing of the call.
fn malformed(part: &str) -> Malformed {
    Malformed(format!("{part} is missing, or not as Telegram documents it"))
}

#[derive(Deserialize)]
struct Message {
    message_id: i64,
    chat: Party,
    date: u64,
    text: Option<String>,
    reply_to_message: Option<Replied>,
}

#[derive(Deserialize)]
struct Replied {
    message_id: i64,
}

/// A chat or a user.
#[derive(Deserialize)]
struct Party {
    id: i64,
    /// Of a chat.
    r#type: Option<String>,
}

impl Party {
    /// Whether several people may write there: then the chat does not tell who did.
    fn is_shared(&self) -> bool {
        matches!(self.r#type.as_deref(), Some("group" | "supergroup"))
    }
}

fn of_message(raw: &RawValue) -> Result<InboundMessage, Malformed> {
    let message: Message = serde_json::from_str(raw.get()).map_err(|_| malformed("the message"))?;
    let chat = message.chat.id;
    Ok(InboundMessage {
        account: None,
        from: chat.to_string(),
        provider_id: format!("{chat}:{}", message.message_id),
        reply_to: message.reply_to_message.map(|replied| format!("{chat}:{}", replied.message_id)),
        content: match message.text {
            Some(text) if !message.chat.is_shared() => Content::Text { text },
            _ => Content::Raw { body: raw.to_owned() },
        },
        sent_at: sent_at(message.date),
    })
}

/// A pressed button.
#[derive(Deserialize)]
struct CallbackQuery {
    id: String,
    from: Party,
    /// What the button is on.
    message: Option<Keyboard>,
}

#[derive(Deserialize)]
struct Keyboard {
    message_id: i64,
    chat: Party,
}

fn of_callback_query(raw: &RawValue, now: Timestamp) -> Result<InboundMessage, Malformed> {
    let query: CallbackQuery = serde_json::from_str(raw.get()).map_err(|_| malformed("`callback_query`"))?;
    Ok(InboundMessage {
        account: None,
        from: query.message.as_ref().map_or(query.from.id, |message| message.chat.id).to_string(),
        provider_id: format!("callback:{}", query.id),
        reply_to: query.message.map(|message| format!("{}:{}", message.chat.id, message.message_id)),
        content: Content::Raw { body: raw.to_owned() },
        // It has no date of its own.
        sent_at: now,
    })
}

/// Seconds, as documented; so many of them can only be milliseconds.
fn sent_at(date: u64) -> Timestamp {
    Timestamp::from_millis(if date < 1_000_000_000_000 { date * 1_000 } else { date })
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Telegram, samples};
    use super::*;
    use crate::{Callbacks, Channel};

    const NOW: Timestamp = Timestamp::from_millis(1_795_300_500_999);
    const SECRET: &str = "hunter2_Secret-token";

    fn check_secret(secret_token: Option<&str>, given: Option<&[u8]>, expected: Result<(), Unverified>) {
        let secret_token = serde_json::to_string(&secret_token).unwrap();
        let config = format!(r#"{{"bot_token":"1:a","secret_token":{secret_token}}}"#);
        let telegram = Telegram::new(serde_json::from_str::<Config>(&config).unwrap()).ok().unwrap();
        let headers = given.map(|given| (HEADER.parse().unwrap(), given.try_into().unwrap()));
        let callbacks = telegram.callbacks().unwrap();
        assert_eq!(callbacks.verify(&headers.into_iter().collect(), b"{}"), expected, "{given:?}");
    }

    #[test]
    fn only_who_knows_the_secret_is_believed() {
        let wrong = Err(Unverified::Wrong { header: HEADER });
        check_secret(Some(SECRET), Some(SECRET.as_bytes()), Ok(()));
        check_secret(Some(SECRET), Some(b"another_Secret-token"), wrong);
        check_secret(Some(SECRET), Some(SECRET.to_lowercase().as_bytes()), wrong);
        check_secret(Some(SECRET), Some(&SECRET.as_bytes()[1..]), wrong);
        check_secret(Some(SECRET), Some(format!("{SECRET}x").as_bytes()), wrong);
        check_secret(Some(SECRET), Some(b""), wrong);
        check_secret(Some(SECRET), None, Err(Unverified::Missing { header: HEADER }));
        check_secret(None, Some(SECRET.as_bytes()), Err(Unverified::NoSecret { key: "secret_token" }));
        check_secret(None, None, Err(Unverified::NoSecret { key: "secret_token" }));
        for index in 0..SECRET.len() {
            let mut flipped = SECRET.as_bytes().to_vec();
            flipped[index] ^= 1;
            check_secret(Some(SECRET), Some(&flipped), wrong);
        }
    }

    #[test]
    fn there_is_no_handshake_and_no_account() {
        let telegram = samples::telegram();
        let query = [("hub.mode".into(), "subscribe".into()), ("hub.challenge".into(), "1".into())];
        assert_eq!((telegram.handshake(&query), telegram.account()), (None, None));
    }

    /// `parts`: of the update, after its id.
    fn check(parts: &str, expected: Event) {
        let body = format!(r#"{{"update_id":10000, {parts}}}"#);
        assert_eq!(samples::telegram().read(body.as_bytes(), NOW), Ok(vec![expected]), "{parts}");
    }

    fn text(text: &str) -> Content {
        Content::Text { text: text.to_owned() }
    }

    fn raw(body: &str) -> Content {
        Content::Raw { body: RawValue::from_string(body.to_owned()).unwrap() }
    }

    /// Written at 2026-11-21T22:33:44Z.
    fn inbound(from: &str, provider_id: &str, reply_to: Option<&str>, content: Content) -> Event {
        Event::Inbound(InboundMessage {
            account: None,
            from: from.to_owned(),
            provider_id: provider_id.to_owned(),
            reply_to: reply_to.map(str::to_owned),
            content,
            sent_at: Timestamp::from_millis(1_795_300_424_000),
        })
    }

    #[test]
    fn a_text_is_a_text_in_a_chat_and_in_a_channel() {
        let message = r#"{"message_id":7,"from":{"id":42,"is_bot":false,"first_name":"Ana"},"chat":{"id":42,"type":"private"},"date":1795300424,"text":"Ol\u00e1 \ud83e\udd80"}"#;
        check(&format!(r#""message":{message}"#), inbound("42", "42:7", None, text("Olá 🦀")));
        let post = r#"{"message_id":8,"chat":{"id":-1001234567890,"type":"channel"},"date":1795300424,"text":"news"}"#;
        check(&format!(r#""channel_post":{post}"#), inbound("-1001234567890", "-1001234567890:8", None, text("news")));
    }

    #[test]
    fn a_groups_text_keeps_who_wrote_it() {
        for kind in ["group", "supergroup"] {
            let message = format!(
                r#"{{"message_id":7,"from":{{"id":42}},"chat":{{"id":-5,"type":"{kind}"}},"date":1795300424,"text":"a"}}"#
            );
            check(&format!(r#""message":{message}"#), inbound("-5", "-5:7", None, raw(&message)));
        }
    }

    #[test]
    fn an_answer_names_the_message_it_answers_as_we_do() {
        let message = r#"{"message_id":9,"chat":{"id":42},"date":1795300424,"text":"yes",
            "reply_to_message":{"message_id":7,"chat":{"id":42},"date":1795300000,"text":"?"}}"#;
        check(&format!(r#""message":{message}"#), inbound("42", "42:9", Some("42:7"), text("yes")));
    }

    #[test]
    fn milliseconds_are_understood() {
        let message = r#"{"message_id":7,"chat":{"id":42},"date":1795300424000,"text":"a"}"#;
        check(&format!(r#""message":{message}"#), inbound("42", "42:7", None, text("a")));
    }

    #[test]
    fn anything_but_text_is_passed_on_byte_for_byte() {
        let photo = r#"{"message_id":7, "chat":{"id":42},"date":1795300424,"photo":[ {"file_id":"A","width":1.0}],"caption":"a\/b"}"#;
        check(&format!(r#""message":{photo}"#), inbound("42", "42:7", None, raw(photo)));
        let joined = r#"{"message_id":7,"chat":{"id":-42},"date":1795300424,"new_chat_members":[]}"#;
        check(&format!(r#""message":{joined}"#), inbound("-42", "-42:7", None, raw(joined)));
    }

    fn check_pressed(query: &str, from: &str, provider_id: &str, reply_to: Option<&str>) {
        let Event::Inbound(expected) = inbound(from, provider_id, reply_to, raw(query)) else { unreachable!() };
        check(&format!(r#""callback_query":{query}"#), Event::Inbound(InboundMessage { sent_at: NOW, ..expected }));
    }

    #[test]
    fn a_pressed_button_answers_the_message_it_is_on() {
        let query =
            r#"{"id":"4382","from":{"id":42}, "message":{"message_id":7,"chat":{"id":-1001},"date":0},"data":"yes"}"#;
        check_pressed(query, "-1001", "callback:4382", Some("-1001:7"));
        let query = r#"{"id":"4382","from":{"id":42},"inline_message_id":"x","data":"yes"}"#;
        check_pressed(query, "42", "callback:4382", None);
    }

    #[test]
    fn other_updates_are_passed_over_by_their_names() {
        let message = r#"{"message_id":7,"chat":{"id":42},"date":1795300424,"text":"a"}"#;
        check(&format!(r#""edited_message":{message}"#), Event::Ignored("edited_message"));
        check(r#""my_chat_member":{"new_chat_member":{"status":"kicked"}}"#, Event::Ignored("my_chat_member"));
        check(r#""poll":{}"#, Event::Ignored("poll"));
        check(r#""something_new":{}"#, Event::Ignored("other"));
    }

    #[test]
    fn what_is_not_an_update_is_refused_without_repeating_it() {
        let check = |body: &str, words| {
            let error = samples::telegram().read(body.as_bytes(), NOW).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("hunter2"), "{body}: {error}");
        };
        check("", "the call");
        check("hunter2", "the call");
        check(r#"["hunter2"]"#, "the call");
        check(r#"{"update_id":1,"message":{"#, "the call");
        check(r#"{"message":{"message_id":7,"chat":{"id":42},"date":1,"text":"hunter2"}}"#, "`update_id`");
        check(r#"{"update_id":"hunter2","poll":{}}"#, "`update_id`");
        check(r#"{"update_id":1,"message":{"message_id":"hunter2","chat":{"id":42},"date":1}}"#, "the message");
        check(r#"{"update_id":1,"message":{"message_id":7,"date":1}}"#, "the message");
        check(r#"{"update_id":1,"message":null}"#, "the message");
        check(r#"{"update_id":1,"callback_query":{"id":4382}}"#, "`callback_query`");
    }
}
