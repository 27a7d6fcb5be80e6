//! What Instagram is known to refuse, found before a message is accepted.

use std::ops::RangeInclusive;

use chat4all_proto::Content;
use chat4all_proto::content::{Choice, List};

use crate::links::media_url;
use crate::meta::limits::{bytes, characters, within};
use crate::{Outgoing, Unfit};

/// In bytes of UTF-8, unlike on any other channel.
const TEXT_BYTES: RangeInclusive<usize> = 1..=1_000;
const BUTTONS: RangeInclusive<usize> = 1..=13;
// In characters. A longer title would be cut.
const BUTTON_TITLE: RangeInclusive<usize> = 1..=20;
const BUTTON_ID: RangeInclusive<usize> = 1..=1_000;

/// Whether Instagram would take this content.
pub(super) fn check(outgoing: &Outgoing<'_>) -> Result<(), Unfit> {
    if outgoing.reply_to.is_some() {
        // What the API documents says nothing of it for messages that we send.
        return Err(Unfit::new("reply_to", "a message on Instagram cannot reply to another"));
    }
    match outgoing.content {
        Content::Text { text } => check_text(text),
        Content::Media { url, caption, .. } => check_media(url, caption.as_deref()),
        Content::Interactive { text, buttons, list } => check_interactive(text, buttons, list.as_ref()),
        Content::Template { .. } | Content::Raw { .. } => Err(not_taken(outgoing.content)),
    }
}

pub(super) fn not_taken(content: &Content) -> Unfit {
    Unfit::new("content.type", format!("Instagram takes no content of type `{}`", content.kind()))
}

fn check_text(text: &str) -> Result<(), Unfit> {
    within("content.text", "the text", bytes(text), TEXT_BYTES)
}

fn check_media(url: &str, caption: Option<&str>) -> Result<(), Unfit> {
    media_url(url)?;
    match caption {
        None | Some("") => Ok(()),
        Some(_) => {
            Err(Unfit::new("content.caption", "media on Instagram has no caption; send it as a text of its own"))
        }
    }
}

fn check_interactive(text: &str, buttons: &[Choice], list: Option<&List>) -> Result<(), Unfit> {
    check_text(text)?;
    if list.is_some() {
        return Err(Unfit::new("content.list", "Instagram has no lists; use `buttons`"));
    }
    within("content.buttons", "the message", (buttons.len(), "buttons"), BUTTONS)?;
    buttons.iter().enumerate().try_for_each(|(index, button)| {
        let field = |name: &str| format!("content.buttons[{index}].{name}");
        within(field("title"), "the title", characters(&button.title), BUTTON_TITLE)?;
        within(field("id"), "the id", characters(&button.id), BUTTON_ID)?;
        match button.description {
            Some(_) => Err(Unfit::new(field("description"), "a button has no description")),
            None => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// `expected` is the field and some words of the refusal.
    fn check_reply(content: &Value, reply_to: Option<&str>, expected: Result<(), (&str, &str)>) {
        let content: Content = serde_json::from_value(content.clone()).unwrap();
        match (super::check(&Outgoing { target: "1784", content: &content, reply_to }), expected) {
            (Ok(()), Ok(())) => {}
            (Err(unfit), Err((field, words))) => {
                assert_eq!(unfit.field, field, "{unfit}");
                assert!(unfit.detail.contains(words), "{field}: {unfit}");
            }
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    }

    fn check(content: Value, expected: Result<(), (&str, &str)>) {
        check_reply(&content, None, expected);
    }

    fn buttons(buttons: &[(&str, &str)]) -> Value {
        let buttons: Value = buttons.iter().map(|(id, title)| json!({"id": id, "title": title})).collect();
        json!({"type": "interactive", "text": "Which?", "buttons": buttons})
    }

    #[test]
    fn a_text_is_counted_in_bytes() {
        for content in [
            |text: &str| json!({"type": "text", "text": text}),
            |text: &str| json!({"type": "interactive", "text": text, "buttons": [{"id": "a", "title": "A"}]}),
        ] {
            let refused = |bytes: usize| format!("has {bytes} bytes of UTF-8; 1 to 1000 are allowed");
            check(content(""), Err(("content.text", &refused(0))));
            for letter in ["a", "é", "🚚"] {
                let count = 1_000 / letter.len();
                check(content(letter), Ok(()));
                check(content(&letter.repeat(count)), Ok(()));
                check(content(&letter.repeat(count + 1)), Err(("content.text", &refused(1_000 + letter.len()))));
            }
            check(content(&"日".repeat(333)), Ok(()));
            check(content(&"日".repeat(334)), Err(("content.text", &refused(1_002))));
        }
    }

    #[test]
    fn buttons_are_counted_and_their_texts_are_in_characters() {
        check(buttons(&[]), Err(("content.buttons", "has 0 buttons; 1 to 13 are allowed")));
        check(buttons(&[("a", "A"); 13]), Ok(()));
        check(buttons(&[("a", "A"); 14]), Err(("content.buttons", "has 14 buttons; 1 to 13 are allowed")));
        for letter in ["a", "é", "🚚"] {
            let of = |count: usize| letter.repeat(count);
            check(buttons(&[("a", "A"), ("b", &of(20))]), Ok(()));
            let refused = Err(("content.buttons[1].title", "has 21 characters; 1 to 20 are allowed"));
            check(buttons(&[("a", "A"), ("b", &of(21))]), refused);
            check(buttons(&[("a", "A"), (&of(1_000), "B")]), Ok(()));
            let refused = Err(("content.buttons[1].id", "has 1001 characters; 1 to 1000 are allowed"));
            check(buttons(&[("a", "A"), (&of(1_001), "B")]), refused);
        }
        check(buttons(&[("a", "")]), Err(("content.buttons[0].title", "has 0 characters")));
        check(buttons(&[("", "A")]), Err(("content.buttons[0].id", "has 0 characters")));
        let mut described = buttons(&[("a", "A")]);
        described["buttons"][0]["description"] = "a".into();
        check(described, Err(("content.buttons[0].description", "has no description")));
        let mut list = buttons(&[]);
        list["list"] = json!({"button": "See", "sections": []});
        check(list, Err(("content.list", "use `buttons`")));
    }

    #[test]
    fn media_is_a_link_without_a_caption() {
        let media = |url: &str, caption: &str| json!({"type": "media", "url": url, "caption": caption});
        check(json!({"type": "media", "url": "https://x/a.png"}), Ok(()));
        check(media("https://x/a.png", ""), Ok(()));
        check(media("https://x/a.png", "a"), Err(("content.caption", "a text of its own")));
        check(media("a.png", ""), Err(("content.url", "must be an absolute URL")));
    }

    #[test]
    fn what_instagram_has_not_is_refused() {
        check(json!({"type": "template", "name": "a", "language": "en"}), Err(("content.type", "`template`")));
        check(json!({"type": "raw", "body": {}}), Err(("content.type", "`raw`")));
        check_reply(&json!({"type": "text", "text": "a"}), Some("m_1"), Err(("reply_to", "cannot reply")));
    }
}
