//! Traces as a collector gets them. What it reads, it reads with the types that OpenTelemetry itself publishes
//! (`tests/oracles/otlp_collector.py`); without Python these tests are skipped.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::client::{Api, message};
use crate::harness::cluster::{Cluster, ROLES, config};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::simulated::WhatsApp;
use crate::harness::{run, turn, until, until_async};
use crate::oracles::{Server, python};

const LIMIT: Duration = Duration::from_secs(20);
const AUTHORIZATION: &str = "Bearer canary-of-the-collector";
const NUMBER: &str = "+5562996991812";

/// The collector, and what it has printed so far.
struct Collector {
    server: Server,
    spans: Vec<Value>,
}

impl Collector {
    async fn start(python: &Path) -> Self {
        Self { server: Server::start(python, "otlp_collector.py", &[]).await, spans: Vec::new() }
    }

    /// The table `tracing` that names it.
    fn table(&self, sample_ratio: f64) -> String {
        let url = &self.server.url;
        format!(
            "[tracing]\notlp_endpoint = \"{url}\"\nsample_ratio = {sample_ratio}\n\
             headers = {{ authorization = \"{AUTHORIZATION}\" }}\n"
        )
    }

    async fn read(&mut self) -> bool {
        let line: Value = serde_json::from_str(&self.server.line().await).expect("JSON");
        let is_end = line == "end";
        assert!(is_end || line.get("refused").is_none(), "{line}");
        self.spans.extend(Some(line).filter(|_| !is_end));
        is_end
    }

    /// Waits until it has a span like that.
    async fn until(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(span) = self.spans.iter().find(|span| is(span)) {
                return span.clone();
            }
            assert!(!self.read().await, "nobody has ended it");
        }
    }

    /// All that it got. Nobody exports any more.
    async fn all(mut self) -> Vec<Value> {
        let http = Api::new(self.server.url.clone());
        assert_eq!(http.post("/end", &Value::Null).await.expect("an answer").status, 200);
        while !self.read().await {}
        self.spans
    }
}

/// The spans of a trace by the given name, in the order of their beginnings.
fn named(spans: &[Value], trace: &str, name: &str) -> Vec<Value> {
    let mut found: Vec<Value> =
        spans.iter().filter(|span| span["trace"] == trace && span["name"] == name).cloned().collect();
    found.sort_by_key(|span| span["start"].as_u64());
    found
}

fn the_only(spans: &[Value], trace: &str, name: &str) -> Value {
    let mut found = named(spans, trace, name);
    assert_eq!(found.len(), 1, "{name} in {trace}: {found:?}\nof {spans:#?}");
    found.remove(0)
}

/// What a counter shows, once it is more than nothing.
async fn counted(api: &Api, series: &str) -> u64 {
    until_async(series, LIMIT, || async {
        let metrics = api.get("/metrics").await.ok()?.text;
        let count = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        count.filter(|&count| count > 0)
    })
    .await
}

/// The trace of a message that brought none.
fn trace_of(message_id: &str) -> String {
    message_id.trim_start_matches("msg_").replace('-', "")
}

