//! Prometheus itself on a real cluster with faults in it: what rules and dashboards ask for is there.
//!
//! An alert that does not fire is rightly empty. So what is asked is this: each series that a rule, a panel or a variable names has
//! to be there, with those labels; each panel and each recorded rule has to have an answer as a whole, comparisons with numbers left
//! out. That alerts fire when they should is for `monitoring/rules/tests`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::arrivals::{at_rest, telegram, telegram_takes};
use crate::harness::client::{Api, message};
use crate::harness::cluster::{Cluster, binary, config};
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::simulated::WhatsApp;
use crate::harness::{run, turn, until_async};

const LIMIT: Duration = Duration::from_secs(60);
/// What `$__rate_interval` stands for: the whole run.
const WINDOW: &str = "5m";

/// Series that come into being with something that this run cannot have happen.
const RARE: [&str; 4] = [
    // A provider invents a code.
    "chat4all_unknown_codes_total",
    // Kafka deletes what was not read.
    "chat4all_log_gaps_total",
    // librdkafka stalls.
    "chat4all_log_silences_total",
    // Without the feature `failpoints`.
    "chat4all_actor_restarts_total",
];

/// `dev/services` for one Prometheus, which ends with this.
struct Prometheus {
    folder: PathBuf,
    api: String,
    http: Api,
    alertmanager: Option<Api>,
    promtool: String,
    _temporary: Option<TempDir>,
}

impl Prometheus {
    /// Scrapes the processes that the api at `api` knows, each second. `None`, after saying so, where Prometheus cannot be had.
    fn start(api: &str) -> Option<Self> {
        let temporary = tempfile::tempdir().expect("a folder");
        let given = std::env::var_os("CHAT4ALL_TEST_MONITORING");
        let folder = given.as_ref().map_or_else(|| temporary.path().join("set"), PathBuf::from);
        let tools = services(&folder, api, &["tools"]);
        if tools.status.code() == Some(3) {
            let why = String::from_utf8_lossy(&tools.stderr).replace('\n', " ");
            println!("SKIPPED monitoring on a real Prometheus: {why}");
            return None;
        }
        let promtool = exported(&said(&tools), "PROMTOOL").expect("a promtool");
        said(&services(&folder, api, &["up", "prometheus", "--scrape", "1"]));
        let env = said(&services(&folder, api, &["env"]));
        let http = Api::new(exported(&env, "SERVICES_PROMETHEUS").expect("its address"));
        let alertmanager = exported(&env, "SERVICES_ALERTMANAGER").map(Api::new);
        Some(Self { folder, api: api.to_owned(), http, alertmanager, promtool, _temporary: Some(temporary) })
    }

    /// What an expression yields now.
    async fn query(&self, expr: &str) -> Result<Vec<Value>, String> {
        let query: String = url::form_urlencoded::byte_serialize(expr.as_bytes()).collect();
        let answer = self.http.get(&format!("/api/v1/query?query={query}")).await?;
        let body = answer.json();
        match body["data"]["result"].as_array() {
            Some(found) => Ok(found.clone()),
            None => Err(format!("{}: {}", answer.status, body["error"])),
        }
    }

    async fn until(&self, what: &str, expr: &str) {
        until_async(what, LIMIT, || async { (!self.query(expr).await.ok()?.is_empty()).then_some(()) }).await;
    }

    /// Waits until an alert fires, and until Alertmanager has it where there is one.
    async fn tells_of(&self, alert: &str) {
        self.until(alert, &format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}")).await;
        let Some(alertmanager) = &self.alertmanager else { return };
        until_async("the alert at Alertmanager", LIMIT, || async {
            let alerts = alertmanager.get("/api/v2/alerts").await.ok()?.text;
            alerts.contains(alert).then_some(())
        })
        .await;
    }

    /// `promtool check metrics` has nothing to say.
    fn must_like(&self, what: &str, metrics: &str) {
        let mut command = Command::new(&self.promtool);
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("promtool runs");
        child.stdin.take().expect("it is piped").write_all(metrics.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let complaints =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && complaints.trim().is_empty(), "{what}: {complaints}");
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        services(&self.folder, &self.api, &["down"]);
    }
}

