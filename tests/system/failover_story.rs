//! The run behind `docs/FAILOVER.md`: two processes of each role, of which one each is killed; on real servers then the
//! only broker, then Cassandra. Prints a row of the table there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use crate::checker::{self, Evidence, Position};
use crate::failover::all_end;
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, PATIENT, config};
use crate::harness::engines::{CASSANDRA, Engines, KAFKA};
use crate::harness::load::{Asked, Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::{Random, ledger, long, quantile, run, turn, until, until_async};

/// A worker's role, and its group.
const WORKERS: [(&str, &str); 3] = [("router", "router"), ("connectors", "connectors-hook"), ("recorder", "recorder")];
/// Longest wait for a killed process's partitions to have another holder.
const TAKEOVER_MAX: Duration = Duration::from_secs(15);
/// How long a server stays away.
const AWAY: Duration = Duration::from_secs(10);
/// Longest wait for work to go on once a server answers again.
const RESUME_MAX: Duration = Duration::from_secs(30);
/// Longest time in which a survivor's own partitions stand still while it takes others over.
const SURVIVORS_GAP_MAX: Duration = Duration::from_secs(3);

/// What the kill of one process of each role did.
struct Kill {
    at: SystemTime,
    /// Until the last of its partitions had another holder, by role.
    takeovers: BTreeMap<&'static str, Duration>,
    /// Partitions of the outbound topic whose router and connectors process both went on.
    kept: BTreeSet<u32>,
    ended_at: SystemTime,
}

async fn story(engines: Engines, name: &'static str) {
    let receiver = Receiver::start().await;
    receiver.wobbles(Random::from_env(name));
    let mut cluster = Cluster::with(&config(&engines.config(), PATIENT));
    let apis = [cluster.start(&["api"]).await, cluster.start(&["api"]).await];
    let mut pairs = Vec::new();
    for (role, _) in WORKERS {
        pairs.push([cluster.start(&[role]).await, cluster.start(&[role]).await]);
    }
    let clients = apis.map(|id| Api::new(cluster.url(id, "api")));
    clients[0].ready(Duration::from_secs(30)).await;
    for (_, group) in WORKERS {
        held_by(&clients[0], group, 2, Duration::from_secs(30)).await;
    }
    let plan = Plan {
        name,
        conversations: 200,
        messages: if long() { 200_000 } else { 20_000 },
        per_second: 1_000.0,
        target: receiver.target("/inbox"),
        insists: true,
    };
    let load = Load::start_on(&plan, &clients);
    until("the load to flow", Duration::from_secs(60), || (load.count() >= 2_000).then_some(())).await;

    let kill = kill_one_of_each(&mut cluster, &clients, apis, &pairs).await;
    let mut notes = Vec::new();
    if let Engines::Distributed(_) = engines {
        let back = away(&engines, KAFKA).await;
        let before = load.count();
        until("accepting after Kafka", RESUME_MAX, || (load.count() > before).then_some(())).await;
        notes.push(("Kafka", "messages were accepted", back.elapsed()));
        let back = away(&engines, CASSANDRA).await;
        until_async("answers after Cassandra", RESUME_MAX, || async {
            clients[0].get("/v1/messages").await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        notes.push(("Cassandra", "queries were answered", back.elapsed()));
    }
    let asked = load.asked();
    let (accepted, rate) = load.finish(Duration::from_secs(240)).await;
    assert_eq!((accepted.len(), checker::doubled(&accepted)), (plan.messages, 0));
    all_end(&clients[0], &accepted, "delivered").await;
    cluster.terminate_all().await;

    let evidence = engines.evidence(&cluster, accepted, &receiver);
    let verdict = checker::judge(&evidence);
    let gaps = Gaps::of(&evidence, &kill);
    let asked = asked.lock().expect("no panic").clone();
    println!("{name}: {rate:.0}/s accepted, {} lost, {} reordered", verdict.lost.len(), verdict.reordered.len());
    for (role, took) in &kill.takeovers {
        println!("{name}: all work of the {role} had a living holder {took:.1?} after the kill");
    }
    for (server, what, after) in notes {
        println!("{name}: {server} was killed for {AWAY:?}; {what} {after:.1?} after it served again");
    }
    println!("{}", row(name, &kill, &gaps, &mut during(&asked, &kill), verdict.duplicates));
    println!("{name}: {} records written again on the log", engines.written_again(&cluster, ledger::HOOK));
    verdict.must_be_clean();
    assert!(!kill.kept.is_empty(), "a partition whose workers all survived");
    assert!(gaps.kept < SURVIVORS_GAP_MAX, "the survivors' own partitions stood still for {:?}", gaps.kept);
}

/// Kills one process of each role at once, and starts them again when the others have taken over.
async fn kill_one_of_each(cluster: &mut Cluster, clients: &[Api; 2], apis: [usize; 2], pairs: &[[usize; 2]]) -> Kill {
    let [routers, connectors, recorders] = pairs else { panic!("three pairs") };
    let routed_on = partitions_of(&clients[0], cluster, "router", routers[1]).await;
    let mut kept = Vec::new();
    for &id in connectors {
        let delivered_on = partitions_of(&clients[0], cluster, "connectors-hook", id).await;
        kept.push(delivered_on.intersection(&routed_on).copied().collect::<BTreeSet<u32>>());
    }
    // Of the connectors the one dies whose partitions lose their router too: the other's go on.
    let stays = usize::from(kept[1].len() > kept[0].len());
    let victims = [routers[0], connectors[1 - stays], recorders[0]];

    let (at, begin) = (SystemTime::now(), Instant::now());
    cluster.kill(apis[0]);
    clients[0].moved(cluster.url(apis[1], "api"));
    victims.iter().for_each(|&id| cluster.kill(id));
    let mut takeovers = BTreeMap::new();
    for (role, group) in WORKERS {
        held_by(&clients[1], group, 1, TAKEOVER_MAX).await;
        takeovers.insert(role, begin.elapsed());
    }
    let ended_at = SystemTime::now();
    for id in victims.into_iter().chain([apis[0]]) {
        cluster.start_again(id).await;
    }
    clients[0].moved(cluster.url(apis[0], "api"));
    for (_, group) in WORKERS {
        held_by(&clients[1], group, 2, TAKEOVER_MAX).await;
    }
    Kill { at, takeovers, kept: kept.swap_remove(stays), ended_at }
}

/// For each partition that `group` works on, the process that holds it; `None` while one has no holder.
async fn holders(api: &Api, group: &str) -> Option<Vec<String>> {
    let view = api.get("/v1/cluster").await.ok()?.json();
    let group = view["groups"].as_array()?.iter().find(|one| one["group"] == group)?.clone();
    let partitions = group["partitions"].as_array()?.iter();
    partitions.map(|partition| partition["holder"].as_str().map(str::to_owned)).collect()
}

/// Waits until `members` processes share all partitions of a group.
async fn held_by(api: &Api, group: &str, members: usize, limit: Duration) {
    until_async(&format!("{members} holders in {group}"), limit, || async {
        let holders: BTreeSet<String> = holders(api, group).await?.into_iter().collect();
        (holders.len() == members).then_some(())
    })
    .await;
}

/// Of a group with one topic.
async fn partitions_of(api: &Api, cluster: &Cluster, group: &str, id: usize) -> BTreeSet<u32> {
    // Under load the view may take longer than the api waits for it.
    let limit = Duration::from_secs(20);
    let process = until_async("the process", limit, || async {
        let view = api.get("/v1/cluster").await.ok()?.json();
        let process = view["processes"].as_array()?.iter().find(|process| process["pid"] == cluster.pid(id))?;
        process["process"].as_str().map(str::to_owned)
    })
    .await;
    let holders = until_async("a holder of every partition", limit, || holders(api, group)).await;
    (0..).zip(holders).filter(|(_, holder)| process == *holder).map(|(partition, _)| partition).collect()
}

/// Kills a server for a while; when it served again.
async fn away(engines: &Engines, server: &str) -> Instant {
    engines.servers().kill(server);
    tokio::time::sleep(AWAY).await;
    engines.servers().start(server);
    Instant::now()
}

/// Longest times without a delivery from the kill until all partitions had a holder.
struct Gaps {
    all: Duration,
    /// Of the partitions whose workers survived.
    kept: Duration,
}

impl Gaps {
    fn of(evidence: &Evidence, kill: &Kill) -> Self {
        let end = kill.ended_at + Duration::from_secs(1);
        let during = |is_ours: &dyn Fn(&Position) -> bool| {
            let ours =
                evidence.taken.iter().filter(|taken| evidence.positions.get(&taken.delivery_id).is_some_and(is_ours));
            let mut times: Vec<SystemTime> =
                ours.map(|taken| taken.at).filter(|at| (kill.at..end).contains(at)).collect();
            times.extend([kill.at, end]);
            times.sort();
            let gaps = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).unwrap_or_default());
            gaps.max().expect("two times at least")
        };
        Self { all: during(&|_| true), kept: during(&|position| kill.kept.contains(&position.partition)) }
    }
}

/// What clients saw from the kill until all partitions had a holder.
fn during(asked: &[Asked], kill: &Kill) -> Vec<Asked> {
    let ago = |time: SystemTime| Instant::now() - time.elapsed().unwrap_or_default();
    let (from, to) = (ago(kill.at), ago(kill.ended_at));
    asked.iter().filter(|asked| (from..to).contains(&asked.at)).copied().collect()
}

/// A row of the table in `docs/FAILOVER.md`.
fn row(name: &str, kill: &Kill, gaps: &Gaps, asked: &mut [Asked], duplicates: usize) -> String {
    let errors = asked.iter().filter(|asked| asked.status != Some(202)).count();
    let share = 100.0 * errors as f64 / asked.len().max(1) as f64;
    let mut took: Vec<Duration> =
        asked.iter().filter(|asked| asked.status == Some(202)).map(|asked| asked.took).collect();
    let takeover = kill.takeovers.values().max().expect("a takeover");
    format!(
        "| {name} | {takeover:.1?} | {:.2?} | {:.2?} | {:.1?} | {:.1?} | {share:.2} % | {duplicates} |",
        gaps.all,
        gaps.kept,
        quantile(&mut took, 0.95),
        quantile(&mut took, 0.99),
    )
}

#[test]
fn the_story_on_the_embedded_engines() {
    let _turn = turn::alone();
    run(story(Engines::Embedded, "embedded"));
}

#[test]
fn the_story_on_kafka_and_cassandra_both_killed_in_the_end() {
    let _turn = turn::alone();
    if let Some(engines) = Engines::distributed("the story on Kafka and Cassandra") {
        run(story(engines, "kafka+cassandra"));
    }
}