#[test]
fn a_trace_goes_from_the_client_through_four_processes_to_the_receipt() {
    let _turn = turn::beside_others();
    let Some(python) = python() else { return };
    run(async {
        let collector = Collector::start(python).await;
        let receiver = Receiver::start().await;
        let whatsapp = WhatsApp::start(Duration::from_millis(50));
        let mut cluster = Cluster::with(&(config("", "") + &whatsapp.channel("") + &collector.table(1.0)));
        let mut ids = Vec::new();
        for role in ROLES {
            ids.push(cluster.start(&[role]).await);
        }
        let api = Api::new(cluster.url(ids[0], "api"));
        whatsapp.reports_to(&cluster.url(ids[0], "api")).await;

        let theirs = "4bf92f3577b34da6a3ce929d0e0e4736";
        let body = message(&receiver.target("/inbox"), "c", "hi");
        let answer = api.post_traced(&body, &format!("00-{theirs}-00f067aa0ba902b7-01")).await.expect("an answer");
        let id = answer.json()["message_id"].as_str().expect("an id").to_owned();
        let shown = api.ended(&id, LIMIT).await;
        let read = api.accepted(&format!("wa:{NUMBER}"), "w", "hi").await;
        until_async("a receipt", LIMIT, || async { (api.show(&read).await?["status"] == "read").then_some(()) }).await;
        cluster.terminate_all().await;
        assert!(!cluster.logs().contains("canary"), "what is shown to the collector is a secret");
        let spans = collector.all().await;

        let [send, route, deliver, record] =
            ["POST /v1/messages", "route", "deliver", "record"].map(|name| the_only(&spans, theirs, name));
        assert_eq!(send["parent"], "00f067aa0ba902b7");
        for (child, parent) in [(&route, &send), (&deliver, &route), (&record, &deliver)] {
            assert_eq!(child["parent"], parent["span"], "{child} under {parent}");
            assert!(child["start"].as_u64() >= parent["start"].as_u64(), "{child} after {parent}");
        }
        let all = [&send, &route, &deliver, &record];
        for (span, (role, kind)) in all.iter().zip(ROLES.into_iter().zip(["SERVER", "CONSUMER", "CLIENT", "CONSUMER"]))
        {
            assert_eq!(span["service"], format!("chat4all-{role}"));
            assert_eq!(span["kind"], format!("SPAN_KIND_{kind}"));
            assert_eq!((&span["sampled"], &span["status"]), (&json!(true), &json!("STATUS_CODE_UNSET")));
            assert_eq!((&span["authorization"], &span["scope"]), (&json!(AUTHORIZATION), &json!("chat4all")));
            assert_eq!(span["attributes"]["messaging.message.id"], id);
            assert!(span["end"].as_u64() >= span["start"].as_u64(), "{span}");
        }
        let instances: BTreeSet<_> = all.iter().map(|span| span["instance"].as_str()).collect();
        assert_eq!(instances.len(), 4, "each process has its own: {instances:?}");
        let deliver_says = &deliver["attributes"];
        let delivery = &shown["deliveries"][0];
        assert_eq!(deliver_says["chat4all.delivery_id"], delivery["delivery_id"]);
        let told = ["channel", "attempt", "outcome", "code"].map(|name| &deliver_says[&format!("chat4all.{name}")]);
        assert_eq!(told, [&json!("hook"), &json!(1), &json!("accepted"), &json!("200")]);
        let request = receiver.requests_on("/inbox").remove(0);
        let deliver_id = deliver["span"].as_str().expect("an id");
        assert_eq!(
            request.headers["traceparent"],
            format!("00-{theirs}-{deliver_id}-01"),
            "the receiver goes on there"
        );

        // A message that brings no trace has one of its own, and its receipts come into it.
        let own = trace_of(&read);
        let [send, route, deliver] = ["POST /v1/messages", "route", "deliver"].map(|name| the_only(&spans, &own, name));
        assert_eq!((&send["parent"], &route["parent"]), (&json!(""), &send["span"]));
        assert_eq!(deliver["parent"], route["span"]);
        // A busy recorder may tell a receipt twice.
        let receipts = named(&spans, &own, "receipt");
        let status = |span: &Value| span["attributes"]["chat4all.status"].as_str().expect("a status").to_owned();
        let told: BTreeSet<_> = receipts.iter().map(status).collect();
        assert_eq!(told, ["delivered", "read"].map(str::to_owned).into(), "{receipts:#?}");
        for receipt in &receipts {
            assert_eq!((&receipt["parent"], &receipt["service"]), (&deliver["span"], &json!("chat4all-recorder")));
        }
        let records = named(&spans, &own, "record");
        let recorded: BTreeSet<_> = records.iter().map(status).collect();
        assert_eq!(recorded, ["sent", "delivered", "read"].map(str::to_owned).into(), "{records:#?}");
        for record in &records {
            let parents = if status(record) == "sent" { std::slice::from_ref(&deliver) } else { &receipts };
            let parent = parents.iter().find(|parent| parent["span"] == record["parent"]);
            let parent = parent.unwrap_or_else(|| panic!("{record} under one of {parents:#?}"));
            assert!(status(record) == "sent" || status(parent) == status(record), "{record} under {parent}");
        }
        let personal =
            spans.iter().find(|span| span.to_string().contains(&NUMBER[1..]) || span.to_string().contains("/inbox"));
        assert_eq!(personal, None, "neither contents nor addresses are told");
    });
}

