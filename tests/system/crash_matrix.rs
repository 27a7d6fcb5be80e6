//! The crash matrix: at every durable step a process kills itself with SIGKILL, before it and after it, is started again, and
//! nothing may be lost, out of order, or repeated without a reason. `./test --long crash_matrix` prints the table that stands in
//! `docs/RELIABILITY.md`; `CHAT4ALL_POINT=park` goes only through the points with `park` in their names.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::checker::{self, Accepted, Taken, Verdict};
use crate::failover::nothing_is_open;
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, PATIENT, ROLES, config};
use crate::harness::engines::Engines;
use crate::harness::ledger::HOOK;
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::{Received, Receiver, Reply};
use crate::harness::{Random, long, run, turn, until, until_async};
use crate::takeover::shared_by;

/// Messages for each kill, and how many a second. On Kafka a takeover waits for the end of the session.
const MESSAGES: usize = 600;
const PER_SECOND: f64 = 300.0;
const PER_SECOND_ON_KAFKA: f64 = 50.0;
const CONVERSATIONS: usize = 40;
/// Every so manieth message of a conversation is refused for good.
const REFUSED: u64 = 9;
/// Clusters that run at a time.
const AT_A_TIME: usize = 4;
const LIMIT: Duration = Duration::from_secs(60);

/// What goes on while the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// Messages flow; some are tried again, some refused.
    Flows,
    /// Half of them go to a host that is away, and are parked.
    Parks,
    /// That host is back, and so is a process that takes in what is parked.
    Returns,
    /// Another connectors process joins.
    HandsOver,
}

/// A place to die at, the role it belongs to, and below how many times it is passed before.
#[derive(Debug, Clone, Copy)]
struct Point(&'static str, &'static str, u64, Scene);

const POINTS: [Point; 28] = [
    Point("api::before-append", "api", 200, Scene::Flows),
    Point("embedded-log::before-sync", "api", 200, Scene::Flows),
    Point("api::after-append", "api", 200, Scene::Flows),
    Point("router::before-write", "router", 30, Scene::Flows),
    Point("router::after-write", "router", 30, Scene::Flows),
    Point("connectors::before-call", "connectors", 100, Scene::Flows),
    Point("connectors::after-call", "connectors", 100, Scene::Flows),
    Point("connectors::before-status", "connectors", 40, Scene::Flows),
    Point("connectors::after-status", "connectors", 40, Scene::Flows),
    Point("connectors::before-dead-letter", "connectors", 10, Scene::Flows),
    Point("connectors::after-dead-letter", "connectors", 10, Scene::Flows),
    Point("connectors::before-commit", "connectors", 40, Scene::Flows),
    Point("connectors::after-commit", "connectors", 40, Scene::Flows),
    Point("connectors::before-park", "connectors", 8, Scene::Parks),
    Point("connectors::after-park", "connectors", 8, Scene::Parks),
    Point("connectors::before-return", "connectors", 3, Scene::Returns),
    Point("connectors::after-return", "connectors", 3, Scene::Returns),
    Point("connectors::before-commit", "connectors", 40, Scene::Parks),
    Point("connectors::after-call", "connectors", 100, Scene::Returns),
    Point("connectors::after-status", "connectors", 30, Scene::Returns),
    Point("connectors::after-commit", "connectors", 20, Scene::Returns),
    Point("runtime::before-drain", "connectors", 2, Scene::HandsOver),
    Point("runtime::before-release", "connectors", 2, Scene::HandsOver),
    Point("runtime::after-release", "connectors", 2, Scene::HandsOver),
    Point("recorder::before-write", "recorder", 30, Scene::Flows),
    Point("recorder::after-write", "recorder", 30, Scene::Flows),
    Point("runtime::before-commit", "recorder", 40, Scene::Flows),
    Point("runtime::after-commit", "recorder", 40, Scene::Flows),
];

/// Where the engines make a difference: a 202 whose claim is not marked, copies without their commit, an answer nobody knows, a
/// parked copy without its commit.
const POINTS_ON_KAFKA: [Point; 4] = [
    Point("api::after-append", "api", 200, Scene::Flows),
    Point("kafka-log::before-commit", "router", 30, Scene::Flows),
    Point("connectors::after-call", "connectors", 100, Scene::Flows),
    Point("connectors::after-park", "connectors", 8, Scene::Parks),
];

