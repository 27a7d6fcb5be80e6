//! A killed process is taken over because its lock is gone, not because its time is up.

use std::time::{Duration, Instant};

use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, config};
use crate::harness::receiver::Receiver;
use crate::harness::{quantile, run, turn, until, until_async};

/// Who holds the partitions of a topic, as the api tells it.
pub async fn holders(api: &Api, topic: &str) -> Option<Vec<String>> {
    let view = api.get("/v1/cluster").await.ok()?.json();
    let groups = view["groups"].as_array()?;
    let partitions = groups.iter().flat_map(|group| group["partitions"].as_array().into_iter().flatten());
    partitions
        .filter(|partition| partition["topic"] == topic)
        .map(|partition| partition["holder"].as_str().map(str::to_owned))
        .collect()
}

/// Waits until `members` processes share a topic's partitions.
pub async fn shared_by(api: &Api, topic: &str, members: usize, limit: Duration) {
    until_async(&format!("{members} holders of {topic}"), limit, || async {
        let mut holders = holders(api, topic).await?;
        holders.sort();
        holders.dedup();
        (holders.len() == members).then_some(())
    })
    .await;
}

#[test]
fn a_killed_process_is_taken_over_at_once_however_long_the_session() {
    let _turn = turn::alone();
    run(async {
        let receiver = Receiver::start().await;
        let mut cluster = Cluster::with(&config("session_timeout = \"10m\"", ""));
        let stays = cluster.start(&["api", "router", "connectors", "recorder"]).await;
        let api = Api::new(cluster.url(stays, "api"));
        let mut times = Vec::new();
        for round in 0..5 {
            let victim = cluster.start(&["router", "connectors", "recorder"]).await;
            for topic in ["messages", "hook-outbound", "status-updates"] {
                shared_by(&api, topic, 2, Duration::from_secs(10)).await;
            }
            cluster.kill(victim);
            let (killed, before) = (Instant::now(), receiver.distinct());
            // Enough conversations that every partition has one.
            for conversation in 0..60 {
                api.accepted(&receiver.target("/inbox"), &format!("{round} {conversation}"), "hi").await;
            }
            let limit = Duration::from_secs(20);
            until("all deliveries", limit, || (receiver.distinct() == before + 60).then_some(())).await;
            times.push(killed.elapsed());
        }
        let median = quantile(&mut times, 0.5);
        println!("takeover with a session of 10 min: all delivered {times:?} after the kill");
        assert!(median < Duration::from_secs(2), "takeover must not wait for the session: {times:?}");
    });
}
