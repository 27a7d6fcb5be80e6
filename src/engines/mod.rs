//! Opens, makes and examines the engines that the configuration chooses. With `serve`, the only place that names adapters.

mod examine;
mod migrate;

use std::sync::Arc;
use std::time::Duration;

use chat4all_cassandra::CassandraStatus;
use chat4all_embedded::{log, status};
use chat4all_kafka::KafkaLog;
use chat4all_proto::{ChannelName, Topic};
use chat4all_runtime::Shutdown;
use chat4all_storage::log::{Error as LogError, TopicKind, TopicSpec};
use chat4all_storage::status::Error as StatusError;
use chat4all_storage::status::claims::OUTLIVES_MESSAGE_BY;
use chat4all_storage::{Log, Status};
use tracing::{info, warn};

use crate::config::{Cassandra, Config, Kafka, LogEngine, StatusEngine};

pub use examine::{log as examine_log, status as examine_status};
pub use migrate::{log as migrate_log, status as migrate_status};

/// Before an engine that was away is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Why an engine cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    fn of(error: impl ToString) -> Self {
        Self(error.to_string())
    }
}

pub async fn open_log(config: &Config) -> Result<Arc<dyn Log>, Error> {
    let folder = match &config.log {
        LogEngine::Embedded(folder) => folder.clone(),
        LogEngine::Kafka(kafka) => return Ok(KafkaLog::open(kafka_options(kafka, config)).map_err(Error::of)?),
    };
    let options = log::Options {
        session_timeout: config.session_timeout,
        // As long as a message is remembered anywhere, its id must not be taken for another one.
        once_kept: config.retention + OUTLIVES_MESSAGE_BY,
        ..log::Options::default()
    };
    let open = tokio::task::spawn_blocking(move || log::EmbeddedLog::open(&folder, options));
    let opened = open.await.expect("opening does not panic").map_err(Error::of)?;
    info!(log = %config.log, "opened the embedded log");
    Ok(opened)
}

pub async fn open_status(config: &Config) -> Result<Arc<dyn Status>, Error> {
    let folder = match &config.status {
        StatusEngine::Embedded(folder) => folder.clone(),
        StatusEngine::Cassandra(cassandra) => {
            return Ok(CassandraStatus::connect(cassandra_options(cassandra, config)).map_err(Error::of)?);
        }
    };
    let open = tokio::task::spawn_blocking(move || status::EmbeddedStatus::open(&folder, status::Options::default()));
    let opened = open.await.expect("opening does not panic").map_err(Error::of)?;
    info!(status = %config.status, "opened the embedded status store");
    Ok(opened)
}

fn kafka_options(kafka: &Kafka, config: &Config) -> chat4all_kafka::Options {
    let session_timeout = config.session_timeout;
    chat4all_kafka::Options { session_timeout, heartbeat_interval: session_timeout / 3, ..kafka.options() }
}

/// Rows expire by themselves: none is asked to be deleted before its time.
fn cassandra_options(cassandra: &Cassandra, config: &Config) -> chat4all_cassandra::Options {
    chat4all_cassandra::Options { ttl: Some(config.retention), ..cassandra.options() }
}

/// Makes what topics are missing. False if the log is away.
pub async fn try_topics(config: &Config, log: &dyn Log) -> Result<bool, Error> {
    match log.ensure_topics(&topics(config)).await {
        Ok(()) => Ok(true),
        Err(LogError::Unavailable(reason)) => {
            warn!(reason, "the log is away; the process waits for it");
            Ok(false)
        }
        Err(LogError::Refused(reason)) => Err(Error(reason)),
    }
}

/// Makes what topics are missing. While the log is away it tries again, until shutdown.
pub async fn make_topics(config: &Config, log: &dyn Log, shutdown: &Shutdown) -> Result<(), Error> {
    let topics = topics(config);
    let tell = |reason: &str| warn!(reason, "the log cannot be used yet, trying again until it can");
    let made = keep_trying(async || Ok(log.ensure_topics(&topics).await?), tell, shutdown.requested()).await;
    match made {
        // It is about to end.
        Ok(()) | Err(Trouble::Away(_)) => Ok(()),
        Err(Trouble::Refused(reason)) => Err(Error(reason)),
    }
}

/// Makes the topic for what of a channel is parked, beside its outbound topic, if that is all there is of it: a channel that
/// an earlier build worked and that is no longer configured.
pub async fn make_parked(config: &Config, log: &dyn Log, channel: &ChannelName) -> Result<(), LogError> {
    let partitions = log.ends(&Topic::Outbound(channel.clone())).await?.len();
    let partitions = u32::try_from(partitions).expect("a topic has fewer partitions");
    let kind = TopicKind::Stream { retention: config.retention };
    log.ensure_topics(&[TopicSpec { topic: Topic::Parked(channel.clone()), partitions, kind }]).await
}

/// What both ports' errors come to.
enum Trouble {
    /// May pass.
    Away(String),
    /// Somebody must act first.
    Refused(String),
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(reason) => Self::Away(reason),
            LogError::Refused(reason) => Self::Refused(reason),
        }
    }
}

impl From<StatusError> for Trouble {
    fn from(error: StatusError) -> Self {
        match error {
            StatusError::Unavailable(reason) => Self::Away(reason),
            StatusError::Refused(_) | StatusError::BadCursor => Self::Refused(error.to_string()),
        }
    }
}

/// Repeats `attempt` while the engine is away, until `stop`: then `Away` says why. `tell` gets each new reason once.
async fn keep_trying<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, Trouble>,
    tell: impl Fn(&str),
    stop: impl Future<Output = ()>,
) -> Result<T, Trouble> {
    let mut stop = std::pin::pin!(stop);
    let mut told = String::new();
    loop {
        let attempted = tokio::select! {
            attempted = attempt() => attempted,
            () = &mut stop => return Err(Trouble::Away(told)),
        };
        match attempted {
            Err(Trouble::Away(reason)) if reason != told => {
                tell(&reason);
                told = reason;
            }
            Err(Trouble::Away(_)) => {}
            ended => return ended,
        }
        tokio::select! {
            () = &mut stop => return Err(Trouble::Away(told)),
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
    for channel in config.channels.keys() {
        topics.extend([Topic::Outbound(channel.clone()), Topic::Parked(channel.clone())].map(stream));
    }
    topics
}