#[test]
fn crash_matrix_on_the_embedded_engines() {
    let _turn = turn::alone();
    matrix("embedded", &POINTS, || Some(Engines::Embedded));
}

#[test]
fn crash_matrix_on_kafka_and_cassandra() {
    let _turn = turn::alone();
    matrix("Kafka and Cassandra", &POINTS_ON_KAFKA, || Engines::distributed("crash matrix on Kafka"));
}

/// A row of the table.
struct Row {
    kills: usize,
    accepted: usize,
    verdict: Verdict,
    /// Records beyond the first of their id, which whoever reads has to drop.
    written_again: usize,
    refused: usize,
    /// From the last restart until all that was accepted before it had arrived.
    recovered: Duration,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { kills, accepted, verdict, written_again, refused, recovered } = self;
        let Verdict { lost, reordered, duplicates, unexplained } = verdict;
        let (lost, reordered, unexplained) = (lost.len(), reordered.len(), unexplained.len());
        let recovered = recovered.as_secs_f64();
        write!(
            f,
            "{kills} | {accepted} | {lost} | {reordered} | {duplicates} | {unexplained} | {written_again} | {refused} | {recovered:.1} s"
        )
    }
}

/// Goes through the points, some at a time, and prints the table. Panics unless every row is clean.
fn matrix(on: &str, points: &[Point], engines: impl Fn() -> Option<Engines> + Sync) {
    if !cfg!(feature = "failpoints") {
        println!("SKIPPED crash matrix: built without the feature `failpoints`");
        return;
    }
    let kills = if long() { 10 } else { 1 };
    let mut random = Random::from_env("crash matrix");
    let only = std::env::var("CHAT4ALL_POINT").unwrap_or_default();
    let points: Vec<Point> = points.iter().filter(|point| point.0.contains(&only)).copied().collect();
    let waiting: VecDeque<_> =
        points.iter().enumerate().map(|(place, point)| (place, *point, random.branch())).collect();
    let (waiting, rows) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    let work = || loop {
        let Some((place, point, random)) = waiting.lock().expect("no panic").pop_front() else { return };
        let Some(engines) = engines() else { return };
        let row = catch_unwind(AssertUnwindSafe(|| run(killed_at(point, &engines, kills, random))));
        rows.lock().expect("no panic").push((place, point.title(), row.ok()));
    };
    std::thread::scope(|scope| (0..AT_A_TIME).for_each(|_| drop(scope.spawn(work))));
    let mut rows = rows.into_inner().expect("no panic");
    rows.sort_by_key(|(place, ..)| *place);
    if rows.is_empty() {
        return; // It is skipped.
    }
    println!(
        "\n| killed at ({on}) | times | accepted | lost | out of order | duplicates | unexplained | written again | dead letters | all there after |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (_, name, row) in &rows {
        println!("| {name} | {} |", row.as_ref().map_or("failed, see above".to_owned(), Row::to_string));
    }
    assert_eq!(rows.len(), points.len());
    for (_, name, row) in rows {
        let row = row.unwrap_or_else(|| panic!("killed at {name}, it did not end well"));
        row.verdict.must_be_clean();
    }
}

