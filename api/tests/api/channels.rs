//! What a channel is at, and pausing it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chat4all_proto::Timestamp;
use chat4all_proto::http::ProcessView;
use serde_json::{Value, json};

use crate::support::{Harness, Mode, Reply, hello};

async fn shown(harness: &Harness) -> Value {
    let reply = Reply::of(harness.get("/v1/channels/hook")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

async fn set(harness: &Harness, action: &str) -> Value {
    let reply = Reply::of(harness.post(&format!("/v1/channels/hook/{action}"), "")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

pub fn process(name: &str, alive: bool) -> ProcessView {
    let started_at = Timestamp::from_millis(1_795_300_000_000);
    ProcessView { process: name.into(), pid: 7, roles: vec!["connectors".into()], listens: vec![], started_at, alive }
}

/// Waits until what another process wrote is seen here.
async fn until<F: Future<Output = bool>>(is_so: impl Fn() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect("in time");
}

#[tokio::test]
async fn channels_are_listed_with_what_waits() {
    let harness = Harness::start();
    harness.send(hello()).await;
    until(async || shown(&harness).await["paused"] == json!(false)).await;
    let body = Reply::of(harness.get("/v1/channels")).await.json();
    let expected = json!({"name":"hook","kind":"test","in_flight_max":8,"attempts_max":5,
        "highest_status":"delivered","waiting":1,"paused":false});
    let hook = body["channels"].as_array().unwrap().iter().find(|channel| channel["name"] == "hook").unwrap();
    assert_eq!(*hook, expected);
    assert_eq!(shown(&harness).await, expected);
    harness.log.silent.store(true, Ordering::SeqCst);
    let body = Reply::of(harness.get("/v1/channels")).await.json();
    assert_eq!(body["channels"][1].get("waiting"), None);
}

#[tokio::test]
async fn a_pause_is_kept_with_its_time_until_it_is_resumed() {
    let harness = Harness::start();
    let paused = set(&harness, "pause").await;
    assert_eq!(paused["paused"], true);
    assert!(paused["paused_since"].is_string(), "{paused}");
    assert_eq!(shown(&harness).await, paused, "whoever asks next sees it");
    assert_eq!(
        set(&harness, "pause").await["paused_since"],
        paused["paused_since"],
        "and asking again changes nothing"
    );
    assert_eq!(harness.log.control().keys().collect::<Vec<_>>(), ["paused/hook"]);
    let other = Reply::of(harness.get("/v1/channels/sms")).await.json();
    assert_eq!((&other["paused"], other.get("paused_since")), (&json!(false), None));
    for _ in 0..2 {
        let resumed = set(&harness, "resume").await;
        assert_eq!((&resumed["paused"], resumed.get("paused_since")), (&json!(false), None));
        assert_eq!(shown(&harness).await, resumed);
    }
    assert!(harness.log.control().is_empty());
}

#[tokio::test]
async fn what_another_process_paused_shows_here() {
    let harness = Harness::start();
    harness.log.put("paused/hook", r#"{"v":1,"since":1795300000000}"#).await;
    until(async || shown(&harness).await["paused"] == json!(true)).await;
    assert_eq!(shown(&harness).await["paused_since"], "2026-11-21T22:26:40.000Z");
}

#[tokio::test]
async fn breakers_are_those_that_living_processes_told() {
    let harness = Harness::start();
    *harness.log.processes.lock().unwrap() = vec![process("here", true), process("gone", false)];
    harness.log.put("breaker/sms/here", r#"{"v":1,"state":"closed","since":1795300000000}"#).await;
    harness.log.put("breaker/hook/gone", r#"{"v":1,"state":"half_open","since":1795300000000}"#).await;
    harness.log.put("breaker/hook/forgotten", r#"{"v":1,"state":"half_open","since":1795300000000}"#).await;
    let open = r#"{"v":1,"state":"open","since":1795300000000,"until":1795300010000}"#;
    harness.log.put("breaker/hook/here", open).await;
    until(async || shown(&harness).await.get("breakers").is_some()).await;
    let expected = json!([{"process":"here","state":"open","since":"2026-11-21T22:26:40.000Z",
        "until":"2026-11-21T22:26:50.000Z"}]);
    assert_eq!(shown(&harness).await["breakers"], expected);
}

#[tokio::test]
async fn what_is_asked_wrongly_is_named() {
    let harness = Harness::start();
    let unknown = Reply::of(harness.get("/v1/channels/fax")).await.expect(404, "channel_not_found");
    assert!(unknown.detail.contains("fax") && unknown.detail.contains("hook"), "{unknown:?}");
    Reply::of(harness.post("/v1/channels/fax/pause", "")).await.expect(404, "channel_not_found");
    Reply::of(harness.post("/v1/channels/fax/resume", "")).await.expect(404, "channel_not_found");
    let bad = Reply::of(harness.post("/v1/channels/A%20b/pause", "")).await.expect(422, "invalid_parameter");
    assert_eq!(bad.field.as_deref(), Some("name"));
    let more = Reply::of(harness.post("/v1/channels/hook/pause?for=1h", "")).await.expect(422, "invalid_parameter");
    assert_eq!(more.field.as_deref(), Some("for"));
    Reply::of(harness.post("/v1/channels/hook/pause", r#"{"for":"1h"}"#)).await.expect(422, "invalid_field");
    Reply::of(harness.get("/v1/channels/hook/pause")).await.expect(405, "method_not_allowed");
    assert!(harness.log.control().is_empty());
}

#[tokio::test]
async fn a_pause_needs_the_log() {
    let harness = Harness::start();
    for (mode, status, code) in [
        (Mode::Unavailable, 503, "log_unavailable"),
        (Mode::Unknown, 503, "outcome_unknown"),
        (Mode::Refuse, 500, "internal_error"),
    ] {
        harness.log.set_mode(mode);
        let problem = Reply::of(harness.post("/v1/channels/hook/pause", "")).await.expect(status, code);
        assert!(!problem.detail.contains("secret"), "{problem:?}");
    }
}
