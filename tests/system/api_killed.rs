//! The api process is killed while it accepts; clients repeat what was not answered, with their key.

use std::time::Duration;

use crate::checker;
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, PATIENT, config};
use crate::harness::engines::Engines;
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::{Random, ledger, long, run, turn, until};

#[test]
fn what_was_answered_202_by_a_killed_api_is_delivered_once() {
    let _turn = turn::alone();
    run(async {
        let mut random = Random::from_env("api killed");
        let kills = if long() { 50 } else { 5 };
        let receiver = Receiver::start().await;
        receiver.wobbles(random.branch());
        let mut cluster = Cluster::with(&config("", PATIENT));
        cluster.start(&["router", "connectors", "recorder"]).await;
        // Widens the moment between a commit and its answer, so that kills do hit it. Without fail points it is narrow.
        cluster.env("FAILPOINTS", "embedded-log::after-commit=sleep(15)");
        let killed = cluster.start(&["api"]).await;
        let api = Api::new(cluster.url(killed, "api"));
        let plan = Plan {
            name: "api-killed",
            conversations: 50,
            messages: kills * 300,
            per_second: 300.0,
            target: receiver.target("/inbox"),
            insists: true,
        };
        let load = Load::start(&plan, &api);
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(300) + random.pause(Duration::from_millis(500))).await;
            cluster.kill(killed);
            cluster.start_again(killed).await;
            api.moved(cluster.url(killed, "api"));
        }
        let (accepted, rate) = load.finish(Duration::from_secs(120)).await;
        assert_eq!((accepted.len(), checker::doubled(&accepted)), (plan.messages, 0));
        let limit = Duration::from_secs(30);
        until("all deliveries", limit, || (receiver.distinct() >= accepted.len()).then_some(())).await;
        cluster.terminate_all().await;
        let evidence = Engines::Embedded.evidence(&cluster, accepted, &receiver);
        let count = evidence.taken.len();
        assert_eq!(count, plan.messages, "each message arrives once: nobody who delivers was killed");
        checker::judge(&evidence).must_be_clean();
        ledger::must_be_written_once(&cluster.data(), ledger::HOOK);
        println!("api killed: {kills} kills, {} messages at {rate:.0}/s, 0 lost, 0 twice", plan.messages);
    });
}
