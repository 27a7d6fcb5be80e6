//! What the tests of this crate share: options for the broker to test with, and topics.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod member;
pub mod process;
pub mod services;
pub mod traffic;

use std::time::Duration;

use chat4all_kafka::Options;
use chat4all_proto::{Generation, Key, Topic};
use chat4all_storage::log::{NewRecord, RecordId, TopicKind, TopicSpec};
use uuid::Uuid;

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const PARTITIONS: u32 = 2;
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Options for topics and groups of their own on a broker that others use too; `None`, after saying so, if
/// `CHAT4ALL_TEST_KAFKA` names none.
pub fn options() -> Option<Options> {
    if std::env::var_os("CHAT4ALL_TEST_KAFKA").is_none() {
        println!("SKIPPED kafka: `CHAT4ALL_TEST_KAFKA` names no broker");
        return None;
    }
    Some(options_of(&format!("t{}.", Uuid::new_v4().simple())))
}

/// Options for the topics and groups of `prefix`.
pub fn options_of(prefix: &str) -> Options {
    let brokers = std::env::var("CHAT4ALL_TEST_KAFKA").expect("a broker to test with");
    let (topic_prefix, group_prefix) = (prefix.to_owned(), prefix.to_owned());
    Options { topic_prefix, group_prefix, replication: Some(1), ..Options::new(brokers) }
}

/// The shortest session that brokers allow by default.
pub fn quick(options: Options) -> Options {
    Options { session_timeout: Duration::from_secs(6), heartbeat_interval: Duration::from_secs(2), ..options }
}

/// The topics `messages` and `status-updates`.
pub fn specs() -> [TopicSpec; 2] {
    [Topic::Messages, Topic::StatusUpdates].map(|topic| TopicSpec {
        topic,
        partitions: PARTITIONS,
        kind: TopicKind::Stream { retention: WEEK },
    })
}

pub fn record(topic: Topic, key: &str, value: &str) -> NewRecord {
    NewRecord {
        topic,
        key: Key::raw(key),
        id: RecordId { uuid: Uuid::from_u128(7), generation: Generation(2) },
        value: value.to_owned().into(),
        traceparent: Some("00-4bf92f-00f067-01".into()),
        once: Some([1; 32]),
    }
}
