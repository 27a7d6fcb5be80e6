//! The topics that are there: making them, checking them, and finding a topic's partitions without asking each time.
//! Nobody removes topics or adds partitions while a process runs, so that what was found once stays true.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chat4all_proto::Topic;
use chat4all_storage::log::{Error, TopicKind, TopicSpec};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::client::{Logs, failure, failure_on};
use crate::cluster;
use crate::options::millis;
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
#[derive(Default)]
pub(crate) struct Topics {
    known: RwLock<HashMap<Topic, Arc<TopicInfo>>>,
}

impl Topics {
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
    let metadata = shared.asker().fetch_metadata(Some(name), ASK_MAX).map_err(|error| shared.explain(&error))?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else { return Ok(None) };
    match topic.error().map(Code::from) {
        None => Ok(Some(u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX))),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
        Some(code) => Err(failure_on(name, code, "Describe")),
    }
}

/// A topic as Kafka shall have it.
struct Wanted {
    name: String,
    /// For people: as the port calls it, and as Kafka does if that differs.
    title: String,
    partitions: u32,
    /// `None`: only the last value of each key is kept.
    retention: Option<Duration>,
}

impl Wanted {
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

    fn policy(&self) -> &'static str {
        if self.retention.is_some() { "delete" } else { "compact" }
    }

    fn check_count(&self, there: u32) -> Result<(), Error> {
        if there == self.partitions {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "the topic {} has {there} partitions, configured are {}: configure {there}, or stop everything, let it \
             drain and delete the topic",
            self.title, self.partitions
        )))
    }

    fn check_policy(&self, there: &str) -> Result<(), Error> {
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
pub(crate) async fn ensure(shared: &Arc<Shared>, specs: &[TopicSpec]) -> Result<(), Error> {
    let mut wanted: Vec<Wanted> = specs.iter().map(|spec| Wanted::of(shared, spec)).collect();
    wanted.push(Wanted::new(shared, cluster::TOPIC, 1, None));
    let (wanted, there) = shared
        .blocking(move |shared| {
            let there: Result<Vec<_>, Error> = wanted.iter().map(|topic| count(shared, &topic.name)).collect();
            Ok((wanted, there?))
        })
        .await?;
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
        let replication = shared.blocking(|shared| replication(shared)).await?;
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
    Ok(())
}

/// Copies of each partition of new topics. Blocks.
fn replication(shared: &Shared) -> Result<u16, Error> {
    if let Some(copies) = shared.options.replication {
        return Ok(copies);
    }
    let metadata = shared.asker().fetch_metadata(None, ASK_MAX).map_err(|error| shared.explain(&error))?;
    match metadata.brokers().len() {
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

fn value(config: &ConfigResource, name: &str) -> String {
    config.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default()
}

struct Admin {
    client: AdminClient<Logs>,
    options: AdminOptions,
}

impl Admin {
    fn new(shared: &Shared) -> Result<Self, Error> {
        let config = shared.options.client(&shared.process);
        let client = config.create_with_context(Logs::default()).map_err(|error| failure(&error))?;
        let timeout = Some(ASK_MAX * 2);
        Ok(Self { client, options: AdminOptions::new().request_timeout(timeout).operation_timeout(timeout) })
    }

    async fn create(&self, topic: &Wanted, replication: u16) -> Result<(), Error> {
        let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
        let retention = topic.retention.map(millis);
        let mut new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(i32::from(replication)))
            .set("cleanup.policy", topic.policy())
            .set("message.timestamp.type", "LogAppendTime")
            .set("unclean.leader.election.enable", "false");
        if replication >= 3 {
            new = new.set("min.insync.replicas", "2");
        }
        if let Some(retention) = &retention {
            new = new.set("retention.ms", retention);
        }
        let results = self.client.create_topics([&new], &self.options).await.map_err(|error| failure(&error))?;
        results.into_iter().try_for_each(|result| match result {
            // Another process was quicker.
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => Ok(()),
            Err((name, code)) => Err(failure_on(&name, code, "Create")),
        })
    }

    async fn config(&self, topic: &str) -> Result<ConfigResource, Error> {
        let which = ResourceSpecifier::Topic(topic);
        let results = self.client.describe_configs([&which], &self.options).await.map_err(|error| failure(&error))?;
        let result = results.into_iter().next().unwrap_or(Err(Code::UnknownTopicOrPartition));
        result.map_err(|code| failure_on(topic, code, "DescribeConfigs"))
    }

    /// Kafka replaces all of a topic's own settings at once, so that the others are said again.
    async fn update_retention(&self, topic: &Wanted, config: &ConfigResource) -> Result<(), Error> {
        let Some(retention) = topic.retention.map(millis) else { return Ok(()) };
        if value(config, "retention.ms") == retention {
            return Ok(());
        }
        let mut altered = AlterConfig::new(ResourceSpecifier::Topic(&topic.name));
        for entry in config.entries.iter().filter(|entry| entry.source == ConfigSource::DynamicTopic) {
            if let (Some(value), true) = (&entry.value, entry.name != "retention.ms") {
                altered = altered.set(&entry.name, value);
            }
        }
        altered = altered.set("retention.ms", &retention);
        let results = self.client.alter_configs([&altered], &self.options).await.map_err(|error| failure(&error))?;
        let refused = results.into_iter().find_map(Result::err);
        refused.map_or(Ok(()), |(_, code)| Err(failure_on(&topic.name, code, "AlterConfigs")))
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