/// Kills the role's process at the point again and again under load; what came of it.
async fn killed_at(point: Point, engines: &Engines, kills: usize, mut random: Random) -> Row {
    let Point(_, role, _, scene) = point;
    let mut stage = Stage::set(point, engines, &mut random).await;
    let loads = stage.loads(engines, kills);
    let mut restarted = (SystemTime::now(), 0);
    for kill in 1..=kills {
        stage.lead_up(&mut random).await;
        stage.dies(kill).await;
        let next = if kill < kills && scene != Scene::Returns { point.fails(&mut random) } else { String::new() };
        stage.cluster.env("FAILPOINTS", &next);
        restarted = (SystemTime::now(), loads[0].count());
        stage.cluster.spawn(stage.victim);
        if role == "api" {
            stage.cluster.opened(stage.victim).await;
            stage.api.moved(stage.cluster.url(stage.victim, "api"));
        }
    }
    stage.elsewhere.usually("/inbox", Reply::Status(200));
    let mut accepted = Vec::new();
    for load in loads {
        accepted.extend(load.finish(LIMIT * 5).await.0);
    }
    assert_eq!((accepted.len(), checker::doubled(&accepted)), (kills * MESSAGES, 0));
    // What is lost the checker tells, with all the rest.
    let all = until("all deliveries", LIMIT * 2, || (stage.distinct() >= accepted.len()).then_some(()));
    let arrived = tokio::time::timeout(LIMIT, all).await.is_ok();
    let refused = stage.refused();
    if arrived {
        statuses_are_right(&stage.api, &accepted, &refused).await;
    }
    stage.cluster.terminate_all().await;
    let written_again = engines.written_again(&stage.cluster, HOOK);
    let (count, recovered) = (accepted.len(), stage.recovered(&accepted, restarted));
    let verdict = stage.judge(engines, accepted);
    Row { kills, accepted: count, verdict, written_again, refused: refused.len(), recovered }
}

/// One process that dies, one with the other roles, and two receivers.
struct Stage {
    point: Point,
    cluster: Cluster,
    victim: usize,
    joiner: Option<usize>,
    api: Api,
    inbox: Receiver,
    /// Is away at times.
    elsewhere: Receiver,
}

impl Point {
    fn title(&self) -> String {
        let Point(name, _, _, scene) = self;
        match scene {
            Scene::Flows | Scene::HandsOver => format!("`{name}`"),
            Scene::Parks => format!("`{name}`, while half is parked"),
            Scene::Returns => format!("`{name}`, while what was parked returns"),
        }
    }

    /// For `FAILPOINTS`: dies once the point was passed some times.
    fn fails(&self, random: &mut Random) -> String {
        match random.below(self.2) {
            0 => format!("{}=1*return->off", self.0),
            passes => format!("{}={passes}*off->1*return->off", self.0),
        }
    }
}

impl Stage {
    async fn set(point: Point, engines: &Engines, random: &mut Random) -> Self {
        let Point(_, role, _, scene) = point;
        let (inbox, elsewhere) = (Receiver::start().await, Receiver::start().await);
        inbox.wobbles(random.branch());
        inbox.refuses(REFUSED);
        elsewhere.refuses(REFUSED);
        let top = format!("partitions = 4\n{}", engines.config());
        // Few, so that lanes are parked early.
        let text = config(&top, PATIENT) + "[in_memory]\nrecords = 40\n";
        let mut cluster = Cluster::with(&text);
        let others: Vec<&str> = ROLES.into_iter().filter(|other| *other != role).collect();
        let others = cluster.start(&others).await;
        if scene != Scene::Returns {
            cluster.env("FAILPOINTS", &point.fails(random));
        }
        let victim = cluster.start(&[role]).await;
        let api = Api::new(cluster.url(if role == "api" { victim } else { others }, "api"));
        api.ready(LIMIT).await;
        Self { point, cluster, victim, joiner: None, api, inbox, elsewhere }
    }

    /// The first one goes to the receiver that is there all the time.
    fn loads(&self, engines: &Engines, kills: usize) -> Vec<Load> {
        let to = match self.point.3 {
            Scene::Flows | Scene::HandsOver => vec![("inbox", &self.inbox)],
            Scene::Parks | Scene::Returns => {
                self.elsewhere.usually("/inbox", Reply::Status(503));
                vec![("inbox", &self.inbox), ("elsewhere", &self.elsewhere)]
            }
        };
        let per_second = match engines {
            Engines::Embedded => PER_SECOND / to.len() as f64, // To be parked takes its time.
            Engines::Distributed(_) => PER_SECOND_ON_KAFKA,
        };
        let start = |(name, receiver): &(&'static str, &Receiver)| {
            let plan = Plan {
                name,
                conversations: CONVERSATIONS / to.len(),
                messages: kills * MESSAGES / to.len(),
                per_second: per_second / to.len() as f64,
                target: receiver.target("/inbox"),
                insists: true,
            };
            Load::start(&plan, &self.api)
        };
        to.iter().map(start).collect()
    }

