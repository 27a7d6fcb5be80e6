//! What must be true of a message before it is handed to the log. A request becomes a [`Draft`] or an error that names
//! the field; nothing is written here and no clock is read.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat4all_channels::{Channel, Outgoing};
use chat4all_proto::content::Choice;
use chat4all_proto::envelope::{EXPIRY_DEFAULT, EXPIRY_MAX, V1};
use chat4all_proto::http::{ADDRESSES_MAX, SendRequest};
use chat4all_proto::{
    Address, ChannelName, Content, ConversationId, Generation, Message, MessageId, TenantId, Timestamp, Topic,
};
use chat4all_storage::log::{Fingerprint, NewRecord, RecordId};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::{Code, Error};
use crate::parse;

/// Longest id of a provider's message.
const REPLY_TO_BYTES_MAX: usize = 512;

/// One configured channel, as the API needs to know it.
#[derive(Clone)]
pub struct ChannelInfo {
    pub name: ChannelName,
    pub channel: Arc<dyn Channel>,
    /// Most calls of its provider at a time, in one process.
    pub in_flight_max: u32,
    pub attempts_max: u32,
    /// The consumer group that reads its outbound topic.
    pub group: String,
}

/// The channels there are, by name.
pub type Directory = BTreeMap<ChannelName, ChannelInfo>;

/// A message that may be accepted.
pub struct Draft {
    pub message: Message,
    /// Where the client chose the id: the header or field it came in.
    pub chosen_by: Option<&'static str>,
}

/// Who asks, and with which key.
pub struct Sender<'a> {
    pub tenant: &'a TenantId,
    /// The `Idempotency-Key`, checked already.
    pub key: Option<&'a str>,
    pub now: Timestamp,
}

impl Draft {
    /// Checks a request against the channels there are.
    pub fn of(request: SendRequest, sender: &Sender<'_>, directory: &Directory) -> Result<Self, Error> {
        if let Some(field) = request.unsupported_field() {
            let detail = if field == "mode" {
                "this version supports no other `mode` than `all`".to_owned()
            } else {
                format!("this version does not support `{field}` yet: leave it out")
            };
            return Err(Error::new(Code::FieldNotSupported, detail).at(field));
        }
        let (message_id, chosen_by) = message_id(request.message_id.as_deref(), sender)?;
        let conversation_id = match &request.conversation_id {
            Some(text) => text
                .parse()
                .map_err(|error: chat4all_proto::ids::Invalid| Error::field("conversation_id", error.to_string()))?,
            None => ConversationId::of(message_id),
        };
        let expires_in = expires_in(request.expires_in_seconds)?;
        check_content(&request.content)?;
        check_reply_to(request.reply_to.as_deref())?;
        let to = addresses(&request, directory)?;
        let message = Message {
            v: V1,
            tenant: sender.tenant.clone(),
            message_id,
            conversation_id,
            to,
            content: request.content,
            reply_to: request.reply_to,
            metadata: request.metadata,
            accepted_at: sender.now,
            expires_at: sender.now.saturating_add(expires_in),
            generation: Generation::default(),
            instead_of: None,
        };
        Ok(Self { message, chosen_by })
    }

    /// The record to be appended.
    pub fn record(&self, traceparent: Option<Arc<str>>) -> NewRecord {
        let message = &self.message;
        NewRecord {
            topic: Topic::Messages,
            key: message.key(),
            id: RecordId { uuid: message.message_id.as_uuid(), generation: message.generation },
            value: Bytes::from(serde_json::to_vec(message).expect("a message has text keys only")),
            traceparent,
            once: self.chosen_by.map(|_| fingerprint(message)),
        }
    }
}

fn message_id(chosen: Option<&str>, sender: &Sender<'_>) -> Result<(MessageId, Option<&'static str>), Error> {
    match (sender.key, chosen) {
        (Some(_), Some(_)) => {
            Err(Error::field("message_id", "send either `message_id` or the header `Idempotency-Key`, not both"))
        }
        (Some(key), None) => Ok((MessageId::from_idempotency_key(sender.tenant, key), Some("idempotency-key"))),
        (None, Some(text)) => match text.parse() {
            Ok(id) => Ok((id, Some("message_id"))),
            Err(error) => Err(Error::field("message_id", error.to_string())),
        },
        (None, None) => Ok((MessageId::from_uuid(Uuid::now_v7()), None)),
    }
}

fn expires_in(seconds: Option<u64>) -> Result<Duration, Error> {
    match seconds {
        None => Ok(EXPIRY_DEFAULT),
        Some(seconds) if (1..=EXPIRY_MAX.as_secs()).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(seconds) => {
            let detail = format!("is {seconds}; it must be from 1 to {} (7 days)", EXPIRY_MAX.as_secs());
            Err(Error::field("expires_in_seconds", detail))
        }
    }
}

