//! On which engines a cluster runs, and what its log holds once all processes have ended. The real servers are those of
//! `dev/services` that `./test` starts: `CHAT4ALL_TEST_SERVICES` is their folder.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::cluster::Cluster;
use super::ledger;
use super::receiver::Receiver;
use crate::checker::{self, Accepted, Evidence, Parked, Position, Taken};

pub const KAFKA: &str = "kafka-1";
pub const CASSANDRA: &str = "cassandra";

pub enum Engines {
    /// In the cluster's own folder.
    Embedded,
    Distributed(Servers),
}

impl Engines {
    /// Real servers, with topics and a keyspace of this test's own; `None`, after saying so, where there are none.
    pub fn distributed(test: &str) -> Option<Self> {
        let Some(folder) = std::env::var_os("CHAT4ALL_TEST_SERVICES") else {
            println!("SKIPPED {test}: no Kafka and no Cassandra (./test starts them)");
            return None;
        };
        Some(Self::Distributed(Servers::of(folder.into())))
    }

    /// For the top of a chat4all.toml.
    pub fn config(&self) -> String {
        match self {
            Self::Embedded => String::new(),
            Self::Distributed(servers) => {
                format!("log = \"{}\"\nstatus = \"{}\"", servers.log_url(), servers.status_url())
            }
        }
    }

    pub fn servers(&self) -> &Servers {
        match self {
            Self::Embedded => panic!("the embedded engines have no servers"),
            Self::Distributed(servers) => servers,
        }
    }

    /// What the checker judges by, of the messages that went to `receiver`. Once all processes have ended.
    pub fn evidence(&self, cluster: &Cluster, accepted: Vec<Accepted>, receiver: &Receiver) -> Evidence {
        self.evidence_of("hook", cluster, accepted, checker::taken(&receiver.requests()))
    }

    /// As [`Self::evidence`], of another channel, or where more than a 2xx counts as taken.
    pub fn evidence_of(
        &self,
        channel: &str,
        cluster: &Cluster,
        accepted: Vec<Accepted>,
        taken: Vec<Taken>,
    ) -> Evidence {
        let [outbound, parked] = ["outbound", "parked"].map(|topic| format!("{channel}-{topic}"));
        let logs = cluster.logs();
        let mut copies: HashMap<String, Vec<Position>> = HashMap::new();
        for (delivery, position) in self.all_positions(cluster, &parked) {
            copies.entry(delivery).or_default().push(position);
        }
        Evidence {
            accepted,
            taken,
            takeovers: ledger::takeovers(&logs, &outbound),
            positions: self.positions(cluster, &outbound),
            parked: Parked { takeovers: ledger::takeovers(&logs, &parked), copies },
        }
    }

    /// Where the first record of each delivery stands on an outbound topic, by `dlv_…`.
    pub fn positions(&self, cluster: &Cluster, outbound: &str) -> HashMap<String, Position> {
        let mut first = HashMap::new();
        for (delivery, position) in self.all_positions(cluster, outbound) {
            first.entry(delivery).or_insert(position);
        }
        first
    }

    /// Where every record of a topic stands, each partition's in its order, by the `dlv_…` that it is about.
    pub fn all_positions(&self, cluster: &Cluster, topic: &str) -> Vec<(String, Position)> {
        match self {
            Self::Embedded => ledger::all_positions(&cluster.data(), topic),
            Self::Distributed(servers) => servers.records(topic).iter().map(Found::delivery).collect(),
        }
    }

    /// Records beyond the first of their id on `messages` and on an outbound topic: what whoever reads has to drop.
    pub fn written_again(&self, cluster: &Cluster, outbound: &str) -> usize {
        match self {
            Self::Embedded => {
                ledger::must_be_written_once(&cluster.data(), outbound);
                0
            }
            Self::Distributed(servers) => {
                ["messages", outbound].map(|topic| again(&servers.records(topic))).iter().sum()
            }
        }
    }
}

fn again(records: &[Found]) -> usize {
    let ids: HashSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    records.len() - ids.len()
}

/// A record as any Kafka client sees it.
struct Found {
    /// Of the event: `UUID/GENERATION`.
    id: String,
    position: Position,
}

