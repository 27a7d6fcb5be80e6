//! What `chat4all doctor` wants to know of a Kafka cluster. It asks, and changes nothing: topics are asked to be made with
//! `validate_only`, and the one record it writes is a tombstone of a key that nobody has, on our own compacted topic. That
//! one tells whether writes are taken, and what the brokers' clock says.
//!
//! Not tried, since it would leave something behind: writing to the other topics, and joining a group.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chat4all_proto::Timestamp;
use chat4all_storage::diagnosis::reach::Server;
use chat4all_storage::diagnosis::{ClockReading, Finding};
use chat4all_storage::log::{Error, TopicSpec};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use uuid::Uuid;

use crate::admin::{Admin, value};
use crate::client::{self, Logs, failure};
use crate::shared::{ASK_MAX, Shared, lock};
use crate::topics::{Found, Wanted, brokers, look, replication};
use crate::{Options, cluster};

/// Known by the answer to ApiVersions, which needs no login: the correlation id comes back.
const KAFKA: Server = Server {
    name: "Kafka",
    hello: b"\0\0\0\x0a\0\x12\0\0c4al\xff\xff",
    is_answer: |answer| answer.get(4..8) == Some(b"c4al"),
};

/// The key of the tombstone.
const KEY: &str = "doctor";
/// A group that is asked about, to see whether we may.
const GROUP: &str = "router";
const POLL: Duration = Duration::from_millis(20);

/// Finds out whether the log of `options` can be used with `topics`. Makes and changes nothing. Some 10 s for each question
/// that is not answered.
pub async fn examine(options: &Options, topics: &[TopicSpec]) -> Vec<Finding> {
    let addresses: Vec<String> = options.brokers.split(',').map(str::to_owned).collect();
    let reached = KAFKA.reach(&addresses).await;
    let Some(address) = reached.addresses.first() else {
        return reached.problems.into_iter().map(Finding::problem).collect();
    };
    let mut findings: Vec<Finding> = reached.problems.into_iter().map(Finding::note).collect();
    let process = Uuid::new_v4().simple().to_string().into();
    let shared = match Shared::new(options.clone(), process) {
        Ok(shared) => Arc::new(shared),
        Err(error) => {
            findings.push(Finding::problem(format!("these options cannot work: {error}")));
            return findings;
        }
    };
    match shared.blocking(|shared| brokers(shared)).await {
        Ok(brokers) => findings.extend(Examination::of(&shared, brokers, topics).await.findings()),
        Err(error) => findings.push(Finding::problem(explained(&error, options, address).await)),
    }
    findings
}

/// Why nobody tells us which brokers there are.
async fn explained(error: &Error, options: &Options, address: &str) -> String {
    if let Some(text) = KAFKA.explain(address, options.tls.is_some()).await {
        return text;
    }
    match (error, &options.sasl) {
        (Error::Refused(_), _) | (_, Some(_)) => error.to_string(),
        (Error::Unavailable(_), None) => format!(
            "Kafka listens at `{address}` and does not answer us: does it want a login (`sasl`, `user`, \
             `password_file`)?"
        ),
    }
}

/// What is known of a cluster that lets us in.
struct Examination {
    brokers: usize,
    there: usize,
    missing: usize,
    /// Of each stream, as configured; `None` if some have others.
    partitions: Option<u32>,
    clock: Option<ClockReading>,
    /// Notes and problems.
    remarks: Vec<Finding>,
}

impl Examination {
    async fn of(shared: &Arc<Shared>, brokers: usize, specs: &[TopicSpec]) -> Self {
        let partitions = specs.iter().map(|spec| spec.partitions).max();
        let mut known = Self { brokers, there: 0, missing: 0, partitions, clock: None, remarks: Vec::new() };
        if brokers == 1 {
            known.note("there is one broker: what is on the log has one copy, and is away while that broker is");
        }
        match Admin::new(shared) {
            Ok(admin) => known.look_at_topics(shared, &admin, Wanted::all(shared, specs)).await,
            Err(error) => known.problem(&error),
        }
        known
    }

