//! Messaging at Instagram through the Graph API: what a send is answered, and the receipt that follows.

mod errors;

use std::time::Duration;

use chat4all_proto::Timestamp;
use serde_json::{Value, json};

use super::ids::Ids;
use super::meta::{self, GraphError, invalid, text};
use super::{Callback, Inbound, Provider, Reply, Unfit};
use crate::answer::Answer;
use crate::credentials::INSTAGRAM_ACCOUNT_ID;
pub use errors::ERRORS;

const TEXT_BYTES_MAX: usize = 1_000;

/// Whom a body is for.
pub fn recipient(body: &Value) -> Option<String> {
    body["recipient"]["id"].as_str().map(str::to_owned)
}

/// A send of `account`, whose token was checked.
pub fn send(
    account: &str,
    body: &Value,
    ids: &mut Ids,
    now: Timestamp,
    receipt_delay: Duration,
) -> Result<Reply, GraphError> {
    check(body)?;
    let recipient = text(body, "/recipient/id")?;
    if let Some((code, subcode)) = magic(recipient) {
        return Err(ERRORS.find(code, subcode));
    }
    let id = message_id(ids);
    let after = receipt_delay * 2;
    let read = event(account, recipient, now.saturating_add(after), json!({ "read": { "mid": id } }));
    let answer = Answer::json(200, &json!({ "recipient_id": recipient, "message_id": id }));
    Ok(Reply { answer, reports: vec![(after, read)] })
}

fn message_id(ids: &mut Ids) -> String {
    format!("aWdfZAG1faXRlbToxO{}ZD", ids.unique())
}

/// The code and subcode of `999`, five digits and up to seven more.
fn magic(recipient: &str) -> Option<(u32, Option<u32>)> {
    let numbers = recipient.strip_prefix("999").filter(|rest| meta::is_digits(rest))?;
    let (code, subcode) = numbers.split_at_checked(5).filter(|(_, subcode)| subcode.len() <= 7)?;
    Some((code.parse().ok()?, subcode.parse().ok()))
}

fn check(body: &Value) -> Result<(), GraphError> {
    match &body["messaging_type"] {
        Value::Null => {}
        kind if kind == "RESPONSE" || kind == "UPDATE" => {}
        kind if kind == "MESSAGE_TAG" => drop(text(body, "/tag")?),
        _ => return Err(invalid("messaging_type", "is not known")),
    }
    if !meta::is_digits(text(body, "/recipient/id")?) {
        return Err(invalid("recipient/id", "must be digits"));
    }
    let message = &body["message"];
    match (message["text"].is_null(), message["attachment"].is_null()) {
        (false, true) => check_text(body),
        (true, false) => check_attachment(body),
        _ => Err(invalid("message", "needs either `text` or `attachment`")),
    }
}

fn check_text(body: &Value) -> Result<(), GraphError> {
    match text(body, "/message/text")?.len() {
        ..=TEXT_BYTES_MAX => Ok(()),
        _ => Err(invalid("message/text", "must be at most 1000 bytes long")),
    }
}

fn check_attachment(body: &Value) -> Result<(), GraphError> {
    let url = text(body, "/message/attachment/payload/url")?;
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err(invalid("message/attachment/payload/url", "is not a URL"));
    }
    match text(body, "/message/attachment/type")? {
        "image" | "audio" | "video" | "file" => Ok(()),
        _ => Err(invalid("message/attachment/type", "is not known")),
    }
}

pub fn inbound(message: &Inbound, ids: &mut Ids, now: Timestamp) -> Result<(String, Callback), Unfit> {
    if !meta::is_digits(&message.from) {
        return Err(Unfit { field: "from", detail: "`from` must be digits" });
    }
    let account = message.account(INSTAGRAM_ACCOUNT_ID)?;
    let id = message_id(ids);
    let mut inner = json!({ "mid": id, "text": message.text });
    if let Some(reply_to) = &message.reply_to {
        inner["reply_to"] = json!({ "mid": reply_to });
    }
    let callback = event(&account, &message.from, now, json!({ "message": inner }));
    Ok((id, callback))
}

/// Something that `user` did.
fn event(account: &str, user: &str, at: Timestamp, mut event: Value) -> Callback {
    event["sender"] = json!({ "id": user });
    event["recipient"] = json!({ "id": account });
    event["timestamp"] = at.as_millis().into();
    let entry = json!({ "id": account, "time": at.as_millis(), "messaging": [event] });
    meta::callback(Provider::Instagram, &json!({ "object": "instagram", "entry": [entry] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_magic_id_has_a_code_and_may_have_a_subcode() {
        let check = |id: &str, expected| assert_eq!(magic(id), expected, "{id}");
        check("99900190", Some((190, None)));
        check("99900190463", Some((190, Some(463))));
        check("999000102018278", Some((10, Some(2_018_278))));
        check("9990001020182781", None);
        check("9990019", None);
        check("17840000000000099", None);
    }

    #[test]
    fn a_field_that_is_missing_or_wrong_is_named() {
        let check = |body: Value, expected: Option<&str>| {
            let details = super::check(&body).err().and_then(|error| error.details);
            let named = details.as_deref().and_then(|details| details.split('`').nth(1));
            assert_eq!(named, expected, "{body}");
        };
        let message = |message: Value| json!({ "recipient": { "id": "42" }, "message": message });
        check(message(json!({ "text": "x".repeat(1_000) })), None);
        check(message(json!({ "text": "é".repeat(501) })), Some("message.text"));
        check(message(json!({ "text": "" })), Some("message.text"));
        check(message(Value::Null), Some("message"));
        let attachment = |kind: &str, url: &str| json!({ "attachment": { "type": kind, "payload": { "url": url } } });
        check(message(attachment("image", "https://example.com/a.png")), None);
        check(message(attachment("smoke", "https://example.com/a.png")), Some("message.attachment.type"));
        check(message(attachment("image", "a.png")), Some("message.attachment.payload.url"));
        check(json!({ "message": { "text": "hi" } }), Some("recipient.id"));
        check(json!({ "recipient": { "id": "ana" }, "message": { "text": "hi" } }), Some("recipient.id"));
        check(json!({ "messaging_type": "MESSAGE_TAG" }), Some("tag"));
        check(json!({ "messaging_type": "SHOUT" }), Some("messaging_type"));
        check(Value::Null, Some("recipient.id"));
    }
}