/// One set of servers, shared by all tests of a run: whoever ends one starts it again, also when it fails.
pub struct Servers {
    folder: PathBuf,
    kafka: String,
    cassandra: String,
    /// Of this test's topics and keyspace.
    name: String,
}

impl Servers {
    fn of(folder: PathBuf) -> Self {
        let services = |args: &[&str]| run(&folder, args);
        let env = services(&["env"]);
        let value = |name: &str| {
            let line = env.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            line.unwrap_or_else(|| panic!("no {name} in:\n{env}")).to_owned()
        };
        let (kafka, cassandra) = (value("CHAT4ALL_LOG"), value("CHAT4ALL_STATUS"));
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let servers = Self {
            kafka: kafka.trim_start_matches("kafka://").to_owned(),
            cassandra: cassandra.trim_start_matches("cassandra://").split('/').next().expect("a host").to_owned(),
            folder,
            name,
        };
        servers.start_all();
        servers
    }

    pub fn log_url(&self) -> String {
        format!("kafka://{}?prefix={}.", self.kafka, self.name)
    }

    pub fn status_url(&self) -> String {
        format!("cassandra://{}/{}", self.cassandra, self.name)
    }

    /// SIGKILL; returns when the process is gone.
    pub fn kill(&self, server: &str) {
        run(&self.folder, &["kill", server]);
    }

    /// Returns when it serves this test's data again: a broker answers before its partitions have leaders.
    pub fn start(&self, server: &str) {
        run(&self.folder, &["start", server]);
        let begin = Instant::now();
        while server == KAFKA && !self.has_leaders("messages") {
            assert!(begin.elapsed() < Duration::from_secs(120), "the partitions have no leaders");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn start_all(&self) {
        run(&self.folder, &["up"]);
    }

    fn has_leaders(&self, topic: &str) -> bool {
        let topic = format!("{}.{topic}", self.name);
        let metadata = self.consumer().fetch_metadata(Some(&topic), Duration::from_secs(5));
        metadata.is_ok_and(|metadata| {
            let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            partitions.clone().count() > 0 && partitions.clone().all(|partition| partition.leader() >= 0)
        })
    }

    fn consumer(&self) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka).set("group.id", "chat4all-tests");
        config.set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        config.create().expect("a consumer")
    }

    /// All records of a topic, each partition's in its order.
    fn records(&self, topic: &str) -> Vec<Found> {
        let topic = format!("{}.{topic}", self.name);
        let consumer = self.consumer();
        let metadata = consumer.fetch_metadata(Some(&topic), Duration::from_secs(20)).expect("the topic's partitions");
        let mut open: HashSet<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
        let mut list = TopicPartitionList::new();
        for partition in &open {
            list.add_partition_offset(&topic, *partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&list).expect("partitions");
        let (mut found, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(120));
        while !open.is_empty() {
            assert!(Instant::now() < deadline, "`{topic}` could not be read: {} partitions are left", open.len());
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => found.push(Found::of(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                Some(Err(error)) => println!("reading {topic}: {error}"),
                None => {}
            }
        }
        found
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // What a failed test has ended, the next one needs.
        let _ = services(&self.folder, &["up"]).status();
    }
}

impl Found {
    fn delivery(&self) -> (String, Position) {
        let uuid = self.id.split('/').next().expect("a first part");
        (format!("dlv_{uuid}"), self.position)
    }

    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().expect("every record is a cloud event");
        let id = headers.iter().find(|header| header.key == "ce_id").and_then(|header| header.value).expect("an id");
        let position = Position {
            partition: message.partition().try_into().expect("not negative"),
            offset: message.offset().try_into().expect("not negative"),
        };
        Self { id: String::from_utf8_lossy(id).into_owned(), position }
    }
}

fn services(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dev/services"));
    command.args(args).env("CHAT4ALL_SERVICES_DIR", folder);
    command
}

/// Runs `dev/services`, which must succeed; what it printed.
fn run(folder: &Path, args: &[&str]) -> String {
    let ended = services(folder, args).output().expect("dev/services runs");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "dev/services {args:?}: {said}{}", String::from_utf8_lossy(&ended.stderr));
    said
}
