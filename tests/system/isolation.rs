//! Who is well notices nothing of those who are not: measured side by side, first alone, then beside each kind of trouble.

use std::time::{Duration, SystemTime};

use crate::harness::arrivals::{latencies, must_be_whole, percentiles};
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, ROLES, config};
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::{long, run, turn, until, until_async};

const ALONE: Duration = Duration::from_secs(10);
const BESIDE: Duration = Duration::from_secs(15);
/// A neighbour on this machine may spoil a run; a defect spoils each.
const RUNS_MAX: usize = 3;

fn per_second() -> f64 {
    if long() { 200.0 } else { 50.0 }
}

/// The short form measures us, not the disk that everybody on this machine shares.
fn cluster(text: &str) -> Cluster {
    if long() { Cluster::with(text) } else { Cluster::in_memory(text) }
}

// Without keys: a second run sends the same again.
fn plan(name: &'static str, conversations: usize, per_second: f64, time: Duration, target: String) -> Plan {
    let messages = (time.as_secs_f64() * per_second) as usize;
    Plan { name, conversations, messages, per_second, target, insists: false }
}

/// Measures a healthy load alone and then beside `trouble`'s loads, until a run is within the bound: how many it took.
async fn measure(name: &'static str, api: &Api, healthy: &Receiver, load: &Plan, trouble: &[Plan]) -> usize {
    for attempt in 1..=RUNS_MAX {
        let seen = healthy.requests().len();
        let begin = SystemTime::now();
        let under_way = Load::start(load, api);
        tokio::time::sleep(ALONE).await;
        let joined = SystemTime::now();
        let others: Vec<Load> = trouble.iter().map(|plan| Load::start(plan, api)).collect();
        let (accepted, _) = under_way.finish(Duration::from_secs(60)).await;
        let end = SystemTime::now();
        for other in others {
            other.finish(Duration::from_secs(60)).await;
        }
        until("the healthy ones", Duration::from_secs(20), || {
            (healthy.requests()[seen..].iter().filter(|request| request.taken()).count() >= accepted.len())
                .then_some(())
        })
        .await;
        let requests = &healthy.requests()[seen..];
        assert_eq!(must_be_whole(requests, load), 0, "nothing is sent again to who is well");
        // The first second finds connections to open and caches to fill.
        let begin = begin + Duration::from_secs(1);
        let alone = percentiles(&mut latencies(requests, begin, joined));
        let beside = percentiles(&mut latencies(requests, joined, end));
        let ratio = beside[1].as_secs_f64() / alone[1].as_secs_f64();
        println!("{name}: p50/p99 alone {alone:.1?}, beside {beside:.1?}: p99 is {ratio:.2} x (run {attempt})");
        assert!(beside[0] <= alone[0].mul_f64(1.5) + Duration::from_millis(10), "{name}: the median");
        let bound = if long() { alone[1].mul_f64(1.1) } else { alone[1].mul_f64(1.5) + Duration::from_millis(10) };
        if beside[1] <= bound {
            return attempt;
        }
    }
    panic!("{name}: p99 beside was beyond its bound in {RUNS_MAX} runs");
}

#[test]
fn a_channel_that_hangs_or_fails_or_throttles_slows_no_other() {
    let _turn = turn::alone();
    run(async {
        let (healthy, troubled) = (Receiver::start().await, Receiver::start().await);
        troubled.usually("/hangs", Reply::Hang);
        troubled.usually("/fails", Reply::Status(500));
        troubled.usually("/throttles", Reply::Status(429));
        let names = ["hangs", "fails", "throttles"];
        let channel = |name| format!("[channels.{name}]\nkind = \"webhook\"\nallow_private_targets = true\n");
        let mut cluster = cluster(&(config("", "") + &names.map(channel).concat()));
        let process = cluster.start(&ROLES).await;
        let api = Api::new(cluster.url(process, "api"));
        let load = plan("healthy", 20, per_second(), ALONE + BESIDE, healthy.target("/inbox"));
        let trouble = names.map(|name| {
            let target = troubled.target(&format!("/{name}")).replace("hook:", &format!("{name}:"));
            plan(name, 20, per_second(), BESIDE, target)
        });
        measure("one of four channels", &api, &healthy, &load, &trouble).await;
        cluster.terminate_all().await;
    });
}

#[test]
fn a_dead_destination_and_a_poison_conversation_slow_no_other() {
    let _turn = turn::alone();
    run(async {
        let healthy = Receiver::everywhere().await;
        healthy.usually("/poison", Reply::Status(500));
        let mut dead = Receiver::start().await;
        let nobody = dead.target("/inbox");
        dead.goes_away().await;
        let hook = "retry = { attempts = 5, backoff = [\"200ms\"] }";
        let mut cluster = cluster(&config("", hook));
        let process = cluster.start(&ROLES).await;
        let api = Api::new(cluster.url(process, "api"));
        let destinations = if long() { 1_000 } else { 100 };
        let target = format!("hook:http://127.1{{conversation}}:{}/inbox", healthy.address().port());
        let load = plan("healthy", destinations, 2.0 * per_second(), ALONE + BESIDE, target);
        let dead_ones = plan("dead", 10, per_second() / 5.0, BESIDE, nobody);
        // At the host of a healthy one.
        let poisoned = format!("hook:http://127.10:{}/poison", healthy.address().port());
        let poison = plan("poison", 1, 0.5, BESIDE, poisoned);
        let trouble = [dead_ones, poison.clone()];
        let runs = measure("one dead destination and a poison conversation", &api, &healthy, &load, &trouble).await;

        let expected = runs * poison.messages;
        let found = until_async("the end of the poison", Duration::from_secs(30), || async {
            let letters = api.get("/v1/dead-letters?limit=100").await.ok()?.json();
            let letters = letters["dead_letters"].as_array()?.clone();
            (letters.len() >= expected).then_some(letters)
        })
        .await;
        assert_eq!(found.len(), expected, "only the poison fails");
        for letter in &found {
            assert_eq!(letter["reason"], "attempts_exhausted", "{letter:#}");
            assert_eq!(letter["attempts"], 5, "{letter:#}");
            assert!(letter["to"].as_str().is_some_and(|to| to.ends_with("/poison")), "{letter:#}");
        }
        println!("poison: {} messages ended in 5 attempts each", found.len());
        cluster.terminate_all().await;
    });
}
