//! A server is away: Kafka or Cassandra is killed while messages flow, and comes back later. Nobody lends a hand.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::checker;
use crate::failover::all_end;
use crate::harness::client::{Api, message};
use crate::harness::cluster::{Cluster, PATIENT, config};
use crate::harness::engines::{CASSANDRA, Engines, KAFKA};
use crate::harness::load::{Asked, Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::{Random, ledger, long, quantile, run, turn, until, until_async};

/// Memory that a process may take more of while a server is away.
const GROWTH_MAX: u64 = 64 << 20;
/// Longest answer of the ingress: what it waits for the log, and a busy machine.
const ANSWER_MAX: Duration = Duration::from_millis(2_000);

fn away() -> Duration {
    Duration::from_secs(if long() { 300 } else { 15 })
}

/// Messages a second. One node of Cassandra on a machine that carries everything else too takes some 600/s, and what piled
/// up in a long outage has to be recorded within a minute.
fn per_second() -> f64 {
    if long() { 50.0 } else { 200.0 }
}

/// A cluster under load, one process a role.
struct Stage {
    engines: Engines,
    receiver: Receiver,
    cluster: Cluster,
    processes: Vec<usize>,
    api: Api,
    load: Load,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stage {
    async fn set(engines: Engines, name: &'static str, insists: bool) -> Self {
        let receiver = Receiver::start().await;
        receiver.wobbles(Random::from_env(name));
        let mut cluster = Cluster::with(&config(&engines.config(), PATIENT));
        let mut processes = Vec::new();
        for role in ["api", "router", "connectors", "recorder"] {
            processes.push(cluster.start(&[role]).await);
        }
        let api = Api::new(cluster.url(processes[0], "api"));
        api.ready(Duration::from_secs(30)).await;
        let plan = Plan {
            name,
            conversations: 100,
            messages: (per_second() * (away().as_secs_f64() + 25.0)) as usize,
            per_second: per_second(),
            target: receiver.target("/inbox"),
            insists,
        };
        let load = Load::start(&plan, &api);
        until("deliveries", Duration::from_secs(60), || (receiver.taken() >= 300).then_some(())).await;
        let asked = load.asked();
        Self { engines, receiver, cluster, processes, api, load, asked }
    }

    fn memory(&self) -> Vec<u64> {
        self.processes.iter().map(|&id| self.cluster.resident_bytes(id)).collect()
    }

    /// Panics if a process has taken much more memory than it had `before`; the most that one did, in MiB.
    fn growth(&self, before: &[u64]) -> u64 {
        let grown = self.memory().iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).max();
        let grown = grown.expect("processes");
        assert!(grown <= GROWTH_MAX, "a process took {} MiB more", grown >> 20);
        grown >> 20
    }

    /// Requests made since `since` that were answered.
    fn answered_since(&self, since: Instant) -> Vec<Asked> {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter(|asked| asked.at >= since && asked.status.is_some()).copied().collect()
    }

    /// Everything accepted ends well; the verdict is printed and clean.
    async fn ends_well(mut self, name: &str) {
        let (accepted, rate) = self.load.finish(Duration::from_secs(180)).await;
        assert_eq!(checker::doubled(&accepted), 0, "no key is accepted as two messages");
        all_end(&self.api, &accepted, "delivered").await;
        self.cluster.terminate_all().await;
        let evidence = self.engines.evidence(&self.cluster, accepted, &self.receiver);
        let verdict = checker::judge(&evidence);
        println!(
            "{name}: {} accepted at {rate:.0}/s, {} lost, {} reordered, {} duplicates, {} records written again",
            evidence.accepted.len(),
            verdict.lost.len(),
            verdict.reordered.len(),
            verdict.duplicates,
            self.engines.written_again(&self.cluster, ledger::HOOK)
        );
        verdict.must_be_clean();
    }
}

/// The part of `/health/ready` that tells of an engine.
async fn part(api: &Api, name: &str) -> Option<(u16, serde_json::Value)> {
    let answer = api.get("/health/ready").await.ok()?;
    let view = answer.json();
    let part = view["parts"].as_array()?.iter().find(|part| part["name"] == name)?.clone();
    Some((answer.status, part))
}

#[test]
fn while_kafka_is_away_posts_are_refused_at_once_and_then_all_goes_on() {
    let _turn = turn::alone();
    let name = "kafka-away";
    let Some(engines) = Engines::distributed(name) else { return };
    run(async {
        let stage = Stage::set(engines, name, true).await;
        let before = stage.memory();
        stage.engines.servers().kill(KAFKA);
        let killed = Instant::now();
        let why = until_async("a ready that says why", Duration::from_secs(10), || async {
            let (status, part) = part(&stage.api, "log").await?;
            (status == 503 && part["ready"] == false).then(|| part["detail"].to_string())
        });
        println!("{name}: ready says: {}", why.await);
        tokio::time::sleep(away().saturating_sub(killed.elapsed())).await;
        let grown = stage.growth(&before);
        // From a second after the kill on nothing may be accepted: there is no log.
        let mut refused = stage.answered_since(killed + Duration::from_secs(1));
        assert!(refused.len() > 50, "clients asked on: {}", refused.len());
        assert!(refused.iter().all(|asked| asked.status == Some(503)), "{refused:?}");
        let mut took: Vec<Duration> = refused.drain(..).map(|asked| asked.took).collect();
        let worst = quantile(&mut took, 1.0);
        assert!(worst < ANSWER_MAX, "a refusal took {worst:?}");
        println!(
            "{name}: 503 in p50 {:.1?}, worst {worst:.1?}; a process took {grown} MiB more at most",
            quantile(&mut took, 0.5)
        );

        let accepted = stage.load.count();
        stage.engines.servers().start(KAFKA);
        let back = Instant::now();
        until("accepting again", Duration::from_secs(10), || (stage.load.count() > accepted).then_some(())).await;
        let accepting = back.elapsed();
        let taken = stage.receiver.taken();
        until("deliveries again", Duration::from_secs(30), || (stage.receiver.taken() > taken + 100).then_some(()))
            .await;
        println!("{name}: {:?} away; back after {accepting:.1?}, deliveries after {:.1?}", away(), back.elapsed());
        stage.ends_well(name).await;
    });
}

/// Needs no Kafka: none is there.
#[test]
fn a_process_that_starts_without_kafka_refuses_posts_says_why_and_ends_when_told() {
    let _turn = turn::beside_others();
    run(async {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let top = format!("log = \"kafka://{}\"", nobody.expect("a port that is free again"));
        let mut cluster = Cluster::with(&config(&top, ""));
        let all = cluster.start(&[]).await;
        let api = Api::new(cluster.url(all, "api"));
        let body = message("hook:http://127.0.0.1:9/", "c", "hi");
        until_async("a refusal that is sure", Duration::from_secs(10), || async {
            let answer = api.post("/v1/messages", &body).await.ok()?;
            assert_eq!(answer.status, 503, "{}", answer.text);
            (answer.json()["code"] == "log_unavailable" && !answer.header("retry-after").is_empty()).then_some(())
        })
        .await;
        let (status, part) = part(&api, "log").await.expect("an answer");
        assert!(status == 503 && part["ready"] == false, "{part}");
        assert!(cluster.log(all).contains("the log is away"), "{}", cluster.tail(all));
        let (ended, took) = cluster.terminate(all, Duration::from_secs(20)).await;
        assert!(ended.success(), "it ended with {ended}:\n{}", cluster.tail(all));
        println!("kafka-absent: ended {took:.1?} after SIGTERM");
    });
}

#[test]
fn while_cassandra_is_away_messages_are_accepted_and_delivered_and_statuses_follow() {
    let _turn = turn::alone();
    let name = "cassandra-away";
    let Some(engines) = Engines::distributed(name) else { return };
    run(async {
        let stage = Stage::set(engines, name, false).await;
        let before = stage.memory();
        stage.engines.servers().kill(CASSANDRA);
        let killed = Instant::now();
        let taken = stage.receiver.taken();
        let answer = until_async("a query that is refused", Duration::from_secs(10), || async {
            stage.api.get("/v1/messages").await.ok().filter(|answer| answer.status == 503)
        });
        let answer = answer.await;
        assert!(!answer.header("retry-after").is_empty() && !answer.text.contains("panicked"), "{}", answer.text);
        println!("{name}: a query says: {}", answer.text.trim());
        tokio::time::sleep(away().saturating_sub(killed.elapsed())).await;
        let delivered = (stage.receiver.taken() - taken) as f64 / killed.elapsed().as_secs_f64();
        let asked = stage.answered_since(killed);
        let refused = asked.iter().filter(|asked| asked.status != Some(202)).count();
        let grown = stage.growth(&before);
        println!(
            "{name}: {} asked, {refused} not accepted, {delivered:.0}/s delivered; a process took {grown} MiB more at most",
            asked.len()
        );
        assert!(refused * 1_000 <= asked.len(), "{refused} of {} were not accepted", asked.len());
        assert!(delivered > per_second() / 2.0, "deliveries go on: {delivered}/s");

        stage.engines.servers().start(CASSANDRA);
        let back = Instant::now();
        until_async("queries again", Duration::from_secs(30), || async {
            stage.api.get("/v1/messages").await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        until_async("all statuses", Duration::from_secs(60), || async {
            let view = stage.api.get("/v1/cluster").await.ok()?.json();
            let recorder = view["groups"].as_array()?.iter().find(|group| group["group"] == "recorder")?.clone();
            let lag = recorder["partitions"].as_array()?.iter().map(|partition| partition["lag"].as_u64());
            // What flows in meanwhile is always a little behind.
            ((lag.sum::<Option<u64>>()? as f64) < per_second()).then_some(())
        })
        .await;
        println!("{name}: {:?} away; statuses complete {:.1?} after it answered again", away(), back.elapsed());
        stage.ends_well(name).await;
    });
}