fn addresses(request: &SendRequest, directory: &Directory) -> Result<Vec<Address>, Error> {
    let targets = &request.to.0;
    if !(1..=ADDRESSES_MAX).contains(&targets.len()) {
        let detail = format!("has {} addresses; it must have from 1 to {ADDRESSES_MAX}", targets.len());
        return Err(Error::field("to", detail));
    }
    let mut seen = HashSet::with_capacity(targets.len());
    let mut addresses = Vec::with_capacity(targets.len());
    for (index, target) in targets.iter().enumerate() {
        let field = || format!("to[{index}]");
        let address: Address = target
            .parse()
            .map_err(|error: chat4all_proto::address::Invalid| Error::field(field(), error.to_string()))?;
        if !seen.insert(target.as_str()) {
            return Err(Error::field(field(), format!("`{address}` is there twice")));
        }
        let Some(info) = directory.get(&address.channel) else {
            return Err(unknown_channel(&address.channel, directory).at(field()));
        };
        let (content, reply_to) = (&request.content, request.reply_to.as_deref());
        info.channel.check(&Outgoing { target: &address.target, content, reply_to }).map_err(|unfit| {
            let at = if unfit.field == "to" { field() } else { unfit.field.into_owned() };
            Error::field(at, format!("channel `{}`: {}", address.channel, unfit.detail))
        })?;
        addresses.push(address);
    }
    Ok(addresses)
}

pub(crate) fn unknown_channel(name: &ChannelName, directory: &Directory) -> Error {
    let names: Vec<_> = directory.keys().map(ChannelName::as_str).collect();
    let there_are =
        if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) };
    Error::new(Code::UnknownChannel, format!("no channel `{name}`; {there_are}"))
}

/// What holds on every channel: no control characters, no endless nesting.
fn check_content(content: &Content) -> Result<(), Error> {
    match content {
        Content::Text { text } => check_text("content.text", text),
        Content::Media { url, caption, mime_type } => {
            check_line("content.url", url)?;
            check_text("content.caption", caption.as_deref().unwrap_or_default())?;
            check_line("content.mime_type", mime_type.as_deref().unwrap_or_default())
        }
        Content::Template { name, language, variables } => {
            check_line("content.name", name)?;
            check_line("content.language", language)?;
            variables.iter().try_for_each(|(name, value)| check_value(&format!("content.variables.{name}"), value))
        }
        Content::Interactive { text, buttons, list } => {
            check_text("content.text", text)?;
            check_choices("content.buttons", buttons)?;
            let Some(list) = list else { return Ok(()) };
            check_line("content.list.button", &list.button)?;
            list.sections.iter().enumerate().try_for_each(|(index, section)| {
                let field = format!("content.list.sections[{index}]");
                check_line(&format!("{field}.title"), section.title.as_deref().unwrap_or_default())?;
                check_choices(&format!("{field}.rows"), &section.rows)
            })
        }
        Content::Raw { body } if parse::is_too_deep(body.get()) => {
            Err(Error::field("content.body", "is nested too deeply"))
        }
        Content::Raw { .. } => Ok(()),
    }
}

fn check_choices(field: &str, choices: &[Choice]) -> Result<(), Error> {
    choices.iter().enumerate().try_for_each(|(index, choice)| {
        check_line(&format!("{field}[{index}].id"), &choice.id)?;
        check_line(&format!("{field}[{index}].title"), &choice.title)?;
        check_line(&format!("{field}[{index}].description"), choice.description.as_deref().unwrap_or_default())
    })
}

fn check_reply_to(reply_to: Option<&str>) -> Result<(), Error> {
    let Some(reply_to) = reply_to else { return Ok(()) };
    if !(1..=REPLY_TO_BYTES_MAX).contains(&reply_to.len()) {
        let detail = format!("is {} bytes long; it must be from 1 to {REPLY_TO_BYTES_MAX}", reply_to.len());
        return Err(Error::field("reply_to", detail));
    }
    check_line("reply_to", reply_to)
}

fn check_value(field: &str, value: &Value) -> Result<(), Error> {
    match value {
        Value::String(text) => check_text(field, text),
        Value::Array(items) => items.iter().try_for_each(|item| check_value(field, item)),
        Value::Object(fields) => fields.values().try_for_each(|item| check_value(field, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn check_text(field: &str, text: &str) -> Result<(), Error> {
    refuse_control(field, text, |c| matches!(c, '\n' | '\r' | '\t'))
}

/// Text that may end up in a header.
fn check_line(field: &str, text: &str) -> Result<(), Error> {
    refuse_control(field, text, |_| false)
}

fn refuse_control(field: &str, text: &str, allowed: fn(char) -> bool) -> Result<(), Error> {
    match text.chars().find(|&c| c.is_control() && !allowed(c)) {
        Some(c) => Err(Error::field(field, format!("contains the control character U+{:04X}", u32::from(c)))),
        None => Ok(()),
    }
}

/// SHA-256 over what makes two requests the same: all that the client chose, defaults filled in. Spelling does not
/// matter (order of fields, white space, one address or a list of one), except inside `content.body`.
fn fingerprint(message: &Message) -> Fingerprint {
    #[derive(Serialize)]
    struct Canonical<'a> {
        tenant: &'a TenantId,
        to: &'a [Address],
        content: &'a Content,
        #[serde(skip_serializing_if = "Option::is_none")]
        reply_to: Option<&'a str>,
        conversation_id: &'a ConversationId,
        metadata: &'a Map<String, Value>,
        expires_in_seconds: u64,
    }
    let canonical = Canonical {
        tenant: &message.tenant,
        to: &message.to,
        content: &message.content,
        reply_to: message.reply_to.as_deref(),
        conversation_id: &message.conversation_id,
        metadata: &message.metadata,
        expires_in_seconds: message.expires_at.saturating_since(message.accepted_at).as_secs(),
    };
    Sha256::digest(serde_json::to_vec(&canonical).expect("a message has text keys only")).into()
}