#[test]
fn of_what_is_not_sampled_only_failures_are_exported() {
    let _turn = turn::beside_others();
    let Some(python) = python() else { return };
    run(async {
        let collector = Collector::start(python).await;
        let receiver = Receiver::start().await;
        receiver.usually("/gone", Reply::Status(410));
        receiver.script("/again", [Reply::Status(400)]);
        let hook = "retry = { attempts = 3, backoff = [\"10ms\"] }";
        let mut cluster = Cluster::with(&(config("", hook) + &collector.table(0.0)));
        let process = cluster.start(&ROLES).await;
        let api = Api::new(cluster.url(process, "api"));
        let mut good = Vec::new();
        for number in 0..10 {
            good.push(api.accepted(&receiver.target("/good"), &format!("c{number}"), "hi").await);
        }
        let gone = api.accepted(&receiver.target("/gone"), "gone", "hi").await;
        let again = api.accepted(&receiver.target("/again"), "again", "hi").await;
        let [drawn, not_drawn, failed] = ["1", "2", "3"].map(|digit| digit.repeat(32));
        for (trace, flags, path) in [
            (&drawn, "01", "/good"),
            (&not_drawn, "00", "/good"),
            (&failed, "00", "/gone"),
            (&"x".repeat(32), "01", "/good"),
        ] {
            let body = message(&receiver.target(path), trace, "hi");
            let parent = format!("00-{trace}-00f067aa0ba902b7-{flags}");
            let answer = api.post_traced(&body, &parent).await.expect("an answer");
            good.push(answer.json()["message_id"].as_str().expect("an id").to_owned());
        }
        for id in good.iter().chain([&gone, &again]) {
            api.ended(id, LIMIT).await;
        }
        cluster.terminate_all().await;
        let logs = cluster.logs();
        let spans = collector.all().await;

        let traces: BTreeSet<_> = spans.iter().map(|span| span["trace"].as_str().expect("an id").to_owned()).collect();
        let expected = BTreeSet::from([trace_of(&gone), trace_of(&again), drawn.clone(), failed.clone()]);
        assert_eq!(
            traces, expected,
            "whoever samples the client's trace samples ours, and what fails is told: {spans:#?}"
        );
        let names = |trace: &str| {
            let mut names: Vec<_> = spans.iter().filter(|span| span["trace"] == *trace).collect();
            names.sort_by_key(|span| span["start"].as_u64());
            names.iter().map(|span| span["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&drawn), ["POST /v1/messages", "route", "deliver", "record"]);
        assert_eq!(names(&trace_of(&again)), ["deliver"], "the attempt that failed, not the one that did not");
        for trace in [&trace_of(&gone), &failed] {
            assert_eq!(names(trace), ["deliver", "record"]);
            for name in ["deliver", "record"] {
                let span = the_only(&spans, trace, name);
                let told = (&span["status"], &span["failure"], &span["sampled"]);
                assert_eq!(told, (&json!("STATUS_CODE_ERROR"), &json!("recipient_gone"), &json!(false)));
            }
            assert!(logs.contains(&format!("\"trace_id\":\"{trace}\"")), "the log names the trace of a dead letter");
        }
        let flags: BTreeSet<_> =
            receiver.requests_on("/good").iter().map(|it| it.headers["traceparent"][52..].to_owned()).collect();
        assert_eq!(flags, BTreeSet::from(["-00".to_owned(), "-01".to_owned()]), "the receiver learns what was drawn");
    });
}

#[test]
fn each_message_of_a_batch_has_its_trace_and_a_replay_is_in_its_messages() {
    let _turn = turn::beside_others();
    let Some(python) = python() else { return };
    run(async {
        let collector = Collector::start(python).await;
        let receiver = Receiver::start().await;
        receiver.script("/gone", [Reply::Status(410)]);
        let mut cluster = Cluster::with(&(config("", "") + &collector.table(1.0)));
        let process = cluster.start(&ROLES).await;
        let api = Api::new(cluster.url(process, "api"));
        let batch = ["/inbox", "/gone"].map(|path| message(&receiver.target(path), path, "hi"));
        let answer = api.post("/v1/messages/batch", &json!({"messages": batch})).await.expect("an answer").json();
        let ids: Vec<_> = (0..2).map(|n| answer["results"][n]["message_id"].as_str().expect("an id")).collect();
        let views = [api.ended(ids[0], LIMIT).await, api.ended(ids[1], LIMIT).await];
        assert_eq!([&views[0]["status"], &views[1]["status"]], ["delivered", "failed"]);
        let delivery = views[1]["deliveries"][0]["delivery_id"].as_str().expect("an id");
        until_async("the replay", LIMIT, || async {
            let answer = api.post(&format!("/v1/dead-letters/{delivery}/replay"), &json!({})).await.ok()?;
            (answer.status == 202).then_some(())
        })
        .await;
        until("the second call", LIMIT, || (receiver.requests_on("/gone").len() == 2).then_some(())).await;
        counted(&api, "chat4all_trace_spans_exported_total").await;
        cluster.terminate_all().await;
        let spans = collector.all().await;
        for id in &ids {
            let first = the_only(&spans, &trace_of(id), "POST /v1/messages/batch");
            let told = (&first["parent"], &first["attributes"]["messaging.batch.message_count"]);
            assert_eq!(told, (&json!(""), &json!(2)));
            assert_eq!(named(&spans, &trace_of(id), "route")[0]["parent"], first["span"]);
        }
        let trace = trace_of(ids[1]);
        let replay = the_only(&spans, &trace, "replay");
        let (routes, calls) = (named(&spans, &trace, "route"), named(&spans, &trace, "deliver"));
        assert_eq!((routes.len(), calls.len()), (2, 2), "{spans:#?}");
        assert_eq!((&routes[1]["parent"], &calls[1]["parent"]), (&replay["span"], &routes[1]["span"]));
        assert_eq!(calls[1]["attributes"]["chat4all.generation"], 1);
    });
}

#[test]
fn a_trace_goes_on_in_the_process_that_takes_over() {
    let _turn = turn::beside_others();
    let Some(python) = python() else { return };
    run(async {
        let mut collector = Collector::start(python).await;
        let receiver = Receiver::start().await;
        receiver.usually("/inbox", Reply::Status(500));
        let hook = "retry = { attempts = 100, backoff = [\"200ms\"] }";
        let mut cluster = Cluster::with(&(config("", hook) + &collector.table(1.0)));
        let others = cluster.start(&["api", "router", "recorder"]).await;
        let first = cluster.start(&["connectors"]).await;
        let api = Api::new(cluster.url(others, "api"));
        let id = api.accepted(&receiver.target("/inbox"), "c", "hi").await;
        let trace = trace_of(&id);
        let is_failed = |span: &Value| span["trace"] == *trace && span["status"] == "STATUS_CODE_ERROR";
        let before = collector.until(is_failed).await;
        cluster.kill(first);
        receiver.usually("/inbox", Reply::Status(200));
        cluster.start(&["connectors"]).await;
        api.ended(&id, LIMIT).await;
        cluster.terminate_all().await;
        let spans = collector.all().await;
        let route = the_only(&spans, &trace, "route");
        let attempts = named(&spans, &trace, "deliver");
        assert!(attempts.iter().all(|attempt| attempt["parent"] == route["span"]), "{attempts:#?}");
        let last = attempts.last().expect("it was delivered");
        assert_eq!(last["attributes"]["chat4all.outcome"], "accepted");
        assert_ne!(last["instance"], before["instance"], "another process");
        let last_call = receiver.requests_on("/inbox").pop().expect("it was delivered");
        assert!(last_call.headers["traceparent"].contains(last["span"].as_str().expect("an id")));
        assert_eq!(the_only(&spans, &trace, "record")["parent"], last["span"]);
    });
}

#[test]
fn a_collector_that_is_away_holds_up_nothing() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it is bound");
        let table = format!("[tracing]\notlp_endpoint = \"http://{nobody}\"\nqueue = 20\n");
        let mut cluster = Cluster::with(&(config("", "") + &table));
        let process = cluster.start(&ROLES).await;
        let api = Api::new(cluster.url(process, "api"));
        for number in 0..100 {
            api.accepted(&receiver.target("/inbox"), &format!("c{number}"), "hi").await;
        }
        until("all deliveries", LIMIT, || (receiver.distinct() == 100).then_some(())).await;
        let dropped = counted(&api, "chat4all_trace_spans_dropped_total{reason=\"queue_full\"}");
        println!("traces: {} spans found no room", dropped.await);
        let begin = Instant::now();
        cluster.terminate_all().await;
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?} to end", begin.elapsed());
        let said = cluster.lines_of("WARN").iter().filter(|line| line.contains("spans cannot be exported")).count();
        assert_eq!(said, 1, "said once, and not for each span");
    });
}
