//! Reads request bodies within their limits of size and time, and checks what they say they are.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use chat4all_proto::http::MESSAGE_BYTES_MAX;
use futures_util::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{Code, Error};

/// The body types there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    Json,
    Ndjson,
}

/// What the body is by its headers, or why it is not taken.
pub fn media_type(request: &HttpRequest, taken: &[MediaType]) -> Result<MediaType, Error> {
    if let Some(encoding) = request.headers().get(CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(unsupported("compressed bodies are not taken").at("content-encoding"));
    }
    let header = request.headers().get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let essence = header.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let found = if essence.eq_ignore_ascii_case(b"application/json") {
        Some(MediaType::Json)
    } else if essence.eq_ignore_ascii_case(b"application/x-ndjson") {
        Some(MediaType::Ndjson)
    } else {
        None
    };
    found.filter(|found| taken.contains(found)).ok_or_else(|| {
        let names: Vec<_> = taken.iter().map(|media_type| media_type.name()).collect();
        unsupported(format!("the content type must be {}", names.join(" or "))).at("content-type")
    })
}

impl MediaType {
    const fn name(self) -> &'static str {
        match self {
            Self::Json => "`application/json`",
            Self::Ndjson => "`application/x-ndjson`",
        }
    }
}

fn unsupported(detail: impl Into<String>) -> Error {
    Error::new(Code::UnsupportedMediaType, detail)
}

/// Reads a body of at most `bytes_max` bytes, the whole of it within `time_max`.
pub async fn read(
    request: &HttpRequest,
    payload: &mut web::Payload,
    bytes_max: usize,
    time_max: Duration,
) -> Result<Bytes, Error> {
    if announced(request).is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large(bytes_max));
    }
    tokio::time::timeout(time_max, collect(payload, bytes_max)).await.unwrap_or_else(|_| Err(too_slow(time_max)))
}

/// The length that the request's head says, if it says one.
fn announced(request: &HttpRequest) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Takes room for the whole body before it is read: what its head announces, else the most it may have. Waiting for
/// room with half a body in memory would let bodies block each other.
pub fn reserve<'a>(
    request: &HttpRequest,
    bytes_max: usize,
    slots: &'a Semaphore,
) -> Result<SemaphorePermit<'a>, Error> {
    let bytes = announced(request).unwrap_or(bytes_max).min(bytes_max);
    let kib = u32::try_from(bytes.div_ceil(1_024)).expect("a body is shorter than 4 TiB");
    slots.try_acquire_many(kib).map_err(|_| {
        Error::new(Code::Overloaded, "too many batches are under way in this process; nothing of this one was accepted")
    })
}

/// Reads a body of at most `bytes_max` bytes within `time_max`, and takes room for it as it comes: who announces much and
/// sends nothing takes none.
pub async fn read_into<'a>(
    payload: &mut web::Payload,
    bytes_max: usize,
    time_max: Duration,
    slots: &'a Semaphore,
) -> Result<(Bytes, SemaphorePermit<'a>), Error> {
    let mut room = slots.try_acquire_many(0).map_err(|_| overloaded())?;
    let collect = async {
        let mut whole = BytesMut::new();
        while let Some(piece) = payload.next().await {
            let piece = piece.map_err(broken)?;
            if whole.len() + piece.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
            whole.extend_from_slice(&piece);
            let kib = whole.len().div_ceil(1_024) - room.num_permits();
            room.merge(slots.try_acquire_many(u32::try_from(kib).expect("few KiB")).map_err(|_| overloaded())?);
        }
        Ok(whole.freeze())
    };
    let body = tokio::time::timeout(time_max, collect).await.unwrap_or_else(|_| Err(too_slow(time_max)))?;
    Ok((body, room))
}

fn overloaded() -> Error {
    Error::new(Code::Overloaded, "too much is under way in this process; nothing of this was accepted")
}

fn too_slow(time_max: Duration) -> Error {
    Error::new(Code::BodyTimeout, format!("the body was not complete after {} s", time_max.as_secs_f32()))
}

pub fn too_large(bytes_max: usize) -> Error {
    Error::new(Code::BodyTooLarge, format!("at most {bytes_max} bytes are taken"))
}

/// Most bodies come in one piece, which is handed on without a copy.
async fn collect(payload: &mut web::Payload, bytes_max: usize) -> Result<Bytes, Error> {
    let Some(first) = payload.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(broken)?;
    if first.len() > bytes_max {
        return Err(too_large(bytes_max));
    }
    let Some(second) = payload.next().await else { return Ok(first) };
    let mut whole = BytesMut::from(first);
    let mut next = Some(second);
    while let Some(piece) = next {
        let piece = piece.map_err(broken)?;
        if whole.len() + piece.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        whole.extend_from_slice(&piece);
        next = payload.next().await;
    }
    Ok(whole.freeze())
}

fn broken(error: PayloadError) -> Error {
    Error::new(Code::BadRequest, "the body ended early or was not framed as announced").because(error.to_string())
}

/// Reads the body of a call that takes none: what a client says all the same is not ignored.
pub async fn expect_none(request: &HttpRequest, payload: &mut web::Payload, time_max: Duration) -> Result<(), Error> {
    match read(request, payload, MESSAGE_BYTES_MAX, time_max).await?.trim_ascii() {
        b"" | b"{}" => Ok(()),
        _ => Err(Error::new(Code::InvalidField, "this call takes no body")),
    }
}

/// Makes the server close the connection after `response` if the request's chunked body was not read to its end. It
/// would read and forget such a body for ever once nobody holds `payload`, so the response does.
pub fn close_if_unread(response: HttpResponse, payload: web::Payload) -> HttpResponse {
    response.map_body(|_, body| BoxBody::new(Holding { body, _payload: Box::new(payload) }))
}

struct Holding {
    body: BoxBody,
    _payload: Box<web::Payload>,
}

impl MessageBody for Holding {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
