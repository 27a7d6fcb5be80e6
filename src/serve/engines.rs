//! Opens the engines that the configuration chooses.

use std::sync::Arc;
use std::time::Duration;

use chat4all_cassandra::CassandraStatus;
use chat4all_embedded::{log, status};
use chat4all_kafka::KafkaLog;
use chat4all_proto::Topic;
use chat4all_runtime::Shutdown;
use chat4all_storage::log::{Error as LogError, TopicKind, TopicSpec};
use chat4all_storage::status::claims::OUTLIVES_MESSAGE_BY;
use chat4all_storage::{Log, Status};

use tracing::warn;

use super::Error;
use crate::config::{Config, LogEngine, StatusEngine};

/// Before a log that was away is tried again.
const AGAIN: Duration = Duration::from_millis(500);

pub async fn open_log(config: &Config) -> Result<Arc<dyn Log>, Error> {
    let folder = match &config.log {
        LogEngine::Embedded(folder) => folder.clone(),
        LogEngine::Kafka(kafka) => return open_kafka(kafka.options(), config),
    };
    let options = log::Options {
        session_timeout: config.session_timeout,
        // As long as a message is remembered anywhere, its id must not be taken for another one.
        once_kept: config.retention + OUTLIVES_MESSAGE_BY,
        ..log::Options::default()
    };
    let open = tokio::task::spawn_blocking(move || log::EmbeddedLog::open(&folder, options));
    Ok(open.await.expect("opening does not panic").map_err(|error| Error::Engine(error.to_string()))?)
}

pub async fn open_status(config: &Config) -> Result<Arc<dyn Status>, Error> {
    let folder = match &config.status {
        StatusEngine::Embedded(folder) => folder.clone(),
        StatusEngine::Cassandra(cassandra) => return connect_cassandra(cassandra.options(), config),
    };
    let open = tokio::task::spawn_blocking(move || status::EmbeddedStatus::open(&folder, status::Options::default()));
    Ok(open.await.expect("opening does not panic").map_err(|error| Error::Engine(error.to_string()))?)
}

fn open_kafka(options: chat4all_kafka::Options, config: &Config) -> Result<Arc<dyn Log>, Error> {
    let session_timeout = config.session_timeout;
    let options = chat4all_kafka::Options { session_timeout, heartbeat_interval: session_timeout / 3, ..options };
    Ok(KafkaLog::open(options).map_err(|error| Error::Engine(error.to_string()))?)
}

/// Rows expire by themselves: none is asked to be deleted before its time.
fn connect_cassandra(options: chat4all_cassandra::Options, config: &Config) -> Result<Arc<dyn Status>, Error> {
    let options = chat4all_cassandra::Options { ttl: Some(config.retention), ..options };
    Ok(CassandraStatus::connect(options).map_err(|error| Error::Engine(error.to_string()))?)
}

/// Makes what topics are missing. While the log is away it tries again, until shutdown.
pub async fn make_topics(config: &Config, log: &dyn Log, shutdown: &Shutdown) -> Result<(), Error> {
    let topics = topics(config);
    let mut told: Option<String> = None;
    loop {
        match log.ensure_topics(&topics).await {
            Err(LogError::Unavailable(reason)) => {
                if told.as_ref() != Some(&reason) {
                    warn!(reason, "the log cannot be used yet, trying again until it can");
                    told = Some(reason);
                }
            }
            Err(error) => return Err(Error::Engine(error.to_string())),
            Ok(()) => return Ok(()),
        }
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

fn topics(config: &Config) -> Vec<TopicSpec> {
    let stream = |topic| TopicSpec {
        topic,
        partitions: config.partitions,
        kind: TopicKind::Stream { retention: config.retention },
    };
    let mut topics = vec![
        stream(Topic::Messages),
        stream(Topic::StatusUpdates),
        stream(Topic::DeadLetters),
        stream(Topic::Inbound),
        TopicSpec { topic: Topic::Control, partitions: 1, kind: TopicKind::Latest },
    ];
    topics.extend(config.channels.keys().map(|channel| stream(Topic::Outbound(channel.clone()))));
    topics
}