    async fn look_at_topics(&mut self, shared: &Arc<Shared>, admin: &Admin, topics: Vec<Wanted>) {
        let (mut there, mut missing, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
        for topic in topics {
            let name = topic.name.clone();
            match shared.blocking(move |shared| look(shared, &name)).await {
                Ok(Some(found)) => there.push((topic, found)),
                Ok(None) => missing.push(topic),
                Err(error) => unseen.push(error),
            }
        }
        (self.there, self.missing) = (there.len(), missing.len());
        self.remarks.extend(Finding::of_topics(&unseen));
        self.compare(admin, &there).await;
        self.compare_copies(shared, &there.iter().map(|(_, found)| found.copies).collect::<Vec<_>>());
        self.try_to_make(shared, admin, &missing).await;
        self.try_to_use(shared, there.into_iter().map(|(topic, _)| topic.name).collect()).await;
    }

    async fn compare(&mut self, admin: &Admin, there: &[(Wanted, Found)]) {
        let (mut counts, mut policies, mut leaderless) = (Vec::new(), Vec::new(), Vec::new());
        for (topic, found) in there {
            counts.extend(topic.check_count(found.partitions).err());
            let config = admin.config(&topic.name).await;
            policies.extend(config.and_then(|config| topic.check_policy(&value(&config, "cleanup.policy"))).err());
            if found.leaderless > 0 {
                leaderless.push(format!(
                    "the topic {} has partitions without a leader: start the brokers that are away",
                    topic.title
                ));
            }
        }
        if !counts.is_empty() {
            self.partitions = None;
        }
        let problems = [Finding::of_topics(&counts), Finding::of_topics(&policies), Finding::of_topics(&leaderless)];
        self.remarks.extend(problems.into_iter().flatten());
    }

    /// More copies than now were asked for when the configuration was written.
    fn compare_copies(&mut self, shared: &Shared, there: &[usize]) {
        let Some(copies) = there.iter().copied().min() else { return };
        let asked = shared.options.replication.map(usize::from).or((self.brokers >= 3).then_some(3));
        if asked.is_some_and(|asked| copies < asked) {
            let asked = asked.unwrap_or_default();
            self.note(&format!(
                "some topics have {copies} copies of each partition, asked for are {asked}: topics that are there stay \
                 as they are, `kafka-reassign-partitions.sh` adds copies"
            ));
        }
    }

    /// The missing ones are no fault: the first start makes them, if it may.
    async fn try_to_make(&mut self, shared: &Arc<Shared>, admin: &Admin, missing: &[Wanted]) {
        let Some(first) = missing.first() else { return };
        let allowed = match replication(shared, self.brokers) {
            Ok(copies) => admin.may_create(first, copies).await,
            Err(error) => Err(error),
        };
        self.check(allowed);
    }

    async fn try_to_use(&mut self, shared: &Arc<Shared>, there: Vec<String>) {
        let ours = cluster::topic(shared);
        let is_there = there.contains(&ours);
        self.check(shared.blocking(move |shared| read_ends(shared, &there)).await);
        if is_there {
            match shared.blocking(move |shared| write_tombstone(shared, &ours)).await {
                Ok(clock) => self.clock = clock,
                Err(error) => self.problem(&error),
            }
        }
    }

    fn note(&mut self, text: &str) {
        self.remarks.push(Finding::note(text));
    }

    fn problem(&mut self, error: &Error) {
        self.remarks.push(Finding::problem(error));
    }

    fn check(&mut self, checked: Result<(), Error>) {
        if let Err(error) = checked {
            self.problem(&error);
        }
    }

    fn findings(mut self) -> Vec<Finding> {
        self.remarks.extend(self.clock.and_then(|clock| clock.problem()));
        let plural = |number: usize| if number == 1 { "" } else { "s" };
        let (brokers, there, missing) = (self.brokers, self.there, self.missing);
        let mut summary = format!("reached, {brokers} broker{}", plural(brokers));
        if there > 0 {
            summary += &format!(", {there} topic{}", plural(there));
            summary += &self.partitions.map(|partitions| format!(" of {partitions} partitions")).unwrap_or_default();
        }
        if missing > 0 {
            summary += &format!(", {missing} topic{} will be made at the first start", plural(missing));
        }
        if let Some(clock) = &self.clock {
            summary += &format!(", {}", clock.describe());
        }
        [Finding::good(summary)].into_iter().chain(self.remarks).collect()
    }
}

/// Reads up to the end of a partition of each topic, where there is nothing, and asks for the commits of a group.
fn read_ends(shared: &Shared, topics: &[String]) -> Result<(), Error> {
    let group = shared.group_name(GROUP);
    let of_group =
        |error: &KafkaError| refused(error, format!("the commits of the group `{group}` cannot be read"), "Read");
    let mut config = shared.options.consumer(&shared.process, &group);
    config.set("enable.partition.eof", "true");
    let reader: BaseConsumer<Logs> = config.create_with_context(Logs::default()).map_err(|error| failure(&error))?;
    for topic in topics {
        read_end(&reader, topic).map_err(|error| match error.rdkafka_error_code() {
            // It comes while the topic is read, and is not about it.
            Some(Code::GroupAuthorizationFailed) => of_group(&error),
            _ => refused(&error, format!("the topic `{topic}` cannot be read"), "Read"),
        })?;
    }
    let Some(topic) = topics.first() else { return Ok(()) };
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    reader.committed_offsets(list, ASK_MAX).map(drop).map_err(|error| of_group(&error))
}

fn read_end(reader: &BaseConsumer<Logs>, topic: &str) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::End)?;
    reader.assign(&list)?;
    let deadline = Instant::now() + ASK_MAX;
    while Instant::now() < deadline {
        match reader.poll(POLL) {
            None => {}
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(()),
            Some(Err(error)) => return Err(error),
        }
    }
    Err(KafkaError::MessageConsumption(Code::OperationTimedOut))
}

