//! After a 202, GET never answers 404, whichever api process is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::harness::client::Api;
use crate::harness::cluster::Cluster;
use crate::harness::receiver::Receiver;
use crate::harness::{quantile, run, turn};

#[test]
fn an_accepted_message_is_never_404_in_another_api_process() {
    const MESSAGES: usize = 10_000;
    const CLIENTS: usize = 16;
    let _turn = turn::alone();
    run(async {
        let receiver = Receiver::start().await;
        let mut cluster = Cluster::new();
        let apis = [cluster.start(&["api"]).await, cluster.start(&["api"]).await];
        cluster.start(&["router"]).await;
        cluster.start(&["connectors"]).await;
        cluster.start(&["recorder"]).await;
        let [accepts, asked] = apis.map(|id| Api::new(cluster.url(id, "api")));
        let (behind, begin) = (Arc::new(AtomicUsize::new(0)), Instant::now());
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (accepts, asked, behind) = (accepts.clone(), asked.clone(), Arc::clone(&behind));
            let to = receiver.target("/inbox");
            clients.spawn(async move {
                let mut waits = Vec::new();
                for number in 0..MESSAGES / CLIENTS {
                    let id = accepts.accepted(&to, &format!("client {client}"), &number.to_string()).await;
                    let asked_at = Instant::now();
                    loop {
                        let answer = asked.get(&format!("/v1/messages/{id}")).await.expect("an answer");
                        match answer.status {
                            200 => {
                                assert_eq!(answer.json()["message_id"], id);
                                break;
                            }
                            503 => {
                                assert_eq!(answer.json()["code"], "status_behind", "{}", answer.text);
                                assert!(!answer.header("retry-after").is_empty());
                                behind.fetch_add(1, Ordering::Relaxed);
                            }
                            other => panic!("{other} after a 202: {}", answer.text),
                        }
                    }
                    waits.push(asked_at.elapsed());
                }
                waits
            });
        }
        let mut waits = Vec::new();
        while let Some(client) = clients.join_next().await {
            waits.extend(client.expect("no panic"));
        }
        let count = waits.len();
        println!(
            "never 404: {count} in {:?}, p50 {:?}, p99 {:?}, worst {:?}, {} times `status_behind`",
            begin.elapsed(),
            quantile(&mut waits, 0.5),
            quantile(&mut waits, 0.99),
            quantile(&mut waits, 1.0),
            behind.load(Ordering::Relaxed)
        );
        assert_eq!(count, MESSAGES);
        let unknown = asked.get("/v1/messages/msg_018f4e0e-0000-7000-8000-000000000001").await.expect("an answer");
        assert_eq!(unknown.status, 404, "what was never accepted is: {}", unknown.text);
        assert!(begin.elapsed() < Duration::from_secs(300));
    });
}
