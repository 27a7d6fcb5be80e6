//! The topics that are there: making them, checking them, and finding a topic's partitions without asking each time.
//! Nobody removes topics or adds partitions while a process runs, so that what was found once stays true.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chat4all_proto::Topic;
use chat4all_storage::diagnosis::Part;
use chat4all_storage::log::{Error, TopicKind, TopicSpec};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::admin::{Admin, value};
use crate::client::{self, failure};
use crate::cluster;
use crate::options::Options;
use crate::shared::{ASK_MAX, Shared};

/// Copies of each partition where nothing else is asked for.
const REPLICATION: u16 = 3;
/// Longest wait for a new topic's partitions to have leaders.
const READY_MAX: Duration = Duration::from_secs(15);
const READY_INTERVAL: Duration = Duration::from_millis(50);

/// A topic that is there.
#[derive(Debug)]
pub(crate) struct TopicInfo {
    pub name: Arc<str>,
    pub partitions: u32,
}

/// Topics found before.
pub(crate) struct Topics {
    since: Instant,
    known: RwLock<HashMap<Topic, Arc<TopicInfo>>>,
}

impl Topics {
    pub fn new() -> Self {
        Self { since: Instant::now(), known: RwLock::default() }
    }

    /// How long none at all has been found; `None` once one was.
    pub fn none_found_for(&self) -> Option<Duration> {
        let is_empty = self.known.read().unwrap_or_else(PoisonError::into_inner).is_empty();
        is_empty.then(|| self.since.elapsed())
    }

    fn get(&self, topic: &Topic) -> Option<Arc<TopicInfo>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    fn insert(&self, topic: &Topic, info: Arc<TopicInfo>) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(topic.clone(), info);
    }
}

/// `Refused` if there is no such topic. Answers at once if it was found before.
pub(crate) async fn existing(shared: &Arc<Shared>, topic: &Topic) -> Result<Arc<TopicInfo>, Error> {
    if let Some(info) = shared.topics.get(topic) {
        return Ok(info);
    }
    let topic = topic.clone();
    shared
        .blocking(move |shared| {
            let name = shared.name(&topic);
            let partitions = count(shared, &name)?;
            let partitions = partitions.ok_or_else(|| Error::Refused(format!("there is no topic `{name}`")))?;
            let info = Arc::new(TopicInfo { name: name.into(), partitions });
            shared.topics.insert(&topic, info.clone());
            Ok(info)
        })
        .await
}

/// Partitions of a topic; `None` if it is not there. Blocks.
fn count(shared: &Shared, name: &str) -> Result<Option<u32>, Error> {
    Ok(look(shared, name)?.map(|found| found.partitions))
}

/// A topic as Kafka has it.
pub(crate) struct Found {
    pub partitions: u32,
    /// Of the partition that has the fewest.
    pub copies: usize,
    /// Partitions that nobody can write to or read from now.
    pub leaderless: usize,
}

/// `None` if there is no such topic. Blocks.
pub(crate) fn look(shared: &Shared, name: &str) -> Result<Option<Found>, Error> {
    let metadata = shared.asker().fetch_metadata(Some(name), ASK_MAX).map_err(|error| shared.explain(&error))?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else { return Ok(None) };
    let partitions = topic.partitions();
    match topic.error().map(Code::from) {
        None => Ok(Some(Found {
            partitions: u32::try_from(partitions.len()).unwrap_or(u32::MAX),
            copies: partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
            leaderless: partitions.iter().filter(|partition| partition.leader() < 0).count(),
        })),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
        Some(code) => Err(client::failed(&format!("the topic `{name}` cannot be described"), "Describe", code)),
    }
}

/// A topic as Kafka shall have it.
pub(crate) struct Wanted {
    pub name: String,
    /// For people: as the port calls it, and as Kafka does if that differs.
    pub title: String,
    pub partitions: u32,
    /// `None`: only the last value of each key is kept.
    pub retention: Option<Duration>,
}

impl Wanted {
    /// All of `specs`, and our own topic.
    pub fn all(shared: &Shared, specs: &[TopicSpec]) -> Vec<Self> {
        let ours = Self::new(shared, cluster::TOPIC, 1, None);
        specs.iter().map(|spec| Self::of(shared, spec)).chain([ours]).collect()
    }

    fn of(shared: &Shared, spec: &TopicSpec) -> Self {
        let retention = match spec.kind {
            TopicKind::Stream { retention } => Some(retention),
            TopicKind::Latest => None,
        };
        Self::new(shared, &spec.topic.to_string(), spec.partitions, retention)
    }

    fn new(shared: &Shared, topic: &str, partitions: u32, retention: Option<Duration>) -> Self {
        let prefix = &shared.options.topic_prefix;
        let name = format!("{prefix}{topic}");
        let title = if prefix.is_empty() { format!("`{topic}`") } else { format!("`{topic}` (`{name}` in Kafka)") };
        Self { name, title, partitions, retention }
    }

    fn part(&self, is_new: bool) -> Part {
        Part { name: format!("topic {}", self.title), is_new }
    }

