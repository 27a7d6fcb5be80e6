//! What connector actors say to each other.

use std::time::Duration;

use actix::Message;
use chat4all_engine::{At, Attempt};
use chat4all_proto::TraceContext;
use chat4all_proto::outcome::Report;
use chat4all_runtime::trace::Parent;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

/// Makes each of `attempts`. Answered once all are begun; what became of each goes to its own `reply` as it ends, so
/// that a slow one holds up no other.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliver {
    pub attempts: Vec<Pending>,
}

/// An attempt on its way. It is always settled: when it is dropped without an answer, it settles itself as abandoned.
pub struct Pending {
    pub attempt: Attempt,
    /// Where its span belongs. `None`: tracing is off.
    pub trace: Option<Parent>,
    /// Abort when this is cancelled: the partition has another holder.
    pub gone: CancellationToken,
    /// Taken before the attempt was handed over, given back with what became of it.
    slot: Option<OwnedSemaphorePermit>,
    reply: mpsc::Sender<Settled>,
}

/// What became of an attempt.
pub struct Settled {
    pub at: At,
    /// `None`: abandoned, because whoever made it died.
    pub result: Option<Answered>,
    /// Free once this is dropped.
    pub slot: Option<OwnedSemaphorePermit>,
}

pub struct Answered {
    pub report: Report,
    pub took: Duration,
    /// The attempt's span.
    pub span: Option<TraceContext>,
}

impl Pending {
    /// `reply` must have room for as many as there are slots.
    pub fn new(
        attempt: Attempt,
        trace: Option<Parent>,
        gone: CancellationToken,
        slot: OwnedSemaphorePermit,
        reply: mpsc::Sender<Settled>,
    ) -> Self {
        Self { attempt, trace, gone, slot: Some(slot), reply }
    }

    pub fn settle(mut self, answered: Answered) {
        self.send(Some(answered));
    }

    fn send(&mut self, result: Option<Answered>) {
        if let Some(slot) = self.slot.take() {
            // An error means that the partition's worker is gone, and with it the interest in the outcome.
            let _ = self.reply.try_send(Settled { at: self.attempt.at, result, slot: Some(slot) });
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.send(None);
    }
}
