//! The errors of the API and the one table that maps them to HTTP. Every refusal of every call is made here; what a
//! client reads (`detail`) and what our log says (`cause`) are two fields. Knows nothing of how requests are read.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use chat4all_proto::MessageId;
use chat4all_proto::http::Problem;

/// Longest part of a client's own text that an error repeats, in bytes.
const DETAIL_BYTES_MAX: usize = 400;

/// What went wrong, as programs see it. The names on the wire never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    MalformedJson,
    BadRequest,
    Unauthorized,
    UnverifiedCallback,
    HandshakeRefused,
    NotFound,
    CallNotSupported,
    MessageNotFound,
    DeadLetterNotFound,
    ChannelNotFound,
    ProcessNotFound,
    MethodNotAllowed,
    BodyTimeout,
    AlreadyDelivered,
    TooLate,
    MessageCancelled,
    IdempotencyConflict,
    BodyTooLarge,
    UnsupportedMediaType,
    InvalidField,
    InvalidParameter,
    UnknownChannel,
    FieldNotSupported,
    Internal,
    Overloaded,
    LogUnavailable,
    OutcomeUnknown,
    StatusUnavailable,
    StatusBehind,
    ShuttingDown,
}

/// How a code looks on the wire.
pub struct Row {
    pub status: u16,
    pub code: &'static str,
    pub title: &'static str,
}

const fn row(status: u16, code: &'static str, title: &'static str) -> Row {
    Row { status, code, title }
}

impl Code {
    /// Each code once; the test of the documentation walks over it.
    pub const ALL: [Code; 30] = [
        Self::MalformedJson,
        Self::BadRequest,
        Self::Unauthorized,
        Self::UnverifiedCallback,
        Self::HandshakeRefused,
        Self::NotFound,
        Self::CallNotSupported,
        Self::MessageNotFound,
        Self::DeadLetterNotFound,
        Self::ChannelNotFound,
        Self::ProcessNotFound,
        Self::MethodNotAllowed,
        Self::BodyTimeout,
        Self::AlreadyDelivered,
        Self::TooLate,
        Self::MessageCancelled,
        Self::IdempotencyConflict,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidField,
        Self::InvalidParameter,
        Self::UnknownChannel,
        Self::FieldNotSupported,
        Self::Internal,
        Self::Overloaded,
        Self::LogUnavailable,
        Self::OutcomeUnknown,
        Self::StatusUnavailable,
        Self::StatusBehind,
        Self::ShuttingDown,
    ];

    pub const fn row(self) -> Row {
        match self {
            Self::MalformedJson => row(400, "malformed_json", "The body is not JSON"),
            Self::BadRequest => row(400, "bad_request", "The request is not valid HTTP"),
            Self::Unauthorized => row(401, "unauthorized", "An API key is needed"),
            Self::UnverifiedCallback => {
                row(401, "unverified_callback", "The call is not known to come from the provider")
            }
            Self::HandshakeRefused => row(403, "handshake_refused", "The handshake does not fit the channel"),
            Self::NotFound => row(404, "not_found", "There is nothing here"),
            Self::CallNotSupported => row(404, "not_supported", "This version does not support it"),
            Self::MessageNotFound => row(404, "message_not_found", "There is no such message"),
            Self::DeadLetterNotFound => row(404, "dead_letter_not_found", "There is no such dead letter"),
            Self::ChannelNotFound => row(404, "channel_not_found", "There is no such channel"),
            Self::ProcessNotFound => row(404, "process_not_found", "There is no such process"),
            Self::MethodNotAllowed => row(405, "method_not_allowed", "The resource does not take this method"),
            Self::BodyTimeout => row(408, "body_timeout", "The body came too slowly"),
            Self::AlreadyDelivered => row(409, "already_delivered", "The delivery has arrived"),
            Self::TooLate => row(409, "too_late", "Nothing is left to be cancelled"),
            Self::MessageCancelled => row(409, "message_cancelled", "The message was cancelled"),
            Self::IdempotencyConflict => row(409, "idempotency_conflict", "The key belongs to another message"),
            Self::BodyTooLarge => row(413, "body_too_large", "The body is too large"),
            Self::UnsupportedMediaType => row(415, "unsupported_media_type", "The body's type is not taken here"),
            Self::InvalidField => row(422, "invalid_field", "A field is not valid"),
            Self::InvalidParameter => row(422, "invalid_parameter", "A parameter is not valid"),
            Self::UnknownChannel => row(422, "unknown_channel", "There is no such channel"),
            Self::FieldNotSupported => row(422, "not_supported", "This version does not support it"),
            Self::Internal => row(500, "internal_error", "Something is wrong on our side"),
            Self::Overloaded => row(503, "overloaded", "Too much is under way; nothing was accepted"),
            Self::LogUnavailable => row(503, "log_unavailable", "The log is away; nothing was accepted"),
            Self::OutcomeUnknown => row(503, "outcome_unknown", "It may or may not have been accepted"),
            Self::StatusUnavailable => row(503, "status_unavailable", "The status store is away"),
            Self::StatusBehind => row(503, "status_behind", "The status store has not caught up yet"),
            Self::ShuttingDown => row(503, "shutting_down", "This process is ending"),
        }
    }

