//! A delivery as the body that Instagram's `messages` takes. The same in every attempt.

use chat4all_proto::content::Choice;
use chat4all_proto::{Content, Outbound};
use serde::Serialize;

use super::limits;
use crate::Unfit;
use crate::links::media_url;
use crate::meta::media::{self, Kind};

#[derive(Serialize)]
pub(super) struct Body<'a> {
    recipient: Recipient<'a>,
    messaging_type: &'static str,
    message: Message<'a>,
}

#[derive(Serialize)]
struct Recipient<'a> {
    id: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Message<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        quick_replies: Vec<QuickReply<'a>>,
    },
    Attachment {
        attachment: Attachment<'a>,
    },
}

#[derive(Serialize)]
struct QuickReply<'a> {
    content_type: &'static str,
    title: &'a str,
    payload: &'a str,
}

#[derive(Serialize)]
struct Attachment<'a> {
    r#type: &'static str,
    payload: Link<'a>,
}

#[derive(Serialize)]
struct Link<'a> {
    url: &'a str,
}

/// The body for a delivery that `check` let pass.
pub(super) fn body(delivery: &Outbound) -> Result<Body<'_>, Unfit> {
    Ok(Body {
        recipient: Recipient { id: &delivery.to.target },
        messaging_type: "RESPONSE",
        message: message(&delivery.content)?,
    })
}

fn message(content: &Content) -> Result<Message<'_>, Unfit> {
    match content {
        Content::Text { text } => Ok(Message::Text { text, quick_replies: Vec::new() }),
        Content::Media { url, mime_type, .. } => attachment(url, mime_type.as_deref()),
        Content::Interactive { text, buttons, .. } => {
            Ok(Message::Text { text, quick_replies: buttons.iter().map(quick_reply).collect() })
        }
        Content::Template { .. } | Content::Raw { .. } => Err(limits::not_taken(content)),
    }
}

fn attachment<'a>(url: &'a str, mime_type: Option<&str>) -> Result<Message<'a>, Unfit> {
    let r#type = match media::kind(&media_url(url)?, mime_type) {
        Kind::Image | Kind::Sticker => "image",
        Kind::Audio => "audio",
        Kind::Video => "video",
        Kind::File => "file",
    };
    Ok(Message::Attachment { attachment: Attachment { r#type, payload: Link { url } } })
}

fn quick_reply(button: &Choice) -> QuickReply<'_> {
    QuickReply { content_type: "text", title: &button.title, payload: &button.id }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Instagram};
    use crate::meta::golden::{self, TOKEN, delivery};
    use crate::{Channel, Outgoing};
    use chat4all_proto::Timestamp;

    fn channel() -> Instagram {
        let config = format!(r#"{{"account_id":"17841400000000001","access_token":"{TOKEN}"}}"#);
        Instagram::new(serde_json::from_str::<Config>(&config).unwrap()).ok().unwrap()
    }

    fn check(name: &str, content: &str) -> String {
        let request = channel().request(&delivery("8423741", content, None), Timestamp::default()).unwrap();
        assert_eq!(request.url.host_str(), Some("graph.instagram.com"));
        golden::check("instagram", name, &request)
    }

    #[test]
    fn each_content_is_the_documented_request() {
        golden::check_all(
            "instagram",
            [
                check("text", r#"{"type":"text","text":"Olá \"Ana\" 🚚\n"}"#),
                check("image", r#"{"type":"media","url":"https://example.com/a?b=c","mime_type":"image/png"}"#),
                check("audio", r#"{"type":"media","url":"https://example.com/a.m4a","caption":""}"#),
                check("video", r#"{"type":"media","url":"https://example.com/a.mp4"}"#),
                check("file", r#"{"type":"media","url":"https://example.com/a.pdf"}"#),
                check(
                    "buttons",
                    r#"{"type":"interactive","text":"Which?","buttons":[{"id":"a","title":"A"},{"id":"b","title":"É"}]}"#,
                ),
            ],
        );
    }

    #[test]
    fn what_is_refused_at_the_door_is_refused_here_too() {
        let channel = channel();
        let text = r#"{"type":"text","text":"a"}"#;
        for (to, content, reply_to) in [
            ("ana", text, None),
            ("8423741", text, Some("m_1")),
            ("8423741", r#"{"type":"text","text":""}"#, None),
            ("8423741", r#"{"type":"raw","body":{}}"#, None),
            ("8423741", r#"{"type":"media","url":"a.png"}"#, None),
            ("8423741", r#"{"type":"template","name":"a","language":"b"}"#, None),
        ] {
            let delivery = delivery(to, content, reply_to);
            let expected = channel.check(&Outgoing::of(&delivery)).unwrap_err();
            assert_eq!(channel.request(&delivery, Timestamp::default()).unwrap_err(), expected);
        }
    }
}
