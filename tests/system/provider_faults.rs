//! Every way in which a receiver can fail, a row each: the documented status, with the right attempts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::client::{Api, message};
use crate::harness::cluster::{Cluster, config};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::{run, turn, until};

struct Row {
    name: &'static str,
    first: Vec<Reply>,
    usually: Reply,
    status: &'static str,
    reason: Option<&'static str>,
    /// The outcome of each attempt.
    outcomes: &'static [&'static str],
}

fn row(name: &'static str, first: Vec<Reply>, status: &'static str, outcomes: &'static [&'static str]) -> Row {
    Row { name, first, usually: Reply::Status(200), status, reason: None, outcomes }
}

fn always(name: &'static str, usually: Reply, status: &'static str, outcomes: &'static [&'static str]) -> Row {
    let reason = Some(if outcomes == ["recipient_gone"] { "recipient_gone" } else { "attempts_exhausted" });
    Row { name, first: Vec::new(), usually, status, reason, outcomes }
}

/// As if nobody were there: it is waited for, with few calls, until the message expires.
fn away(name: &'static str, usually: Reply) -> Row {
    Row { name, first: Vec::new(), usually, status: "expired", reason: None, outcomes: &["ambiguous"] }
}

/// Given to the messages that nobody will take: longer than five attempts would need.
const LIFE_SECONDS: u64 = 12;

fn rows() -> Vec<Row> {
    const FAILED: &[&str] = &["transient"; 5];
    let retry_after = || Reply::With(429, "retry-after", "2".into());
    vec![
        row("takes it", vec![], "delivered", &["accepted"]),
        row(
            "500-three-times",
            vec![Reply::Status(500); 3],
            "delivered",
            &["transient", "transient", "transient", "accepted"],
        ),
        row("hangs-once", vec![Reply::Hang], "delivered", &["ambiguous", "accepted"]),
        row("resets-before-reading", vec![Reply::ResetBefore], "delivered", &["ambiguous", "accepted"]),
        row("resets-after-reading", vec![Reply::ResetAfter], "delivered", &["ambiguous", "accepted"]),
        row("429-with-retry-after", vec![retry_after()], "delivered", &["throttled", "accepted"]),
        row(
            "429-seven-times",
            vec![Reply::Status(429); 7],
            "delivered",
            &["throttled", "throttled", "throttled", "throttled", "throttled", "throttled", "throttled", "accepted"],
        ),
        row("garbage-once", vec![Reply::Garbage], "delivered", &["ambiguous", "accepted"]),
        row("endless-head-once", vec![Reply::EndlessHead], "delivered", &["ambiguous", "accepted"]),
        // Its status is known after the head; at most 16 KiB of the body are read.
        row("endless-body", vec![Reply::EndlessBody], "delivered", &["accepted"]),
        row("a-byte-a-second-once", vec![Reply::Drip], "delivered", &["ambiguous", "accepted"]),
        always("400-for-ever", Reply::Status(400), "failed", FAILED),
        always("410", Reply::Status(410), "failed", &["recipient_gone"]),
        away("garbage-for-ever", Reply::Garbage),
        away("hangs-for-ever", Reply::Hang),
        always("redirects-for-ever", Reply::With(302, "location", "http://127.0.0.1:1/".into()), "failed", FAILED),
    ]
}

