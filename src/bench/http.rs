//! HTTP/1.1 as far as `bench` and `drill` need it: cheap, so that what is measured is the server.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cli::Failure;

/// Longest head of a request or answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An API and how to show oneself there.
#[derive(Clone)]
pub struct Endpoint {
    authority: Arc<str>,
    key: Option<Arc<SecretString>>,
}

impl Endpoint {
    /// Plain `http` only: TLS would be measured with it.
    pub fn new(url: &Url, key: Option<SecretString>) -> Result<Self, Failure> {
        let port = url.port_or_known_default().unwrap_or(80);
        match url.host_str() {
            Some(host) if url.scheme() == "http" => {
                Ok(Self { authority: format!("{host}:{port}").into(), key: key.map(Arc::new) })
            }
            _ => Err(Failure::usage(format!("`{url}` is not an http URL with a host"))),
        }
    }

    pub async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(&*self.authority).await?;
        stream.set_nodelay(true)?;
        let key = self.key.as_ref().map(|key| format!("authorization: Bearer {}\r\n", key.expose_secret()));
        let headers = format!("host: {}\r\n{}", self.authority, key.unwrap_or_default());
        Ok(Connection { stream: Buffered::new(stream), headers, out: Vec::new() })
    }
}

/// A connection to the API, for one call at a time.
pub struct Connection {
    stream: Buffered,
    headers: String,
    out: Vec<u8>,
}

impl Connection {
    /// The status and the body of the answer.
    pub async fn call(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, Vec<u8>)> {
        self.out.clear();
        let (headers, length) = (&self.headers, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\n{headers}content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.out.extend_from_slice(head.as_bytes());
        self.out.extend_from_slice(body.as_bytes());
        self.stream.stream.write_all(&self.out).await?;
        let message = self.stream.next().await?.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        let status = message.first_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| invalid("the answer has no status"))?;
        let answer = message.body.to_vec();
        self.stream.consume();
        Ok((status, answer))
    }
}

/// Requests or answers one after the other from a stream.
pub struct Buffered {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    /// Bytes of the message that `next` has returned.
    current: usize,
}

/// A message in the buffer.
pub struct Message<'a> {
    pub first_line: &'a str,
    head: &'a str,
    pub body: &'a [u8],
}

impl Message<'_> {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }
}

impl Buffered {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: vec![0; HEAD_BYTES_MAX], filled: 0, current: 0 }
    }

    /// The next message, `None` at the orderly end. Call `consume` when done with it.
    pub async fn next(&mut self) -> io::Result<Option<Message<'_>>> {
        let head = loop {
            if let Some(end) = find(&self.buffer[..self.filled], b"\r\n\r\n") {
                break end + 4;
            }
            if self.filled >= HEAD_BYTES_MAX {
                return Err(invalid("the head is too long"));
            }
            if self.fill().await? == 0 {
                return if self.filled == 0 { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        };
        let total = head + content_length(&self.buffer[..head])?;
        if self.buffer.len() < total {
            self.buffer.resize(total, 0);
        }
        while self.filled < total {
            if self.fill().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        self.current = total;
        let (head, body) = self.buffer[..total].split_at(head);
        let head = text(head)?;
        Ok(Some(Message { first_line: head.lines().next().unwrap_or_default(), head, body }))
    }

    pub fn consume(&mut self) {
        self.buffer.copy_within(self.current..self.filled, 0);
        self.filled -= self.current;
        self.current = 0;
    }

    async fn fill(&mut self) -> io::Result<usize> {
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.filled..]).await?;
        self.filled += read;
        Ok(read)
    }
}

fn text(head: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(head).map_err(|_| invalid("the head is not text"))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    pairs.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    let head = text(head)?;
    if header(head, "transfer-encoding").is_some() {
        return Err(invalid("the body comes in chunks, which are not read here"));
    }
    let Some(length) = header(head, "content-length") else { return Ok(0) };
    let length = length.parse().ok().filter(|length| *length <= BODY_BYTES_MAX);
    length.ok_or_else(|| invalid("the length of the body is out of range"))
}

/// Where `needle` begins.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|byte| *byte == first) {
        if haystack[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}
