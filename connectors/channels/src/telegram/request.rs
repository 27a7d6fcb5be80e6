//! The requests: one method of the Bot API each, its arguments as JSON. A text is sent as it is, without markup.

use chat4all_proto::content::Choice;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use serde::ser::{Serialize, SerializeMap, Serializer};
use url::Url;

use super::limits::{Body, Media, Message, Replied};
use super::target::Chat;
use crate::Request;

/// Room for a short text, so that the buffer seldom grows.
const BODY_BYTES_USUAL: usize = 512;

/// The methods of one bot. Has no `Debug`: the URL holds the token.
pub(super) struct Methods {
    bot: Url,
    /// What every message carries.
    headers: HeaderMap,
}

impl Methods {
    pub(super) fn new(bot: Url) -> Self {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json")), user_agent()]);
        Self { bot, headers }
    }

    pub(super) fn send(&self, chat: Chat<'_>, message: &Message<'_>) -> Request {
        let mut json = Vec::with_capacity(BODY_BYTES_USUAL);
        serde_json::to_writer(&mut json, &Arguments { chat, message })
            .expect("these types have no key that is not text, and a Vec takes all");
        let url = self.url(method(&message.body));
        Request { method: Method::POST, url, headers: self.headers.clone(), body: json.into() }
    }

    /// Asks who we are.
    pub(super) fn get_me(&self) -> Request {
        let headers = HeaderMap::from_iter([user_agent()]);
        Request { method: Method::GET, url: self.url("getMe"), headers, body: Default::default() }
    }

    fn url(&self, method: &str) -> Url {
        let mut url = self.bot.clone();
        url.path_segments_mut().expect("an http URL has a path").push(method);
        url
    }
}

fn user_agent() -> (http::HeaderName, HeaderValue) {
    (USER_AGENT, HeaderValue::from_static(concat!("chat4all/", env!("CARGO_PKG_VERSION"))))
}

fn method(body: &Body<'_>) -> &'static str {
    match body {
        Body::Text { .. } => "sendMessage",
        Body::Media { kind, .. } => kind.names().0,
    }
}

impl Media {
    /// The method, and its argument for the link.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Photo => ("sendPhoto", "photo"),
            Self::Video => ("sendVideo", "video"),
            Self::Audio => ("sendAudio", "audio"),
            Self::Voice => ("sendVoice", "voice"),
            Self::Animation => ("sendAnimation", "animation"),
            Self::Document => ("sendDocument", "document"),
        }
    }
}

struct Arguments<'a> {
    chat: Chat<'a>,
    message: &'a Message<'a>,
}

impl Serialize for Arguments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("chat_id", &self.chat)?;
        match &self.message.body {
            Body::Text { text, buttons } => {
                map.serialize_entry("text", text)?;
                if !buttons.is_empty() {
                    map.serialize_entry("reply_markup", &Keyboard::of(buttons))?;
                }
            }
            Body::Media { kind, url, caption } => {
                map.serialize_entry(kind.names().1, url)?;
                if let Some(caption) = caption {
                    map.serialize_entry("caption", caption)?;
                }
            }
        }
        if let Some(replied) = self.message.reply_to {
            map.serialize_entry("reply_parameters", &ReplyParameters::of(replied, self.chat))?;
        }
        map.end()
    }
}

#[derive(serde::Serialize)]
struct Keyboard<'a> {
    /// Rows of buttons: one button each.
    inline_keyboard: Vec<[Button<'a>; 1]>,
}

#[derive(serde::Serialize)]
struct Button<'a> {
    text: &'a str,
    callback_data: &'a str,
}

impl<'a> Keyboard<'a> {
    fn of(buttons: &'a [Choice]) -> Self {
        let row = |button: &'a Choice| [Button { text: &button.title, callback_data: &button.id }];
        Self { inline_keyboard: buttons.iter().map(row).collect() }
    }
}

#[derive(serde::Serialize)]
struct ReplyParameters {
    message_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_id: Option<i64>,
}

