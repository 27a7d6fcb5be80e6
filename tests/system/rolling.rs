//! Each role is restarted in turn with SIGTERM while messages flow: nothing is lost and nothing comes twice.

use std::time::Duration;

use crate::checker;
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, PATIENT, config};
use crate::harness::engines::Engines;
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::{Random, long, quantile, run, turn, until};

#[test]
fn a_rolling_restart_under_load_loses_nothing_and_repeats_nothing() {
    rolling(Engines::Embedded, "rolling");
}

#[test]
fn a_rolling_restart_on_kafka_loses_nothing_and_repeats_nothing() {
    let name = "rolling on Kafka";
    if let Some(engines) = Engines::distributed(name) {
        rolling(engines, name);
    }
}

fn rolling(engines: Engines, name: &'static str) {
    let _turn = turn::alone();
    run(async {
        let rounds = if long() { 13 } else { 2 };
        let receiver = Receiver::start().await;
        receiver.wobbles(Random::from_env(name));
        let mut cluster = Cluster::with(&config(&engines.config(), PATIENT));
        let mut ids = Vec::new();
        for role in ["api", "router", "router", "connectors", "connectors", "recorder", "recorder"] {
            ids.push(cluster.start(&[role]).await);
        }
        let api = Api::new(cluster.url(ids[0], "api"));
        let plan = Plan {
            name,
            conversations: 100,
            messages: rounds * 3_000,
            per_second: 300.0,
            target: receiver.target("/inbox"),
            insists: true,
        };
        let load = Load::start(&plan, &api);
        let mut drains = Vec::new();
        for _ in 0..rounds {
            for &id in &ids {
                tokio::time::sleep(Duration::from_millis(400)).await;
                let (status, took) = cluster.terminate(id, Duration::from_secs(25)).await;
                assert!(status.success(), "it ended with {status}:\n{}", cluster.tail(id));
                drains.push(took);
                cluster.start_again(id).await;
                if id == ids[0] {
                    api.moved(cluster.url(id, "api"));
                }
            }
        }
        let (accepted, rate) = load.finish(Duration::from_secs(60)).await;
        assert_eq!((accepted.len(), checker::doubled(&accepted)), (plan.messages, 0));
        let limit = Duration::from_secs(30);
        until("all deliveries", limit, || (receiver.distinct() >= accepted.len()).then_some(())).await;
        cluster.terminate_all().await;
        let evidence = engines.evidence(&cluster, accepted, &receiver);
        let verdict = checker::judge(&evidence);
        println!(
            "{name}: {} restarts at {rate:.0}/s, drain p50 {:?}, worst {:?}, {} duplicates",
            drains.len(),
            quantile(&mut drains, 0.5),
            quantile(&mut drains, 1.0),
            verdict.duplicates
        );
        verdict.must_be_clean();
        assert_eq!(verdict.duplicates, 0, "an orderly end leaves nothing to be sent again");
    });
}
