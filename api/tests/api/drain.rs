//! Ending: what is under way is answered, what comes new is told to go elsewhere.

use std::time::Duration;

use tokio::time::timeout;

use crate::support::{Harness, Mode, Reply, hello};

#[tokio::test]
async fn requests_under_way_are_answered_and_new_ones_refused() {
    let mut harness = Harness::with(|options| options.append_timeout = Duration::from_secs(10));
    harness.log.set_mode(Mode::Hang);
    let under_way = tokio::spawn(Reply::of(harness.post("/v1/messages", hello())));
    harness.log.appending.notified().await;
    let stopping = tokio::spawn(harness.server.take().unwrap().stop());
    let refused = async {
        loop {
            let reply = Reply::of(harness.get("/v1/channels")).await;
            if reply.status != 200 {
                return reply;
            }
        }
    };
    let refused = timeout(Duration::from_secs(5), refused).await.unwrap();
    refused.expect(503, "shutting_down");
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(Reply::of(harness.get("/health/live")).await.status, 200);
    let ready = Reply::of(harness.get("/health/ready")).await;
    assert_eq!((ready.status, &ready.json()["parts"][2]["name"]), (503, &"process".into()));
    assert!(!stopping.is_finished());
    harness.log.release();
    assert_eq!(under_way.await.unwrap().status, 202);
    timeout(Duration::from_secs(5), stopping).await.unwrap().unwrap();
    assert!(harness.get("/health/live").send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_up_the_end() {
    let mut harness = Harness::with(|options| {
        options.append_timeout = Duration::from_secs(60);
        options.limits.drain_timeout = Duration::from_millis(200);
    });
    harness.log.set_mode(Mode::Hang);
    let under_way = tokio::spawn(harness.post("/v1/messages", hello()).send());
    harness.log.appending.notified().await;
    timeout(Duration::from_secs(5), harness.server.take().unwrap().stop()).await.unwrap();
    assert!(under_way.await.unwrap().is_err());
}
