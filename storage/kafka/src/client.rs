//! What all of librdkafka's clients have in common: where their logs go, and what their errors mean.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use chat4all_storage::log::Error;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tracing::{debug, info, warn};

use crate::shared::lock;

/// What a broker refuses again and again librdkafka tells every 30 s only, once it tries the next time.
const REFUSAL_KEPT: Duration = Duration::from_secs(35);

/// The context of a client that only asks.
#[derive(Default)]
pub(crate) struct Logs {
    /// Why no connection came about, and when that was told. librdkafka's own answers do not say it.
    refusal: Mutex<Option<(Instant, &'static str)>>,
}

impl Logs {
    /// Why there is no connection, if a person must act.
    pub fn refusal(&self) -> Option<&'static str> {
        lock(&self.refusal).filter(|(told, _)| told.elapsed() < REFUSAL_KEPT).map(|(_, refusal)| refusal)
    }
}

impl ClientContext for Logs {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let refusal = match error.rdkafka_error_code() {
            Some(Code::Authentication) => "the brokers refuse the login: check mechanism, user and password",
            Some(Code::SSL) => "there is no TLS with the brokers: check their certificate and our authorities",
            _ => return told(&error, reason),
        };
        *lock(&self.refusal) = Some((Instant::now(), refusal));
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
    match error.rdkafka_error_code() {
        // Having read all there is, is none.
        Some(Code::PartitionEOF) => {}
        // Repeats at each try that there is none of the connections whose errors were told before.
        Some(Code::AllBrokersDown) => debug!(%error, reason, "Kafka"),
        _ => info!(%error, reason, "Kafka"),
    }
}

/// What may be done after `error`.
pub(crate) fn failure(error: &KafkaError) -> Error {
    let text = error.to_string();
    match error.rdkafka_error_code() {
        Some(code) if is_refusal(code) => Error::Refused(text),
        _ => Error::Unavailable(text),
    }
}

/// As `failure`, for what a broker answers about `topic`. `right` is what it asked for, as Kafka calls it.
pub(crate) fn failure_on(topic: &str, code: Code, right: &str) -> Error {
    let text = match code {
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            format!("the user may not use the topic `{topic}`: the right `{right}` is missing")
        }
        other => format!("the topic `{topic}`: {other}"),
    };
    if is_refusal(code) { Error::Refused(text) } else { Error::Unavailable(text) }
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
