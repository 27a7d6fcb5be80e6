//! A delivery as the body that WhatsApp's `messages` takes. The same in every attempt.

use chat4all_proto::content::{Choice, List, Section};
use chat4all_proto::{Content, Outbound};
use serde::Serialize;

use super::correlation;
use super::limits::{self, Parameter};
use super::target::{self, Target};
use crate::Unfit;
use crate::links::media_url;
use crate::meta::media::{self, Kind};

#[derive(Serialize)]
pub(super) struct Body<'a> {
    messaging_product: &'static str,
    recipient_type: &'static str,
    #[serde(flatten)]
    target: Target<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Context<'a>>,
    r#type: &'static str,
    #[serde(flatten)]
    payload: Payload<'a>,
    /// Receipts give it back: so a delivery is found whose answer was lost.
    biz_opaque_callback_data: String,
}

#[derive(Serialize)]
struct Context<'a> {
    message_id: &'a str,
}

/// The field named like the `type`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Payload<'a> {
    Text { preview_url: bool, body: &'a str },
    Image(Media<'a>),
    Video(Media<'a>),
    Audio(Media<'a>),
    Sticker(Media<'a>),
    Document(Media<'a>),
    Template(Template<'a>),
    Interactive(Interactive<'a>),
}

#[derive(Serialize)]
struct Media<'a> {
    link: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    caption: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
}

#[derive(Serialize)]
struct Template<'a> {
    name: &'a str,
    language: Language<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Component<'a>>,
}

#[derive(Serialize)]
struct Language<'a> {
    policy: &'static str,
    code: &'a str,
}

#[derive(Serialize)]
struct Component<'a> {
    r#type: &'static str,
    parameters: Vec<TextParameter<'a>>,
}

#[derive(Serialize)]
struct TextParameter<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter_name: Option<&'a str>,
    text: String,
}

#[derive(Serialize)]
struct Interactive<'a> {
    r#type: &'static str,
    body: InteractiveBody<'a>,
    action: Action<'a>,
}

#[derive(Serialize)]
struct InteractiveBody<'a> {
    text: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Action<'a> {
    Buttons { buttons: Vec<Button<'a>> },
    List { button: &'a str, sections: &'a [Section] },
}

#[derive(Serialize)]
struct Button<'a> {
    r#type: &'static str,
    /// Has no description: that was checked.
    reply: &'a Choice,
}

/// The body for a delivery that `check` let pass.
pub(super) fn body(delivery: &Outbound) -> Result<Body<'_>, Unfit> {
    let payload = payload(&delivery.content)?;
    Ok(Body {
        messaging_product: "whatsapp",
        recipient_type: "individual",
        target: target::parse(&delivery.to.target)?,
        context: delivery.reply_to.as_deref().map(|message_id| Context { message_id }),
        r#type: payload.kind(),
        payload,
        biz_opaque_callback_data: correlation::write(delivery.delivery_id, delivery.generation),
    })
}

impl Payload<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Image(_) => "image",
            Self::Video(_) => "video",
            Self::Audio(_) => "audio",
            Self::Sticker(_) => "sticker",
            Self::Document(_) => "document",
            Self::Template(_) => "template",
            Self::Interactive(_) => "interactive",
        }
    }
}

fn payload(content: &Content) -> Result<Payload<'_>, Unfit> {
    match content {
        Content::Text { text } => Ok(Payload::Text { preview_url: false, body: text }),
        Content::Media { url, caption, mime_type } => media(url, caption.as_deref(), mime_type.as_deref()),
        Content::Template { name, language, variables } => Ok(template(name, language, limits::parameters(variables)?)),
        Content::Interactive { text, buttons, list } => {
            Ok(Payload::Interactive(interactive(text, buttons, list.as_ref())))
        }
        Content::Raw { .. } => Err(limits::no_raw()),
    }
}

fn media<'a>(link: &'a str, caption: Option<&'a str>, mime_type: Option<&str>) -> Result<Payload<'a>, Unfit> {
    let url = media_url(link)?;
    let caption = caption.filter(|caption| !caption.is_empty());
    let media = Media { link, caption, filename: None };
    Ok(match media::kind(&url, mime_type) {
        Kind::Image => Payload::Image(media),
        Kind::Sticker => Payload::Sticker(media),
        Kind::Audio => Payload::Audio(media),
        Kind::Video => Payload::Video(media),
        Kind::File => Payload::Document(Media { filename: media::file_name(&url), ..media }),
    })
}

