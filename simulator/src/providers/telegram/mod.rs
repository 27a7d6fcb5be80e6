//! The Telegram Bot API: what a bot's calls are answered, and the updates it is called back with.

mod errors;
mod request;

use bytes::Bytes;
use chat4all_proto::Timestamp;
use serde_json::{Value, json};

use super::ids::Ids;
use super::{Callback, Inbound, Provider, Unfit, meta};
use crate::answer::Answer;
use crate::credentials::{BOT_TOKEN, SECRET_TOKEN};
use crate::fault::Fault;
pub use errors::BotError;
pub use request::Method;

/// What a chat with a name (`@name`) has as its id.
const NAMED_CHAT: i64 = -1_001_000_000_001;

/// Whom a body is for.
pub fn recipient(body: &Value) -> Option<String> {
    match &body["chat_id"] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

pub fn answer(token: &str, method: &str, body: &Value, ids: &mut Ids, now: Timestamp) -> Answer {
    let result = check_token(token).and_then(|()| match Method::of(method) {
        Some(method) => send(method, body, ids, now),
        None if method.eq_ignore_ascii_case("getMe") => Ok(bot()),
        None => Err(BotError::new(404, "Not Found")),
    });
    match result {
        Ok(result) => Answer::json(200, &json!({ "ok": true, "result": result })),
        Err(error) => error.answer(),
    }
}

fn check_token(token: &str) -> Result<(), BotError> {
    if token == BOT_TOKEN {
        return Ok(());
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let (id, secret) = token.split_once(':').unwrap_or_default();
    match meta::is_digits(id) && !secret.is_empty() && secret.bytes().all(allowed) {
        true => Err(BotError::new(401, "Unauthorized")),
        false => Err(BotError::new(404, "Not Found")),
    }
}

fn bot() -> Value {
    let id: u64 = BOT_TOKEN.split(':').next().and_then(|id| id.parse().ok()).unwrap_or_default();
    json!({ "id": id, "is_bot": true, "first_name": "Simulated", "username": "simulated_bot" })
}

/// The message as it was sent.
fn send(method: Method, body: &Value, ids: &mut Ids, now: Timestamp) -> Result<Value, BotError> {
    let chat = chat(body)?;
    request::check(method, body)?;
    if let Some(error) = BotError::magic(chat) {
        return Err(error);
    }
    let mut message = json!({
        "message_id": ids.message(chat), "from": bot(), "chat": described(chat), "date": now.as_secs(),
    });
    for shown in ["text", "caption"] {
        if let Some(text) = body[shown].as_str() {
            message[shown] = text.into();
        }
    }
    if let Some(field) = method.media() {
        let id = ids.unique();
        let file = json!({ "file_id": id, "file_unique_id": id });
        message[field] = if field == "photo" { json!([file]) } else { file };
    }
    Ok(message)
}

fn chat(body: &Value) -> Result<i64, BotError> {
    let text = recipient(body).filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| BotError::new(400, "Bad Request: chat_id is empty"))?;
    match text.strip_prefix('@') {
        Some(name) if !name.is_empty() => Ok(NAMED_CHAT),
        _ => text.parse().ok().filter(|id| *id != 0).ok_or_else(|| BotError::new(400, "Bad Request: chat not found")),
    }
}

fn described(chat: i64) -> Value {
    let kind = if chat > 0 { "private" } else { "supergroup" };
    json!({ "id": chat, "type": kind })
}

/// A fault's answer. Success has no id in it.
pub fn fault(status: u16, fault: &Fault) -> Answer {
    match status {
        ..300 => Answer::json(status, &json!({})),
        _ => BotError::of_status(status, fault.retry_after_seconds()).answer(),
    }
}

pub fn inbound(message: &Inbound, ids: &mut Ids, now: Timestamp) -> Result<(String, Callback), Unfit> {
    let chat = message.from.parse().ok().filter(|id| *id != 0);
    let chat: i64 = chat.ok_or(Unfit { field: "from", detail: "`from` must be the id of a chat" })?;
    if message.account.is_some() {
        return Err(Unfit { field: "account", detail: "`account` is Meta's; a bot is known by its channel" });
    }
    let id = ids.message(chat);
    let from = json!({ "id": chat.unsigned_abs(), "is_bot": false, "first_name": "Simulated" });
    let mut inner = json!({
        "message_id": id, "from": from, "chat": described(chat), "date": now.as_secs(), "text": message.text,
    });
    if let Some(reply_to) = &message.reply_to {
        let reply_to: u64 = reply_to
            .parse()
            .map_err(|_| Unfit { field: "reply_to", detail: "`reply_to` must be a message id: digits" })?;
        inner["reply_to_message"] = json!({ "message_id": reply_to, "chat": described(chat), "date": now.as_secs() });
    }
    let update = json!({ "update_id": ids.update(), "message": inner });
    Ok((
        id.to_string(),
        Callback {
            provider: Provider::Telegram,
            header: ("X-Telegram-Bot-Api-Secret-Token", SECRET_TOKEN.to_owned()),
            body: Bytes::from(update.to_string()),
        },
    ))
}
