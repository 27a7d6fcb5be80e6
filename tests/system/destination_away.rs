//! One webhook destination is away among others on the same partitions: what waits for it is parked, and the others go on.

use std::time::{Duration, Instant, SystemTime};

use crate::harness::arrivals::{
    at_rest, commits, latencies, longest_gap, metric, must_be_whole, none_failed, percentiles,
};
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, config};
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::{ledger, long, run, turn, until};

const PARKED: &str = "chat4all_deliveries_parked_total";

#[test]
fn others_go_on_while_one_destination_is_away() {
    one_is_away("destination away", false);
}

#[test]
fn others_go_on_while_one_destination_is_away_and_the_connectors_are_killed() {
    one_is_away("destination away, connectors killed", true);
}

fn one_is_away(name: &str, with_kill: bool) {
    let _turn = turn::alone();
    run(async {
        let away = Duration::from_secs(if long() { 120 } else { 9 });
        let (others, mut dead) = (Receiver::everywhere().await, Receiver::start().await);
        // So few in memory that what waits for the dead one would soon fill it.
        let hook = "breaker = { open_for = \"1s\", open_for_max = \"3s\" }";
        let mut cluster = Cluster::with(&config("in_memory = { records = 64 }", hook));
        let front = cluster.start(&["api", "router", "recorder"]).await;
        let mut connectors = cluster.start(&["connectors"]).await;
        let api = Api::new(cluster.url(front, "api"));
        let mut ops = Api::new(cluster.url(connectors, "connectors"));
        let seconds = away.as_secs_f64() + 2.0;
        let plan = |name, conversations, per_second, target| {
            let messages = (seconds * per_second) as usize;
            Plan { name, conversations, messages, per_second, target, insists: true }
        };
        let target = format!("hook:http://127.1{{conversation}}:{}/inbox", others.address().port());
        let living = plan("living", 40, 100.0, target);
        let waiting = plan("waiting", 60, 100.0, dead.target("/inbox"));
        let (load, load_dead) = (Load::start(&living, &api), Load::start(&waiting, &api));
        until("messages to all", Duration::from_secs(20), || {
            (others.taken() >= 100 && dead.taken() >= 100).then_some(())
        })
        .await;

        dead.goes_away().await;
        let (left, left_at) = (Instant::now(), SystemTime::now());
        tokio::time::sleep(away / 2).await;
        let mut parked = metric(&ops, PARKED, "channel=\"hook\"").await;
        if with_kill {
            assert!(parked > 0.0, "something is parked when they are killed");
            cluster.kill(connectors);
            connectors = cluster.start(&["connectors"]).await;
            ops = Api::new(cluster.url(connectors, "connectors"));
        }
        let halfway = commits(&api).await.expect("the cluster's view");
        tokio::time::sleep(away.saturating_sub(left.elapsed())).await;
        let late = commits(&api).await.expect("the cluster's view");
        parked += metric(&ops, PARKED, "channel=\"hook\"").await;
        let gap = longest_gap(&others.requests(), left_at, SystemTime::now());
        let [_, p99] = percentiles(&mut latencies(&others.requests(), left_at, SystemTime::now() - away / 10));
        // Every partition's commit goes on: what cannot move does not hold it.
        for ((topic, partition), (committed, lag)) in late.iter().filter(|((topic, _), _)| topic == ledger::HOOK) {
            let before = halfway[&(topic.clone(), *partition)].0;
            assert!(*committed > before, "{name}: {topic}/{partition} stays at {committed}, {lag} behind");
            assert!(*lag < 300, "{name}: {topic}/{partition} is {lag} behind");
        }

        dead.comes_back().await;
        let (back, before) = (Instant::now(), dead.taken());
        let limit = Duration::from_secs(10);
        until("a call of the one that was away", limit, || (dead.taken() > before).then_some(())).await;
        let first = back.elapsed();
        assert_eq!(load.finish(Duration::from_secs(60)).await.0.len(), living.messages);
        assert_eq!(load_dead.finish(Duration::from_secs(60)).await.0.len(), waiting.messages);
        at_rest(&api, Duration::from_secs(60)).await;
        let whole = back.elapsed();
        none_failed(&api).await;
        let again = [must_be_whole(&others.requests(), &living), must_be_whole(&dead.requests(), &waiting)];
        println!(
            "{name}: {away:?} away, {parked} parked; the others' longest gap {gap:.0?}, p99 {p99:.1?}; \
             back: first call after {first:.1?}, all after {whole:.1?}; sent again {again:?}"
        );
        assert!(parked > 0.0, "something is parked");
        let gap_max = Duration::from_millis(if with_kill { 5_000 } else { 3_000 });
        assert!(gap < gap_max, "{name}: the others stood still for {gap:?}");
        assert!(with_kill || again[0] == 0, "{name}: {} sent again to those who were there", again[0]);
        cluster.terminate_all().await;
    });
}
