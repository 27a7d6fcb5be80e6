//! Processes are killed one after the other while messages flow; the others take over.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::checker::{self, Accepted, Taken, Verdict};
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, PATIENT, config};
use crate::harness::engines::Engines;
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::simulated::{self, WhatsApp};
use crate::harness::{Random, long, run, turn, until_async};

/// Duplicates that a kill of one connectors process may cause at this load.
const DUPLICATES_PER_KILL: usize = 100;
const CONVERSATIONS: usize = 200;

struct Shape {
    test: &'static str,
    messages: usize,
    per_second: f64,
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

/// Who takes what is sent.
enum Provider {
    Hook(Receiver),
    WhatsApp(WhatsApp),
}

impl Provider {
    async fn hook(random: &mut Random) -> Self {
        let receiver = Receiver::start().await;
        receiver.wobbles(random.branch());
        Self::Hook(receiver)
    }

    /// Each answer takes a while, so that attempts are open when somebody is killed.
    async fn whatsapp() -> Self {
        let whatsapp = WhatsApp::start(Duration::from_millis(200));
        for conversation in 0..CONVERSATIONS {
            let path = format!("/faults/whatsapp/{}", number(conversation).trim_start_matches('+'));
            whatsapp.put(&path, &json!({"latency": "25ms"})).await;
        }
        Self::WhatsApp(whatsapp)
    }

    fn config(&self, top: &str) -> String {
        match self {
            Self::Hook(_) => config(top, PATIENT),
            Self::WhatsApp(whatsapp) => config(top, "") + &whatsapp.channel(""),
        }
    }

    fn target(&self) -> String {
        match self {
            Self::Hook(receiver) => receiver.target("/inbox"),
            Self::WhatsApp(_) => format!("{}:{}", simulated::CHANNEL, number_of("{conversation}")),
        }
    }

    fn channel(&self) -> &'static str {
        match self {
            Self::Hook(_) => "hook",
            Self::WhatsApp(_) => simulated::CHANNEL,
        }
    }

    /// What a message's status is at last.
    fn end(&self) -> &'static str {
        match self {
            Self::Hook(_) => "delivered",
            Self::WhatsApp(_) => "read",
        }
    }

    async fn api_moved(&self, url: &str) {
        if let Self::WhatsApp(whatsapp) = self {
            whatsapp.reports_to(url).await;
        }
    }

    async fn taken(&self, accepted: &[Accepted]) -> Vec<Taken> {
        match self {
            Self::Hook(receiver) => checker::taken(&receiver.requests()),
            Self::WhatsApp(whatsapp) => {
                let of = |conversation: &str| number_of(conversation.rsplit('-').next().expect("a number at its end"));
                whatsapp.taken(accepted, of).await
            }
        }
    }

    /// Nothing more is on its way to us, and nothing was given up.
    async fn settled(&self) {
        let Self::WhatsApp(whatsapp) = self else { return };
        let limit = Duration::from_secs(60);
        let lost = until_async("all receipts", limit, || async {
            let (waiting, lost) = whatsapp.receipts().await;
            (waiting == 0).then_some(lost)
        });
        assert_eq!(lost.await, 0, "receipts were given up");
    }
}

fn number(conversation: usize) -> String {
    number_of(&conversation.to_string())
}

/// Every conversation has a phone of its own.
fn number_of(conversation: &str) -> String {
    format!("+5562996{conversation}")
}

async fn fail_over(shape: &Shape, provider: Provider, random: &mut Random) -> Outcome {
    let mut cluster = Cluster::with(&provider.config(&format!("commit_interval = \"{}\"", shape.commit_interval)));
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
    provider.api_moved(&cluster.url(api_process, "api")).await;
    let plan = Plan {
        name: shape.test,
        conversations: CONVERSATIONS,
        messages: shape.messages,
        per_second: shape.per_second,
        target: provider.target(),
        insists: true,
    };
    let load = Load::start(&plan, &api);
    let begin = Instant::now();

    // Each role dies once a round, at its own moment, and comes back a second later. At least 2.5 s lie between its
    // deaths: whoever comes back takes part before the next one.
    let round = Duration::from_secs_f64(shape.messages as f64 / shape.per_second) / (shape.rounds as u32 + 1);
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
                provider.api_moved(&cluster.url(id, "api")).await;
            }
        }
    }

    let (accepted, rate) = load.finish(Duration::from_secs(180)).await;
    assert_eq!(accepted.len(), shape.messages, "every client got its 202 in the end");
    assert_eq!(checker::doubled(&accepted), 0);
    let all_accepted = Instant::now();
    all_end(&api, &accepted, provider.end()).await;
    provider.settled().await;
    println!("{}: {:.0}/s accepted, all ended {:?} after the last 202", shape.test, rate, all_accepted.elapsed());
    cluster.terminate_all().await;

    let engines = Engines::Embedded;
    let taken = provider.taken(&accepted).await;
    let evidence = engines.evidence_of(provider.channel(), &cluster, accepted, taken);
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
    engines.written_again(&cluster, &format!("{}-outbound", provider.channel()));
    Outcome { verdict, kills }
}

