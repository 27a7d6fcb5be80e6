//! Which answer a request gets. No I/O: `connection` carries the [`Reaction`] out. What people look at and set up is in
//! `control` and `inbound`.

mod control;
mod inbound;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chat4all_proto::Timestamp;
use serde_json::Value;

use crate::answer::Answer;
use crate::callbacks::Callbacks;
use crate::fault::{Fault, Invalid};
use crate::faults::Faults;
use crate::inbox::{Delivery, Inboxes};
use crate::misdeed::Misdeed;
use crate::providers::{Call, Providers, Reply};
use crate::wire::{Head, Request};

/// Everything the simulator remembers.
pub struct State {
    inboxes: Inboxes,
    faults: Faults,
    providers: Providers,
    callbacks: Arc<Callbacks>,
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
    /// A call to a provider. Its inbox is known from its body only.
    Call(Call),
    /// Somebody wants a provider to have received a message.
    Inbound,
    /// Somebody looks or sets something up.
    Control,
}

impl State {
    pub fn new(callbacks: Arc<Callbacks>) -> Self {
        Self { inboxes: Inboxes::default(), faults: Faults::default(), providers: Providers::new(now()), callbacks }
    }

    /// Takes one of the fault's `times` where the inbox is known from the head: call it once a request.
    pub fn subject(&mut self, head: &Head, now: Instant) -> Result<Subject, Answer> {
        if let Some(call) = Call::of(head) {
            return Ok(Subject::Call(call));
        }
        let name = head.path.strip_prefix("/inbox/").filter(|name| !name.is_empty());
        match (head.method.as_str(), name) {
            ("POST" | "PUT" | "PATCH", Some(name)) => {
                let fault = self.faults.meet(name, head.query.as_deref(), now).map_err(unprocessable)?;
                Ok(Subject::Delivery { name: name.to_owned(), fault: fault.unwrap_or_default() })
            }
            ("POST", None) if head.path.starts_with("/inbound/") => Ok(Subject::Inbound),
            _ => Ok(Subject::Control),
        }
    }

    /// Keeps a delivery and says what its sender gets.
    pub fn deliver(&mut self, name: &str, fault: Fault, request: &Request) -> Reaction {
        let status = fault.status.unwrap_or(200);
        let text = if status < 300 { "ok\n" } else { "a fault, as asked for\n" };
        let answer = Answer { retry_after_seconds: fault.retry_after_seconds(), ..Answer::text(status, text) };
        self.keep(name, request, None, &fault, answer.status);
        Reaction { latency: fault.latency.unwrap_or_default(), misdeed: fault.misdeed, answer }
    }

    /// Keeps what was sent and says what the provider answers. A fault without a status spoils only the answer: the
    /// message was taken and is reported on, unless it was not read.
    pub fn call(&mut self, call: &Call, request: &Request, at: Instant) -> Reaction {
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let receipt_delay = self.callbacks.receipt_delay();
        let Some((provider, name)) = call.inbox(&body) else {
            return self.providers.answer(call, &request.head, &body, now(), receipt_delay).answer.into();
        };
        // Only a fault in a query can be invalid.
        let fault = self.faults.meet(&name, None, at).ok().flatten().unwrap_or_default();
        let latency = fault.latency.unwrap_or_default();
        if fault.misdeed == Some(Misdeed::ResetBeforeReading) {
            return Reaction { latency, misdeed: fault.misdeed, answer: Answer::text(500, "") };
        }
        let Reply { answer, reports } = match fault.status {
            Some(status) => self.providers.fault(provider, status, &fault).into(),
            None => self.providers.answer(call, &request.head, &body, now(), receipt_delay),
        };
        self.keep(&name, request, Some(&call.shown_path(&request.head)), &fault, answer.status);
        self.callbacks.report(reports, at + latency);
        Reaction { latency, misdeed: fault.misdeed, answer }
    }

    fn keep(&mut self, name: &str, request: &Request, path: Option<&str>, fault: &Fault, status: u16) {
        let (raw, body) = request.to_keep(path);
        let delivery = Delivery {
            received_at: now(),
            status: fault.misdeed.is_none_or(Misdeed::shows_status).then_some(status),
            fault: fault.misdeed.map(Misdeed::as_str),
            raw,
            body,
        };
        self.inboxes.keep(name, delivery);
    }
}

fn unprocessable(error: Invalid) -> Answer {
    Answer::problem(422, "invalid_fault", Some(&error.field), &error.detail)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since.as_millis().try_into().unwrap_or(u64::MAX))
}