    pub fn policy(&self) -> &'static str {
        if self.retention.is_some() { "delete" } else { "compact" }
    }

    pub fn check_count(&self, there: u32) -> Result<(), Error> {
        if there == self.partitions {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "the topic {} has {there} partitions, configured are {}: configure {there}, or stop everything, let it \
             drain and delete the topic",
            self.title, self.partitions
        )))
    }

    pub fn check_policy(&self, there: &str) -> Result<(), Error> {
        if there == self.policy() {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "the topic {} has `cleanup.policy={there}`, needed is `{}`: set it, or delete the topic",
            self.title,
            self.policy()
        )))
    }
}

/// Makes the missing ones of `specs` and our own topic, or none if one of them is there otherwise.
pub(crate) async fn ensure(shared: &Arc<Shared>, specs: &[TopicSpec]) -> Result<Vec<Part>, Error> {
    let wanted = Wanted::all(shared, specs);
    let (wanted, there, brokers) = shared
        .blocking(move |shared| {
            let there: Result<Vec<_>, Error> = wanted.iter().map(|topic| count(shared, &topic.name)).collect();
            Ok((wanted, there?, brokers(shared)?))
        })
        .await?;
    let parts = wanted.iter().zip(&there).map(|(topic, there)| topic.part(there.is_none())).collect();
    let admin = Admin::new(shared)?;
    let mut missing = Vec::new();
    let mut outdated = Vec::new();
    for (topic, there) in wanted.iter().zip(there) {
        match there {
            None => missing.push(topic),
            Some(partitions) => {
                topic.check_count(partitions)?;
                let config = admin.config(&topic.name).await?;
                topic.check_policy(&value(&config, "cleanup.policy"))?;
                outdated.push((topic, config));
            }
        }
    }
    for (topic, config) in outdated {
        admin.update_retention(topic, &config).await?;
    }
    if !missing.is_empty() {
        let replication = replication(shared, brokers)?;
        for topic in &missing {
            admin.create(topic, replication).await?;
        }
    }
    let names = missing.into_iter().map(|topic| (topic.name.clone(), topic.partitions)).collect();
    shared.blocking(move |shared| await_leaders(shared, names)).await?;
    for spec in specs {
        let name = shared.name(&spec.topic).into();
        shared.topics.insert(&spec.topic, Arc::new(TopicInfo { name, partitions: spec.partitions }));
    }
    let Options { brokers: address, tls, sasl, topic_prefix: prefix, .. } = &shared.options;
    let (tls, user) = (tls.is_some(), sasl.as_ref().map(|sasl| sasl.user.as_str()));
    tracing::info!(address, brokers, topics = wanted.len(), prefix, tls, user, "connected to Kafka");
    Ok(parts)
}

/// How many brokers there are. Blocks.
pub(crate) fn brokers(shared: &Shared) -> Result<usize, Error> {
    let metadata = shared.asker().fetch_metadata(None, ASK_MAX).map_err(|error| shared.explain(&error))?;
    Ok(metadata.brokers().len())
}

/// Copies of each partition of new topics.
pub(crate) fn replication(shared: &Shared, brokers: usize) -> Result<u16, Error> {
    if let Some(copies) = shared.options.replication {
        return Ok(copies);
    }
    match brokers {
        0 | 1 => {
            tracing::warn!("there is one broker: what is on the log has one copy, and is away while that broker is");
            Ok(1)
        }
        2 => Err(Error::Refused(
            "two brokers answer, three copies are usual: say `replication=2`, or `3` once there are more".into(),
        )),
        _ => Ok(REPLICATION),
    }
}

/// Waits until every partition of the new topics has a leader. Kafka has no event for that. Blocks.
fn await_leaders(shared: &Shared, mut topics: Vec<(String, u32)>) -> Result<(), Error> {
    let deadline = Instant::now() + READY_MAX;
    while let Some((name, partitions)) = topics.last() {
        let metadata = shared.asker().fetch_metadata(Some(name), ASK_MAX).map_err(|error| failure(&error))?;
        let ready = metadata.topics().iter().any(|topic| {
            topic.name() == name
                && topic.partitions().len() == *partitions as usize
                && topic.partitions().iter().all(|partition| partition.leader() >= 0)
        });
        if ready {
            topics.pop();
        } else if Instant::now() < deadline {
            std::thread::sleep(READY_INTERVAL);
        } else {
            return Err(Error::Unavailable(format!("the new topic `{name}` has no leaders yet")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_topic_and_what_to_do() {
        let (name, title) = ("messages".into(), "`messages`".into());
        let wanted = Wanted { name, title, partitions: 6, retention: Some(Duration::from_secs(1)) };
        let check = |refusal: Result<(), Error>, expected: &[&str]| {
            let Err(Error::Refused(text)) = refusal else { panic!("{refusal:?}") };
            assert!(expected.iter().all(|part| text.contains(part)), "{text}");
        };
        assert_eq!(wanted.check_count(6), Ok(()));
        check(wanted.check_count(4), &["`messages`", "configure 4"]);
        assert_eq!(wanted.check_policy("delete"), Ok(()));
        check(wanted.check_policy("compact"), &["`messages`", "`cleanup.policy=compact`", "`delete`"]);
    }
}
