//! Questions and orders of an administrator: making topics, their configuration. Asked by `topics` and `doctor`.

use chat4all_storage::log::Error;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigResource, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::client::{self, Logs, failure};
use crate::options::millis;
use crate::shared::{ASK_MAX, Shared};
use crate::topics::Wanted;

pub(crate) fn value(config: &ConfigResource, name: &str) -> String {
    config.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default()
}

pub(crate) struct Admin {
    client: AdminClient<Logs>,
    options: AdminOptions,
}

/// How questions of an administrator are asked.
fn asking() -> AdminOptions {
    let timeout = Some(ASK_MAX * 2);
    AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
}

impl Admin {
    pub fn new(shared: &Shared) -> Result<Self, Error> {
        let config = shared.options.client(&shared.process);
        let client = config.create_with_context(Logs::default()).map_err(|error| failure(&error))?;
        Ok(Self { client, options: asking() })
    }

    pub async fn create(&self, topic: &Wanted, replication: u16) -> Result<(), Error> {
        self.ask_for(topic, replication, &self.options).await
    }

    /// Whether `create` would be done: the brokers judge, and make nothing.
    pub async fn may_create(&self, topic: &Wanted, replication: u16) -> Result<(), Error> {
        self.ask_for(topic, replication, &asking().validate_only(true)).await
    }

    async fn ask_for(&self, topic: &Wanted, replication: u16, options: &AdminOptions) -> Result<(), Error> {
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
        let results = self.client.create_topics([&new], options).await.map_err(|error| failure(&error))?;
        results.into_iter().try_for_each(|result| match result {
            // Another process was quicker.
            Ok(_) | Err((_, Code::TopicAlreadyExists)) => Ok(()),
            Err((name, code)) => Err(client::failed(&format!("the topic `{name}` cannot be made"), "Create", code)),
        })
    }

    /// The topic's configuration, which has an entry for each of Kafka's keys.
    pub async fn config(&self, topic: &str) -> Result<ConfigResource, Error> {
        let which = ResourceSpecifier::Topic(topic);
        let results = self.client.describe_configs([&which], &self.options).await.map_err(|error| failure(&error))?;
        let result = match results.into_iter().next() {
            // So rdkafka hands a missing right on.
            Some(Ok(config)) if config.entries.is_empty() => Err(Code::TopicAuthorizationFailed),
            Some(result) => result,
            None => Err(Code::UnknownTopicOrPartition),
        };
        let what = format!("the configuration of the topic `{topic}` cannot be read");
        result.map_err(|code| client::failed(&what, "DescribeConfigs", code))
    }

    /// Kafka replaces all of a topic's own settings at once, so that the others are said again.
    pub async fn update_retention(&self, topic: &Wanted, config: &ConfigResource) -> Result<(), Error> {
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
        let what = format!("the retention of the topic `{}` cannot be set", topic.name);
        let refused = results.into_iter().find_map(Result::err);
        refused.map_or(Ok(()), |(_, code)| Err(client::failed(&what, "AlterConfigs", code)))
    }
}
