//! What is known to be refused, before anything is sent. Telegram counts texts in UTF-16 units.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use chat4all_proto::Content;
use chat4all_proto::content::Choice;
use url::Url;

use super::target;
use crate::{Outgoing, Unfit, links};

const TEXT_UNITS: RangeInclusive<usize> = 1..=4_096;
const CAPTION_UNITS: RangeInclusive<usize> = 0..=1_024;
const BUTTONS: RangeInclusive<usize> = 1..=100;
/// What a button gives back when it is pressed.
const BUTTON_ID_BYTES: RangeInclusive<usize> = 1..=64;
const BUTTON_TITLE_CHARS: RangeInclusive<usize> = 1..=64;

/// A message that keeps to what is known.
pub(super) struct Message<'a> {
    pub(super) body: Body<'a>,
    pub(super) reply_to: Option<Replied>,
}

pub(super) enum Body<'a> {
    Text { text: &'a str, buttons: &'a [Choice] },
    Media { kind: Media, url: &'a str, caption: Option<&'a str> },
}

/// Which of the methods for media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Photo,
    Video,
    Audio,
    Voice,
    Animation,
    Document,
}

/// The message that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replied {
    /// `None`: the chat that the answer goes to.
    pub(super) chat: Option<i64>,
    pub(super) message_id: u32,
}

/// Checks all but the target.
pub(super) fn check<'a>(outgoing: &Outgoing<'a>) -> Result<Message<'a>, Unfit> {
    Ok(Message { body: body(outgoing.content)?, reply_to: outgoing.reply_to.map(replied).transpose()? })
}

fn body(content: &Content) -> Result<Body<'_>, Unfit> {
    match content {
        Content::Text { text } => {
            within("content.text", utf16(text), TEXT_UNITS, "UTF-16 units")?;
            Ok(Body::Text { text, buttons: &[] })
        }
        Content::Media { url, caption, mime_type } => media(url, caption.as_deref(), mime_type.as_deref()),
        Content::Interactive { text, buttons, list: None } => {
            within("content.text", utf16(text), TEXT_UNITS, "UTF-16 units")?;
            check_buttons(buttons)?;
            Ok(Body::Text { text, buttons })
        }
        Content::Interactive { list: Some(_), .. } => {
            Err(Unfit::new("content.list", "Telegram has no lists; `buttons` may be up to 100"))
        }
        Content::Template { .. } | Content::Raw { .. } => {
            let detail = format!("Telegram takes `text`, `media` and `interactive`, not `{}`", content.kind());
            Err(Unfit::new("content.type", detail))
        }
    }
}

fn media<'a>(url: &'a str, caption: Option<&'a str>, mime_type: Option<&str>) -> Result<Body<'a>, Unfit> {
    let parsed = links::media_url(url)?;
    within("content.caption", utf16(caption.unwrap_or_default()), CAPTION_UNITS, "UTF-16 units")?;
    Ok(Body::Media { kind: mime_type.map_or_else(|| Media::by_extension(&parsed), Media::by_mime_type), url, caption })
}

impl Media {
    fn by_mime_type(mime_type: &str) -> Self {
        let essence = mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.split_once('/') {
            Some(("image", "gif")) => Self::Animation,
            Some(("image", _)) => Self::Photo,
            Some(("video", _)) => Self::Video,
            Some(("audio", "ogg")) => Self::Voice,
            Some(("audio", _)) => Self::Audio,
            _ => Self::Document,
        }
    }

    fn by_extension(url: &Url) -> Self {
        let extension = url.path().rsplit('/').next().and_then(|file| file.rsplit_once('.')).map(|(_, it)| it);
        match extension.unwrap_or_default().to_ascii_lowercase().as_str() {
            "gif" => Self::Animation,
            "jpg" | "jpeg" | "png" | "webp" => Self::Photo,
            "mp4" | "m4v" | "mov" | "webm" => Self::Video,
            "ogg" | "oga" | "opus" => Self::Voice,
            "mp3" | "m4a" | "aac" | "wav" | "flac" => Self::Audio,
            _ => Self::Document,
        }
    }
}

