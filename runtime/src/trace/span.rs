//! One span, from its beginning to its end.

use chat4all_proto::trace::SpanId;
use chat4all_proto::{TraceContext, TraceId};

use super::{Parent, tracer};
use crate::clock;

/// What a span is about. Its name, its kind and whose it is follow from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A request with one message, from its head to its answer.
    Send,
    /// A request with many messages. Without a trace of the client's there is one for each of its messages.
    Batch,
    /// A request that sends dead letters again; the same.
    Replay,
    /// A message becomes the copies for its addresses.
    Route,
    /// One call of a provider.
    Deliver,
    /// The end of a delivery is written to the status store.
    Record,
    /// A provider's receipt, from when it was put on the log until its status is there too.
    Receipt,
}

/// A role, as whoever looks at traces knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    Api,
    Router,
    Connectors,
    Recorder,
}

/// What a span says more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

/// A span that has ended, ready to be exported.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub operation: Operation,
    pub context: TraceContext,
    pub parent: Option<SpanId>,
    pub started_at_ns: u64,
    pub ended_at_ns: u64,
    pub attributes: Vec<(&'static str, Value)>,
    /// In a word, what went wrong.
    pub failure: Option<String>,
}

/// A span that has begun. Nothing becomes of it until it is ended.
#[derive(Debug, Clone, Copy)]
pub struct Open {
    operation: Operation,
    context: TraceContext,
    parent: Option<SpanId>,
    started_at_ns: u64,
}

impl Service {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Router => "router",
            Self::Connectors => "connectors",
            Self::Recorder => "recorder",
        }
    }
}

impl Operation {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Send => "POST /v1/messages",
            Self::Batch => "POST /v1/messages/batch",
            Self::Replay => "replay",
            Self::Route => "route",
            Self::Deliver => "deliver",
            Self::Record => "record",
            Self::Receipt => "receipt",
        }
    }

    pub const fn service(self) -> Service {
        match self {
            Self::Send | Self::Batch | Self::Replay => Service::Api,
            Self::Route => Service::Router,
            Self::Deliver => Service::Connectors,
            Self::Record | Self::Receipt => Service::Recorder,
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl Open {
    pub fn begin(operation: Operation, parent: Parent) -> Self {
        Self::begun_at(operation, parent, clock::unix_nanos())
    }

    /// One that began earlier, in nanoseconds since 1970.
    pub fn begun_at(operation: Operation, parent: Parent, started_at_ns: u64) -> Self {
        let span_id = new_span_id();
        let (trace_id, is_sampled) = (parent.trace_id(), parent.is_sampled());
        let parent = match parent {
            Parent::Span(context) => Some(context.span_id),
            Parent::Root { .. } => None,
        };
        Self { operation, context: TraceContext { trace_id, span_id, is_sampled }, parent, started_at_ns }
    }

    /// To be handed on: it is the parent of what follows.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    pub fn trace_id(&self) -> TraceId {
        self.context.trace_id
    }

    pub fn is_sampled(&self) -> bool {
        self.context.is_sampled
    }

    /// Ends now. It is exported if its trace is recorded or it has failed; only then is anybody asked for `attributes`.
    pub fn end<A>(self, failure: Option<&str>, attributes: impl FnOnce() -> A)
    where
        A: IntoIterator<Item = (&'static str, Value)>,
    {
        if !self.context.is_sampled && failure.is_none() {
            return;
        }
        let Some(tracer) = tracer() else { return };
        tracer.push(Span {
            operation: self.operation,
            context: self.context,
            parent: self.parent,
            started_at_ns: self.started_at_ns,
            ended_at_ns: clock::unix_nanos().max(self.started_at_ns),
            attributes: attributes().into_iter().collect(),
            failure: failure.map(str::to_owned),
        });
    }
}

/// At random: processes that know nothing of each other give their spans ids in one trace.
fn new_span_id() -> SpanId {
    SpanId::new(fastrand::u64(1..)).expect("it is at least 1")
}
