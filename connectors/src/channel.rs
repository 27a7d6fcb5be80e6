//! The actor that calls one channel's provider.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context, Handler};
use chat4all_channels::{Channel as Provider, Unfit};
use chat4all_proto::outcome::{Outcome, Report};
use chat4all_runtime::clock;
use chat4all_runtime::supervisor::Alive;
use chat4all_storage::crash_point;
use futures_util::FutureExt;

use crate::http::Client;
use crate::messages::{Answered, Deliver, Pending};

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
    // A panic here says something about this one delivery: it counts as an attempt, so that it ends some day.
    let calling = AssertUnwindSafe(call(&pending, &*provider, &client)).catch_unwind();
    crash_point("connectors::before-call");
    let report = tokio::select! {
        report = calling => report.unwrap_or_else(|_| panicked()),
        () = gone.cancelled() => return,
    };
    crash_point("connectors::after-call");
    pending.settle(Answered { report, took: started.elapsed() });
}

async fn call(pending: &Pending, provider: &dyn Provider, client: &Client) -> Report {
    let delivery = &pending.attempt.delivery;
    let request = match provider.request(delivery, clock::now()) {
        Ok(request) => request,
        Err(unfit) => return refused(unfit),
    };
    let deadline = client.deadline();
    let mut answer = client.call_until(request, deadline).await;
    if let Some(request) = provider.moved(delivery, &answer, clock::now())
        && clock::instant() < deadline
    {
        answer = client.call_until(request, deadline).await;
    }
    provider.report(&answer, clock::now())
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
    use chat4all_channels::{Answer, Outgoing, Request};
    use chat4all_engine::{At, Attempt, Source};
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
        let pending = Pending::new(one, CancellationToken::new(), slot, reply);
        let client = Client::new(Options::default()).expect("a client");
        attempt(pending, Arc::new(Panics), Rc::new(client)).await;
        let answered = settled.recv().await.expect("settled").result.expect("not abandoned");
        assert_eq!(answered.report.outcome.kind(), OutcomeKind::Ambiguous);
    }
}
