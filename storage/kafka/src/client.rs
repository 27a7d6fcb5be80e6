//! What all of librdkafka's clients have in common: where their logs go, and what their errors mean.

use chat4all_storage::log::Error;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tracing::{debug, info, warn};

/// The context of a client that only asks.
pub(crate) struct Logs;

impl ClientContext for Logs {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        told(&error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Logs {}

/// A line of librdkafka's log. It warns of lost connections, which cost nothing yet.
pub(crate) fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => warn!(fac, "{message}"),
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => info!(fac, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => debug!(fac, "{message}"),
    }
}

/// An error that a client has of its own accord.
pub(crate) fn told(error: &KafkaError, reason: &str) {
    info!(%error, reason, "Kafka");
}

/// What may be done after `error`.
pub(crate) fn failure(error: &KafkaError) -> Error {
    let text = error.to_string();
    match error.rdkafka_error_code() {
        Some(code) if is_refusal(code) => Error::Refused(text),
        _ => Error::Unavailable(text),
    }
}

/// Somebody must act before this can succeed.
pub(crate) fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::PolicyViolation
            | Code::InvalidReplicationFactor
            | Code::InvalidConfig
            | Code::InvalidPartitions
            | Code::InvalidTopic
            | Code::MessageSizeTooLarge
            | Code::OffsetMetadataTooLarge
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
    )
}
