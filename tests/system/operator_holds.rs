//! What a pause and a cancellation do to messages. These need the connectors to obey `Settings::control`.

use std::time::Duration;

use serde_json::json;

use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, ROLES};
use crate::harness::receiver::Receiver;
use crate::harness::{run, turn, until_async};

const LIMIT: Duration = Duration::from_secs(20);
/// Longer than it takes until every process knows of a pause.
const SETTLED: Duration = Duration::from_millis(1_500);

async fn call(api: &Api, path: &str, status: u16) {
    let answer = api.post(path, &json!({})).await.expect("an answer");
    assert_eq!(answer.status, status, "{path}: {}", answer.text);
}

#[test]
fn a_pause_holds_over_a_restart_and_a_resume_sends_all_in_order() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let mut cluster = Cluster::new();
        let processes = [cluster.start(&ROLES).await, cluster.start(&ROLES).await];
        let api = Api::new(cluster.url(processes[0], "api"));
        call(&api, "/v1/channels/hook/pause", 200).await;
        tokio::time::sleep(SETTLED).await;
        let mut ids = Vec::new();
        for number in 0..20 {
            ids.push(api.accepted(&receiver.target("/inbox"), "c", &number.to_string()).await);
        }
        cluster.terminate_all().await;
        for process in processes {
            cluster.start_again(process).await;
        }
        api.moved(cluster.url(processes[0], "api"));
        tokio::time::sleep(SETTLED).await;
        assert_eq!(receiver.requests().len(), 0, "it is paused");
        for id in &ids {
            assert_eq!(api.show(id).await.expect("it is known")["status"], "queued");
        }
        call(&api, "/v1/channels/hook/resume", 200).await;
        for id in &ids {
            assert_eq!(api.ended(id, LIMIT).await["status"], "delivered");
        }
        let texts: Vec<String> =
            receiver.requests().iter().map(|one| one.body["data"]["content"]["text"].to_string()).collect();
        let expected: Vec<String> = (0..20).map(|number| json!(number.to_string()).to_string()).collect();
        assert_eq!(texts, expected);
        cluster.terminate_all().await;
    });
}

#[test]
fn what_is_cancelled_before_it_was_sent_ends_as_cancelled_and_is_never_sent() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let mut cluster = Cluster::new();
        let process = cluster.start(&ROLES).await;
        let api = Api::new(cluster.url(process, "api"));
        call(&api, "/v1/channels/hook/pause", 200).await;
        tokio::time::sleep(SETTLED).await;
        let [dropped, kept] = [
            api.accepted(&receiver.target("/inbox"), "c", "not this one").await,
            api.accepted(&receiver.target("/inbox"), "c", "this one").await,
        ];
        call(&api, &format!("/v1/messages/{dropped}/cancel"), 202).await;
        call(&api, &format!("/v1/messages/{dropped}/cancel"), 202).await;
        tokio::time::sleep(SETTLED).await;
        call(&api, "/v1/channels/hook/resume", 200).await;
        assert_eq!(api.ended(&kept, LIMIT).await["status"], "delivered");
        until_async("the end of the cancelled one", LIMIT, || async {
            (api.show(&dropped).await?["status"] == "cancelled").then_some(())
        })
        .await;
        assert_eq!(receiver.requests().len(), 1);
        call(&api, &format!("/v1/messages/{dropped}/cancel"), 202).await;
        call(&api, &format!("/v1/messages/{kept}/cancel"), 409).await;
        cluster.terminate_all().await;
    });
}