#[test]
fn each_fault_of_a_provider_ends_in_its_documented_status() {
    let _turn = turn::beside_others();
    run(async {
        let hook = "attempt_timeout = \"1500ms\"\nretry = { attempts = 5, backoff = [\"200ms\"] }";
        let mut cluster = Cluster::with(&config("", hook));
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        let mut sent = Vec::new();
        for row in rows() {
            // A host of its own: what one is like says nothing about another.
            let receiver = Receiver::start().await;
            let path = format!("/{}", row.name.replace(' ', "-"));
            receiver.script(&path, row.first.clone());
            receiver.usually(&path, row.usually.clone());
            let seconds = if row.status == "expired" { LIFE_SECONDS } else { 3_600 };
            let id = api.accepted_for(seconds, &receiver.target(&path), row.name).await;
            sent.push((row, receiver, path, id));
        }
        for (row, receiver, path, id) in sent {
            let view = api.ended(&id, Duration::from_secs(60)).await;
            let delivery = &view["deliveries"][0];
            println!("{}: {} {}", row.name, view["status"], outcomes(delivery).join(" "));
            assert_eq!(view["status"], row.status, "{}: {view:#}", row.name);
            assert_eq!(delivery["reason"].as_str(), row.reason, "{}: {view:#}", row.name);
            let requests = receiver.requests_on(&path);
            if row.status == "expired" {
                assert!((3..=7).contains(&requests.len()), "{}: three open the breaker, then probes", row.name);
                assert!(outcomes(delivery).iter().all(|outcome| *outcome == "ambiguous"), "{}: {view:#}", row.name);
                continue;
            }
            assert_eq!(requests.len(), row.outcomes.len(), "{}: requests, {view:#}", row.name);
            assert!(requests.iter().all(|request| request.webhook_id == delivery["delivery_id"]), "{}", row.name);
            // Attempts are recorded a moment after the status, if they were made just before it.
            assert_eq!(outcomes(delivery), row.outcomes, "{}: {view:#}", row.name);
            let numbers: Vec<u64> =
                attempts(delivery).iter().filter_map(|attempt| attempt["number"].as_u64()).collect();
            assert_eq!(numbers, (1..=row.outcomes.len() as u64).collect::<Vec<_>>(), "{}", row.name);
            if row.name == "429-with-retry-after" {
                let wait = requests[1].at.duration_since(requests[0].at).expect("in order");
                assert!(wait >= Duration::from_secs(2), "asked for 2 s, waited {wait:?}");
            }
        }
    });
}

fn attempts(delivery: &Value) -> &[Value] {
    delivery["attempts"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn outcomes(delivery: &Value) -> Vec<&str> {
    attempts(delivery).iter().filter_map(|attempt| attempt["outcome"].as_str()).collect()
}

#[test]
fn a_private_address_is_refused_unless_the_channel_allows_it() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let text = config("", "").replace("allow_private_targets = true", "allow_private_targets = false");
        let mut cluster = Cluster::with(&text);
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        let port = receiver.target("").rsplit(':').next().unwrap_or_default().to_owned();
        for target in [receiver.target("/literal"), format!("hook:http://localhost:{port}/name")] {
            let answer = api.post("/v1/messages", &message(&target, "c", "hi")).await.expect("an answer");
            if answer.status == 422 {
                continue; // a literal may be refused at the door
            }
            assert_eq!(answer.status, 202, "{}", answer.text);
            let id = answer.json()["message_id"].as_str().expect("an id").to_owned();
            let view = api.ended(&id, Duration::from_secs(10)).await;
            assert_eq!(view["status"], "failed", "{view:#}");
            assert_eq!(view["deliveries"][0]["reason"], "message_rejected", "{view:#}");
        }
        assert_eq!(receiver.requests().len(), 0, "nothing was sent");
    });
}

#[test]
fn a_message_ends_when_its_time_is_up_or_nobody_listens() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let hook = "retry = { attempts = 3, backoff = [\"100ms\", \"30s\"] }";
        let mut cluster = Cluster::with(&config("", hook));
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        receiver.usually("/down", Reply::With(503, "retry-after", "3600".into()));
        let mut short = message(&receiver.target("/down"), "short", "hi");
        short["expires_in_seconds"] = 2.into();
        let begin = Instant::now();
        let answer = api.post("/v1/messages", &short).await.expect("an answer");
        let id = answer.json()["message_id"].as_str().expect("an id").to_owned();
        let view = api.ended(&id, Duration::from_secs(10)).await;
        assert_eq!(view["status"], "expired", "{view:#}");
        assert!(begin.elapsed() < Duration::from_secs(5), "ended only after {:?}", begin.elapsed());
        assert_eq!(receiver.requests_on("/down").len(), 1);

        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let nobody = format!("hook:http://{}/", free.expect("a port"));
        let text = config("", "retry = { attempts = 3, backoff = [\"100ms\"] }");
        let mut impatient = Cluster::with(&text);
        let process = impatient.start(&[]).await;
        let api = Api::new(impatient.url(process, "api"));
        let id = api.accepted_for(4, &nobody, "nobody").await;
        let view = api.ended(&id, Duration::from_secs(10)).await;
        let delivery = &view["deliveries"][0];
        assert_eq!(view["status"], "expired", "waited for until the end: {view:#}");
        assert!(
            outcomes(delivery).len() >= 3 && outcomes(delivery).iter().all(|outcome| *outcome == "transient"),
            "{view:#}"
        );
    });
}