    /// Brings about that the point is passed.
    async fn lead_up(&mut self, random: &mut Random) {
        match self.point.3 {
            Scene::Flows | Scene::Parks => {}
            Scene::Returns => {
                self.elsewhere.usually("/inbox", Reply::Status(503));
                tokio::time::sleep(Duration::from_secs(3)).await;
                self.cluster.terminate(self.victim, LIMIT).await;
                self.elsewhere.usually("/inbox", Reply::Status(200));
                self.cluster.env("FAILPOINTS", &self.point.fails(random));
                self.cluster.spawn(self.victim);
            }
            Scene::HandsOver => {
                if let Some(joiner) = self.joiner {
                    shared_by(&self.api, HOOK, 2, LIMIT).await;
                    self.cluster.terminate(joiner, LIMIT).await;
                }
                shared_by(&self.api, HOOK, 1, LIMIT).await;
                self.cluster.env("FAILPOINTS", "");
                match self.joiner {
                    Some(joiner) => self.cluster.start_again(joiner).await,
                    None => self.joiner = Some(self.cluster.start(&["connectors"]).await),
                }
            }
        }
    }

    async fn dies(&mut self, kill: usize) {
        let tail = self.cluster.tail(self.victim);
        let status = self.cluster.ended(self.victim, LIMIT).await;
        assert_eq!(status.signal(), Some(9), "{:?}, kill {kill}: {status}\n{tail}", self.point);
    }

    fn ends(&self) -> Vec<Received> {
        let mut requests = self.inbox.requests();
        requests.extend(self.elsewhere.requests());
        requests.retain(ends);
        requests
    }

    fn distinct(&self) -> usize {
        [&self.inbox, &self.elsewhere].map(|receiver| receiver.distinct_that(ends)).iter().sum()
    }

    /// Ids of the messages that were refused.
    fn refused(&self) -> HashSet<String> {
        let ends = self.ends();
        ends.iter().filter(|request| !request.taken()).map(|request| request.data("message_id").to_owned()).collect()
    }

    /// The time from the last restart until all of the first load had arrived that was accepted before.
    fn recovered(&self, accepted: &[Accepted], (restarted, count): (SystemTime, usize)) -> Duration {
        let mut arrived: HashMap<String, SystemTime> = HashMap::new();
        for end in self.ends() {
            arrived.entry(end.data("message_id").to_owned()).or_insert(end.at);
        }
        let last = accepted[..count].iter().filter_map(|one| arrived.get(&one.message_id)).max();
        last.and_then(|last| last.duration_since(restarted).ok()).unwrap_or_default()
    }

    /// Once all processes have ended.
    fn judge(&self, engines: &Engines, accepted: Vec<Accepted>) -> Verdict {
        let ends = self.ends().iter().map(Taken::of).collect();
        checker::judge(&engines.evidence_of("hook", &self.cluster, accepted, ends))
    }
}

/// Whether a delivery ended with this: a refusal counts too, and takes part in the order.
fn ends(request: &Received) -> bool {
    request.taken() || request.status == Some(410)
}

/// Waits until every message shows its end, and the dead letters are exactly those of the messages refused.
async fn statuses_are_right(api: &Api, accepted: &[Accepted], refused: &HashSet<String>) {
    for one in accepted.iter().step_by(accepted.len().div_ceil(MESSAGES)) {
        let view = api.ended(&one.message_id, LIMIT).await;
        let expected = if refused.contains(&one.message_id) { "failed" } else { "delivered" };
        assert_eq!(view["status"], expected, "{view}");
    }
    nothing_is_open(api, "delivered").await;
    until_async("the dead letters", LIMIT, || async { (dead_letters(api).await? == *refused).then_some(()) }).await;
}

/// Ids of the messages that the dead letters are about.
async fn dead_letters(api: &Api) -> Option<HashSet<String>> {
    let (mut found, mut cursor) = (HashSet::new(), String::new());
    loop {
        let page = api.get(&format!("/v1/dead-letters?limit=200{cursor}")).await.ok()?.json();
        let ids =
            page["dead_letters"].as_array()?.iter().map(|letter| letter["message_id"].as_str().map(str::to_owned));
        found.extend(ids.collect::<Option<Vec<_>>>()?);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Some(found),
        }
    }
}
