//! The actor that calls one channel's provider.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context, Handler};
use chat4all_channels::{Channel as Provider, Request, Unfit};
use chat4all_engine::Attempt;
use chat4all_proto::TraceContext;
use chat4all_proto::outcome::{Outcome, Report};
use chat4all_runtime::clock;
use chat4all_runtime::supervisor::Alive;
use chat4all_runtime::trace::{Open, Operation, Value};
use chat4all_storage::crash_point;
use futures_util::FutureExt;
use reqwest::header::{HeaderName, HeaderValue};

use crate::http::Client;
use crate::messages::{Answered, Deliver, Pending};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Makes attempts from one arbiter. Owns its HTTP client; asks nobody. Ends with its last address.
/// Invariant: attempts in flight never exceed the slots, since each attempt holds one.
pub struct Channel {
    provider: Arc<dyn Provider>,
    client: Rc<Client>,
    _alive: Alive,
}

impl Channel {
    pub fn new(provider: Arc<dyn Provider>, client: Client, alive: Alive) -> Self {
        Self { provider, client: Rc::new(client), _alive: alive }
    }
}

impl Actor for Channel {
    type Context = Context<Self>;
}

impl Handler<Deliver> for Channel {
    type Result = ();

    fn handle(&mut self, Deliver { attempts }: Deliver, _: &mut Self::Context) {
        fail::fail_point!("connectors::channel");
        for pending in attempts {
            actix::spawn(attempt(pending, Arc::clone(&self.provider), Rc::clone(&self.client)));
        }
    }
}

async fn attempt(pending: Pending, provider: Arc<dyn Provider>, client: Rc<Client>) {
    let gone = pending.gone.clone();
    let started = clock::instant();
    let span = pending.trace.map(|parent| Open::begin(Operation::Deliver, parent));
    let context = span.map(|span| span.context());
    // A panic here says something about this one delivery: it counts as an attempt, so that it ends some day.
    let calling = AssertUnwindSafe(call(&pending, &*provider, &client, context)).catch_unwind();
    crash_point("connectors::before-call");
    let report = tokio::select! {
        report = calling => report.unwrap_or_else(|_| panicked()),
        () = gone.cancelled() => return,
    };
    crash_point("connectors::after-call");
    if let Some(span) = span {
        end(span, &pending.attempt, &report);
    }
    pending.settle(Answered { report, took: started.elapsed(), span: context });
}

async fn call(pending: &Pending, provider: &dyn Provider, client: &Client, span: Option<TraceContext>) -> Report {
    let delivery = &pending.attempt.delivery;
    let traced = span.filter(|_| provider.takes_trace_context());
    let request = match provider.request(delivery, clock::now()) {
        Ok(request) => with_trace(request, traced),
        Err(unfit) => return refused(unfit),
    };
    let deadline = client.deadline();
    let mut answer = client.call_until(request, deadline).await;
    if let Some(request) = provider.moved(delivery, &answer, clock::now())
        && clock::instant() < deadline
    {
        answer = client.call_until(with_trace(request, traced), deadline).await;
    }
    provider.report(&answer, clock::now())
}

fn with_trace(mut request: Request, span: Option<TraceContext>) -> Request {
    if let Some(span) = span {
        let value = HeaderValue::from_str(&span.to_string()).expect("it is visible ASCII");
        request.headers.insert(TRACEPARENT, value);
    }
    request
}

/// Neither what was sent nor to whom.
fn end(span: Open, attempt: &Attempt, report: &Report) {
    let outcome = report.outcome.kind();
    // A provider that asks us to slow down has not failed, and goes on asking.
    let failed = !matches!(report.outcome, Outcome::Accepted { .. } | Outcome::Throttled { .. });
    span.end(failed.then_some(outcome.as_str()), || {
        let Attempt { delivery, number, .. } = attempt;
        let mut attributes = vec![
            ("messaging.message.id", delivery.message_id.to_string().into()),
            ("chat4all.delivery_id", delivery.delivery_id.to_string().into()),
            ("chat4all.generation", delivery.generation.0.into()),
            ("chat4all.channel", delivery.to.channel.as_str().into()),
            ("chat4all.attempt", (*number).into()),
            ("chat4all.outcome", outcome.as_str().into()),
        ];
        attributes.extend(report.code.as_deref().map(|code| ("chat4all.code", Value::from(code))));
        attributes
    });
}

fn panicked() -> Report {
    let detail = Some("the connector panicked; see its log".to_owned());
    Report::new(Outcome::Ambiguous, Some("panic".to_owned()), detail)
}

/// Accepted under an earlier configuration, and now against the channel's rules.
fn refused(unfit: Unfit) -> Report {
    Report::new(Outcome::MessageRejected, Some("unfit".to_owned()), Some(unfit.detail))
}

#[cfg(test)]
mod tests {
    use chat4all_channels::{Answer, Outgoing};
    use chat4all_engine::{At, Source};
    use chat4all_proto::envelope::{OutcomeKind, V1};
    use chat4all_proto::{Content, DeliveryId, DeliveryStatus, Generation, MessageId, Outbound, TenantId, Timestamp};
    use tokio::sync::{Semaphore, mpsc};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::http::Options;

    struct Panics;

    impl Provider for Panics {
        fn kind(&self) -> &'static str {
            "panics"
        }

        fn check(&self, _: &Outgoing<'_>) -> Result<(), Unfit> {
            Ok(())
        }

        fn accepted_status(&self) -> DeliveryStatus {
            DeliveryStatus::Delivered
        }

        fn dedupes(&self) -> bool {
            true
        }

        fn request(&self, _: &Outbound, _: Timestamp) -> Result<Request, Unfit> {
            panic!("told to")
        }

        fn report(&self, _: &Answer, _: Timestamp) -> Report {
            unreachable!("nothing is sent")
        }
    }

    fn delivery() -> Outbound {
        let message_id = MessageId::from_uuid(uuid::Uuid::from_u128(7));
        let to = "panics:x".parse().expect("an address");
        Outbound {
            v: V1,
            tenant: TenantId::default(),
            delivery_id: DeliveryId::of(message_id, &to),
            generation: Generation(0),
            router_epoch: 1,
            message_id,
            conversation_id: "c".parse().expect("a conversation"),
            to,
            content: Content::Text { text: "hi".into() },
            reply_to: None,
            metadata: Default::default(),
            accepted_at: Timestamp::default(),
            expires_at: Timestamp::from_millis(u64::MAX),
        }
    }

    #[actix::test]
    async fn an_attempt_that_panics_counts_so_that_it_ends_some_day() {
        let (reply, mut settled) = mpsc::channel(1);
        let slot = Arc::new(Semaphore::new(1)).acquire_owned().await.expect("a slot");
        let at = At { source: Source::Outbound, offset: 3 };
        let one = Attempt { at, delivery: Arc::new(delivery()), number: 1 };
        let pending = Pending::new(one, None, CancellationToken::new(), slot, reply);
        let client = Client::new(Options::default()).expect("a client");
        attempt(pending, Arc::new(Panics), Rc::new(client)).await;
        let answered = settled.recv().await.expect("settled").result.expect("not abandoned");
        assert_eq!(answered.report.outcome.kind(), OutcomeKind::Ambiguous);
    }
}