fn services(folder: &Path, api: &str, args: &[&str]) -> Output {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dev/services"));
    command.args(args).env("CHAT4ALL_SERVICES_DIR", folder).env("CHAT4ALL_URL", api).env("CHAT4ALL_BINARY", binary());
    command.env_remove("CHAT4ALL_API_KEY").output().expect("dev/services runs")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "dev/services: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The value of an exported variable.
fn exported(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(&format!("export {name}="))).map(str::to_owned)
}

/// Something that is asked of Prometheus.
struct Asked {
    what: String,
    expr: String,
    /// It has an answer whatever goes on.
    whole: bool,
}

fn monitoring(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring").join(path)
}

/// Every rule, as Prometheus has read them.
async fn rules(prometheus: &Prometheus) -> Vec<Asked> {
    let body = prometheus.http.get("/api/v1/rules").await.expect("an answer").json();
    let groups = body["data"]["groups"].as_array().expect("groups").clone();
    let mut asked = Vec::new();
    for rule in groups.iter().flat_map(|group| group["rules"].as_array().expect("rules")) {
        let (name, expr) = (rule["name"].as_str().expect("a name"), rule["query"].as_str().expect("an expression"));
        assert!(rule["health"] == "ok", "{name}: {rule:#}");
        let recorded = rule["type"] == "recording";
        asked.push(Asked { what: name.to_owned(), expr: expr.to_owned(), whole: recorded });
    }
    asked
}

/// Every panel's and every variable's query.
fn panels() -> Vec<Asked> {
    let mut asked = Vec::new();
    for entry in fs::read_dir(monitoring("grafana/dashboards")).expect("our folder") {
        let path = entry.expect("a file").path();
        let dashboard: Value = serde_json::from_slice(&fs::read(&path).expect("our file")).expect("JSON");
        let title = dashboard["title"].as_str().expect("a title");
        for panel in dashboard["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let what = format!("{title}: {}", panel["title"]);
                asked.push(Asked { what, expr: replaced(&target["expr"]), whole: true });
            }
        }
        for variable in dashboard["templating"]["list"].as_array().expect("variables") {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect(query);
            let (series, label) = inner.rsplit_once(", ").expect("a label");
            let expr = format!("group by ({label}) ({series}) == 1");
            asked.push(Asked {
                what: format!("{title}: ${}", variable["name"]),
                expr: replaced(&expr.into()),
                whole: true,
            });
        }
    }
    assert!(asked.len() > 60, "{} queries", asked.len());
    asked
}

/// With a value for each variable.
fn replaced(expr: &Value) -> String {
    let mut expr = expr.as_str().expect("an expression").to_owned();
    for (variable, value) in
        [("$__rate_interval", WINDOW), ("$job", "chat4all"), ("$roles", ".*"), ("$instance", ".*"), ("$channel", ".*")]
    {
        expr = expr.replace(variable, value);
    }
    assert!(!expr.replace("\"$1\"", "").contains('$'), "a variable is left: {expr}");
    expr
}

/// The selectors in an expression, without ranges and offsets.
fn selectors(expr: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), expr);
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ':' | '"')) {
        rest = &rest[start..];
        if let Some(text) = rest.strip_prefix('"') {
            rest = &text[text.find('"').expect("its end") + 1..];
            continue;
        }
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if !(name.contains("chat4all_") || name.starts_with("process_") || matches!(name, "up" | "ALERTS")) {
            continue;
        }
        let labels = if after.starts_with('{') { closed(after) } else { "" };
        rest = &after[labels.len()..];
        found.push(format!("{name}{labels}"));
    }
    found
}

/// From a brace to the one that closes it.
fn closed(text: &str) -> &str {
    let mut quoted = false;
    let end = text.find(|c| {
        quoted ^= c == '"';
        c == '}' && !quoted
    });
    &text[..=end.expect("it is closed")]
}

