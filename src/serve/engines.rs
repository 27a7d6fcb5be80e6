//! Opens the engines that the configuration chooses.

use std::sync::Arc;
use std::time::Duration;

use chat4all_embedded::{log, status};
use chat4all_proto::Topic;
use chat4all_storage::log::{TopicKind, TopicSpec};
use chat4all_storage::{Log, Status};

use super::Error;
use crate::config::{Config, Engine};

/// How much longer an idempotency key is kept than any window and row knows its message.
const ONCE_MARGIN: Duration = Duration::from_secs(3_600);

pub async fn open_log(config: &Config) -> Result<Arc<dyn Log>, Error> {
    let Engine::Embedded(folder) = config.log.clone();
    let options = log::Options {
        session_timeout: config.session_timeout,
        // As long as a message is remembered anywhere, its id must not be taken for another one.
        once_kept: config.retention + ONCE_MARGIN,
        ..log::Options::default()
    };
    let open = tokio::task::spawn_blocking(move || log::EmbeddedLog::open(&folder, options));
    Ok(open.await.expect("opening does not panic").map_err(|error| Error::Engine(error.to_string()))?)
}

pub async fn open_status(config: &Config) -> Result<Arc<dyn Status>, Error> {
    let Engine::Embedded(folder) = config.status.clone();
    let open = tokio::task::spawn_blocking(move || status::EmbeddedStatus::open(&folder, status::Options::default()));
    Ok(open.await.expect("opening does not panic").map_err(|error| Error::Engine(error.to_string()))?)
}

/// Makes what topics are missing.
pub async fn make_topics(config: &Config, log: &dyn Log) -> Result<(), Error> {
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
    log.ensure_topics(&topics).await.map_err(|error| Error::Engine(error.to_string()))
}
