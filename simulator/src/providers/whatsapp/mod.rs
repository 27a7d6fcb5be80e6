//! The WhatsApp Cloud API: what a send is answered, and what becomes of it later by whom it is for.

mod callback;
mod errors;
mod request;

use std::time::Duration;

use chat4all_proto::Timestamp;
use serde_json::{Value, json};

use super::ids::Ids;
use super::meta::{self, GraphError};
use super::{Callback, Inbound, Reply, Unfit};
use crate::answer::Answer;
use crate::credentials::PHONE_NUMBER_ID;
use callback::{Sent, State};
pub use errors::ERRORS;

/// Whether a body is for WhatsApp: the path is the same as Instagram's.
pub fn is_meant(body: &Value) -> bool {
    body["messaging_product"] == "whatsapp"
}

/// Whom a body is for, without the plus of a number.
pub fn recipient(body: &Value) -> Option<String> {
    let to = body["to"].as_str().map(digits);
    to.or(body["recipient"].as_str()).map(str::to_owned)
}

fn digits(number: &str) -> &str {
    number.strip_prefix('+').unwrap_or(number)
}

/// A number that stands for what happens to its messages.
#[derive(Debug, PartialEq, Eq)]
enum Magic {
    /// `999` and a code.
    Refused(u32),
    /// `998` and a code.
    Fails(u32),
    /// `997` and anything.
    Unreported,
}

impl Magic {
    fn of(number: &str) -> Option<Self> {
        let (prefix, rest) = number.split_at_checked(3)?;
        let code = || rest.parse().ok().filter(|_| rest.len() == 6 && meta::is_digits(rest));
        match prefix {
            "999" => code().map(Self::Refused),
            "998" => code().map(Self::Fails),
            "997" => Some(Self::Unreported),
            _ => None,
        }
    }
}

/// A send of `account`, whose token was checked.
pub fn send(
    account: &str,
    body: &Value,
    ids: &mut Ids,
    now: Timestamp,
    receipt_delay: Duration,
) -> Result<Reply, GraphError> {
    if body["status"] == "read" {
        meta::text(body, "/message_id")?;
        return Ok(Answer::json(200, &json!({ "success": true })).into());
    }
    request::check(body)?;
    let recipient = recipient(body).unwrap_or_default();
    let magic = body["to"].as_str().and_then(|to| Magic::of(digits(to)));
    if let Some(Magic::Refused(code)) = magic {
        return Err(ERRORS.find(code, None));
    }
    let id = format!("wamid.{}", ids.unique());
    let sent = Sent {
        account,
        id: &id,
        recipient: &recipient,
        by_user_id: body["to"].is_null(),
        opaque: body["biz_opaque_callback_data"].as_str(),
    };
    let report = |delays: u32, state: State| {
        let after = receipt_delay * delays;
        (after, callback::status(&sent, state, now.saturating_add(after)))
    };
    let reports = match magic {
        Some(Magic::Unreported) => vec![],
        Some(Magic::Fails(code)) => vec![report(1, State::Failed(code))],
        _ => vec![report(0, State::Sent), report(1, State::Delivered), report(2, State::Read)],
    };
    Ok(Reply { answer: success(body, &recipient, &id), reports })
}

fn success(body: &Value, recipient: &str, id: &str) -> Answer {
    let contact = match body["to"].as_str() {
        Some(to) => json!({ "input": to, "wa_id": recipient }),
        None => json!({ "input": recipient, "user_id": recipient }),
    };
    let mut message = json!({ "id": id });
    if body["type"] == "template" {
        message["message_status"] = "accepted".into();
    }
    Answer::json(200, &json!({ "messaging_product": "whatsapp", "contacts": [contact], "messages": [message] }))
}

pub fn inbound(message: &Inbound, ids: &mut Ids, now: Timestamp) -> Result<(String, Callback), Unfit> {
    let from = digits(&message.from);
    if !meta::is_digits(from) {
        return Err(Unfit { field: "from", detail: "`from` must be a phone number, like `+5562996991812`" });
    }
    let account = message.account(PHONE_NUMBER_ID)?;
    let id = format!("wamid.{}", ids.unique());
    let callback = callback::message(&account, &id, from, message, now);
    Ok((id, callback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_magic_numbers_are_magic() {
        let check = |number: &str, expected: Option<Magic>| assert_eq!(Magic::of(number), expected, "{number}");
        check("999131026", Some(Magic::Refused(131_026)));
        check("999000190", Some(Magic::Refused(190)));
        check("998131026", Some(Magic::Fails(131_026)));
        check("997", Some(Magic::Unreported));
        check("9971234567", Some(Magic::Unreported));
        check("998901234567", None);
        check("99913102", None);
        check("99", None);
        check("5562996991812", None);
    }
}
