//! Each metric of docs/METRICS.md moves when the thing happens that it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use crate::harness::client::{Api, message};
use crate::harness::cluster::{Cluster, config};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::simulated::{self, WhatsApp};
use crate::harness::{run, turn, until_async};

const LIMIT: Duration = Duration::from_secs(20);

/// What happens only to single parts, and the test that shows it there.
const ELSEWHERE: [(&str, &str); 6] = [
    ("chat4all_idempotency_unclaimed_total", "api/tests/api/claims.rs"),
    ("chat4all_messages_repeated_total", "router/src/tests.rs"),
    ("chat4all_log_gaps_total", "storage/kafka/tests/broker.rs"),
    ("chat4all_log_lines_withheld_total", "src/logging.rs"),
    ("chat4all_trace_spans_dropped_total", "tests/system/traces.rs"),
    ("chat4all_trace_spans_exported_total", "tests/system/traces.rs"),
];
/// What cannot be brought about at will: failures inside Kafka's client, and repeats that only a crash at one moment makes.
const NOT_AT_WILL: [&str; 4] = [
    "chat4all_duplicates_suppressed_total",
    "chat4all_log_commits_refused_total",
    "chat4all_log_producer_failures_total",
    "chat4all_log_silences_total",
];

/// All processes, watched from outside.
struct Watch {
    processes: Vec<Api>,
    last: BTreeMap<String, f64>,
    seen: BTreeSet<String>,
}

impl Watch {
    /// The sum over all processes and series of each metric; of a histogram, how many it has seen.
    async fn read(&self) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for process in &self.processes {
            let Ok(answer) = process.get("/metrics").await else { continue }; // killed on purpose
            for line in answer.text.lines().filter(|line| !line.starts_with('#')) {
                let Some((series, value)) = line.rsplit_once(' ') else { continue };
                let name = series.split('{').next().unwrap_or(series);
                let name = name.strip_suffix("_count").unwrap_or(name);
                *sums.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap_or_default();
            }
        }
        sums
    }

    /// From here on, what moves is what `happens` next.
    async fn begin(&mut self) {
        self.last = self.read().await;
    }

    /// Waits until each of `names` has changed since `begin`.
    async fn moved(&mut self, names: &[&str]) {
        for name in names {
            let name = format!("chat4all_{name}");
            let before = self.last.get(&name).copied();
            until_async(&format!("{name} to move from {before:?}"), LIMIT, || async {
                (self.read().await.get(&name).copied() != before).then_some(())
            })
            .await;
            self.seen.insert(name);
        }
    }
}

