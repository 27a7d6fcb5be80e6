//! Makes what the engines of a configuration are made of, and says what was there.

use std::path::Path;
use std::time::Duration;

use chat4all_embedded as embedded;
use chat4all_kafka::KafkaLog;
use chat4all_storage::Log as _;
use chat4all_storage::diagnosis::Part;
use chat4all_storage::log::Error as LogError;

use super::{Error, Trouble, cassandra_options, kafka_options, keep_trying, open_log, open_status, topics};
use crate::config::{Config, LogEngine, StatusEngine};

/// How long an engine that is away is waited for.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Makes the topics. `tell` gets each new reason to wait.
pub async fn log(config: &Config, tell: impl Fn(&str)) -> Result<Vec<Part>, Error> {
    match &config.log {
        LogEngine::Embedded(folder) => embedded_log(config, folder).await,
        LogEngine::Kafka(kafka) => {
            let log = KafkaLog::open(kafka_options(kafka, config)).map_err(Error::of)?;
            let topics = topics(config);
            let made = bounded(async || Ok(log.make_topics(&topics).await?), tell).await;
            log.close().await;
            made
        }
    }
}

/// Makes the keyspace and its tables. `tell` gets each new reason to wait.
pub async fn status(config: &Config, tell: impl Fn(&str)) -> Result<Vec<Part>, Error> {
    match &config.status {
        StatusEngine::Embedded(folder) => {
            let file = file(folder, embedded::status::FILE);
            open_status(config).await?.close().await;
            Ok(vec![file])
        }
        StatusEngine::Cassandra(cassandra) => {
            let options = cassandra_options(cassandra, config);
            bounded(async || Ok(chat4all_cassandra::make_tables(&options).await?), tell).await
        }
    }
}

async fn embedded_log(config: &Config, folder: &Path) -> Result<Vec<Part>, Error> {
    let mut parts = vec![file(folder, embedded::log::FILE)];
    let (log, topics) = (open_log(config).await?, topics(config));
    for topic in topics.iter().map(|spec| &spec.topic) {
        let is_new = matches!(log.ends(topic).await, Err(LogError::Refused(_)));
        parts.push(Part { name: format!("topic `{topic}`"), is_new });
    }
    let made = log.ensure_topics(&topics).await;
    log.close().await;
    made.map(|()| parts).map_err(Error::of)
}

/// A file of an embedded engine that has not been opened yet.
fn file(folder: &Path, name: &str) -> Part {
    let file = folder.join(name);
    Part { name: format!("file `{}`", file.display()), is_new: !file.exists() }
}

async fn bounded<T>(attempt: impl AsyncFnMut() -> Result<T, Trouble>, tell: impl Fn(&str)) -> Result<T, Error> {
    keep_trying(attempt, tell, tokio::time::sleep(WAIT_MAX)).await.map_err(|trouble| match trouble {
        Trouble::Refused(reason) => Error(reason),
        Trouble::Away(reason) => {
            let waited_s = WAIT_MAX.as_secs();
            Error(format!("away for {waited_s} s: {reason}; `chat4all doctor` looks closer"))
        }
    })
}
