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
/// So few samples lie beyond a p99 that it varies by more than the bound from run to run: the long form judges a median.
const ROUNDS: usize = 7;

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

/// What a healthy load met alone, and beside trouble.
struct Measured {
    alone: [Duration; 2],
    beside: [Duration; 2],
}

impl Measured {
    fn p99_ratio(&self) -> f64 {
        self.beside[1].as_secs_f64() / self.alone[1].as_secs_f64()
    }
}

/// Measures a healthy load alone and then beside `trouble`'s loads.
async fn measure(api: &Api, healthy: &Receiver, load: &Plan, trouble: &[Plan]) -> Measured {
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
        (healthy.requests()[seen..].iter().filter(|request| request.taken()).count() >= accepted.len()).then_some(())
    })
    .await;
    let requests = &healthy.requests()[seen..];
    assert_eq!(must_be_whole(requests, load), 0, "nothing is sent again to who is well");
    // The first second finds connections to open and caches to fill.
    let begin = begin + Duration::from_secs(1);
    let alone = percentiles(&mut latencies(requests, begin, joined));
    let beside = percentiles(&mut latencies(requests, joined, end));
    Measured { alone, beside }
}

/// Judges `round`s, each on a cluster of its own: in the long form the median of [`ROUNDS`], else the best of a few.
async fn judge(name: &str, mut round: impl AsyncFnMut() -> Measured) {
    let mut ratios = Vec::new();
    for number in 1..=if long() { ROUNDS } else { RUNS_MAX } {
        let measured = round().await;
        let Measured { alone, beside } = measured;
        let ratio = measured.p99_ratio();
        println!("{name}: p50/p99 alone {alone:.1?}, beside {beside:.1?}: p99 is {ratio:.2} x (round {number})");
        assert!(beside[0] <= alone[0].mul_f64(1.5) + Duration::from_millis(10), "{name}: the median");
        if !long() && beside[1] <= alone[1].mul_f64(1.5) + Duration::from_millis(10) {
            return;
        }
        ratios.push(ratio);
    }
    assert!(long(), "{name}: p99 beside was beyond its bound in {RUNS_MAX} rounds");
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ROUNDS / 2];
    println!("{name}: p99 beside is {median:.2} x p99 alone, the median of {ROUNDS} rounds");
    assert!(median <= 1.1, "{name}: p99 beside is {median:.2} x p99 alone");
}

/// Channels beside the healthy one, each at the same rate, whose receiver answers as told.
async fn beside_channels(replies: [(&'static str, Reply); 3]) -> Measured {
    let (healthy, troubled) = (Receiver::start().await, Receiver::start().await);
    let channel =
        |(name, _): &(&str, Reply)| format!("[channels.{name}]\nkind = \"webhook\"\nallow_private_targets = true\n");
    let channels: String = replies.iter().map(channel).collect();
    let mut cluster = cluster(&(config("", "") + &channels));
    let process = cluster.start(&ROLES).await;
    let api = Api::new(cluster.url(process, "api"));
    let load = plan("healthy", 20, per_second(), ALONE + BESIDE, healthy.target("/inbox"));
    let trouble = replies.map(|(name, reply)| {
        let path = format!("/{name}");
        troubled.usually(&path, reply);
        let target = troubled.target(&path).replace("hook:", &format!("{name}:"));
        plan(name, 20, per_second(), BESIDE, target)
    });
    let measured = measure(&api, &healthy, &load, &trouble).await;
    cluster.terminate_all().await;
    measured
}

#[test]
fn a_channel_that_hangs_or_fails_or_throttles_slows_no_other() {
    let _turn = turn::alone();
    run(async {
        if long() {
            // What three more channels cost that are as well as the first: theirs is the processor, not a neighbour's fault.
            let well = [("second", Reply::Status(200)), ("third", Reply::Status(200)), ("fourth", Reply::Status(200))];
            let mut ratios = Vec::new();
            for _ in 0..ROUNDS {
                ratios.push(beside_channels(well.clone()).await.p99_ratio());
            }
            ratios.sort_by(f64::total_cmp);
            println!("beside three healthy channels p99 is {:.2} x, for comparison", ratios[ROUNDS / 2]);
        }
        let ill = [("hangs", Reply::Hang), ("fails", Reply::Status(500)), ("throttles", Reply::Status(429))];
        judge("one of four channels", || beside_channels(ill.clone())).await;
    });
}

/// One dead destination and a poison conversation beside many healthy destinations.
async fn beside_destinations() -> Measured {
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
    let measured = measure(&api, &healthy, &load, &[dead_ones, poison.clone()]).await;

    // Where the host's healthy messages are few, the poison opens its breaker, and each attempt is a probe.
    let patience = Duration::from_secs(if long() { 300 } else { 30 });
    let found = until_async("the end of the poison", patience, || async {
        let letters = api.get("/v1/dead-letters?limit=100").await.ok()?.json();
        let letters = letters["dead_letters"].as_array()?.clone();
        (letters.len() >= poison.messages).then_some(letters)
    })
    .await;
    assert_eq!(found.len(), poison.messages, "only the poison fails");
    for letter in &found {
        assert_eq!(letter["reason"], "attempts_exhausted", "{letter:#}");
        assert_eq!(letter["attempts"], 5, "{letter:#}");
        assert!(letter["to"].as_str().is_some_and(|to| to.ends_with("/poison")), "{letter:#}");
    }
    println!("poison: {} messages ended in 5 attempts each", found.len());
    cluster.terminate_all().await;
    measured
}

#[test]
fn a_dead_destination_and_a_poison_conversation_slow_no_other() {
    let _turn = turn::alone();
    run(judge("one dead destination and a poison conversation", beside_destinations));
}