impl ReplyParameters {
    /// Ids of messages count within a chat: one of another chat is named with it, or a wrong message would be quoted.
    fn of(Replied { chat, message_id }: Replied, to: Chat<'_>) -> Self {
        let chat_id = chat.filter(|&chat| matches!(to, Chat::Id(id) if id != chat));
        Self { message_id, chat_id }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{TOKEN, delivery, telegram};
    use crate::{Channel, Outgoing, Request};
    use chat4all_proto::Timestamp;
    use std::collections::BTreeSet;
    use std::path::Path;

    const NOW: Timestamp = Timestamp::from_millis(1_795_300_424_000);

    fn request(target: &str, content: &str, reply_to: Option<&str>) -> Request {
        telegram().request(&delivery(target, content, reply_to), NOW).unwrap()
    }

    /// As the golden files have it: the token as `TOKEN`, the body as it is sent.
    fn golden_form(request: &Request) -> String {
        assert_eq!(request.headers["user-agent"], concat!("chat4all/", env!("CARGO_PKG_VERSION")));
        let content_type = request.headers.get("content-type").map(|value| value.to_str().unwrap());
        format!(
            "{{\"method\":\"{}\",\"path\":\"{}\",\"content-type\":{},\"body\":{}}}\n",
            request.method,
            request.url.path().replace(TOKEN, "TOKEN"),
            serde_json::to_string(&content_type).unwrap(),
            if request.body.is_empty() { "null" } else { str::from_utf8(&request.body).unwrap() }
        )
    }

    /// Compares with `golden/telegram/{name}.json`. The answer is the file's name.
    fn check(name: &str, request: &Request) -> String {
        let file = format!("{name}.json");
        let expected = std::fs::read_to_string(folder().join(&file)).unwrap_or_default();
        assert_eq!(golden_form(request), expected, "{name}");
        file
    }

    fn folder() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/telegram"))
    }

    fn media(url: &str) -> Request {
        request("42", &format!(r#"{{"type":"media","url":"https://example.com/{url}","caption":"Look: <b>"}}"#), None)
    }

    #[test]
    fn requests_are_the_golden_files_byte_for_byte() {
        let text = r#"{"type":"text","text":"Olá 🦀 <b>*not* _markup_</b>\n\"quoted\""}"#;
        let buttons = r#"{"type":"interactive","text":"Which?","buttons":[{"id":"yes","title":"Sim ✅"},{"id":"no-1","title":"Não"}]}"#;
        let checked = BTreeSet::from([
            check("text", &request("42", text, None)),
            check("text-reply", &request("-1001234567890", text, Some("-1001234567890:7"))),
            check("text-reply-other-chat", &request("42", text, Some("-1001234567890:7"))),
            check("text-to-name", &request("@news_2026", text, Some("7"))),
            check("photo", &media("a.png?size=1&k=%C3%A9")),
            check("video", &media("a.mp4")),
            check("audio", &media("a.mp3")),
            check("voice", &media("a.ogg")),
            check("animation", &media("a.gif")),
            check("document", &media("a.pdf")),
            check("media-bare", &request("42", r#"{"type":"media","url":"https://example.com/a"}"#, Some("7"))),
            check("buttons", &request("42", buttons, None)),
            check("probe", &telegram().probe().unwrap()),
        ]);
        let there: BTreeSet<String> =
            std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(checked, there, "every golden file is checked, and no other file is there");
    }

    #[test]
    fn a_chat_named_along_with_its_own_message_is_not_repeated() {
        let check = |target, reply_to, expected: &str| {
            let body = request(target, r#"{"type":"text","text":"a"}"#, Some(reply_to)).body;
            let body = str::from_utf8(&body).unwrap();
            assert!(body.ends_with(expected), "{target} {reply_to}: {body}");
        };
        check("42", "7", r#""reply_parameters":{"message_id":7}}"#);
        check("42", "42:7", r#""reply_parameters":{"message_id":7}}"#);
        check("42", "43:7", r#""reply_parameters":{"message_id":7,"chat_id":43}}"#);
        check("@news_2026", "-1001:7", r#""reply_parameters":{"message_id":7}}"#);
    }

    #[test]
    fn what_is_refused_at_the_door_is_refused_here_too() {
        let check = |target, content, reply_to, field| {
            let delivery = delivery(target, content, reply_to);
            let unfit = telegram().request(&delivery, NOW).unwrap_err();
            assert_eq!(unfit.field, field);
            assert_eq!(telegram().check(&Outgoing::of(&delivery)), Err(unfit));
        };
        let text = r#"{"type":"text","text":"a"}"#;
        check("ana", text, None, "to");
        check("42", r#"{"type":"raw","body":1}"#, None, "content.type");
        check("42", text, Some("wamid.x"), "reply_to");
        assert_eq!(telegram().check(&Outgoing::of(&delivery("42", text, None))), Ok(()));
    }
}
