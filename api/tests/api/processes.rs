//! The processes there are, and ending one.

use crate::channels::process;
use crate::support::{Harness, Reply};

#[tokio::test]
async fn the_cluster_is_shown() {
    let harness = Harness::start();
    let body = Reply::of(harness.get("/v1/cluster")).await.json();
    assert_eq!(body, serde_json::json!({"processes":[],"groups":[]}));
}

#[tokio::test]
async fn a_process_that_lives_is_asked_to_end() {
    let harness = Harness::start();
    *harness.log.processes.lock().unwrap() = vec![process("here", true), process("gone", false)];
    let reply = Reply::of(harness.post("/v1/processes/here/drain", "")).await;
    assert_eq!((reply.status, &reply.json()["process"]), (202, &"here".into()), "{reply:?}");
    assert_eq!(harness.log.control().keys().collect::<Vec<_>>(), ["drain/here"]);
    for gone in ["gone", "never", "a%2Fb"] {
        let path = format!("/v1/processes/{gone}/drain");
        Reply::of(harness.post(&path, "")).await.expect(404, "process_not_found");
    }
    Reply::of(harness.post("/v1/processes/here/drain?now=1", "")).await.expect(422, "invalid_parameter");
    Reply::of(harness.post("/v1/processes/here/drain", "{\"x\":1}")).await.expect(422, "invalid_field");
    assert_eq!(harness.log.control().len(), 1);
}
