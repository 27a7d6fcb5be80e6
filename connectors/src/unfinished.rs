//! What is kept of an unfinished record beside the engine: its size, and where its spans belong.

use std::sync::Arc;

use chat4all_proto::TraceContext;
use chat4all_runtime::trace::Parent;

/// What is kept of an unfinished record beside the engine.
pub struct Unfinished {
    /// What it is counted as.
    pub bytes: usize,
    /// Where the spans of its attempts belong. `None`: tracing is off.
    pub trace: Option<Parent>,
    /// The span of its latest attempt.
    pub latest: Option<TraceContext>,
}

impl Unfinished {
    /// What its record carried.
    pub fn carried(&self) -> Option<TraceContext> {
        match self.trace? {
            Parent::Span(context) => Some(context),
            Parent::Root { .. } => None,
        }
    }

    /// What records about its latest attempt carry.
    pub fn carried_on(&self) -> Option<TraceContext> {
        self.carried().map(|context| self.latest.unwrap_or(context))
    }
}

/// As a record carries it.
pub fn traceparent(context: Option<TraceContext>) -> Option<Arc<str>> {
    context.map(|context| context.to_string().into())
}
