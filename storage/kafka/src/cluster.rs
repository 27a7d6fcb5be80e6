//! Our own compacted topic: notes of the processes, renewed every few seconds, and of each assignment. The offset of an
//! assignment's note makes its epoch: the broker's order, which no clock and no restart can turn back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use chat4all_proto::http::{ClusterView, GroupView, PartitionView, ProcessView};
use chat4all_proto::{Timestamp, TopicPartition};
use chat4all_storage::log::{AppendError, Appended, Error};
use rdkafka::message::OwnedHeaders;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::warn;

use crate::consumer::Membership;
use crate::latest::Value;
use crate::producer::Outgoing;
use crate::shared::Shared;
use crate::topics::TopicInfo;
use crate::{latest, read};

const BEAT_INTERVAL: Duration = Duration::from_secs(5);
/// A process that did not renew its note for so long is dead, as far as one can see.
const SILENCE_MAX: Duration = Duration::from_secs(17);
/// Dead processes are shown for so long.
const SHOWN_MAX: Duration = Duration::from_secs(3_600);
/// Longest wait for a note to be written.
const NOTE_MAX: Duration = Duration::from_secs(12);
const GIVE_UP_MAX: Duration = Duration::from_secs(1);

/// The topic's name, after the prefix.
pub(crate) const TOPIC: &str = "cluster";

pub(crate) fn topic(shared: &Shared) -> String {
    format!("{}{TOPIC}", shared.options.topic_prefix)
}

#[derive(Debug, Serialize, Deserialize)]
struct ProcessNote {
    pid: u32,
    roles: Vec<String>,
    listens: Vec<String>,
    started_at_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct LeaseNote {
    /// Who holds the partition; nobody once it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<String>,
    /// Topics whose partition of this number goes with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    with: Vec<String>,
}

fn note(shared: &Shared, key: String, value: Option<Bytes>) -> Outgoing {
    Outgoing { topic: topic(shared).into(), key, value, headers: OwnedHeaders::new_with_capacity(0) }
}

fn json(value: &impl Serialize) -> Option<Bytes> {
    Some(serde_json::to_vec(value).expect("a note is JSON").into())
}

fn process_key(process: &str) -> String {
    format!("process/{process}")
}

fn lease_key(group: &str, partition: &TopicPartition) -> String {
    format!("lease/{group}/{partition}")
}

/// Group, topic, and number of a partition.
fn parse_lease_key(key: &str) -> Option<(&str, &str, u32)> {
    let (group_and_topic, partition) = key.strip_prefix("lease/")?.rsplit_once('/')?;
    let (group, topic) = group_and_topic.rsplit_once('/')?;
    Some((group, topic, partition.parse().ok()?))
}

/// Notes that the partitions of these numbers are ours from now on. The answer holds the epoch of each. Blocks.
pub(crate) fn take(me: &Membership, numbers: &[u32]) -> Result<Vec<u64>, AppendError> {
    let notes = lease_notes(me, Some(me.shared.process.to_string()), numbers);
    let written = me.shared.producer.send_notes_and_wait(notes, NOTE_MAX)?;
    let epochs = written.into_iter().map(|written| match written {
        Appended::At { offset, .. } => offset + 1,
        Appended::Repeated { .. } | Appended::Conflict => unreachable!("only with `once`"),
    });
    Ok(epochs.collect())
}

/// Notes that nobody holds the partitions of these numbers. Only people look at that: it is not worth waiting for long.
/// Blocks.
pub(crate) fn give_up(me: &Membership, numbers: &[u32]) {
    let _ = me.shared.producer.send_notes_and_wait(lease_notes(me, None, numbers), GIVE_UP_MAX);
}

/// One for each number, under the topic that leads.
fn lease_notes(me: &Membership, process: Option<String>, numbers: &[u32]) -> Vec<Outgoing> {
    let Some((lead, followers)) = me.topics.split_first() else { return Vec::new() };
    let value = json(&LeaseNote { process, with: followers.iter().map(|topic| topic.1.to_string()).collect() });
    let key = |number: &u32| lease_key(&me.group, &TopicPartition::new(lead.1.clone(), *number));
    numbers.iter().map(|number| note(&me.shared, key(number), value.clone())).collect()
}

/// Tells who we are, now and every few seconds, until the log is closed.
pub(crate) async fn announce(shared: &Arc<Shared>, roles: Vec<String>, listens: Vec<String>) -> Result<(), Error> {
    let started_at_ms = now().as_millis();
    let value = json(&ProcessNote { pid: std::process::id(), roles, listens, started_at_ms });
    beat(shared, value.clone()).await?;
    shared.announced.store(true, Ordering::SeqCst);
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(BEAT_INTERVAL).await;
            let Some(shared) = weak.upgrade().filter(|shared| !shared.is_closing()) else { break };
            if let Err(error) = beat(&shared, value.clone()).await {
                warn!(%error, "could not tell the others that we are there");
            }
        }
    });
    Ok(())
}

