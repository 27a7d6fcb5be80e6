//! Spans: what a process did for a message, when, and under which trace. Roles open and end them; the binary installs a
//! [`Tracer`] where tracing is on, and takes from it what is to be exported. Without one nothing here costs more than
//! looking whether it is there.
//!
//! Whether a trace is recorded is drawn once, where its message comes in, and travels with the message. What failed is
//! recorded in any case: that is known only at its end.

mod queue;
mod span;

use std::sync::OnceLock;

use chat4all_proto::{MessageId, TraceContext, TraceId};

pub use queue::{Dropped, METRICS, Tracer};
pub use span::{Open, Operation, Service, Span, Value};

static TRACER: OnceLock<Tracer> = OnceLock::new();

/// The process's tracer. `None`: tracing is off.
#[inline]
pub fn tracer() -> Option<&'static Tracer> {
    TRACER.get()
}

/// Turns tracing on, once a process. `sample_ratio` is the share of the messages without a trace of their own that are
/// recorded, `queue_max` the most spans that wait to be exported.
pub fn install(sample_ratio: f64, queue_max: usize) -> &'static Tracer {
    TRACER.get_or_init(|| Tracer::new(sample_ratio, queue_max))
}

/// Where the spans of a message belong: under what its record says, else at the top of the message's own trace, which
/// was not drawn then.
pub fn parent(traceparent: Option<&str>, message: MessageId) -> Parent {
    match traceparent.and_then(TraceContext::parse) {
        Some(context) => Parent::Span(context),
        None => Parent::unsampled(message),
    }
}

/// What a span is opened under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    Span(TraceContext),
    /// None: it is the first of its trace.
    Root {
        trace_id: TraceId,
        is_sampled: bool,
    },
}

impl Parent {
    pub fn unsampled(message: MessageId) -> Self {
        Self::Root { trace_id: TraceId::of(message), is_sampled: false }
    }

    pub fn trace_id(&self) -> TraceId {
        match self {
            Self::Span(context) => context.trace_id,
            Self::Root { trace_id, .. } => *trace_id,
        }
    }

    pub fn is_sampled(&self) -> bool {
        match self {
            Self::Span(context) => context.is_sampled,
            Self::Root { is_sampled, .. } => *is_sampled,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;
    use crate::clock;

    #[test]
    fn what_the_record_says_comes_first_and_the_messages_own_trace_else() {
        let message = MessageId::from_uuid(uuid::Uuid::from_u128(7));
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(parent(Some(text), message), Parent::Span(TraceContext::parse(text).expect("it is well formed")));
        for text in [None, Some("rubbish")] {
            assert_eq!(parent(text, message), Parent::Root { trace_id: TraceId::of(message), is_sampled: false });
        }
    }

    /// All that is asked anywhere while tracing is off.
    #[test]
    fn off_it_costs_a_look() {
        const LOOKS: u32 = 1_000_000;
        let started = clock::instant();
        assert!((0..LOOKS).all(|_| black_box(tracer()).is_none()), "nothing installs one here");
        let each = started.elapsed() / LOOKS;
        println!("trace: {each:?} a look while it is off");
        assert!(each < std::time::Duration::from_nanos(100), "{each:?}");
    }
}
