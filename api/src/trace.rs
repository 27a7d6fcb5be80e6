//! The trace of a request that brings messages in: the client's, if its `traceparent` is well formed, else one for each
//! message. Here it is drawn whether a trace is recorded; from here on the records say it.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse};
use chat4all_proto::{MessageId, TraceContext, TraceId};
use chat4all_runtime::clock;
use chat4all_runtime::trace::{self, Open, Operation, Parent, Tracer, Value};
use uuid::Uuid;

use crate::error::Error;

/// One request. With tracing off it only hands the client's trace on.
pub(crate) struct Trace {
    operation: Operation,
    /// What the client sent, as it stood there.
    traceparent: Option<Arc<str>>,
    on: Option<On>,
}

struct On {
    tracer: &'static Tracer,
    started_at_ns: u64,
    /// In the client's trace there is one span for the whole request.
    of_client: Option<Open>,
    /// Of messages whose trace begins here and is recorded.
    of_messages: Vec<(MessageId, Open)>,
    messages: u32,
    /// The first one, recorded or not: should the request fail, its trace shows that.
    first: Option<(MessageId, Open)>,
    failure: Option<&'static str>,
}

impl Trace {
    /// Does `work` within the request's trace.
    pub async fn around(
        operation: Operation,
        request: &HttpRequest,
        work: impl AsyncFnOnce(&mut Self) -> Result<HttpResponse, Error>,
    ) -> Result<HttpResponse, Error> {
        let mut trace = Self::of(operation, request);
        let answer = work(&mut trace).await;
        trace.end(&answer);
        answer
    }

    fn of(operation: Operation, request: &HttpRequest) -> Self {
        let client = client(request);
        let on = trace::tracer().map(|tracer| {
            let started_at_ns = clock::unix_nanos();
            let open = |(_, context)| Open::begun_at(operation, Parent::Span(context), started_at_ns);
            On {
                tracer,
                started_at_ns,
                of_client: client.map(open),
                of_messages: Vec::new(),
                messages: 0,
                first: None,
                failure: None,
            }
        });
        Self { operation, traceparent: client.map(|(text, _)| text.into()), on }
    }

    /// What the record of a message carries. Nothing where its trace is its own and not recorded: whoever needs it derives
    /// it from the message's id.
    pub fn carried_by(&mut self, message: MessageId) -> Option<Arc<str>> {
        let Some(on) = &mut self.on else { return self.traceparent.clone() };
        on.messages += 1;
        if let Some(open) = on.of_client {
            if on.first.is_none() && open.is_sampled() {
                self.traceparent = Some(open.context().to_string().into());
            }
            on.first.get_or_insert((message, open));
            return self.traceparent.clone();
        }
        let trace_id = TraceId::of(message);
        let parent = Parent::Root { trace_id, is_sampled: on.tracer.draws(trace_id) };
        let open = Open::begun_at(self.operation, parent, on.started_at_ns);
        on.first.get_or_insert((message, open));
        if !open.is_sampled() {
            return None;
        }
        on.of_messages.push((message, open));
        Some(open.context().to_string().into())
    }

    /// Some of its messages failed, though the request as a whole did not.
    pub fn failed(&mut self, failure: &'static str) {
        if let Some(on) = &mut self.on {
            on.failure = Some(failure);
        }
    }

    fn end(self, answer: &Result<HttpResponse, Error>) {
        let Some(on) = self.on else { return };
        let (status, code) = match answer {
            Ok(response) => (response.status().as_u16(), None),
            Err(error) => (error.code.row().status, Some(error.code.row().code)),
        };
        // What is the client's doing is no failure of ours.
        let failure = on.failure.or(code.filter(|_| status >= 500));
        let end = |message: Option<MessageId>, open: Open| {
            open.end(failure, || {
                let mut attributes = vec![
                    ("http.request.method", "POST".into()),
                    ("http.response.status_code", u32::from(status).into()),
                    ("messaging.batch.message_count", on.messages.into()),
                ];
                attributes.extend(message.map(|message| ("messaging.message.id", Value::Text(message.to_string()))));
                attributes.extend(code.map(|code| ("error.type", Value::from(code))));
                attributes
            });
        };
        let the_only = on.first.map(|(message, _)| message).filter(|_| on.messages == 1);
        if let Some(open) = on.of_client {
            return end(the_only, open);
        }
        if on.of_messages.is_empty() && failure.is_some() {
            let (message, open) = on.first.map_or_else(
                || (None, Open::begun_at(self.operation, nobodys(), on.started_at_ns)),
                |(message, open)| (Some(message), open),
            );
            return end(message, open);
        }
        on.of_messages.into_iter().for_each(|(message, open)| end(Some(message), open));
    }
}

/// The trace of a request that no message came from.
fn nobodys() -> Parent {
    Parent::Root { trace_id: TraceId::of(MessageId::from_uuid(Uuid::now_v7())), is_sampled: false }
}

/// The client's trace context. One that is malformed or given twice counts as absent, as the standard says.
fn client(request: &HttpRequest) -> Option<(&str, TraceContext)> {
    let mut values = request.headers().get_all("traceparent");
    let text = values.next()?.to_str().ok()?;
    let context = TraceContext::parse(text)?;
    values.next().is_none().then_some((text, context))
}