async fn beat(shared: &Shared, value: Option<Bytes>) -> Result<(), Error> {
    let (answer, answered) = oneshot::channel();
    let note = note(shared, process_key(&shared.process), value);
    let sent = shared.producer.send_notes(vec![note], move |result| drop(answer.send(result)));
    let written = match sent {
        Ok(()) => answered.await.unwrap_or_else(|_| Err(AppendError::Unknown("its producer ended".into()))),
        Err(error) => Err(error),
    };
    written.map(drop).map_err(|error| Error::Unavailable(error.to_string()))
}

/// Tells that we are gone, if anybody knew us. Does not wait.
pub(crate) fn retire(shared: &Shared) {
    if !shared.announced.load(Ordering::SeqCst) {
        return;
    }
    let _ = shared.producer.send_notes(vec![note(shared, process_key(&shared.process), None)], drop);
}

/// Writes a value of a keyed latest-value topic.
pub(crate) async fn put(shared: &Shared, topic: &str, key: &str, value: Option<Bytes>) -> Result<(), AppendError> {
    let (answer, answered) = oneshot::channel();
    let bytes = key.len() + value.as_ref().map_or(0, Bytes::len);
    let headers = OwnedHeaders::new_with_capacity(0);
    let outgoing = Outgoing { topic: topic.into(), key: key.to_owned(), value, headers };
    shared.producer.send(vec![outgoing], bytes, move |result| drop(answer.send(result)))?;
    answered.await.unwrap_or_else(|_| Err(AppendError::Unknown("its producer ended".into()))).map(drop)
}

/// Who is there and who holds what, as noted, with what Kafka says of ends and commits.
pub(crate) async fn view(shared: &Arc<Shared>) -> Result<ClusterView, Error> {
    let followed = latest::follow(shared, &topic(shared)).await?;
    let notes = followed.borrow().clone().unwrap_or_default();
    shared.blocking(move |shared| describe(shared, &notes)).await
}

fn describe(shared: &Shared, notes: &BTreeMap<String, Value>) -> Result<ClusterView, Error> {
    let leases = leases(notes);
    let topics = topics(shared, &leases);
    let infos: Vec<&TopicInfo> = topics.values().collect();
    let bounds: BTreeMap<&str, Bounds> = topics.keys().copied().zip(read::all_bounds(shared, &infos)?).collect();
    let processes = processes(notes);
    let mut groups: Vec<GroupView> = Vec::new();
    for ((group, topic), leases) in &leases {
        let committed = read::committed(shared, group, &topics[&**topic])?;
        let partitions = partitions(topic, leases, &committed, &bounds[&**topic], &processes);
        match groups.last_mut().filter(|last| last.group == *group) {
            Some(last) => last.partitions.extend(partitions),
            None => groups.push(GroupView { group: (*group).to_owned(), partitions }),
        }
    }
    Ok(ClusterView { processes, groups })
}

/// The notes of one group on one topic, by partition.
type Leases<'a> = BTreeMap<u32, &'a Value>;

/// By group and topic.
fn leases(notes: &BTreeMap<String, Value>) -> BTreeMap<(&str, String), Leases<'_>> {
    let mut leases: BTreeMap<(&str, String), Leases<'_>> = BTreeMap::new();
    for (key, value) in notes {
        let Some((group, topic, partition)) = parse_lease_key(key) else { continue };
        let with = serde_json::from_slice::<LeaseNote>(&value.bytes).map(|note| note.with).unwrap_or_default();
        for topic in with.into_iter().chain([topic.to_owned()]) {
            leases.entry((group, topic)).or_default().insert(partition, value);
        }
    }
    leases
}

