//! A webhook, the HTTP client and a misbehaving receiver together: each fault comes to the outcome that
//! `docs/SIMULATOR.md` promises.

#![allow(clippy::unwrap_used)] // clippy knows only `#[test]` functions as tests, not their helpers

use std::time::Duration;

use chat4all_channels::webhook::{Config, Webhook};
use chat4all_channels::{Channel, Request};
use chat4all_connectors::http::{Client, Options};
use chat4all_proto::envelope::OutcomeKind::{self, *};
use chat4all_proto::outcome::{Outcome, Scope};
use chat4all_proto::{Outbound, Timestamp};
use chat4all_simulator::Simulator;

const NOW: Timestamp = Timestamp::from_millis(1_795_300_500_000);

struct Bench {
    simulator: Simulator,
    webhook: Webhook,
    client: Client,
}

impl Bench {
    fn new(attempt_timeout: Duration) -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        Self {
            simulator: Simulator::start(chat4all_simulator::Options { listen, ..Default::default() }).unwrap(),
            webhook: Webhook::new(Config { allow_private_targets: true, ..Config::default() }).ok().unwrap(),
            client: Client::new(Options { allow_private_targets: true, attempt_timeout }).unwrap(),
        }
    }

    fn request(&self, path: &str) -> Request {
        let address = self.simulator.addr();
        let delivery = format!(
            r#"{{"v":1,"tenant":"default","delivery_id":"dlv_018f4e0e-0000-7000-8000-000000000002","generation":0,
            "router_epoch":1,"message_id":"msg_018f4e0e-0000-7000-8000-000000000001","conversation_id":"order-42",
            "to":"webhook:http://{address}{path}","content":{{"type":"text","text":"hi"}},
            "accepted_at":1795300424123,"expires_at":1795386824123}}"#
        );
        let delivery: Outbound = serde_json::from_str(&delivery).unwrap();
        self.webhook.request(&delivery, NOW).unwrap()
    }

    async fn attempt(&self, path: &str) -> Outcome {
        self.webhook.report(&self.client.call(self.request(path)).await, NOW).outcome
    }

    async fn check(&self, fault: &str, expected: OutcomeKind) {
        let outcome = self.attempt(&format!("/inbox/ana?{fault}")).await;
        assert_eq!(outcome.kind(), expected, "{fault}: {outcome:?}");
    }
}

#[tokio::test]
async fn faults_that_end_by_themselves_come_to_the_documented_outcome() {
    let bench = Bench::new(Duration::from_secs(15));
    bench.check("", Accepted).await;
    bench.check("status=204", Accepted).await;
    bench.check("status=500", Transient).await;
    bench.check("status=400", Transient).await;
    bench.check("status=302", Transient).await;
    bench.check("status=410", RecipientGone).await;
    bench.check("status=429", Throttled).await;
    bench.check("status=503", Transient).await;
    bench.check("reset=before_reading", Ambiguous).await;
    bench.check("reset=after_reading", Ambiguous).await;
    bench.check("garbage", Ambiguous).await;
    bench.check("endless=head", Ambiguous).await;
    bench.check("endless=body", Accepted).await;
    bench.check("truncate", Accepted).await;
    bench.check("truncate&status=500", Transient).await;
    let throttled = bench.attempt("/inbox/ana?status=503&retry_after=2s").await;
    assert_eq!(throttled, Outcome::Throttled { after: Some(Duration::from_secs(2)), scope: Scope::Account });
}

#[tokio::test]
async fn faults_that_do_not_end_are_ended_by_the_deadline() {
    let bench = Bench::new(Duration::from_millis(300));
    bench.check("hang", Ambiguous).await;
    bench.check("endless=drip", Ambiguous).await;
    bench.check("latency=1h", Ambiguous).await;
}

#[tokio::test]
async fn without_a_receiver_the_attempt_is_made_again() {
    let bench = Bench::new(Duration::from_secs(15));
    let request = bench.request("/inbox/ana");
    bench.simulator.stop().await;
    let report = bench.webhook.report(&bench.client.call(request).await, NOW);
    assert_eq!(report.outcome, Outcome::TRANSIENT);
}
