//! What the Bot API takes for a message: the methods that send, the field each needs, and how long texts may be.

use serde_json::Value;

use super::BotError;

/// In UTF-16 units. Formatting is not taken off before counting.
const TEXT_UNITS_MAX: usize = 4_096;
const CAPTION_UNITS_MAX: usize = 1_024;
/// Shorter texts are no file ids.
const FILE_ID_BYTES_MIN: usize = 20;

/// A method that sends one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Text,
    /// With the field that holds it.
    Media(&'static str),
}

impl Method {
    /// Telegram does not tell capitals from small letters here.
    pub fn of(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "sendmessage" => Some(Self::Text),
            "sendphoto" => Some(Self::Media("photo")),
            "sendvideo" => Some(Self::Media("video")),
            "sendaudio" => Some(Self::Media("audio")),
            "sendvoice" => Some(Self::Media("voice")),
            "sendanimation" => Some(Self::Media("animation")),
            "senddocument" => Some(Self::Media("document")),
            _ => None,
        }
    }

    pub fn media(self) -> Option<&'static str> {
        match self {
            Self::Text => None,
            Self::Media(field) => Some(field),
        }
    }
}

pub fn check(method: Method, body: &Value) -> Result<(), BotError> {
    match method {
        Method::Text => check_text(body)?,
        Method::Media(field) => check_media(field, body)?,
    }
    match &body["reply_markup"] {
        Value::Null | Value::Object(_) => Ok(()),
        _ => Err(BotError::new(400, "Bad Request: object expected as reply markup")),
    }
}

fn check_text(body: &Value) -> Result<(), BotError> {
    let text = body["text"].as_str().filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| BotError::new(400, "Bad Request: message text is empty"))?;
    at_most(text, TEXT_UNITS_MAX, "Bad Request: message is too long")
}

fn check_media(field: &str, body: &Value) -> Result<(), BotError> {
    let file = body[field].as_str().filter(|file| !file.is_empty());
    let file = file.ok_or_else(|| BotError::new(400, format!("Bad Request: there is no {field} in the request")))?;
    let is_url = file.starts_with("https://") || file.starts_with("http://");
    if !is_url && file.len() < FILE_ID_BYTES_MIN {
        return Err(BotError::new(400, "Bad Request: wrong file identifier/HTTP URL specified"));
    }
    at_most(body["caption"].as_str().unwrap_or_default(), CAPTION_UNITS_MAX, "Bad Request: message caption is too long")
}

fn at_most(text: &str, units_max: usize, otherwise: &'static str) -> Result<(), BotError> {
    if text.encode_utf16().count() <= units_max { Ok(()) } else { Err(BotError::new(400, otherwise)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(method: &str, body: Value, expected: Option<&str>) {
        let error = super::check(Method::of(method).unwrap(), &body).err();
        assert_eq!(error.map(|error| error.description.into_owned()).as_deref(), expected, "{body}");
    }

    #[test]
    fn a_text_is_measured_in_utf16_units() {
        check("sendMessage", json!({"text": "😀".repeat(2_048)}), None);
        check("sendmessage", json!({"text": "😀".repeat(2_049)}), Some("Bad Request: message is too long"));
        check("sendMessage", json!({"text": " "}), Some("Bad Request: message text is empty"));
        check("sendMessage", json!({}), Some("Bad Request: message text is empty"));
    }

    #[test]
    fn media_are_urls_or_file_ids_with_a_caption() {
        check("sendPhoto", json!({"photo": "https://example.com/a.png", "caption": "a"}), None);
        check("sendVideo", json!({"video": "BAACAgIAAxkBAAIB1234567890"}), None);
        check("sendAudio", json!({"voice": "x"}), Some("Bad Request: there is no audio in the request"));
        let wrong = Some("Bad Request: wrong file identifier/HTTP URL specified");
        check("sendDocument", json!({"document": "a.pdf"}), wrong);
        let long = json!({"photo": "https://example.com/a.png", "caption": "a".repeat(1_025)});
        check("sendPhoto", long, Some("Bad Request: message caption is too long"));
    }

    #[test]
    fn reply_markup_is_an_object() {
        check("sendMessage", json!({"text": "hi", "reply_markup": {"inline_keyboard": []}}), None);
        let wrong = Some("Bad Request: object expected as reply markup");
        check("sendMessage", json!({"text": "hi", "reply_markup": 1}), wrong);
    }
}
