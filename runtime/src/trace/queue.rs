//! The spans that wait to be exported. Bounded: whoever ends a span never waits, and what finds no room is dropped and
//! counted.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chat4all_proto::TraceId;
use tokio::sync::Notify;

use super::Span;

/// With so many waiting the exporter is woken before its time.
const WAKE_AT: usize = 512;

chat4all_metrics::declare! {
    /// Spans that the collector has taken.
    static EXPORTED: IntCounter = "chat4all_trace_spans_exported_total";
    "sum(rate(chat4all_trace_spans_exported_total[5m]))"

    /// Spans that were lost on their way: the queue was full, the collector unreachable for too long, or it refused them.
    static DROPPED: IntCounterVec = "chat4all_trace_spans_dropped_total", ["reason"];
    "sum by (reason) (increase(chat4all_trace_spans_dropped_total[1h]))"
}

/// Why a span was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The queue was full.
    QueueFull,
    /// The collector could not be reached for too long.
    Unreachable,
    /// The collector refused it.
    Refused,
}

impl Dropped {
    const ALL: [Self; 3] = [Self::QueueFull, Self::Unreachable, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
        }
    }
}

/// Takes spans that have ended, from any thread.
pub struct Tracer {
    sample_ratio: f64,
    queue_max: usize,
    queue: Mutex<Vec<Span>>,
    wake: Notify,
}

impl Tracer {
    pub(super) fn new(sample_ratio: f64, queue_max: usize) -> Self {
        for reason in Dropped::ALL {
            // Shows as 0 until something is.
            DROPPED.with_label_values(&[reason.as_str()]);
        }
        Self { sample_ratio, queue_max, queue: Mutex::default(), wake: Notify::new() }
    }

    /// Whether a trace that begins here is recorded.
    pub fn draws(&self, trace_id: TraceId) -> bool {
        trace_id.is_among(self.sample_ratio)
    }

    pub(super) fn push(&self, span: Span) {
        let mut queue = self.queue();
        if queue.len() >= self.queue_max {
            drop(queue);
            return self.dropped(Dropped::QueueFull, 1);
        }
        queue.push(span);
        let wakes = queue.len() == WAKE_AT.min(self.queue_max);
        drop(queue);
        if wakes {
            // Once a batch, never for each span: waking a thread costs more than all the rest.
            self.wake.notify_one();
        }
    }

    /// All that waits, first ended first.
    pub fn take(&self) -> Vec<Span> {
        std::mem::take(&mut *self.queue())
    }

    /// Until there is enough for a batch.
    pub async fn filled(&self) {
        self.wake.notified().await;
    }

    pub fn exported(&self, spans: usize) {
        EXPORTED.inc_by(spans as u64);
    }

    pub fn dropped(&self, reason: Dropped, spans: usize) {
        DROPPED.with_label_values(&[reason.as_str()]).inc_by(spans as u64);
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Span>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use chat4all_proto::TraceContext;

    use super::*;
    use crate::trace::Operation;

    fn span(started_at_ns: u64) -> Span {
        let context = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        Span {
            operation: Operation::Route,
            context: context.expect("it is well formed"),
            parent: None,
            started_at_ns,
            ended_at_ns: started_at_ns,
            attributes: Vec::new(),
            failure: None,
        }
    }

    fn dropped() -> u64 {
        DROPPED.with_label_values(&[Dropped::QueueFull.as_str()]).get()
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (tracer, before) = (Tracer::new(1.0, 3), dropped());
        (0..5).for_each(|n| tracer.push(span(n)));
        assert_eq!(dropped() - before, 2);
        let kept: Vec<u64> = tracer.take().iter().map(|span| span.started_at_ns).collect();
        assert_eq!(kept, [0, 1, 2]);
        tracer.push(span(7));
        assert_eq!(tracer.take().len(), 1, "there is room again");
    }

    #[tokio::test]
    async fn the_exporter_is_woken_when_a_batch_is_full() {
        let tracer = Tracer::new(1.0, 3);
        (0..2).for_each(|n| tracer.push(span(n)));
        assert!(futures_util::FutureExt::now_or_never(tracer.filled()).is_none());
        tracer.push(span(2));
        assert!(futures_util::FutureExt::now_or_never(tracer.filled()).is_some());
    }
}