/// Waits until every message has ended. That they show the status `end` is asked of some, that none shows another of all.
pub async fn all_end(api: &Api, accepted: &[Accepted], end: &str) {
    for one in accepted.iter().step_by(accepted.len().div_ceil(200)) {
        reaches(api, &one.message_id, end).await;
    }
    nothing_is_open(api, end).await;
}

/// Waits until no channel has anything to do and no message shows a status that is not an end.
pub async fn nothing_is_open(api: &Api, end: &str) {
    until_async("all deliveries", Duration::from_secs(60), || async {
        let waiting = api.get("/v1/channels").await.ok()?.json();
        let waiting = waiting["channels"].as_array()?.iter().map(|channel| channel["waiting"].as_u64());
        (waiting.sum::<Option<u64>>()? == 0).then_some(())
    })
    .await;
    for unfinished in ["queued", "retrying", "sent"].into_iter().filter(|status| *status != end) {
        until_async(&format!("no message that is `{unfinished}`"), Duration::from_secs(60), || async {
            let found = api.get(&format!("/v1/messages?status={unfinished}")).await.ok()?.json();
            found["messages"].as_array()?.is_empty().then_some(())
        })
        .await;
    }
}

async fn reaches(api: &Api, id: &str, status: &str) {
    let limit = Duration::from_secs(60);
    until_async(&format!("`{status}` of {id}"), limit, || async {
        let view = api.show(id).await?;
        (view["status"] == status).then_some(())
    })
    .await;
}

#[test]
fn killed_processes_lose_nothing_and_reorder_nothing() {
    let _turn = turn::alone();
    let (messages, rounds) = if long() { (100_000, 30) } else { (10_000, 3) };
    let shape = Shape {
        test: "failover",
        messages,
        per_second: 600.0,
        rounds,
        commit_interval: "50ms",
        quiet: Duration::ZERO,
        all_roles: true,
    };
    let mut random = Random::from_env(shape.test);
    let Outcome { verdict, kills } =
        run(async { fail_over(&shape, Provider::hook(&mut random).await, &mut random).await });
    assert!(verdict.duplicates < DUPLICATES_PER_KILL * kills.max(1), "{} for {kills} kills", verdict.duplicates);
}

/// An attempt that was open at a kill is made again, since nobody knows; and no receipt is lost, though the api that they
/// are sent to is killed too.
#[test]
fn killed_processes_lose_no_whatsapp_message_and_no_receipt() {
    let _turn = turn::alone();
    let (messages, rounds) = if long() { (30_000, 30) } else { (3_600, 3) };
    let shape = Shape {
        test: "failover-whatsapp",
        messages,
        per_second: 200.0,
        rounds,
        commit_interval: "50ms",
        quiet: Duration::ZERO,
        all_roles: true,
    };
    let mut random = Random::from_env(shape.test);
    let Outcome { verdict, kills } = run(async { fail_over(&shape, Provider::whatsapp().await, &mut random).await });
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
        per_second: 600.0,
        rounds: 1,
        commit_interval: "5s",
        quiet: Duration::from_millis(2_500),
        all_roles: false,
    };
    let mut random = Random::from_env(shape.test);
    let Outcome { verdict, kills } =
        run(async { fail_over(&shape, Provider::hook(&mut random).await, &mut random).await });
    assert!(verdict.duplicates >= DUPLICATES_PER_KILL * kills, "only {} for {kills} kills", verdict.duplicates);
}
