//! What the Cloud API takes for a message: the fields each type needs and how long they may be.

use serde_json::Value;

use crate::providers::meta::{GraphError, invalid, is_digits, text};

const TEXT_CHARS_MAX: usize = 4_096;
const CAPTION_CHARS_MAX: usize = 1_024;
const OPAQUE_CHARS_MAX: usize = 512;
const BUTTONS_MAX: usize = 3;
const ROWS_MAX: usize = 10;
/// Digits of a phone number.
const NUMBER: std::ops::RangeInclusive<usize> = 5..=20;

pub fn check(body: &Value) -> Result<(), GraphError> {
    must(body["recipient_type"] == "individual", "recipient_type", "must be `individual`")?;
    check_recipient(body)?;
    if !body["biz_opaque_callback_data"].is_null() {
        at_most(body, "/biz_opaque_callback_data", OPAQUE_CHARS_MAX)?;
    }
    if !body["context"].is_null() {
        text(body, "/context/message_id")?;
    }
    let kind = text(body, "/type")?;
    let content = &body[kind];
    must(content.is_object() || content.is_array(), kind, "is missing: it holds what `type` says")?;
    match kind {
        "text" => at_most(body, "/text/body", TEXT_CHARS_MAX),
        "image" | "video" | "audio" | "document" | "sticker" => check_media(kind, content),
        "template" => check_template(body),
        "interactive" => check_interactive(body),
        "reaction" => text(body, "/reaction/message_id").map(drop),
        "location" => must(
            content["latitude"].is_number() && content["longitude"].is_number(),
            kind,
            "needs `latitude` and `longitude`",
        ),
        "contacts" => must(content.is_array(), kind, "must be a list"),
        _ => Err(invalid("type", "is not known")),
    }
}

fn must(holds: bool, field: &str, why: &str) -> Result<(), GraphError> {
    if holds { Ok(()) } else { Err(invalid(field, why)) }
}

/// A text that is there, is not empty and not too long.
fn at_most(body: &Value, pointer: &str, chars_max: usize) -> Result<(), GraphError> {
    let fits = text(body, pointer)?.chars().count() <= chars_max;
    must(fits, pointer, &format!("must be at most {chars_max} characters long"))
}

fn check_recipient(body: &Value) -> Result<(), GraphError> {
    if body["to"].is_null() && !body["recipient"].is_null() {
        return text(body, "/recipient").map(drop);
    }
    let to = text(body, "/to")?;
    let digits = to.strip_prefix('+').unwrap_or(to);
    must(is_digits(digits) && NUMBER.contains(&digits.len()), "to", "is not a phone number")
}

fn check_media(kind: &str, media: &Value) -> Result<(), GraphError> {
    must(media["link"].is_string() != media["id"].is_string(), kind, "needs `link` or `id`")?;
    if let Some(link) = media["link"].as_str() {
        must(link.starts_with("https://") || link.starts_with("http://"), kind, "has no URL as its `link`")?;
    }
    if media["caption"].is_null() {
        return Ok(());
    }
    must(!matches!(kind, "audio" | "sticker"), kind, "takes no `caption`")?;
    at_most(media, "/caption", CAPTION_CHARS_MAX)
}

fn check_template(body: &Value) -> Result<(), GraphError> {
    text(body, "/template/name")?;
    text(body, "/template/language/code")?;
    let policy = &body["template"]["language"]["policy"];
    must(policy == "deterministic", "template/language/policy", "must be `deterministic`")
}

