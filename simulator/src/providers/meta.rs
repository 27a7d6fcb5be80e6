//! What WhatsApp and Instagram share: Meta's Graph API with its token, errors and signed callbacks.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::ids::Ids;
use super::{Callback, Provider};
use crate::answer::Answer;
use crate::credentials::{ACCESS_TOKEN, APP_SECRET, INSTAGRAM_ACCOUNT_ID};
use crate::fault::Fault;
use crate::wire::Head;

/// Like `v25.0`.
pub fn is_version(text: &str) -> bool {
    let numbers = text.strip_prefix('v').and_then(|version| version.split_once('.'));
    numbers.is_some_and(|(major, minor)| is_digits(major) && is_digits(minor))
}

/// An account in a path: any digits, or `me` for Instagram's default account.
pub fn account(text: &str) -> Option<String> {
    match text {
        "me" => Some(INSTAGRAM_ACCOUNT_ID.to_owned()),
        _ => is_digits(text).then(|| text.to_owned()),
    }
}

pub fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

pub fn check_token(head: &Head) -> Result<(), GraphError> {
    let token = head.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
    let message = match token {
        Some(ACCESS_TOKEN) => return Ok(()),
        Some(_) => "Invalid OAuth access token",
        None => "An access token is required",
    };
    Err(GraphError { status: 401, code: 190, subcode: None, message: message.to_owned(), details: None })
}

/// What `GET /{version}/{id}` is answered.
pub fn look(head: &Head, id: &str) -> Result<Answer, GraphError> {
    check_token(head).map(|()| Answer::json(200, &json!({ "id": id })))
}

/// A row of a provider's table of errors.
pub struct Row {
    pub code: u32,
    pub subcode: Option<u32>,
    /// Its usual HTTP status.
    pub status: u16,
    pub message: &'static str,
}

impl Row {
    pub const fn new(code: u32, status: u16, message: &'static str) -> Self {
        Self { code, subcode: None, status, message }
    }

    pub const fn with_subcode(self, subcode: u32) -> Self {
        Self { subcode: Some(subcode), ..self }
    }
}

/// A provider's errors, and which of them a bare status stands for.
pub struct Errors {
    pub rows: &'static [Row],
    /// For 5xx.
    pub internal: u32,
    /// For 429.
    pub throttled: u32,
}

impl Errors {
    /// A code that is in no row has status 400: providers add codes.
    pub fn find(&self, code: u32, subcode: Option<u32>) -> GraphError {
        let row = self.rows.iter().find(|row| (row.code, row.subcode) == (code, subcode));
        let (status, message) = row.map_or((400, "An error without a name"), |row| (row.status, row.message));
        GraphError { status, code, subcode, message: format!("(#{code}) {message}"), details: None }
    }

    fn code_of(&self, status: u16) -> u32 {
        match status {
            401 => 190,
            403 => 10,
            429 => self.throttled,
            500.. => self.internal,
            _ => 100,
        }
    }
}

/// A fault's answer. Success without a code has no id in it.
pub fn fault(status: u16, fault: &Fault, errors: &Errors, ids: &mut Ids) -> Answer {
    if fault.code.is_none() && status < 300 {
        return Answer::json(status, &json!({}));
    }
    let code = fault.code.unwrap_or_else(|| errors.code_of(status));
    GraphError { status, ..errors.find(code, fault.subcode) }.answer(ids)
}

/// A refusal.
#[derive(Debug)]
pub struct GraphError {
    pub status: u16,
    pub code: u32,
    pub subcode: Option<u32>,
    pub message: String,
    pub details: Option<String>,
}

impl GraphError {
    /// A field is missing or wrong.
    pub fn invalid(details: String) -> Self {
        let message = "(#100) Invalid parameter".to_owned();
        Self { status: 400, code: 100, subcode: None, message, details: Some(details) }
    }

    pub fn answer(&self, ids: &mut Ids) -> Answer {
        let (code, message) = (self.code, &self.message);
        let mut error = json!({ "message": message, "type": "OAuthException", "code": code });
        if let Some(subcode) = self.subcode {
            error["error_subcode"] = subcode.into();
        }
        if let Some(details) = &self.details {
            error["error_data"] = json!({ "details": details });
        }
        error["fbtrace_id"] = format!("A{}", ids.unique()).into();
        Answer::json(self.status, &json!({ "error": error }))
    }
}

/// A text that is not empty, at a JSON pointer into a request.
pub fn text<'a>(body: &'a Value, pointer: &str) -> Result<&'a str, GraphError> {
    let text = body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| invalid(pointer, "must be a text that is not empty"))
}

/// Why the value at a JSON pointer is refused.
pub fn invalid(pointer: &str, why: &str) -> GraphError {
    GraphError::invalid(format!("`{}` {why}", pointer.trim_start_matches('/').replace('/', ".")))
}

/// A callback signed as Meta does: over the bytes sent, in which everything but ASCII is escaped.
pub fn callback(provider: Provider, body: &Value) -> Callback {
    let body = escaped(&body.to_string());
    let mut mac = Hmac::<Sha256>::new_from_slice(APP_SECRET.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(body.as_bytes());
    let mut signature = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        let _ = write!(signature, "{byte:02x}");
    }
    Callback { provider, header: ("X-Hub-Signature-256", signature), body: body.into() }
}

fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if char.is_ascii() {
            out.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_characters_than_ascii_are_escaped_by_utf16_units() {
        assert_eq!(escaped(r#"{"a":"olá 😀"}"#), r#"{"a":"ol\u00e1 \ud83d\ude00"}"#);
    }

    #[test]
    fn a_signature_is_the_hmac_of_the_body_under_the_app_secret() {
        let callback = callback(Provider::WhatsApp, &json!({ "a": "é" }));
        assert_eq!(&callback.body[..], br#"{"a":"\u00e9"}"#);
        assert_eq!(callback.header.0, "X-Hub-Signature-256");
        // printf '{"a":"\\u00e9"}' | openssl dgst -sha256 -hmac simulated-app-secret
        assert_eq!(callback.header.1, "sha256=70a79c2772a2b4d3049cc5cef9eda73f395ec380fa43a008be7659a1340e6f3d");
    }
}