/// Without what is compared with a number: a comparison that is false is empty.
fn uncompared(expr: &str) -> String {
    let mut kept = String::new();
    let mut rest = expr;
    while let Some(start) = rest.find(['<', '>', '=', '!']) {
        let (before, after) = rest.split_at(start);
        let operator = after.len() - after.trim_start_matches(['<', '>', '=', '!', '~']).len();
        let number = &after[operator..];
        let digits =
            number.len() - number.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ' ' | '.')).len();
        kept.push_str(before);
        if number[..digits].trim().is_empty() {
            kept.push_str(&after[..operator]);
            rest = number;
        } else {
            rest = &number[digits..];
        }
    }
    kept + rest
}

#[test]
fn expressions_are_taken_apart() {
    let expr =
        r#"sum by (job) (rate(up{a="}b"}[5m])) / chat4all_x == 0 unless on (job) process_y{c=~"d"} offset 5m > 1"#;
    assert_eq!(selectors(expr), [r#"up{a="}b"}"#, "chat4all_x", r#"process_y{c=~"d"}"#]);
    let without = r#"sum by (job) (rate(up{a="}b"}[5m])) / chat4all_x unless on (job) process_y{c=~"d"} offset 5m "#;
    assert_eq!(uncompared(expr).replace("  ", " "), without);
}

/// Everything that has a series of its own happens.
async fn much_happens(cluster: &mut Cluster, api: &Api, stage: &mut Stage, killed: usize) {
    let plan =
        |name, target, messages| Plan { name, conversations: 10, messages, per_second: 40.0, target, insists: true };
    let well = Load::start(&plan("well", stage.hook.target("/well"), 600), api);
    let throttled = Load::start(&plan("tg", "tg:8{conversation}".to_owned(), 200), api);
    // Refused for good, out of attempts, an answer that is lost, and a host that is away.
    stage.hook.usually("/gone", Reply::Status(410));
    stage.hook.usually("/broken", Reply::Status(500));
    stage.hook.script("/lost", [Reply::Hang]);
    stage.away.goes_away().await;
    let single = [
        plan("gone", stage.hook.target("/gone"), 1),
        plan("broken", stage.hook.target("/broken"), 1),
        plan("lost", stage.hook.target("/lost"), 1),
        plan("away", stage.away.target("/inbox"), 1),
        plan("wa", "wa:+5562996991812".to_owned(), 1),
    ];
    for plan in &single {
        assert_eq!(Load::start(plan, api).finish(LIMIT).await.0.len(), 1, "{}", plan.name);
    }
    // Expires behind a pause.
    assert_eq!(api.post("/v1/channels/held/pause", &json!({})).await.expect("an answer").status, 200);
    let mut expiring = message(&format!("held:http://{}/held", stage.hook.address()), "held", "hi");
    expiring["expires_in_seconds"] = 1.into();
    until_async("a 202", LIMIT, || async {
        (api.post("/v1/messages", &expiring).await.ok()?.status == 202).then_some(())
    })
    .await;
    for body in [json!({"to": "hook:x"}), message("nothing:x", "c", "hi")] {
        let answer = api.post("/v1/messages", &body).await.expect("an answer");
        assert!((400..500).contains(&answer.status), "{}", answer.text);
    }
    let answer = api.post_as("/v1/callbacks/wa", "x-hub-signature-256", "sha256=00", "{}").await.expect("an answer");
    assert_eq!(answer.status, 401, "{}", answer.text);

    stage.provider.goes_away().await;
    stage
        .prometheus
        .until("an open breaker", r#"max_over_time(chat4all_circuit_breaker_state{channel="tg"}[1m]) == 2"#)
        .await;
    // Before the kill: what a process had counted is gone with it.
    stage.prometheus.tells_of("Chat4AllDeadLetters").await;
    cluster.kill(killed);
    let down = "sum(up) < count(up)";
    stage.prometheus.until("the scrape that fails", down).await;
    cluster.start_again(killed).await;
    stage.provider.comes_back().await;
    telegram_takes(&stage.provider);
    assert_eq!(api.post("/v1/channels/held/resume", &json!({})).await.expect("an answer").status, 200);
    stage.away.comes_back().await;
    assert_eq!((well.finish(LIMIT).await.0.len(), throttled.finish(LIMIT).await.0.len()), (600, 200));
    at_rest(api, LIMIT).await;
}

struct Stage {
    prometheus: Prometheus,
    hook: Receiver,
    away: Receiver,
    provider: Receiver,
}

#[test]
fn every_rule_and_every_panel_finds_what_it_asks_for() {
    let _turn = turn::alone();
    run(async {
        let (hook, away, provider) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
        let whatsapp = WhatsApp::start(Duration::from_millis(100));
        let quick = "attempt_timeout = \"1s\"\nretry = { attempts = 3, backoff = [\"100ms\"] }\nbreaker = { open_for = \"1s\" }";
        let channels = telegram("tg", &provider, "limits = { per_second = 30 }\nbreaker = { open_for = \"1s\" }")
            + &whatsapp.channel("")
            + "[channels.held]\nkind = \"webhook\"\nallow_private_targets = true\n";
        let mut cluster = Cluster::with(&(config("", quick) + &channels));
        let first = cluster.start(&["api"]).await;
        let url = cluster.url(first, "api");
        let api = Api::new(url.clone());
        let Some(prometheus) = Prometheus::start(&url) else { return };
        whatsapp.reports_to(&url).await;
        // A point that the connectors pass often: one panic under load.
        let router = cluster.start(&["router"]).await;
        let recorder = cluster.start(&["recorder"]).await;
        let killed = cluster.start(&["connectors"]).await;
        cluster.env("FAILPOINTS", "connectors::lanes=100*off->1*panic->off");
        let all = cluster.start(&["router", "connectors", "recorder"]).await;
        at_rest(&api, LIMIT).await;
        prometheus.until("every process, once", "count(up == 1) == 5").await;

        let mut stage = Stage { prometheus, hook, away, provider };
        much_happens(&mut cluster, &api, &mut stage, killed).await;
        let prometheus = &stage.prometheus;
        prometheus
            .until(
                "the last scrape",
                "count(up == 1) == 5 and sum(chat4all_consumer_lag) == 0 and sum(chat4all_deliveries_total) > 200",
            )
            .await;

        for (id, role) in
            [(first, "api"), (router, "router"), (killed, "connectors"), (recorder, "recorder"), (all, "router")]
        {
            let metrics = Api::new(cluster.url(id, role)).get("/metrics").await.expect("an answer").text;
            prometheus.must_like(&format!("{role} of process {id}"), &metrics);
        }

        // Rules are evaluated each second, and what they recorded is there a moment later.
        let mut missing = Vec::new();
        let asked: Vec<Asked> = rules(prometheus).await.into_iter().chain(panels()).collect();
        for Asked { what, expr, whole } in &asked {
            let selected = selectors(expr);
            for series in &selected {
                if !rare(series)
                    && prometheus
                        .query(&format!("last_over_time({series}[{WINDOW}])"))
                        .await
                        .is_ok_and(|found| found.is_empty())
                {
                    missing.push(format!("{what}: nothing is selected by {series}"));
                }
            }
            match prometheus.query(&uncompared(expr)).await {
                Err(error) => missing.push(format!("{what}: {error}: {expr}")),
                Ok(found) if found.is_empty() && *whole && !selected.iter().any(|series| rare(series)) => {
                    missing.push(format!("{what}: no answer to {expr}"));
                }
                Ok(_) => {}
            }
        }
        println!("monitoring: {} expressions, {} without an answer", asked.len(), missing.len());
        assert!(missing.is_empty(), "{}", missing.join("\n"));
        cluster.terminate_all().await;
    });
}

fn rare(series: &str) -> bool {
    let name = series.split('{').next().expect("a first part");
    RARE.contains(&name) && (name != "chat4all_actor_restarts_total" || !cfg!(feature = "failpoints"))
}
