//! A message that was answered 202 is never answered 404, however far the recorder is behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chat4all_proto::MessageId;
use chat4all_storage::Status;
use chat4all_storage::status::Write;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::{Harness, RECORDER, ROUTER, Reply, hello};

fn absent() -> String {
    format!("/v1/messages/{}", MessageId::from_uuid(Uuid::now_v7()))
}

/// Asks for `path`, and does `then` while the answer is awaited.
async fn while_asking(harness: &Harness, path: &str, then: impl Future<Output = ()>) -> Reply {
    let before = harness.log.looks.load(Ordering::SeqCst);
    let looked = async {
        while harness.log.looks.load(Ordering::SeqCst) < before + 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let asked = async {
        timeout(Duration::from_secs(10), looked).await.expect("the answer waits for the log");
        then.await;
    };
    let (reply, ()) = tokio::join!(Reply::of(harness.get(path)), asked);
    reply
}

async fn record(harness: &Harness) {
    for message in harness.log.messages() {
        harness.status.write(vec![Write::Message(Arc::new(message))]).await.unwrap();
    }
}

#[tokio::test]
async fn a_row_that_comes_late_is_found() {
    let harness = Harness::start();
    let path = harness.send(hello()).await.header("location").unwrap().to_owned();
    let reply = while_asking(&harness, &path, record(&harness)).await;
    assert_eq!((reply.status, &reply.json()["status"]), (200, &"accepted".into()), "{reply:?}");
}

#[tokio::test]
async fn a_row_written_with_the_last_commit_is_found() {
    let harness = Harness::with(|options| options.catch_up_timeout = Duration::from_secs(10));
    let path = harness.send(hello()).await.header("location").unwrap().to_owned();
    harness.log.commit_all(ROUTER);
    let reply = while_asking(&harness, &path, async {
        record(&harness).await;
        harness.log.commit_all(RECORDER);
    })
    .await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn a_message_is_absent_only_once_router_and_recorder_have_passed() {
    let harness = Harness::start();
    harness.send(hello()).await;
    harness.log.commit_all(ROUTER);
    Reply::of(harness.get(&absent())).await.expect(503, "status_behind");
    harness.send(hello()).await;
    harness.log.commit_all(RECORDER);
    Reply::of(harness.get(&absent())).await.expect(503, "status_behind");
    harness.log.commit_all(ROUTER);
    let started = Instant::now();
    Reply::of(harness.get(&absent())).await.expect(404, "message_not_found");
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_was_passed_before_does_not_vouch_for_what_came_after() {
    let harness = Harness::start();
    harness.log.commit_all(ROUTER);
    harness.log.commit_all(RECORDER);
    Reply::of(harness.get(&absent())).await.expect(404, "message_not_found");
    let path = harness.send(hello()).await.header("location").unwrap().to_owned();
    Reply::of(harness.get(&path)).await.expect(503, "status_behind");
}

#[tokio::test]
async fn a_log_that_does_not_answer_is_not_taken_for_an_absent_message() {
    let harness = Harness::start();
    harness.log.silent.store(true, Ordering::SeqCst);
    Reply::of(harness.get(&absent())).await.expect(503, "status_behind");
}

#[tokio::test]
async fn concurrent_misses_share_one_wait_which_rests_when_nobody_waits() {
    let harness = Harness::with(|options| options.catch_up_timeout = Duration::from_millis(400));
    harness.send(hello()).await;
    let misses: Vec<_> = (0..50).map(|_| Reply::of(harness.get(&absent()))).collect();
    for reply in futures_util::future::join_all(misses).await {
        reply.expect(503, "status_behind");
    }
    let looks = harness.log.looks.load(Ordering::SeqCst);
    assert!(looks < 200, "{looks} looks at the log for 50 misses of 400 ms, 10 ms apart");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let later = harness.log.looks.load(Ordering::SeqCst);
    assert!(later <= looks + 2, "{later} looks, after {looks}");
}
