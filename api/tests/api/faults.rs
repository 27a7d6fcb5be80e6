//! What clients are told while the log or the status store is away: the truth, quickly, with when to come back.

use std::time::{Duration, Instant};

use crate::support::{Harness, Mode, Reply, hello};

#[tokio::test]
async fn a_log_known_to_be_away_is_503_at_once_and_gets_nothing_more() {
    let harness = Harness::start();
    harness.log.set_oldest(Duration::from_millis(1_001));
    let started = Instant::now();
    harness.send(hello()).await.expect(503, "log_unavailable");
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    assert_eq!(harness.log.appends(), 0);
    harness.log.set_oldest(Duration::from_millis(900));
    assert_eq!(harness.send(hello()).await.status, 202);
}

#[tokio::test]
async fn each_error_of_the_log_has_its_answer_and_keeps_its_text_in_our_log() {
    let harness = Harness::start();
    for (mode, status, code, known) in [
        (Mode::Unavailable, 503, "log_unavailable", false),
        (Mode::Unknown, 503, "outcome_unknown", true),
        (Mode::Refuse, 500, "internal_error", false),
    ] {
        harness.log.set_mode(mode);
        let reply = harness.send(hello()).await;
        let problem = reply.expect(status, code);
        assert_eq!(problem.message_id.is_some(), known, "{problem:?}");
        assert!(!reply.text.contains("secret-of-the-log"), "{reply:?}");
    }
}

#[tokio::test]
async fn an_append_that_is_not_answered_has_an_unknown_outcome_after_its_time() {
    let harness = Harness::start();
    harness.log.set_mode(Mode::Hang);
    let started = Instant::now();
    let request = harness.post("/v1/messages", hello()).header("idempotency-key", "k");
    let problem = Reply::of(request).await.expect(503, "outcome_unknown");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(950) && took < Duration::from_secs(3), "{took:?}");
    harness.log.set_mode(Mode::Write);
    let again = Reply::of(harness.post("/v1/messages", hello()).header("idempotency-key", "k")).await;
    assert_eq!(again.json()["message_id"], problem.message_id.unwrap().to_string());
}

#[tokio::test]
async fn without_the_status_store_sends_go_on_and_queries_are_503() {
    let harness = Harness::start();
    harness.status.set_available(false);
    assert_eq!(harness.send(hello()).await.status, 202);
    let id = harness.log.messages()[0].message_id;
    for path in [format!("/v1/messages/{id}"), "/v1/messages".into(), "/v1/conversations/c/messages".into()] {
        Reply::of(harness.get(&path)).await.expect(503, "status_unavailable");
    }
}

#[tokio::test]
async fn readiness_says_which_part_is_missing() {
    let harness = Harness::start();
    let missing = async || {
        let reply = Reply::of(harness.get("/health/ready")).await;
        let body = reply.json();
        let parts = body["parts"].as_array().unwrap().iter();
        let missing: Vec<_> =
            parts.filter(|part| part["ready"] == false).map(|part| part["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(reply.status == 200, body["ready"] == true);
        (reply.status, missing.join(","))
    };
    assert_eq!(missing().await, (200, String::new()));
    harness.status.set_available(false);
    assert_eq!(missing().await, (200, "status".into()));
    harness.log.silent.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(missing().await, (503, "log,status".into()));
    assert_eq!(Reply::of(harness.get("/health/live")).await.status, 200);
}
