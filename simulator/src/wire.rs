//! As much of HTTP/1.1 as a receiver needs: reads requests with a `content-length`. `connection` calls it.

use std::io;
use std::ops::Range;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::answer::Answer;

/// Longest request line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1_024;
/// Longest body.
const BODY_BYTES_MAX: usize = 1_024 * 1_024;
const HEADERS_MAX: usize = 96;
const READ_BYTES: usize = 8 * 1_024;
/// Shown in place of a credential.
const HIDDEN: &str = "(hidden)";

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

/// What is known before the body is read. Has no `Debug`: it may hold credentials.
pub struct Head {
    pub method: String,
    pub path: String,
    /// Without the `?`.
    pub query: Option<String>,
    pub authorization: Option<String>,
    /// The client closes after this request.
    pub last: bool,
    head_bytes: usize,
    body_bytes: usize,
    expects_continue: bool,
}

/// A request as it was sent.
pub struct Request {
    pub head: Head,
    bytes: BytesMut,
}

impl Request {
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.head.head_bytes..]
    }

    /// Head and body as they may be kept, and where the body is in them: as they came, but for the header `Authorization`
    /// and, if `path` is given, the target in the first line.
    pub fn to_keep(&self, path: Option<&str>) -> (Box<[u8]>, Range<usize>) {
        if path.is_none() && self.head.authorization.is_none() {
            return (self.bytes[..].into(), self.head.head_bytes..self.bytes.len());
        }
        let mut kept = format!("{} {} HTTP/1.1\r\n", self.head.method, path.unwrap_or(&self.head.path));
        for (name, value) in head_of(&self.bytes).1 {
            let value = if name == "authorization" { HIDDEN } else { &value };
            kept.extend([&name, ": ", value, "\r\n"]);
        }
        kept.push_str("\r\n");
        let head_bytes = kept.len();
        let kept: Box<[u8]> = [kept.as_bytes(), self.body()].concat().into();
        let body = head_bytes..kept.len();
        (kept, body)
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
        authorization: None,
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
        } else if header.name.eq_ignore_ascii_case("authorization") {
            head.authorization = Some(String::from_utf8_lossy(header.value).into_owned());
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

/// Path and headers of a head kept as it came: names in lower case, values that are not UTF-8 with replacement characters.
pub fn head_of(head: &[u8]) -> (String, Vec<(String, String)>) {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    if request.parse(head).is_err() {
        return Default::default();
    }
    let path = request.path.and_then(|target| target.split('?').next()).unwrap_or_default().to_owned();
    let pairs = request.headers.iter();
    let text = |value| String::from_utf8_lossy(value).into_owned();
    (path, pairs.map(|header| (header.name.to_ascii_lowercase(), text(header.value))).collect())
}
