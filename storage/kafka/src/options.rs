//! How the log behaves and whom it connects to. Filled in by the binary's configuration.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};

/// Where Kafka is and how it is used. [`Options::new`] has the defaults; tests shorten times and bounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Default: no TLS.
    pub tls: Option<Tls>,
    /// Default: no login.
    pub sasl: Option<Sasl>,
    /// Before the names of all topics. Default: empty.
    pub topic_prefix: String,
    /// Before the names of all groups. Default: empty.
    pub group_prefix: String,
    /// Copies of each partition of the topics that are made; an existing topic stays as it is. From 3 on, writes need two
    /// of them. `None`: 3, or 1 where there is one broker only. Default: `None`.
    pub replication: Option<u16>,
    /// A member that the coordinator did not hear of for so long has lost its partitions. Default: 10 s.
    pub session_timeout: Duration,
    /// Default: 3 s. A third of the session or less.
    pub heartbeat_interval: Duration,
    /// A partition asked back and not released in this time is lost. Default: 20 s.
    pub release_timeout: Duration,
    /// After this a record that was not acknowledged is given up, its outcome unknown. Default: 10 s.
    pub ingress_delivery_timeout: Duration,
    /// The same for what is appended on behalf of a partition. Default: 15 min.
    pub worker_delivery_timeout: Duration,
    /// Largest record, value and key and headers together. Default: 1,040,000, which suits the brokers' default.
    pub record_bytes_max: usize,
    /// Records that may wait for their acknowledgement. Default: 20,000.
    pub queue_records_max: usize,
    /// Bytes that may wait for their acknowledgement. Default: 32 MiB.
    pub queue_bytes_max: usize,
}

/// TLS to the brokers. Certificates are always verified.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM file of the authorities to trust. Default: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of our own certificate and its key, where brokers ask for one.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// A login at the brokers.
#[derive(Debug, Clone)]
pub struct Sasl {
    pub mechanism: Mechanism,
    pub user: String,
    pub password: SecretString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Options {
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            tls: None,
            sasl: None,
            topic_prefix: String::new(),
            group_prefix: String::new(),
            replication: None,
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(3),
            release_timeout: Duration::from_secs(20),
            ingress_delivery_timeout: Duration::from_secs(10),
            worker_delivery_timeout: Duration::from_secs(900),
            record_bytes_max: 1_040_000,
            queue_records_max: 20_000,
            queue_bytes_max: 32 * 1_024 * 1_024,
        }
    }

    /// What every client of the process `process` is configured with.
    pub(crate) fn client(&self, process: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("chat4all-{process}"))
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "1000")
            .set("security.protocol", self.protocol())
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Warning);
        if let Some(tls) = &self.tls {
            tls.configure(&mut config);
        }
        if let Some(sasl) = &self.sasl {
            config
                .set("sasl.mechanism", sasl.mechanism.name())
                .set("sasl.username", &sasl.user)
                .set("sasl.password", sasl.password.expose_secret());
        }
        config
    }

    /// A consumer of `group`. It commits only when told to, and never starts anywhere by itself.
    pub(crate) fn consumer(&self, process: &str, group: &str) -> ClientConfig {
        let mut config = self.client(process);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.queue.backoff.ms", "50");
        config
    }

    /// A consumer that joins `group`.
    pub(crate) fn member(&self, process: &str, group: &str) -> ClientConfig {
        let mut config = self.consumer(process, group);
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", millis(self.session_timeout))
            .set("heartbeat.interval.ms", millis(self.heartbeat_interval))
            .set("max.poll.interval.ms", millis(self.release_timeout.saturating_mul(3).max(self.session_timeout)));
        config
    }

    /// A producer that gives a record up after `delivery_timeout`.
    pub(crate) fn producer(&self, process: &str, delivery_timeout: Duration) -> ClientConfig {
        let mut config = self.client(process);
        // Our own queue is the bound; librdkafka's leaves room for the notes that pass it by.
        let kbytes = (self.queue_bytes_max + self.record_bytes_max).div_ceil(1_024) + 1_024;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("compression.codec", "zstd")
            .set("linger.ms", "2")
            .set("message.max.bytes", (self.record_bytes_max + 8_192).to_string())
            .set("queue.buffering.max.messages", (self.queue_records_max + 1_000).to_string())
            .set("queue.buffering.max.kbytes", kbytes.to_string())
            .set("delivery.timeout.ms", millis(delivery_timeout));
        config
    }

    fn protocol(&self) -> &'static str {
        match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        }
    }
}

impl Tls {
    fn configure(&self, config: &mut ClientConfig) {
        let files = [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.certificate_file),
            ("ssl.key.location", &self.key_file),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                config.set(name, file.to_string_lossy());
            }
        }
    }
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

pub(crate) fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_is_passed_through_and_no_password_is_printed() {
        let sasl = Sasl { mechanism: Mechanism::ScramSha512, user: "app".into(), password: "pass-w0rd".into() };
        let tls = Tls { ca_file: Some("/ca.pem".into()), ..Tls::default() };
        let options = Options { tls: Some(tls), sasl: Some(sasl), ..Options::new("one:9093,two:9093") };
        let config = options.client("p");
        let expected = [
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "app"),
            ("sasl.password", "pass-w0rd"),
            ("ssl.ca.location", "/ca.pem"),
        ];
        for (name, value) in expected {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
        assert!(!format!("{options:?}{config:?}").contains("pass-w0rd"));
    }

    #[test]
    fn librdkafka_knows_every_property() {
        let options = Options::new("localhost:9092");
        let all =
            [options.member("p", "g"), options.consumer("p", "g"), options.producer("p", Duration::from_secs(10))];
        for config in all {
            config.create_native_config().expect("every property is known");
        }
    }
}
