//! What the engines of a configuration look like, without changing anything there.

use std::time::Duration;

use chat4all_embedded as embedded;
use chat4all_storage::diagnosis::Finding;

use crate::config::{Config, LogEngine, StatusEngine};

/// For one engine; one that answers needs far less.
const EXAMINE_MAX: Duration = Duration::from_secs(30);

pub async fn log(config: &Config) -> Vec<Finding> {
    let topics = super::topics(config);
    match &config.log {
        LogEngine::Embedded(folder) => {
            let folder = folder.clone();
            within(blocking(move || embedded::log::examine(&folder, &topics))).await
        }
        LogEngine::Kafka(kafka) => within(chat4all_kafka::examine(&super::kafka_options(kafka, config), &topics)).await,
    }
}

pub async fn status(config: &Config) -> Vec<Finding> {
    match &config.status {
        StatusEngine::Embedded(folder) => {
            let folder = folder.clone();
            within(blocking(move || embedded::status::examine(&folder))).await
        }
        StatusEngine::Cassandra(cassandra) => {
            within(chat4all_cassandra::examine(&super::cassandra_options(cassandra, config))).await
        }
    }
}

async fn blocking(examine: impl FnOnce() -> Vec<Finding> + Send + 'static) -> Vec<Finding> {
    tokio::task::spawn_blocking(examine).await.expect("examining does not panic")
}

async fn within(examination: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    tokio::time::timeout(EXAMINE_MAX, examination).await.unwrap_or_else(|_| {
        let text = format!("it lets us in and then answers too slowly: no end within {} s", EXAMINE_MAX.as_secs());
        vec![Finding::problem(text)]
    })
}
