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
        if let Some(refusal) = refusal(&error, reason) {
            *lock(&self.refusal) = Some((Instant::now(), refusal));
        }
        told(&error, reason);
    }
}

/// What somebody must do before a connection comes about. librdkafka tells the cases apart in its `reason` only.
fn refusal(error: &KafkaError, reason: &str) -> Option<&'static str> {
    match error.rdkafka_error_code()? {
        Code::Authentication if reason.contains("current SASL state") => {
            Some("the brokers want no login there: leave `user` out, or give the port that has SASL")
        }
        Code::Authentication if reason.contains("Unsupported SASL mechanism") => {
            Some("the brokers do not know this login: set `sasl` to one of the mechanisms they have switched on")
        }
        Code::Authentication => Some("the brokers refuse the login: check `user`, its password, and `sasl`"),
        Code::SSL if reason.contains("certificate verify failed") => Some(
            "the brokers' certificate is not trusted: name the authority that signed it with `ca_file`, and the \
             brokers as the certificate does",
        ),
        Code::SSL if reason.contains("certificate required") || reason.contains("bad certificate") => {
            Some("the brokers want a certificate of ours: give `certificate_file` and `key_file`")
        }
        Code::SSL => Some("there is no TLS with the brokers: do they have it on this port?"),
        _ => None,
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

/// What may be done after the brokers answered with `code`; `what` could not be done, for which the user needs `right`, as
/// Kafka calls it.
pub(crate) fn failed(what: &str, right: &str, code: Code) -> Error {
    match code {
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            Error::Refused(format!("{what}: the right `{right}` is missing; docs/ENGINES.md lists those needed"))
        }
        code if is_refusal(code) => Error::Refused(format!("{what}: {code}")),
        code => Error::Unavailable(format!("{what}: {code}")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_us_out_is_told_apart_by_the_reason() {
        let check = |code: Code, reason: &str, expected: &str| {
            let refusal = refusal(&KafkaError::Global(code), reason).unwrap_or_default();
            assert!(refusal.contains(expected), "{reason}: {refusal}");
        };
        // As librdkafka 2.12.1 says it.
        let failed = "SASL authentication error: Authentication failed: Invalid username or password";
        check(Code::Authentication, failed, "`user`, its password");
        let unsupported =
            "SASL handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN";
        check(Code::Authentication, unsupported, "set `sasl`");
        let untrusted =
            "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate";
        check(Code::SSL, untrusted, "`ca_file`");
        let plain = "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?";
        check(Code::SSL, plain, "on this port");
        assert_eq!(refusal(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down"), None);
    }
}
