//! Keyed messages on a log that appends each time: claims in the status store tell repeats, and a 202 does without them.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use chat4all_proto::{Message, Timestamp};

use crate::support::{Harness, Mode, Reply, hello};

/// Longest wait for what happens beside an answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn start() -> Harness {
    Harness::with_claims(|_| {})
}

async fn keyed(harness: &Harness, key: &str, body: impl Into<String>) -> Reply {
    Reply::of(harness.post("/v1/messages", body).header("idempotency-key", key)).await
}

fn saying(text: &str) -> String {
    format!(r#"{{"to":"hook:ana","content":{{"type":"text","text":"{text}"}}}}"#)
}

fn with_id(number: u32, text: &str) -> String {
    let id = format!("msg_018f4e0e-0000-7000-8000-{number:012}");
    format!(r#"{{"to":"hook:ana","message_id":"{id}","content":{{"type":"text","text":"{text}"}}}}"#)
}

/// Waits until all that was appended is marked, which happens beside the answer.
async fn settled(harness: &Harness) {
    let settled = async {
        while harness.status.unsettled_claims() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("claims are marked when their append is acknowledged");
}

fn records(harness: &Harness) -> usize {
    harness.log.records().len()
}

/// What is left of the log when routers have dropped exact repeats of an id.
fn delivered(harness: &Harness) -> usize {
    harness.log.records().iter().map(|record| record.id).collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn a_repeat_is_answered_as_the_first_and_not_appended() {
    let harness = start();
    let first = keyed(&harness, "k", hello()).await;
    assert_eq!(first.status, 202, "{first:?}");
    settled(&harness).await;
    for _ in 0..3 {
        let again = keyed(&harness, "k", hello()).await;
        assert_eq!((again.status, again.json()), (202, first.json()));
        assert_eq!(again.header("location"), first.header("location"));
    }
    assert_eq!(harness.log.appends(), 1);
    assert_eq!(harness.log.messages()[0].accepted_at.to_string(), first.json()["accepted_at"]);
}

#[tokio::test]
async fn other_contents_are_a_conflict_whether_the_first_is_appended_or_not() {
    let harness = start();
    harness.log.set_mode(Mode::Unavailable);
    keyed(&harness, "k", saying("hi")).await.expect(503, "log_unavailable");
    harness.log.set_mode(Mode::Write);
    for _ in 0..2 {
        let problem = keyed(&harness, "k", saying("ho")).await.expect(409, "idempotency_conflict");
        assert_eq!(problem.field.as_deref(), Some("idempotency-key"));
        assert_eq!(keyed(&harness, "k", saying("hi")).await.status, 202);
        settled(&harness).await;
    }
    assert_eq!(records(&harness), 1);
}

#[tokio::test]
async fn a_log_that_is_known_to_be_away_binds_no_key() {
    let harness = start();
    harness.log.set_oldest(Duration::from_secs(2));
    keyed(&harness, "k", saying("hi")).await.expect(503, "log_unavailable");
    harness.log.set_oldest(Duration::ZERO);
    assert_eq!(keyed(&harness, "k", saying("ho")).await.status, 202);
}

/// Whether the first append came to the log or not.
#[tokio::test]
async fn what_may_not_have_been_appended_is_appended_again_as_of_the_first_time() {
    for first in [Mode::Unavailable, Mode::Unknown] {
        let harness = start();
        harness.log.set_mode(first);
        let begun = clock_moves_on().await;
        assert_eq!(keyed(&harness, "k", hello()).await.status, 503);
        let answered = clock_moves_on().await;
        harness.log.set_mode(Mode::Write);
        let again = keyed(&harness, "k", hello()).await;
        assert_eq!(again.status, 202, "{again:?}");
        settled(&harness).await;
        assert_eq!(keyed(&harness, "k", hello()).await.json(), again.json());

        let [message] = &harness.log.messages()[..] else { panic!("it is appended once after {first:?}") };
        assert_eq!(again.json()["accepted_at"], message.accepted_at.to_string());
        assert!((begun..answered).contains(&message.accepted_at), "{message:?}");
        assert!(message.expires_at >= answered.saturating_add(Duration::from_secs(86_400)), "{message:?}");
    }
}

/// A time before which all that was timed so far has happened.
async fn clock_moves_on() -> Timestamp {
    let before = chat4all_runtime::clock::now();
    while chat4all_runtime::clock::now() == before {
        tokio::task::yield_now().await;
    }
    chat4all_runtime::clock::now()
}

#[tokio::test]
async fn without_the_store_keyed_messages_are_accepted_unclaimed_and_counted() {
    let harness = start();
    let before = unclaimed(&harness).await;
    harness.status.set_available(false);
    let (first, again) = (keyed(&harness, "k", hello()).await, keyed(&harness, "k", hello()).await);
    assert_eq!((first.status, again.status), (202, 202), "{again:?}");
    assert_eq!(first.json()["message_id"], again.json()["message_id"]);
    assert_eq!((records(&harness), delivered(&harness)), (2, 1));
    assert!(unclaimed(&harness).await >= before + 2.0);
}

#[tokio::test]
async fn a_store_that_hangs_delays_an_answer_by_its_time_and_no_more() {
    let harness = Harness::with_claims(|options| options.claim_timeout = Duration::from_millis(200));
    harness.status.set_answers_claims(false);
    let begun = Instant::now();
    assert_eq!(keyed(&harness, "k", hello()).await.status, 202);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "{took:?}");
}

/// The client would not wait for an answer that needs one.
#[tokio::test]
async fn the_store_is_asked_for_claims_only_of_keyed_messages_on_such_a_log() {
    let never = |options: &mut chat4all_api::Options| options.claim_timeout = Duration::from_secs(3_600);
    let (without_key, exact_log) = (Harness::with_claims(never), Harness::with(never));
    for harness in [&without_key, &exact_log] {
        harness.status.set_answers_claims(false);
    }
    assert_eq!(without_key.send(hello()).await.status, 202);
    assert_eq!(keyed(&exact_log, "k", hello()).await.status, 202);
}

async fn unclaimed(harness: &Harness) -> f64 {
    let metrics = Reply::of(harness.get("/metrics")).await.text;
    let line = metrics.lines().find_map(|line| line.strip_prefix("chat4all_idempotency_unclaimed_total "));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn what_could_not_be_marked_is_appended_again_under_one_id_and_time() {
    let harness = start();
    harness.status.set_marks_claims(false);
    let first = keyed(&harness, "k", hello()).await;
    assert_eq!(first.status, 202, "{first:?}");
    clock_moves_on().await;
    for _ in 0..2 {
        assert_eq!(keyed(&harness, "k", hello()).await.json(), first.json());
    }
    assert_eq!((records(&harness), delivered(&harness)), (3, 1));
    harness.status.set_marks_claims(true);
    assert_eq!(keyed(&harness, "k", hello()).await.json(), first.json());
    settled(&harness).await;
    assert_eq!(keyed(&harness, "k", hello()).await.json(), first.json());
    assert_eq!(delivered(&harness), 1);
    let times: BTreeSet<_> = harness.log.messages().iter().map(|Message { accepted_at, .. }| *accepted_at).collect();
    assert_eq!(times.len(), 1);
}

#[tokio::test]
async fn requests_that_race_with_one_key_are_one_message() {
    let harness = start();
    let racers: Vec<_> = (0..16)
        .map(|_| tokio::spawn(Reply::of(harness.post("/v1/messages", hello()).header("idempotency-key", "k"))))
        .collect();
    let mut answers = BTreeSet::new();
    for racer in racers {
        let reply = racer.await.unwrap();
        assert_eq!(reply.status, 202, "{reply:?}");
        answers.insert(reply.text);
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(delivered(&harness), 1);
}

#[tokio::test]
async fn requests_that_race_with_one_key_and_other_contents_are_one_message_and_conflicts() {
    let harness = start();
    let texts = (0..16).map(|number| saying(&number.to_string()));
    let racers: Vec<_> = texts
        .map(|text| tokio::spawn(Reply::of(harness.post("/v1/messages", text).header("idempotency-key", "k"))))
        .collect();
    let mut statuses = Vec::new();
    for racer in racers {
        statuses.push(racer.await.unwrap().status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [&[202][..], &[409; 15]].concat());
    assert_eq!(records(&harness), 1);
}

#[tokio::test]
async fn a_batch_is_one_append_of_what_is_new_in_it() {
    let harness = start();
    assert_eq!(harness.send(with_id(1, "a")).await.status, 202);
    assert_eq!(harness.send(with_id(2, "a")).await.status, 202);
    settled(&harness).await;
    let messages = [
        with_id(1, "a"), // a repeat of what is appended
        with_id(2, "b"), // a conflict with it
        with_id(3, "a"), // new
        with_id(3, "a"), // a repeat within the batch
        with_id(3, "b"), // a conflict within it
        hello(),         // without an id
        "7".to_owned(),  // no message
    ];
    let expected = [202, 409, 202, 202, 409, 202, 422];
    for already in [2, 4] {
        let body = format!(r#"{{"messages":[{}]}}"#, messages.join(","));
        let reply = Reply::of(harness.post("/v1/messages/batch", body)).await;
        let results = reply.json()["results"].as_array().unwrap().clone();
        let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, expected, "{reply:?}");
        assert_eq!(results[2], results[3], "{reply:?}");
        settled(&harness).await;
        let new = if already == 2 { 2 } else { 1 };
        assert_eq!(records(&harness), already + new, "the second time only the one without an id is new");
    }
}

#[tokio::test]
async fn a_batch_of_repeats_alone_needs_no_log() {
    let harness = start();
    assert_eq!(harness.send(with_id(1, "a")).await.status, 202);
    settled(&harness).await;
    harness.log.set_mode(Mode::Unavailable);
    let body = format!(r#"{{"messages":[{0},{0}]}}"#, with_id(1, "a"));
    let reply = Reply::of(harness.post("/v1/messages/batch", body)).await;
    assert_eq!(reply.json()["results"][1]["status"], 202, "{reply:?}");
}
