//! What WhatsApp calls back with: statuses of our messages and messages to us.

use chat4all_proto::Timestamp;
use serde_json::{Value, json};

use super::ERRORS;
use crate::providers::meta;
use crate::providers::{Callback, Inbound, Provider};

/// The business account that every number belongs to.
const BUSINESS_ACCOUNT_ID: &str = "100000000000000";
const DISPLAY_PHONE_NUMBER: &str = "15550000001";
/// Of whoever has a number.
const USER_ID: &str = "BR.1";

/// A message that was accepted.
pub struct Sent<'a> {
    /// Our phone number id.
    pub account: &'a str,
    pub id: &'a str,
    pub recipient: &'a str,
    /// The recipient is not a number.
    pub by_user_id: bool,
    /// Given back as it came.
    pub opaque: Option<&'a str>,
}

pub enum State {
    Sent,
    Delivered,
    Read,
    Failed(u32),
}

pub fn status(sent: &Sent<'_>, state: State, at: Timestamp) -> Callback {
    let (word, error) = match state {
        State::Sent => ("sent", None),
        State::Delivered => ("delivered", None),
        State::Read => ("read", None),
        State::Failed(code) => ("failed", Some(error(code))),
    };
    let recipient = if sent.by_user_id { "recipient_user_id" } else { "recipient_id" };
    let mut status =
        json!({ "id": sent.id, "status": word, "timestamp": at.as_secs().to_string(), recipient: sent.recipient });
    if let Some(opaque) = sent.opaque {
        status["biz_opaque_callback_data"] = opaque.into();
    }
    if let Some(error) = error {
        status["errors"] = json!([error]);
    }
    let contact = if sent.by_user_id { contact(sent.recipient, None) } else { contact(USER_ID, Some(sent.recipient)) };
    callback(sent.account, json!({ "contacts": [contact], "statuses": [status] }))
}

/// Everybody has a user id, and may hide their number.
fn contact(user_id: &str, number: Option<&str>) -> Value {
    let mut contact = json!({ "profile": { "name": "Simulated" }, "user_id": user_id });
    if let Some(number) = number {
        contact["wa_id"] = number.into();
    }
    contact
}

fn error(code: u32) -> Value {
    let message = ERRORS.find(code, None).message;
    let title = message.split_once(' ').map_or("", |(_, title)| title);
    json!({ "code": code, "title": title, "message": title, "error_data": { "details": title } })
}

pub fn message(account: &str, id: &str, from: &str, inbound: &Inbound, at: Timestamp) -> Callback {
    let mut message = json!({
        "from": from, "id": id, "timestamp": at.as_secs().to_string(), "type": "text", "text": { "body": inbound.text },
    });
    if let Some(reply_to) = &inbound.reply_to {
        message["context"] = json!({ "from": DISPLAY_PHONE_NUMBER, "id": reply_to });
    }
    callback(account, json!({ "contacts": [contact(USER_ID, Some(from))], "messages": [message] }))
}

fn callback(account: &str, mut value: Value) -> Callback {
    value["messaging_product"] = "whatsapp".into();
    value["metadata"] = json!({ "display_phone_number": DISPLAY_PHONE_NUMBER, "phone_number_id": account });
    let change = json!({ "value": value, "field": "messages" });
    let entry = json!({ "id": BUSINESS_ACCOUNT_ID, "changes": [change] });
    meta::callback(Provider::WhatsApp, &json!({ "object": "whatsapp_business_account", "entry": [entry] }))
}