#[test]
fn each_metric_moves_when_the_thing_happens() {
    let _turn = turn::beside_others();
    run(async {
        let (receiver, whatsapp) = (Receiver::start().await, WhatsApp::start(Duration::from_millis(50)));
        receiver.usually("/hangs", Reply::Hang);
        receiver.usually("/gone", Reply::Status(410));
        receiver.script("/wobbles", [Reply::Status(500)]);
        let hook = "retry = { attempts = 3, backoff = [\"50ms\"] }\nlimits = { per_second = 2000 }";
        let mut cluster = Cluster::with(
            &(config("in_memory = { records = 64 }", hook) + &whatsapp.channel("limits = { per_second = 5 }")),
        );
        let api_process = cluster.start(&["api"]).await;
        let roles = ["router", "connectors", "recorder"];
        cluster.env("FAILPOINTS", "connectors::channel=300*off->1*panic->off");
        let mut ids = Vec::new();
        for role in roles {
            ids.push(cluster.start(&[role]).await);
        }
        let api = Api::new(cluster.url(api_process, "api"));
        whatsapp.reports_to(&cluster.url(api_process, "api")).await;
        let workers = ids.iter().zip(roles).map(|(id, role)| Api::new(cluster.url(*id, role)));
        let processes = [api.clone()].into_iter().chain(workers).collect();
        let mut watch = Watch { processes, last: BTreeMap::new(), seen: BTreeSet::new() };

        // It starts.
        watch.moved(&["build_info", "log_lines_total", "data_free_bytes", "data_size_bytes"]).await;
        watch
            .moved(&["partitions_held", "partition_epoch", "partitions_assigned_total", "partition_catch_up_seconds"])
            .await;
        until_async("all four to be ready", LIMIT, || async {
            (watch.read().await.get("chat4all_ready") == Some(&4.0)).then_some(())
        })
        .await;

        // A message is carried.
        watch.begin().await;
        let inbox = receiver.target("/inbox");
        api.accepted(&inbox, "well", "1").await;
        watch.moved(&["http_requests_total", "http_request_duration_seconds", "messages_accepted_total"]).await;
        watch.moved(&["log_publish_duration_seconds", "messages_routed_total", "records_finished_total"]).await;
        watch.moved(&["delivery_attempts_total", "provider_request_duration_seconds", "deliveries_total"]).await;
        watch.moved(&["delivery_latency_seconds", "status_write_duration_seconds"]).await;

        // One is refused.
        watch.begin().await;
        let answer = api.post("/v1/messages", &message("hook:nonsense", "c", "1")).await.expect("an answer");
        assert!([400, 422].contains(&answer.status), "{}", answer.text);
        watch.moved(&["messages_rejected_total"]).await;

        // A provider reports back, and has a rate of its own.
        watch.begin().await;
        for number in 0..12 {
            api.accepted(&format!("{}:+5562996991812", simulated::CHANNEL), &format!("wa-{number}"), "hello").await;
        }
        watch.moved(&["callback_events_total", "receipts_joined_total", "rate_limited_total"]).await;

        // It answers something new.
        watch.begin().await;
        whatsapp.put("/faults/whatsapp/5511987654321", &json!({"status": 400, "code": 999_001, "times": 1})).await;
        api.accepted(&format!("{}:+5511987654321", simulated::CHANNEL), "new", "hello").await;
        watch.moved(&["unknown_codes_total"]).await;

        // One fails for good, is sent again, and is deleted.
        watch.begin().await;
        api.accepted(&receiver.target("/gone"), "gone", "1").await;
        watch.moved(&["dead_letters_total"]).await;
        let letter = until_async("the dead letter", LIMIT, || async {
            let letters = api.get("/v1/dead-letters").await.ok()?.json();
            letters["dead_letters"][0]["delivery_id"].as_str().map(str::to_owned)
        })
        .await;
        let answer = api.post(&format!("/v1/dead-letters/{letter}/replay"), &json!({})).await.expect("an answer");
        assert!(answer.status < 300, "{}", answer.text);
        watch.moved(&["dead_letters_replayed_total"]).await;
        until_async("the letters to be deleted", LIMIT, || async {
            let answer = api.delete("/v1/dead-letters?channel=hook").await.ok()?;
            (answer.status == 200 && answer.json()["deleted"].as_u64() > Some(0)).then_some(())
        })
        .await;
        watch.moved(&["dead_letters_deleted_total"]).await;

        // A receiver hangs: its lane shows what it does.
        watch.begin().await;
        api.accepted(&receiver.target("/hangs"), "hangs", "1").await;
        watch.moved(&["lanes"]).await;

        // One is tried twice.
        watch.begin().await;
        api.accepted(&receiver.target("/wobbles"), "wobbles", "1").await;
        watch.moved(&["retries_total"]).await;

        // A destination is away.
        let mut away = Receiver::start().await;
        let nobody = away.target("/inbox");
        away.goes_away().await;
        watch.begin().await;
        let many: Vec<_> = (0..200).map(|number| message(&nobody, "away", &number.to_string())).collect();
        let answer = api.post("/v1/messages/batch", &json!({"messages": many})).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text);
        watch.moved(&["circuit_breaker_transitions_total", "destinations_away", "deliveries_parked_total"]).await;

        // A whole provider is away.
        watch.begin().await;
        whatsapp.put("/faults/whatsapp/5562996991812", &json!({"status": 503})).await;
        for number in 0..8 {
            api.accepted(&format!("{}:+5562996991812", simulated::CHANNEL), &format!("wa-{number}"), "again").await;
        }
        watch.moved(&["circuit_breaker_state"]).await;

        // An operator holds a channel, and its messages wait.
        watch.begin().await;
        let answer = api.post("/v1/channels/hook/pause", &json!({})).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text);
        watch.moved(&["channel_paused"]).await;
        for number in 0..5 {
            api.accepted(&inbox, &format!("held-{number}"), "1").await;
        }
        watch.moved(&["consumer_lag"]).await;
        let answer = api.post("/v1/channels/hook/resume", &json!({})).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text);

        // An actor panics, and much is written at once.
        watch.begin().await;
        let busy = api.clone();
        let batches = tokio::spawn(async move {
            for batch in 0..50 {
                let messages: Vec<_> =
                    (0..100).map(|number| message(&inbox, &format!("busy-{number}"), &batch.to_string())).collect();
                let answer = busy.post("/v1/messages/batch", &json!({"messages": messages})).await.expect("an answer");
                // A slow disk is no reason to fail.
                assert!([200, 503].contains(&answer.status), "{}", answer.text);
            }
        });
        watch.moved(&["status_pending", "actor_restarts_total"]).await;
        batches.await.expect("every batch is answered");

        // The connectors are killed while they work, and others take over.
        api.accepted(&receiver.target("/hangs"), "hangs", "2").await;
        until_async("the call that hangs", LIMIT, || async {
            (receiver.requests_on("/hangs").len() > 1).then_some(())
        })
        .await;
        cluster.kill(ids[1]);
        let heir = cluster.start(&["connectors"]).await;
        watch.processes.push(Api::new(cluster.url(heir, "connectors")));
        watch.moved(&["deliveries_resent_total"]).await;

        // Another router joins, which takes a share.
        watch.begin().await;
        cluster.start(&["router"]).await;
        watch.moved(&["partitions_revoked_total"]).await;

        let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md")).expect("the docs");
        let names = docs.lines().filter_map(|line| line.strip_prefix("| `chat4all_")?.split('`').next());
        let all: BTreeSet<String> = names.map(|name| format!("chat4all_{name}")).collect();
        watch.seen.insert("chat4all_ready".into());
        let elsewhere = ELSEWHERE.iter().map(|(name, _)| *name).chain(NOT_AT_WILL).map(str::to_owned);
        let shown: BTreeSet<String> = watch.seen.iter().cloned().chain(elsewhere).collect();
        assert_eq!(shown, all, "every metric of the docs is moved by something");
        println!(
            "metrics: {} of {} moved here, {} where their parts are tested",
            watch.seen.len(),
            all.len(),
            ELSEWHERE.len()
        );
    });
}