fn template<'a>(name: &'a str, code: &'a str, parameters: Vec<Parameter<'a>>) -> Payload<'a> {
    let parameter = |Parameter { name, text }| TextParameter { r#type: "text", parameter_name: name, text };
    let parameters: Vec<_> = parameters.into_iter().map(parameter).collect();
    let body = (!parameters.is_empty()).then_some(Component { r#type: "body", parameters });
    // The official schema wants the policy, though there is one only.
    let language = Language { policy: "deterministic", code };
    Payload::Template(Template { name, language, components: body.into_iter().collect() })
}

fn interactive<'a>(text: &'a str, buttons: &'a [Choice], list: Option<&'a List>) -> Interactive<'a> {
    let (r#type, action) = match list {
        Some(list) => ("list", Action::List { button: &list.button, sections: &list.sections }),
        None => {
            let buttons = buttons.iter().map(|reply| Button { r#type: "reply", reply }).collect();
            ("button", Action::Buttons { buttons })
        }
    };
    Interactive { r#type, body: InteractiveBody { text }, action }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, WhatsApp};
    use crate::meta::golden::{self, TOKEN, delivery};
    use crate::{Channel, Outgoing};
    use chat4all_proto::Timestamp;

    fn channel() -> WhatsApp {
        let config = format!(r#"{{"phone_number_id":"106540352242922","access_token":"{TOKEN}"}}"#);
        WhatsApp::new(serde_json::from_str::<Config>(&config).unwrap()).ok().unwrap()
    }

    fn check_to(to: &str, name: &str, reply_to: Option<&str>, content: &str) -> String {
        let request = channel().request(&delivery(to, content, reply_to), Timestamp::default()).unwrap();
        assert_eq!(request.url.host_str(), Some("graph.facebook.com"));
        golden::check("whatsapp", name, &request)
    }

    fn check(name: &str, content: &str) -> String {
        check_to("+5562996991812", name, None, content)
    }

    #[test]
    fn each_content_is_the_documented_request() {
        golden::check_all(
            "whatsapp",
            [
                check("text", r#"{"type":"text","text":"Olá \"Ana\" 🚚\n"}"#),
                check_to("US.13491208655302741918", "text-to-user", None, r#"{"type":"text","text":"hi"}"#),
                check_to("+5562996991812", "text-reply", Some("wamid.HBgL"), r#"{"type":"text","text":"hi"}"#),
                check(
                    "image",
                    r#"{"type":"media","url":"https://example.com/a?b=c","mime_type":"image/png","caption":"Olá"}"#,
                ),
                check("video", r#"{"type":"media","url":"https://example.com/a.mp4","caption":""}"#),
                check("audio", r#"{"type":"media","url":"https://example.com/a.ogg"}"#),
                check("sticker", r#"{"type":"media","url":"https://example.com/a.webp"}"#),
                check("document", r#"{"type":"media","url":"https://example.com/Sua%20conta.pdf","caption":"May"}"#),
                check("document-nameless", r#"{"type":"media","url":"https://example.com/"}"#),
                check_to(
                    "+5562996991812",
                    "media-reply",
                    Some("wamid.HBgL"),
                    r#"{"type":"media","url":"https://example.com/a.png"}"#,
                ),
                check("template", r#"{"type":"template","name":"hello_world","language":"en_US"}"#),
                check(
                    "template-numbered",
                    r#"{"type":"template","name":"parcel","language":"pt_BR","variables":{"2":42,"1":"Ana","3":true,
                    "4":1.5,"5":"","6":"6","7":"7","8":"8","9":"9","10":"10"}}"#,
                ),
                check(
                    "template-named",
                    r#"{"type":"template","name":"parcel","language":"pt_BR","variables":{"order":42,"name":"Ana"}}"#,
                ),
                check(
                    "buttons",
                    r#"{"type":"interactive","text":"Which?","buttons":[{"id":"a","title":"A"},{"id":"b","title":"É"}]}"#,
                ),
                check(
                    "list",
                    r#"{"type":"interactive","text":"Which?","list":{"button":"See","sections":[{"title":"One",
                    "rows":[{"id":"a","title":"A","description":"the first"}]},{"title":"Two","rows":[{"id":"b","title":"B"}]}]}}"#,
                ),
                check(
                    "list-untitled",
                    r#"{"type":"interactive","text":"Which?","list":{"button":"See","sections":[{"rows":[{"id":"a","title":"A"}]}]}}"#,
                ),
            ],
        );
    }

    #[test]
    fn what_is_refused_at_the_door_is_refused_here_too() {
        let channel = channel();
        for (to, content) in [
            ("5562996991812", r#"{"type":"text","text":"a"}"#),
            ("+5562996991812", r#"{"type":"text","text":""}"#),
            ("+5562996991812", r#"{"type":"raw","body":{}}"#),
            ("+5562996991812", r#"{"type":"media","url":"a.png"}"#),
            ("+5562996991812", r#"{"type":"interactive","text":"?"}"#),
            ("+5562996991812", r#"{"type":"template","name":"a","language":"b","variables":{"2":1}}"#),
        ] {
            let delivery = delivery(to, content, None);
            let expected = channel.check(&Outgoing::of(&delivery)).unwrap_err();
            assert_eq!(channel.request(&delivery, Timestamp::default()).unwrap_err(), expected);
        }
    }
}