fn check_buttons(buttons: &[Choice]) -> Result<(), Unfit> {
    within("content.buttons", buttons.len(), BUTTONS, "buttons")?;
    buttons.iter().enumerate().try_for_each(|(index, button)| {
        let field = |name| format!("content.buttons[{index}].{name}");
        within(field("id"), button.id.len(), BUTTON_ID_BYTES, "bytes")?;
        within(field("title"), button.title.chars().count(), BUTTON_TITLE_CHARS, "characters")?;
        match button.description {
            Some(_) => Err(Unfit::new(field("description"), "a Telegram button has no description: leave it out")),
            None => Ok(()),
        }
    })
}

/// Reads `message_id` or `chat:message_id`, as our own provider ids are written.
fn replied(text: &str) -> Result<Replied, Unfit> {
    let (chat, message_id) = text.split_once(':').map_or((None, text), |(chat, id)| (Some(chat), id));
    let chat = chat.map(|chat| target::chat_id(chat).ok_or(())).transpose();
    let message_id = message_id.bytes().all(|byte| byte.is_ascii_digit()).then(|| message_id.parse().ok()).flatten();
    match (chat, message_id) {
        (Ok(chat), Some(message_id @ 1..)) => Ok(Replied { chat, message_id }),
        _ => Err(Unfit::new("reply_to", "must be a Telegram message's id, or `chat id:message id`, in digits")),
    }
}

fn within(
    field: impl Into<Cow<'static, str>>,
    count: usize,
    allowed: RangeInclusive<usize>,
    of: &str,
) -> Result<(), Unfit> {
    if allowed.contains(&count) {
        return Ok(());
    }
    let (min, max) = allowed.into_inner();
    Err(Unfit::new(field, format!("has {count} {of}; Telegram takes {min} to {max}")))
}

fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `expected`: the refused field and words of the refusal.
    fn check(content: serde_json::Value, reply_to: Option<&str>, expected: Result<(), (&str, &str)>) {
        let shown: String = format!("{content} {reply_to:?}").chars().take(200).collect();
        let content: Content = serde_json::from_value(content).unwrap();
        match (super::check(&Outgoing { target: "42", content: &content, reply_to }), expected) {
            (Ok(_), Ok(())) => {}
            (Err(unfit), Err((field, words))) => {
                assert_eq!(unfit.field, field, "{shown}");
                assert!(unfit.detail.contains(words), "{shown}: {unfit}");
            }
            (got, _) => panic!("{shown}: {:?}, expected {expected:?}", got.err()),
        }
    }

    fn check_text(text: &str, expected: Result<(), &str>) {
        let expected = expected.map_err(|words| ("content.text", words));
        check(json!({"type": "text", "text": text}), None, expected);
        let buttons = json!([{"id": "a", "title": "A"}]);
        check(json!({"type": "interactive", "text": text, "buttons": buttons}), None, expected);
    }

    fn check_caption(caption: &str, expected: Result<(), &str>) {
        let content = json!({"type": "media", "url": "https://example.com/a.png", "caption": caption});
        check(content, None, expected.map_err(|words| ("content.caption", words)));
    }

    fn check_button(id: &str, title: &str, expected: Result<(), (&str, &str)>) {
        let buttons = json!([{"id": "a", "title": "A"}, {"id": id, "title": title}]);
        check(json!({"type": "interactive", "text": "Which?", "buttons": buttons}), None, expected);
    }

    fn check_button_count(count: usize, expected: Result<(), (&str, &str)>) {
        let buttons: Vec<_> = (0..count).map(|id| json!({"id": id.to_string(), "title": "A"})).collect();
        check(json!({"type": "interactive", "text": "Which?", "buttons": buttons}), None, expected);
    }

    #[test]
    fn texts_are_counted_in_utf16_units() {
        check_text("", Err("has 0 UTF-16 units; Telegram takes 1 to 4096"));
        check_text("a", Ok(()));
        check_text(&"é".repeat(4_096), Ok(()));
        check_text(&"é".repeat(4_097), Err("has 4097 UTF-16 units"));
        check_text(&"🦀".repeat(2_048), Ok(()));
        check_text(&format!("{}a", "🦀".repeat(2_048)), Err("has 4097 UTF-16 units"));
        check_text(&"🦀".repeat(2_049), Err("has 4098 UTF-16 units"));
    }

    #[test]
    fn captions_are_shorter_and_may_be_empty() {
        check_caption("", Ok(()));
        check_caption(&"é".repeat(1_024), Ok(()));
        check_caption(&"é".repeat(1_025), Err("has 1025 UTF-16 units; Telegram takes 0 to 1024"));
        check_caption(&"🦀".repeat(512), Ok(()));
        check_caption(&"🦀".repeat(513), Err("has 1026 UTF-16 units"));
    }

    #[test]
    fn buttons_are_counted_and_measured() {
        check_button_count(0, Err(("content.buttons", "has 0 buttons; Telegram takes 1 to 100")));
        check_button_count(1, Ok(()));
        check_button_count(100, Ok(()));
        check_button_count(101, Err(("content.buttons", "has 101 buttons")));
        check_button("", "B", Err(("content.buttons[1].id", "has 0 bytes; Telegram takes 1 to 64")));
        check_button(&"b".repeat(64), "B", Ok(()));
        check_button(&"b".repeat(65), "B", Err(("content.buttons[1].id", "has 65 bytes")));
        check_button(&"é".repeat(33), "B", Err(("content.buttons[1].id", "has 66 bytes")));
        check_button("b", "", Err(("content.buttons[1].title", "has 0 characters; Telegram takes 1 to 64")));
        check_button("b", &"é".repeat(64), Ok(()));
        check_button("b", &"é".repeat(65), Err(("content.buttons[1].title", "has 65 characters")));
    }

    #[test]
    fn what_telegram_does_not_have_is_refused() {
        let list = json!({"button": "Open", "sections": []});
        let content = json!({"type": "interactive", "text": "Which?", "list": list});
        check(content, None, Err(("content.list", "has no lists")));
        let buttons = json!([{"id": "a", "title": "A", "description": "first"}]);
        let content = json!({"type": "interactive", "text": "Which?", "buttons": buttons});
        check(content, None, Err(("content.buttons[0].description", "no description")));
        check(json!({"type": "raw", "body": {}}), None, Err(("content.type", "not `raw`")));
        let content = json!({"type": "template", "name": "a", "language": "en"});
        check(content, None, Err(("content.type", "not `template`")));
        for url in ["AgACAgIAAxkBAAIB", "/a.png", "file:///etc/passwd", "ftp://example.com/a.png", "attach://a"] {
            check(json!({"type": "media", "url": url}), None, Err(("content.url", "absolute URL")));
        }
    }

    #[test]
    fn the_kind_of_media_follows_its_type_and_then_its_extension() {
        let check = |url: &str, mime_type, expected| {
            let Ok(Body::Media { kind, .. }) = media(url, None, mime_type) else { panic!("{url}") };
            assert_eq!(kind, expected, "{url} {mime_type:?}");
        };
        check("https://example.com/a.pdf", Some("image/png"), Media::Photo);
        check("https://example.com/a", Some("IMAGE/JPEG"), Media::Photo);
        check("https://example.com/a", Some("image/gif"), Media::Animation);
        check("https://example.com/a", Some("video/mp4"), Media::Video);
        check("https://example.com/a", Some("audio/mpeg"), Media::Audio);
        check("https://example.com/a", Some("audio/ogg; codecs=opus"), Media::Voice);
        check("https://example.com/a.png", Some("application/pdf"), Media::Document);
        check("https://example.com/a.png", Some(""), Media::Document);
        check("https://example.com/a.PNG?size=b.pdf#c.mp4", None, Media::Photo);
        check("https://example.com/a.gif", None, Media::Animation);
        check("https://example.com/a.mp4", None, Media::Video);
        check("https://example.com/a.mp3", None, Media::Audio);
        check("https://example.com/a.ogg", None, Media::Voice);
        check("https://example.com/a.pdf", None, Media::Document);
        check("https://example.png/a.b/c", None, Media::Document);
        check("https://example.png", None, Media::Document);
    }

    #[test]
    fn an_answered_message_is_named_as_our_provider_ids_are() {
        let reads = |text, chat, message_id| assert_eq!(replied(text), Ok(Replied { chat, message_id }), "{text}");
        reads("7", None, 7);
        reads("42:7", Some(42), 7);
        reads("-1001234567890:4294967295", Some(-1_001_234_567_890), u32::MAX);
        for bad in
            ["", ":", "0", "+7", "-7", "7a", "4294967296", "42:", ":7", "a:7", "@abcde:7", "42:7:1", "callback:9"]
        {
            check(json!({"type": "text", "text": "a"}), Some(bad), Err(("reply_to", "message id")));
        }
    }
}
