//! The operator's hand, through any api: what is paused is known to every process and after a restart, a process is
//! drained from elsewhere, what has arrived cannot be cancelled.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, ROLES};
use crate::harness::receiver::Receiver;
use crate::harness::{ledger, run, turn, until_async};

const LIMIT: Duration = Duration::from_secs(20);
/// How soon every process knows of it.
const KNOWN_MAX: Duration = Duration::from_secs(1);

/// Two processes with every role.
struct Pair {
    cluster: Cluster,
    apis: [Api; 2],
}

impl Pair {
    async fn start() -> Self {
        let mut cluster = Cluster::new();
        let [one, two] = [cluster.start(&ROLES).await, cluster.start(&ROLES).await];
        let apis = [one, two].map(|process| Api::new(cluster.url(process, "api")));
        for api in &apis {
            api.ready(LIMIT).await;
        }
        Self { cluster, apis }
    }

    async fn restart(&mut self) {
        self.cluster.terminate_all().await;
        for process in [0, 1] {
            self.cluster.start_again(process).await;
            self.apis[process].moved(self.cluster.url(process, "api"));
            self.apis[process].ready(LIMIT).await;
        }
    }

    fn cli(&self, args: &[&str]) -> Output {
        let url = self.cluster.url(0, "api");
        self.cluster.command(args).args(["--url", &url]).output().expect("the binary runs")
    }

    fn says(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

/// Waits until the api shows that `hook` is paused, or is not.
async fn shows(api: &Api, paused: bool) -> Duration {
    let begin = Instant::now();
    until_async("the channel's state", LIMIT, || async {
        let view = api.get("/v1/channels/hook").await.ok()?.json();
        (view["paused"] == paused).then_some(())
    })
    .await;
    begin.elapsed()
}

async fn set(api: &Api, action: &str) -> Value {
    let answer = api.post(&format!("/v1/channels/hook/{action}"), &json!({})).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[test]
fn a_pause_is_known_to_every_process_within_a_second_and_after_a_restart() {
    let _turn = turn::alone();
    run(async {
        let mut pair = Pair::start().await;
        shows(&pair.apis[1], false).await;
        let since = set(&pair.apis[0], "pause").await["paused_since"].clone();
        let took = shows(&pair.apis[1], true).await;
        println!("operator: the other process knew of the pause after {took:?}");
        assert!(took < KNOWN_MAX, "{took:?}");
        assert_eq!(set(&pair.apis[1], "pause").await["paused_since"], since, "asked again elsewhere");

        pair.restart().await;
        for api in &pair.apis {
            shows(api, true).await;
            assert_eq!(api.get("/v1/channels/hook").await.expect("an answer").json()["paused_since"], since);
        }
        set(&pair.apis[1], "resume").await;
        let took = shows(&pair.apis[0], false).await;
        assert!(took < KNOWN_MAX, "{took:?}");
        pair.restart().await;
        shows(&pair.apis[0], false).await;
        pair.cluster.terminate_all().await;
    });
}

#[test]
fn an_operator_drains_a_process_from_elsewhere() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let mut pair = Pair::start().await;
        let pid = pair.cluster.pid(1);
        let name = until_async("the process", LIMIT, || async {
            let view = pair.apis[0].get("/v1/cluster").await.ok()?.json();
            let process = view["processes"].as_array()?.iter().find(|one| one["pid"] == pid)?.clone();
            Some(process["process"].as_str()?.to_owned())
        })
        .await;
        let said = pair.says(&["drain", &name]);
        assert!(said.contains(&name) && said.contains(&pid.to_string()), "{said}");
        let status = pair.cluster.ended(1, Duration::from_secs(25)).await;
        assert!(status.success(), "it ended with {status}:\n{}", pair.cluster.tail(1));
        assert!(pair.cluster.log(1).contains("an operator asked for it"));
        let again = pair.cli(&["drain", &name]);
        assert_eq!(again.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&again.stderr).contains("process_not_found"));

        let id = pair.apis[0].accepted(&receiver.target("/inbox"), "c", "the other one goes on").await;
        assert_eq!(pair.apis[0].ended(&id, LIMIT).await["status"], "delivered");
        pair.cluster.terminate_all().await;
        let log = ledger::open(&pair.cluster.data());
        let left: i64 = log.query_row("SELECT count(*) FROM latest", [], |row| row.get(0)).expect("the schema");
        assert_eq!(left, 0, "the wish was taken back");
    });
}

#[test]
fn an_operator_lists_pauses_and_resumes_on_the_command_line() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let mut pair = Pair::start().await;
        assert!(pair.says(&["channels", "list"]).contains("running"));
        assert_eq!(pair.says(&["channels", "pause", "hook"]).trim(), "hook is paused, 0 waiting");
        assert!(pair.says(&["channels", "show", "hook"]).contains("hook  paused since "));
        let listed: Value = serde_json::from_str(&pair.says(&["channels", "list", "--json"])).expect("JSON");
        assert_eq!(listed["channels"][0]["paused"], true);
        assert_eq!(pair.says(&["channels", "resume", "hook"]).trim(), "hook is running, 0 waiting");
        let unknown = pair.cli(&["channels", "pause", "fax"]);
        assert_eq!(unknown.status.code(), Some(1));
        let complained = String::from_utf8_lossy(&unknown.stderr).into_owned();
        assert!(complained.contains("fax") && complained.contains("hook"), "{complained}");

        let id = pair.apis[0].accepted(&receiver.target("/inbox"), "c", "arrives").await;
        pair.apis[0].ended(&id, LIMIT).await;
        let late = pair.cli(&["cancel", &id]);
        assert_eq!(late.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&late.stderr).contains("too_late"));
        pair.cluster.terminate_all().await;
    });
}
