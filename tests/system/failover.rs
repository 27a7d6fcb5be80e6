//! Processes are killed one after the other while messages flow; the others take over.

use std::time::{Duration, Instant};

use crate::checker::{self, Evidence, Verdict};
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, PATIENT, config};
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::{Random, ledger, long, run, turn, until};

/// Duplicates that a kill of one connectors process may cause at this load.
const DUPLICATES_PER_KILL: usize = 100;

struct Shape {
    test: &'static str,
    messages: usize,
    rounds: u64,
    commit_interval: &'static str,
    /// Nobody is killed before.
    quiet: Duration,
    /// Whether one of each role is killed, or only a connectors process.
    all_roles: bool,
}

struct Outcome {
    verdict: Verdict,
    /// Of connectors processes.
    kills: usize,
}

async fn fail_over(shape: &Shape) -> Outcome {
    const PER_SECOND: f64 = 600.0;
    let mut random = Random::from_env(shape.test);
    let receiver = Receiver::start().await;
    let mut cluster = Cluster::with(&config(&format!("commit_interval = \"{}\"", shape.commit_interval), PATIENT));
    receiver.wobbles(random.branch());
    let mut members: Vec<(&str, Vec<usize>)> = Vec::new();
    for (role, count) in [("api", 1), ("router", 3), ("connectors", 3), ("recorder", 2)] {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(cluster.start(&[role]).await);
        }
        members.push((role, ids));
    }
    let api_process = members[0].1[0];
    let api = Api::new(cluster.url(api_process, "api"));
    api.ready(Duration::from_secs(10)).await;
    let plan = Plan {
        name: shape.test,
        conversations: 200,
        messages: shape.messages,
        per_second: PER_SECOND,
        target: receiver.target("/inbox"),
        insists: true,
    };
    let load = Load::start(&plan, &api);
    let begin = Instant::now();

    // Each role dies once a round, at its own moment, and comes back a second later. At least 2.5 s lie between its
    // deaths: whoever comes back takes part before the next one.
    let round = Duration::from_secs_f64(shape.messages as f64 / PER_SECOND) / (shape.rounds as u32 + 1);
    let mut timeline: Vec<(Duration, bool, usize)> = Vec::new();
    for number in 0..shape.rounds {
        for (_, ids) in members.iter().filter(|(role, _)| shape.all_roles || *role == "connectors") {
            let at =
                shape.quiet + round * number as u32 + random.pause(round.saturating_sub(Duration::from_millis(2_500)));
            let id = ids[random.below(ids.len() as u64) as usize];
            timeline.push((at, true, id));
            timeline.push((at + Duration::from_secs(1), false, id));
        }
    }
    timeline.sort();
    let kills = timeline.iter().filter(|(_, dies, id)| *dies && members[2].1.contains(id)).count();
    for (at, dies, id) in timeline {
        tokio::time::sleep_until((begin + at).into()).await;
        if dies {
            cluster.kill(id);
        } else {
            cluster.start_again(id).await;
            if id == api_process {
                api.moved(cluster.url(id, "api"));
            }
        }
    }

    let (accepted, rate) = load.finish(Duration::from_secs(180)).await;
    assert_eq!(accepted.len(), shape.messages, "every client got its 202 in the end");
    assert_eq!(checker::doubled(&accepted), 0);
    let all_taken = Instant::now();
    until("all deliveries", Duration::from_secs(60), || (receiver.distinct() >= accepted.len()).then_some(())).await;
    println!("{}: {:.0}/s accepted, all delivered {:?} after the last 202", shape.test, rate, all_taken.elapsed());
    for accepted in accepted.iter().step_by(accepted.len() / 100) {
        let view = api.ended(&accepted.message_id, Duration::from_secs(20)).await;
        assert_eq!(view["status"], "delivered", "{view}");
    }
    cluster.terminate_all().await;

    let evidence = Evidence {
        accepted,
        taken: checker::taken(&receiver.requests()),
        takeovers: ledger::takeovers(&cluster.logs()),
        positions: ledger::positions(&cluster.data()),
    };
    let verdict = checker::judge(&evidence);
    println!(
        "{}: {} takeovers, {kills} kills of connectors, {} duplicates ({} unexplained), {} lost, {} reordered",
        shape.test,
        evidence.takeovers.len(),
        verdict.duplicates,
        verdict.unexplained.len(),
        verdict.lost.len(),
        verdict.reordered.len()
    );
    verdict.must_be_clean();
    ledger::must_be_written_once(&cluster.data());
    Outcome { verdict, kills }
}

#[test]
fn killed_processes_lose_nothing_and_reorder_nothing() {
    let _turn = turn::alone();
    let (messages, rounds) = if long() { (100_000, 30) } else { (10_000, 3) };
    let shape =
        Shape { test: "failover", messages, rounds, commit_interval: "50ms", quiet: Duration::ZERO, all_roles: true };
    let Outcome { verdict, kills } = run(fail_over(&shape));
    assert!(verdict.duplicates < DUPLICATES_PER_KILL * kills.max(1), "{} for {kills} kills", verdict.duplicates);
}

/// The bound above would mean nothing if it also held with commits that come far too late. The kill comes half way
/// between two of them.
#[test]
fn late_commits_break_the_bound_on_duplicates_and_nothing_else() {
    let _turn = turn::alone();
    let shape = Shape {
        test: "late-commits",
        messages: 6_000,
        rounds: 1,
        commit_interval: "5s",
        quiet: Duration::from_millis(2_500),
        all_roles: false,
    };
    let Outcome { verdict, kills } = run(fail_over(&shape));
    assert!(verdict.duplicates >= DUPLICATES_PER_KILL * kills, "only {} for {kills} kills", verdict.duplicates);
}
