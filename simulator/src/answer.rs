//! What is written back: status, the few headers the simulator uses, body. `routes` and `providers` make it, `connection`
//! writes it.

use std::io::{self, Write as _};

use bytes::Bytes;

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

/// The phrase that goes with a status.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
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
