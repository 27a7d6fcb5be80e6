//! Brokers that are killed while records flow: what was acknowledged arrives, and nothing overtakes anything.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::Arc;
use std::time::Instant;

use chat4all_kafka::{KafkaLog, Options};
use support::services::Services;
use support::traffic::Traffic;
use tokio::sync::Mutex;

/// Four servers at once would only slow each other down.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_crashes_and_comes_back_costs_no_record_and_no_order() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let Some(services) = Services::up("a broker that crashes", &["kafka"]) else { return };
    let mut traffic = Traffic::start(&open(&services)).await;
    traffic.until_more(500).await;
    services.kill("kafka-1");
    let killed_at = Instant::now();
    services.start("kafka-1");
    println!("the broker is back after {:?}", killed_at.elapsed());
    traffic.until_more(500).await;
    println!("500 records later: {:?}", killed_at.elapsed());
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_brokers_may_be_away() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let Some(services) = Services::up("one of three brokers", &["kafka", "--brokers", "3"]) else { return };
    let mut traffic = Traffic::start(&open(&services)).await;
    for name in ["kafka-1", "kafka-2"] {
        traffic.until_more(500).await;
        services.kill(name);
        let killed_at = Instant::now();
        traffic.until_more(500).await;
        println!("without {name}, 500 records later: {:?}", killed_at.elapsed());
        services.start(name);
    }
    traffic.end().await;
}

fn open(services: &Services) -> Arc<KafkaLog> {
    KafkaLog::open(support::quick(Options::new(services.brokers()))).unwrap()
}