    /// When it is worth trying again; `None` where a repeat ends the same.
    pub const fn retry_after_seconds(self) -> Option<&'static str> {
        if self.row().status == 503 { Some("1") } else { None }
    }
}

/// One refusal.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct Error {
    pub code: Code,
    /// For the client: this very case, without secrets.
    pub detail: String,
    /// The field, header or parameter at fault.
    pub field: Option<String>,
    pub message_id: Option<MessageId>,
    /// For our log only.
    pub cause: Option<String>,
    /// The methods that a resource takes, with `MethodNotAllowed`.
    pub allow: Option<&'static str>,
}

impl Error {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: shortened(detail.into()), field: None, message_id: None, cause: None, allow: None }
    }

    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidField, detail).at(field)
    }

    pub fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidParameter, detail).at(name)
    }

    /// Something only we can mend. `cause` goes to the log.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self::new(Code::Internal, "the cause is in the log of the server, under this request id").because(cause)
    }

    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    pub fn about(mut self, id: MessageId) -> Self {
        self.message_id = Some(id);
        self
    }

    pub fn allowing(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    pub fn problem(self, request_id: &str) -> Problem {
        let row = self.code.row();
        Problem {
            status: row.status,
            title: row.title.to_owned(),
            code: row.code.to_owned(),
            detail: self.detail,
            field: self.field,
            message_id: self.message_id,
            request_id: request_id.to_owned(),
        }
    }

    pub fn respond(self, request_id: &str) -> HttpResponse {
        let (code, allow) = (self.code, self.allow);
        let status = StatusCode::from_u16(code.row().status).expect("the table holds valid statuses only");
        let mut response = HttpResponse::build(status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if let Some(seconds) = code.retry_after_seconds() {
            response.insert_header((RETRY_AFTER, seconds));
        }
        if let Some(methods) = allow {
            response.insert_header((ALLOW, methods));
        }
        match code {
            Code::Unauthorized => {
                response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"chat4all\""));
            }
            Code::BodyTimeout | Code::BadRequest | Code::ShuttingDown => {
                response.force_close();
            }
            _ => {}
        }
        response.body(serde_json::to_vec(&self.problem(request_id)).expect("a problem holds text and numbers only"))
    }
}

/// So that an error never repeats a megabyte of input.
fn shortened(mut text: String) -> String {
    if text.len() > DETAIL_BYTES_MAX {
        let end = (0..=DETAIL_BYTES_MAX).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_cut_between_characters() {
        let error = Error::new(Code::InvalidField, "é".repeat(300));
        assert_eq!(error.detail.len(), DETAIL_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn each_code_stands_in_the_list_of_all_once() {
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, index, "{code:?}");
        }
    }
}