fn refused(error: &KafkaError, what: String, right: &str) -> Error {
    match error.rdkafka_error_code() {
        Some(code) => client::failed(&what, right, code),
        None => Error::Unavailable(format!("{what}: {error}")),
    }
}

/// `None` if the topic's times are not the brokers'. Blocks.
fn write_tombstone(shared: &Shared, topic: &str) -> Result<Option<ClockReading>, Error> {
    let mut config = shared.options.producer(&shared.process, ASK_MAX);
    config.set("linger.ms", "0");
    let producer: BaseProducer<Report> =
        config.create_with_context(Report::default()).map_err(|error| failure(&error))?;
    // Once to connect and find the leader: the second one's way there and back is short.
    write_once(&producer, topic)?;
    write_once(&producer, topic)
}

fn write_once(producer: &BaseProducer<Report>, topic: &str) -> Result<Option<ClockReading>, Error> {
    // After a fatal error, that of each record only says that it was dropped.
    let failed = |error: &KafkaError| {
        let what = format!("a record cannot be written to the topic `{topic}`");
        match producer.client().fatal_error() {
            Some((code, _)) => client::failed(&what, "Write", code),
            None => refused(error, what, "Write"),
        }
    };
    let asked_at = cluster::now();
    producer.send(BaseRecord::<str, [u8]>::to(topic).key(KEY)).map_err(|(error, _)| failed(&error))?;
    let deadline = Instant::now() + 2 * ASK_MAX;
    while Instant::now() < deadline {
        producer.poll(POLL);
        match lock(&producer.context().0).take() {
            None => {}
            Some(Answer { written: Err(error), .. }) => return Err(failed(&error)),
            Some(Answer { written: Ok(written_at), answered_at }) => {
                return Ok(written_at.map(|server| ClockReading { asked_at, server, answered_at }));
            }
        }
    }
    Err(failed(&KafkaError::MessageProduction(Code::MessageTimedOut)))
}

/// What became of a record.
struct Answer {
    /// When, by the broker's clock; `None` if the topic keeps the producers' times.
    written: Result<Option<Timestamp>, KafkaError>,
    answered_at: Timestamp,
}

/// Takes the answer for the record under way.
#[derive(Default)]
struct Report(Mutex<Option<Answer>>);

impl ClientContext for Report {}

impl ProducerContext for Report {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        let answered_at = cluster::now();
        let written = match report {
            Ok(message) => Ok(match message.timestamp() {
                rdkafka::Timestamp::LogAppendTime(ms) => u64::try_from(ms).ok().map(Timestamp::from_millis),
                _ => None,
            }),
            Err((error, _)) => Err(error.clone()),
        };
        *lock(&self.0) = Some(Answer { written, answered_at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_kafka_is_known_by_its_correlation_id() {
        assert!((KAFKA.is_answer)(b"\0\0\x01\x02c4al\0\0"));
        for other in [&b""[..], b"\0\0", b"HTTP/1.1 400 Bad", b"\x15\x03\x03\0\x02\x02\x28"] {
            assert!(!(KAFKA.is_answer)(other));
        }
        let length = usize::from(KAFKA.hello[3]);
        assert_eq!(KAFKA.hello.len(), 4 + length);
    }
}
