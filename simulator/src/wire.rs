//! As much of HTTP/1.1 as a receiver needs: reads a request with a `content-length`, writes an answer. `connection` calls it.

use std::io::{self, Write as _};
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest request line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1_024;
/// Longest body.
const BODY_BYTES_MAX: usize = 1_024 * 1_024;
const HEADERS_MAX: usize = 96;
const READ_BYTES: usize = 8 * 1_024;

/// Why no request could be read.
#[derive(Debug)]
pub enum ReadError {
    /// The connection is over; nothing can be answered.
    Closed,
    /// Answer with this, then close.
    Refused(Answer),
}

impl From<io::Error> for ReadError {
    fn from(_: io::Error) -> Self {
        ReadError::Closed
    }
}

/// What is known before the body is read.
#[derive(Debug)]
pub struct Head {
    pub method: String,
    pub path: String,
    /// Without the `?`.
    pub query: Option<String>,
    /// The client closes after this request.
    pub last: bool,
    head_bytes: usize,
    body_bytes: usize,
    expects_continue: bool,
}

/// A request as it was sent.
#[derive(Debug)]
pub struct Request {
    pub head: Head,
    bytes: BytesMut,
}

impl Request {
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.head.head_bytes..]
    }

    /// Head and body as they came, and where the body is in them.
    pub fn raw(&self) -> (&[u8], Range<usize>) {
        (&self.bytes, self.head.head_bytes..self.bytes.len())
    }
}

/// One side of a connection that may hold bytes of the next request.
pub struct Reader {
    pub stream: TcpStream,
    buffer: BytesMut,
}

impl Reader {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(READ_BYTES) }
    }

    /// The next request's head. The body is left where it is.
    pub async fn head(&mut self) -> Result<Head, ReadError> {
        loop {
            if !self.buffer.is_empty()
                && let Some(head) = parse(&self.buffer).map_err(ReadError::Refused)?
            {
                return Ok(head);
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(ReadError::Refused(Answer::problem(431, "head_too_long", None, "the head is too long")));
            }
            self.fill().await?;
        }
    }

    /// The request that `head` begins.
    pub async fn body(&mut self, head: Head) -> Result<Request, ReadError> {
        let bytes = head.head_bytes + head.body_bytes;
        if head.expects_continue && self.buffer.len() < bytes {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        while self.buffer.len() < bytes {
            self.fill().await?;
        }
        Ok(Request { head, bytes: self.buffer.split_to(bytes) })
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ReadError::Closed),
            _ => Ok(()),
        }
    }

    /// Reads and forgets until the other side is gone.
    pub async fn until_closed(&mut self) {
        loop {
            self.buffer.advance(self.buffer.len());
            if self.fill().await.is_err() {
                return;
            }
        }
    }
}

/// `None`: more bytes are needed.
fn parse(bytes: &[u8]) -> Result<Option<Head>, Answer> {
    let bad = |detail: &str| Answer::problem(400, "malformed_request", None, detail);
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(bad(&format!("this is not HTTP/1.1: {error}"))),
    };
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    let mut head = Head {
        method: method.to_owned(),
        path: path.to_owned(),
        query,
        last: request.version == Some(0),
        head_bytes,
        body_bytes: 0,
        expects_continue: false,
    };
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            head.body_bytes = content_length(header.value).ok_or_else(|| bad("`content-length` is not a number"))?;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Answer::problem(411, "length_required", None, "send the body with `content-length`"));
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.last |= header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("expect") {
            head.expects_continue = header.value.eq_ignore_ascii_case(b"100-continue");
        }
    }
    if head.body_bytes > BODY_BYTES_MAX {
        return Err(Answer::problem(413, "body_too_long", None, "a body may have 1 MiB"));
    }
    Ok(Some(head))
}

fn content_length(value: &[u8]) -> Option<usize> {
    str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()
}

/// Headers of a head kept as it came: names in lower case, values that are not UTF-8 with replacement characters.
pub fn headers_of(head: &[u8]) -> Vec<(String, String)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    if request.parse(head).is_err() {
        return Vec::new();
    }
    let pairs = request.headers.iter();
    pairs.map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())).collect()
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    /// `Retry-After` in seconds.
    pub retry_after_seconds: Option<u64>,
    pub body: Bytes,
}

impl Answer {
    pub fn text(status: u16, body: &'static str) -> Self {
        let body = Bytes::from_static(body.as_bytes());
        Self { status, content_type: "text/plain; charset=utf-8", retry_after_seconds: None, body }
    }

    pub fn json(status: u16, value: &impl serde::Serialize) -> Self {
        let mut body = serde_json::to_vec(value).expect("the simulator's own types have text as keys");
        // For terminals.
        body.push(b'\n');
        Self { status, content_type: "application/json", retry_after_seconds: None, body: body.into() }
    }

    /// RFC 9457.
    pub fn problem(status: u16, code: &str, field: Option<&str>, detail: &str) -> Self {
        let problem = serde_json::json!({ "status": status, "code": code, "field": field, "detail": detail });
        Self { content_type: "application/problem+json", ..Self::json(status, &problem) }
    }

    /// As it goes over the wire. `last`: the connection closes after it.
    pub fn to_bytes(&self, last: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128 + self.body.len());
        // Writing to a Vec cannot fail.
        let _ = self.write(last, &mut bytes);
        bytes
    }

    fn write(&self, last: bool, out: &mut Vec<u8>) -> io::Result<()> {
        write!(out, "HTTP/1.1 {} {}\r\n", self.status, reason(self.status))?;
        if let Some(seconds) = self.retry_after_seconds {
            write!(out, "retry-after: {seconds}\r\n")?;
        }
        if last {
            out.extend_from_slice(b"connection: close\r\n");
        }
        // These two have no body, and 204 may not even announce one.
        if matches!(self.status, 204 | 304) {
            out.extend_from_slice(b"\r\n");
            return Ok(());
        }
        write!(out, "content-type: {}\r\ncontent-length: {}\r\n\r\n", self.content_type, self.body.len())?;
        out.extend_from_slice(&self.body);
        Ok(())
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "As Asked For",
    }
}
