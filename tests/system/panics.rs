//! A panic in each actor, under load: it is restarted, and nothing is lost.

use std::time::Duration;

use crate::checker;
use crate::harness::client::Api;
use crate::harness::cluster::Cluster;
use crate::harness::engines::Engines;
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::{run, turn, until};

/// Panics once in the actor behind `point`, after it has passed the point `after` times.
fn check(point: &str, after: u32) {
    if !cfg!(feature = "failpoints") {
        println!("SKIPPED panics: built without the feature `failpoints`");
        return;
    }
    let _turn = turn::alone();
    run(async {
        let receiver = Receiver::start().await;
        receiver.latency(Duration::from_millis(5));
        let mut cluster = Cluster::new();
        cluster.env("FAILPOINTS", &format!("{point}={after}*off->1*panic->off"));
        let process = cluster.start(&["api", "router", "connectors", "recorder"]).await;
        let api = Api::new(cluster.url(process, "api"));
        let plan = Plan {
            name: "panic",
            conversations: 40,
            messages: 1_200,
            per_second: 300.0,
            target: receiver.target("/inbox"),
            insists: true,
        };
        let (accepted, _) = Load::start(&plan, &api).finish(Duration::from_secs(60)).await;
        assert_eq!((accepted.len(), checker::doubled(&accepted)), (plan.messages, 0));
        let limit = Duration::from_secs(30);
        until("all deliveries", limit, || (receiver.distinct() >= accepted.len()).then_some(())).await;
        for accepted in accepted.iter().step_by(20) {
            let view = api.ended(&accepted.message_id, Duration::from_secs(20)).await;
            assert_eq!(view["status"], "delivered", "{view}");
        }
        let metrics = api.get("/metrics").await.expect("an answer").text;
        let restarts: Vec<&str> =
            metrics.lines().filter(|line| line.starts_with("chat4all_actor_restarts_total{")).collect();
        let log = cluster.log(process);
        assert_eq!(
            log.matches(&format!("failpoint {point} panic")).count(),
            1,
            "it did panic:\n{}",
            cluster.tail(process)
        );
        let total: f64 = restarts.iter().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        assert!(total >= 1.0, "a restart is counted: {restarts:?}");
        cluster.terminate_all().await;
        let evidence = Engines::Embedded.evidence(&cluster, accepted, &receiver);
        let verdict = checker::judge(&evidence);
        println!("panic in {point}: {restarts:?}, {} duplicates", verdict.duplicates);
        assert!(verdict.lost.is_empty() && verdict.reordered.is_empty(), "{verdict:?}");
        if point != "connectors::channel" {
            // A dead channel abandons its attempts: they are made again under the same lease, as its restart is counted.
            verdict.must_be_clean();
        }
    });
}

#[test]
fn a_consumer_that_panics_is_restarted() {
    check("runtime::consumer", 60);
}

#[test]
fn a_router_that_panics_is_restarted() {
    check("router::process", 40);
}

#[test]
fn a_partition_of_lanes_that_panics_is_restarted() {
    check("connectors::lanes", 40);
}

#[test]
fn a_channel_that_panics_is_restarted() {
    check("connectors::channel", 40);
}

#[test]
fn a_recorder_that_panics_is_restarted() {
    check("recorder::process", 40);
}
