//! A process that stands still loses its partitions, and what it still wants to say when it goes on does not count.

use std::collections::HashMap;
use std::time::Duration;

use crate::checker::{self, Evidence};
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, PATIENT, config};
use crate::harness::engines::Engines;
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::{Random, ledger, long, run, turn, until};
use crate::stopped_writer::holds;
use crate::takeover::shared_by;

#[test]
fn no_commit_append_or_status_of_a_zombie_counts() {
    zombies(Engines::Embedded, "zombie");
}

#[test]
fn no_commit_append_or_status_of_a_zombie_counts_on_kafka() {
    let name = "zombie on Kafka";
    if let Some(engines) = Engines::distributed(name) {
        zombies(engines, name);
    }
}

fn zombies(engines: Engines, name: &'static str) {
    let _turn = turn::alone();
    run(async {
        let zombies = if long() { 20 } else { 3 };
        let receiver = Receiver::start().await;
        // So that attempts are under way when it stops.
        receiver.wobbles(Random::from_env(name));
        let mut cluster = Cluster::with(&config(&engines.config(), PATIENT));
        let api_process = cluster.start(&["api"]).await;
        let workers = ["router", "connectors", "recorder"];
        let stays = cluster.start(&workers).await;
        let zombie = cluster.start(&workers).await;
        let api = Api::new(cluster.url(api_process, "api"));
        for topic in ["messages", "hook-outbound", "status-updates"] {
            shared_by(&api, topic, 2, Duration::from_secs(10)).await;
        }
        let plan = Plan {
            name,
            conversations: 100,
            messages: 200 * 14 * zombies,
            per_second: 200.0,
            target: receiver.target("/inbox"),
            insists: true,
        };
        let load = Load::start(&plan, &api);
        for _ in 0..zombies {
            tokio::time::sleep(Duration::from_secs(1)).await;
            hang(&engines, &cluster, zombie).await;
            // Longer than the session: the other takes over.
            shared_by(&api, "hook-outbound", 1, Duration::from_secs(20)).await;
            shared_by(&api, "messages", 1, Duration::from_secs(20)).await;
            let commits = committed(&api).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            cluster.go_on(zombie);
            shared_by(&api, "hook-outbound", 2, Duration::from_secs(20)).await;
            for (partition, commit) in committed(&api).await {
                assert!(commit >= commits[&partition], "the commit of {partition} went back");
            }
        }
        let (accepted, rate) = load.finish(Duration::from_secs(120)).await;
        until("all deliveries", Duration::from_secs(60), || (receiver.distinct() >= accepted.len()).then_some(()))
            .await;
        for accepted in accepted.iter().step_by(40) {
            let view = api.ended(&accepted.message_id, Duration::from_secs(20)).await;
            assert_eq!(view["status"], "delivered", "{view}");
        }
        assert!(cluster.runs(stays) && cluster.runs(zombie));
        cluster.terminate_all().await;
        let evidence = engines.evidence(&cluster, accepted, &receiver);
        let verdict = checker::judge(&evidence);
        println!("{name}: {zombies} times, {rate:.0}/s, {} duplicates, all explained", verdict.duplicates);
        verdict.must_be_clean();
        println!("{name}: {} records written again on the log", engines.written_again(&cluster, ledger::HOOK));
        watermarks_rise(&evidence);
    });
}

/// Stops a process; on the embedded engines at a moment when it neither writes nor is the next to write: otherwise everybody
/// would wait for it.
pub async fn hang(engines: &Engines, cluster: &Cluster, id: usize) {
    loop {
        cluster.stop(id);
        if matches!(engines, Engines::Distributed(_)) || !holds(cluster, id, &["writer", "next"]) {
            return;
        }
        cluster.go_on(id);
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
}

/// Commits of every partition that the api shows, by group and partition.
async fn committed(api: &Api) -> HashMap<String, u64> {
    let view = api.get("/v1/cluster").await.expect("an answer").json();
    let mut commits = HashMap::new();
    for group in view["groups"].as_array().expect("groups") {
        for partition in group["partitions"].as_array().expect("partitions") {
            let name = format!("{} {} {}", group["group"], partition["topic"], partition["partition"]);
            commits.insert(name, partition["committed"].as_u64().expect("a commit"));
        }
    }
    commits
}

/// Each lease of a partition begins where the one before had come, or later.
fn watermarks_rise(evidence: &Evidence) {
    let mut leases: Vec<_> =
        evidence.takeovers.iter().map(|takeover| (takeover.partition, takeover.epoch, takeover.watermark)).collect();
    leases.sort_unstable();
    for pair in leases.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert!(pair[0].1 < pair[1].1, "an epoch twice: {pair:?}");
        assert!(pair[0].2 <= pair[1].2, "a watermark went back: {pair:?}");
    }
}
