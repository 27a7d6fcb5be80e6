//! Which answer a request gets. No I/O: `connection` carries the [`Reaction`] out.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chat4all_proto::Timestamp;
use serde_json::json;

use crate::fault::{Fault, Invalid, Misdeed};
use crate::faults::Faults;
use crate::inbox::{Delivery, Inboxes};
use crate::wire::{Answer, Head, Request};

const HELP: &str = "Chat4All simulator. POST to /inbox/NAME is kept and answered 200; GET /inbox/NAME shows it.
GET /inbox · GET, DELETE /inbox/NAME · GET /faults · GET, PUT, DELETE /faults/NAME · or /inbox/NAME?status=500&times=3
";

/// Everything the simulator remembers.
#[derive(Debug, Default)]
pub struct State {
    inboxes: Inboxes,
    faults: Faults,
}

/// What to do about a request, after `latency`.
#[derive(Debug)]
pub struct Reaction {
    pub latency: Duration,
    pub misdeed: Option<Misdeed>,
    /// For the misdeeds that begin with an answer; else the answer.
    pub answer: Answer,
}

impl From<Answer> for Reaction {
    fn from(answer: Answer) -> Self {
        Self { latency: Duration::ZERO, misdeed: None, answer }
    }
}

/// What a request is about, known from its head.
pub enum Subject {
    /// A message to this inbox, with the fault it meets.
    Delivery { name: String, fault: Fault },
    /// Somebody looks or sets something up.
    Control,
}

impl State {
    /// Takes one of the fault's `times`: call it once a request.
    pub fn subject(&mut self, head: &Head, now: Instant) -> Result<Subject, Answer> {
        let name = head.path.strip_prefix("/inbox/").filter(|name| !name.is_empty());
        match (head.method.as_str(), name) {
            ("POST" | "PUT" | "PATCH", Some(name)) => {
                let fault = self.faults.meet(name, head.query.as_deref(), now).map_err(unprocessable)?;
                Ok(Subject::Delivery { name: name.to_owned(), fault: fault.unwrap_or_default() })
            }
            _ => Ok(Subject::Control),
        }
    }

    /// Keeps a delivery and says what its sender gets.
    pub fn deliver(&mut self, name: &str, fault: Fault, request: &Request) -> Reaction {
        let status = fault.status.unwrap_or(200);
        let text = if status < 300 { "ok\n" } else { "a fault, as asked for\n" };
        let answer = Answer {
            retry_after_seconds: fault.retry_after.map(|wait| wait.as_millis().div_ceil(1_000) as u64),
            ..Answer::text(status, text)
        };
        let (raw, body) = request.raw();
        self.inboxes.keep(
            name,
            Delivery {
                received_at: now(),
                status: fault.misdeed.is_none_or(Misdeed::shows_status).then_some(answer.status),
                fault: fault.misdeed.map(Misdeed::as_str),
                raw: raw.into(),
                body,
            },
        );
        Reaction { latency: fault.latency.unwrap_or_default(), misdeed: fault.misdeed, answer }
    }

    pub fn control(&mut self, request: &Request, now: Instant) -> Answer {
        let head = &request.head;
        let (method, mut parts) = (head.method.as_str(), head.path.trim_start_matches('/').splitn(2, '/'));
        let (room, name) = (parts.next().unwrap_or_default(), parts.next().filter(|name| !name.is_empty()));
        match (method, room, name) {
            ("GET", "", None) => Answer::text(200, HELP),
            ("GET", "inbox", None) => Answer::json(200, &self.inboxes.list()),
            ("GET", "inbox", Some(name)) => self.show(name, head.query.as_deref()),
            ("DELETE", "inbox", None) => Answer::json(200, &json!({ "deleted": self.inboxes.clear_all() })),
            ("DELETE", "inbox", Some(name)) => Answer::json(200, &json!({ "deleted": self.inboxes.clear(name) })),
            ("GET", "faults", None) => Answer::json(200, &json!({ "faults": self.faults.list(now) })),
            ("GET", "faults", Some(name)) => match self.faults.get(name, now) {
                Some(fault) => Answer::json(200, &fault),
                None => Answer::problem(404, "no_fault", None, "no fault is set there"),
            },
            ("PUT", "faults", Some(name)) => self.set_fault(name, request.body(), now),
            ("DELETE", "faults", name) => {
                self.faults.clear(name);
                Answer { body: Default::default(), ..Answer::text(204, "") }
            }
            (_, "" | "inbox" | "faults", _) => {
                Answer::problem(405, "method_not_allowed", None, "GET / says what there is")
            }
            _ => Answer::problem(404, "not_found", None, "GET / says what there is"),
        }
    }

    fn show(&self, name: &str, query: Option<&str>) -> Answer {
        let limit = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("limit=")));
        match limit.map_or(Ok(usize::MAX), str::parse) {
            Ok(limit) => Answer { body: self.inboxes.show(name, limit).into(), ..Answer::json(200, &()) },
            Err(_) => Answer::problem(422, "invalid_limit", Some("limit"), "`limit` must be a whole number"),
        }
    }

    fn set_fault(&mut self, name: &str, body: &[u8], now: Instant) -> Answer {
        let fault = match Fault::from_json(body) {
            Ok(fault) => fault,
            Err(error) => return unprocessable(error),
        };
        if !self.faults.set(name, fault, now) {
            return Answer::problem(
                422,
                "too_many_faults",
                None,
                "10000 faults are set; DELETE /faults takes them away",
            );
        }
        Answer::json(200, &self.faults.get(name, now))
    }
}

fn unprocessable(error: Invalid) -> Answer {
    Answer::problem(422, "invalid_fault", Some(&error.field), &error.detail)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since.as_millis().try_into().unwrap_or(u64::MAX))
}