fn check_interactive(body: &Value) -> Result<(), GraphError> {
    let kind = text(body, "/interactive/type")?;
    text(body, "/interactive/body/text")?;
    let action = &body["interactive"]["action"];
    must(action.is_object(), "interactive/action", "is missing")?;
    let count = |list: &Value| list.as_array().map_or(0, Vec::len);
    match kind {
        "button" => {
            let fits = (1..=BUTTONS_MAX).contains(&count(&action["buttons"]));
            must(fits, "interactive/action/buttons", "must be 1 to 3")
        }
        "list" => {
            let sections = action["sections"].as_array().map(Vec::as_slice).unwrap_or_default();
            let rows: usize = sections.iter().map(|section| count(&section["rows"])).sum();
            must((1..=ROWS_MAX).contains(&rows), "interactive/action/sections", "must have 1 to 10 rows")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A message with the fields of `change` put in place of its own; `null` takes one away. `expected`: a field named.
    fn check_with(change: Value, expected: Option<&str>) {
        let mut body = json!({
            "messaging_product": "whatsapp", "recipient_type": "individual", "to": "5562996991812",
            "type": "text", "text": {"body": "hi"}
        });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let details = check(&body).err().map(|error| (error.code, error.details.unwrap()));
        match (details, expected) {
            (None, None) => {}
            (Some((100, details)), Some(field)) => assert!(details.starts_with(&format!("`{field}`")), "{details}"),
            (got, expected) => panic!("{change}: {got:?}, expected {expected:?}"),
        }
    }

    fn check_type(kind: &str, content: Value, expected: Option<&str>) {
        check_with(json!({ "type": kind, kind: content }), expected);
    }

    #[test]
    fn a_field_that_is_missing_or_wrong_is_named() {
        check_with(json!({}), None);
        check_with(json!({"recipient_type": null}), Some("recipient_type"));
        check_with(json!({"to": null}), Some("to"));
        check_with(json!({"to": "ana"}), Some("to"));
        check_with(json!({"to": "+5562996991812"}), None);
        check_with(json!({"to": null, "recipient": "US.abc"}), None);
        check_with(json!({"type": null}), Some("type"));
        check_with(json!({"type": "smoke", "smoke": {}}), Some("type"));
        check_with(json!({"text": null}), Some("text"));
        check_with(json!({"context": {}}), Some("context.message_id"));
        check_with(json!({"biz_opaque_callback_data": "x".repeat(513)}), Some("biz_opaque_callback_data"));
    }

    #[test]
    fn a_text_is_measured_in_characters() {
        check_type("text", json!({"body": "😀".repeat(4_096)}), None);
        check_type("text", json!({"body": "x".repeat(4_097)}), Some("text.body"));
        check_type("text", json!({"body": ""}), Some("text.body"));
    }

    #[test]
    fn media_have_one_source_and_some_a_caption() {
        let link = "https://example.com/a";
        check_type("image", json!({"link": link, "caption": "x".repeat(1_024)}), None);
        check_type("document", json!({"id": "1", "filename": "a.pdf"}), None);
        check_type("image", json!({"link": link, "caption": "x".repeat(1_025)}), Some("caption"));
        check_type("image", json!({"link": link, "id": "1"}), Some("image"));
        check_type("image", json!({"link": "a.png"}), Some("image"));
        check_type("audio", json!({"link": link, "caption": "x"}), Some("audio"));
    }

    #[test]
    fn templates_and_buttons_are_whole() {
        let language = json!({"policy": "deterministic", "code": "en_US"});
        check_type("template", json!({"name": "a", "language": language}), None);
        check_type("template", json!({"name": "a", "language": {"code": "en_US"}}), Some("template.language.policy"));
        check_type("template", json!({"language": language}), Some("template.name"));
        let buttons =
            |count: usize| json!({"type": "button", "body": {"text": "?"}, "action": {"buttons": vec![1; count]}});
        check_type("interactive", buttons(3), None);
        check_type("interactive", buttons(4), Some("interactive.action.buttons"));
        let rows = |count: usize| json!({"type": "list", "body": {"text": "?"}, "action": {"sections": [{"rows": vec![1; count]}]}});
        check_type("interactive", rows(10), None);
        check_type("interactive", rows(11), Some("interactive.action.sections"));
    }
}