/// Start and end of each partition.
type Bounds = Vec<(u64, u64)>;

/// The topics that anybody ever worked on, as far as partitions of them are known.
fn topics<'a>(shared: &Shared, leases: &'a BTreeMap<(&str, String), Leases<'_>>) -> BTreeMap<&'a str, TopicInfo> {
    let mut topics: BTreeMap<&str, TopicInfo> = BTreeMap::new();
    for ((_, topic), leases) in leases {
        let name = || format!("{}{topic}", shared.options.topic_prefix).into();
        let info = topics.entry(topic).or_insert_with(|| TopicInfo { name: name(), partitions: 0 });
        info.partitions = info.partitions.max(leases.keys().next_back().map_or(0, |last| last + 1));
    }
    topics
}

fn partitions(
    topic: &str,
    leases: &Leases<'_>,
    committed: &[Option<u64>],
    bounds: &[(u64, u64)],
    processes: &[ProcessView],
) -> Vec<PartitionView> {
    let view = |(&partition, value): (&u32, &&Value)| {
        let (start, end) = bounds[partition as usize];
        let committed = committed[partition as usize].unwrap_or(start).max(start);
        PartitionView {
            topic: topic.to_owned(),
            partition,
            holder: holder(value, processes),
            epoch: value.offset + 1,
            committed,
            end,
            lag: end.saturating_sub(committed),
        }
    };
    leases.iter().map(view).collect()
}

/// Who holds a partition, if it lives.
fn holder(value: &Value, processes: &[ProcessView]) -> Option<String> {
    let process = serde_json::from_slice::<LeaseNote>(&value.bytes).ok()?.process?;
    processes.iter().any(|known| known.process == process && known.alive).then_some(process)
}

/// Ages are differences of the brokers' times: the newest note tells what time it is.
fn processes(notes: &BTreeMap<String, Value>) -> Vec<ProcessView> {
    let newest = notes.values().map(|value| value.at).max().unwrap_or_default();
    notes
        .iter()
        .filter_map(|(key, value)| {
            let process = key.strip_prefix("process/")?;
            let note: ProcessNote = serde_json::from_slice(&value.bytes).ok()?;
            let age = newest.saturating_since(value.at);
            (age <= SHOWN_MAX).then(|| ProcessView {
                process: process.to_owned(),
                pid: note.pid,
                roles: note.roles,
                listens: note.listens,
                started_at: Timestamp::from_millis(note.started_at_ms),
                alive: age <= SILENCE_MAX,
            })
        })
        .collect()
}

pub(crate) fn now() -> Timestamp {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since_1970.as_millis().try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use chat4all_proto::Topic;

    use super::*;

    #[test]
    fn a_leases_key_comes_back() {
        let partition = TopicPartition::new(Topic::StatusUpdates, 5);
        let key = lease_key("recorder/x", &partition);
        assert_eq!(parse_lease_key(&key), Some(("recorder/x", "status-updates", 5)));
        for other in ["process/p", "lease/5", "lease/a/5", "lease/a/b/x"] {
            assert_eq!(parse_lease_key(other), None, "{other}");
        }
    }

    #[test]
    fn a_process_lives_while_it_renews_its_note() {
        let note = ProcessNote { pid: 7, roles: vec![], listens: vec![], started_at_ms: 1 };
        let value = |seconds: u64| Value {
            bytes: json(&note).expect("a note"),
            offset: 0,
            at: Timestamp::from_millis(10_000_000 + seconds * 1_000),
        };
        let ages = [("a", 4_000), ("b", 3_990), ("c", 3_980), ("d", 0)];
        let notes = ages.into_iter().map(|(name, at)| (process_key(name), value(at))).collect();
        let seen: Vec<_> = processes(&notes).into_iter().map(|process| (process.process, process.alive)).collect();
        assert_eq!(seen, [("a".to_owned(), true), ("b".to_owned(), true), ("c".to_owned(), false)]);
    }
}