#[test]
fn a_channel_that_is_no_longer_configured_fails_its_messages() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let without = config("", "");
        let with = format!("{without}\n[channels.old]\nkind = \"webhook\"\nallow_private_targets = true\n");
        let mut cluster = Cluster::with(&with);
        let accepts = cluster.start(&["api"]).await;
        let api = Api::new(cluster.url(accepts, "api"));
        let to = receiver.target("/inbox");
        let id = api.accepted(&to.replace("hook:", "old:"), "c", "hi").await;
        cluster.terminate_all().await;
        std::fs::write(cluster.folder().join("chat4all.toml"), without).expect("a configuration");
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        let view = api.ended(&id, Duration::from_secs(10)).await;
        assert_eq!(view["status"], "failed", "{view:#}");
        assert_eq!(view["deliveries"][0]["reason"], "channel_removed", "{view:#}");
        let other = api.accepted(&to, "c", "hi").await;
        assert_eq!(api.ended(&other, Duration::from_secs(10)).await["status"], "delivered");
    });
}

#[test]
fn what_waits_for_a_channel_fails_when_the_channel_is_removed() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let without = config("", "");
        let with = format!("{without}\n[channels.old]\nkind = \"webhook\"\nallow_private_targets = true\n");
        let mut cluster = Cluster::with(&with);
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        receiver.usually("/down", Reply::With(503, "retry-after", "3600".into()));
        let to = receiver.target("/down").replace("hook:", "old:");
        let id = api.accepted(&to, "c", "hi").await;
        until("the first attempt", Duration::from_secs(10), || {
            (!receiver.requests_on("/down").is_empty()).then_some(())
        })
        .await;
        let behind = api.accepted(&to, "c", "behind it").await;
        cluster.terminate_all().await;
        std::fs::write(cluster.folder().join("chat4all.toml"), without).expect("a configuration");
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        for id in [id, behind] {
            let view = api.ended(&id, Duration::from_secs(10)).await;
            assert_eq!(view["status"], "failed", "{view:#}");
            assert_eq!(view["deliveries"][0]["reason"], "channel_removed", "{view:#}");
        }
    });
}

/// Few records, many bytes: what a router holds is bounded by both.
#[test]
fn a_message_for_a_hundred_addresses_may_be_large() {
    let _turn = turn::alone();
    run(async {
        let receiver = Receiver::start().await;
        let mut cluster = Cluster::new();
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        let to: Vec<String> = (0..100).map(|n| receiver.target(&format!("/big/{n}"))).collect();
        let text = "x".repeat(150 * 1_024);
        let mut ids = Vec::new();
        for n in 0..4 {
            let body =
                json!({"to": to, "conversation_id": format!("big-{n}"), "content": {"type": "text", "text": text}});
            let answer = api.post("/v1/messages", &body).await.expect("an answer");
            assert_eq!(answer.status, 202, "{}", answer.text);
            ids.push(answer.json()["message_id"].as_str().expect("an id").to_owned());
        }
        for id in ids {
            assert_eq!(api.ended(&id, Duration::from_secs(60)).await["status"], "delivered");
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(process))).expect("it runs");
        let peak_kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
        let peak_kib: u64 = peak_kib.trim().trim_end_matches(" kB").parse().expect("a number");
        println!("large fan-out: 400 copies of 150 KiB, peak memory {} MiB", peak_kib / 1_024);
        assert!(peak_kib < 400 * 1_024, "{peak_kib} KiB");
    });
}
