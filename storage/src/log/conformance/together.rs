//! Topics of one subscription: partitions of one number come and go together.

use std::collections::BTreeSet;
use std::sync::Arc;

use chat4all_proto::{Topic, TopicPartition};
use tokio::time::Instant;

use super::appends::append;
use super::reader::Reader;
use super::{PARTITIONS, PATIENCE, Store, open, record, records};
use crate::log::{AppendError, Commit, Error, Lease, Log, NewRecord};

const TOPICS: [Topic; 2] = [Topic::Messages, Topic::StatusUpdates];
/// Partitions of both.
const ALL: usize = 2 * PARTITIONS as usize;

/// A member that is alone, once it holds everything.
async fn holding_both(log: &Arc<dyn Log>) -> Reader {
    let mut reader = Reader::join(log, "readers", &TOPICS).await;
    reader.until("everything is assigned", |reader| reader.held.len() == ALL).await;
    reader
}

fn in_topic(topic: &Topic, records: Vec<NewRecord>) -> Vec<NewRecord> {
    records.into_iter().map(|record| NewRecord { topic: topic.clone(), ..record }).collect()
}

/// `Reader` checks each event, and that nobody ever holds half of a number.
pub async fn partitions_of_one_number_go_together(store: &impl Store) {
    let handles = [open(store).await, open(store).await, open(store).await];
    let mut first = holding_both(&handles[0]).await;
    for topic in &TOPICS {
        append(&handles[0], in_topic(topic, records(100))).await;
    }
    first.until_records(200).await;
    first.commit_all().await;
    let mut second = Reader::join(&handles[1], "readers", &TOPICS).await;
    settle(&mut [&mut first, &mut second], ALL / 2).await;
    let mut third = Reader::join(&handles[2], "readers", &TOPICS).await;
    settle(&mut [&mut first, &mut second, &mut third], 2).await;
    second.consumer.leave().await;
    settle(&mut [&mut first, &mut third], ALL / 2).await;
    drop(first);
    third.until("the last holds everything", |reader| reader.held.len() == ALL).await;
    for topic in &TOPICS {
        append(&handles[2], in_topic(topic, records(100))).await;
    }
    third.until_records(200).await;
    third.until_quiet().await;
    assert_eq!(third.records.len(), 200, "what was committed does not come again, what is new comes once");
    third.commit_all().await;
}

/// Goes on until each partition has one holder and nobody has fewer than `each_min`.
async fn settle(readers: &mut [&mut Reader], each_min: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for reader in readers.iter_mut() {
            reader.until_quiet().await;
        }
        let held: Vec<&TopicPartition> = readers.iter().flat_map(|reader| reader.held.keys()).collect();
        let different: BTreeSet<&TopicPartition> = held.iter().copied().collect();
        let are_even = readers.iter().all(|reader| reader.held.len() >= each_min);
        if are_even && (held.len(), different.len()) == (ALL, ALL) {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain until all is shared out: {held:?}");
    }
}

pub async fn commits_of_one_call_are_taken_over_together(store: &impl Store) {
    let log = open(store).await;
    for topic in &TOPICS {
        append(&log, in_topic(topic, records(40))).await;
    }
    let mut reader = holding_both(&log).await;
    reader.until_records(80).await;
    let leases = both(&reader, 0);
    let commit = |lease: &Lease, number: usize| Commit {
        lease: lease.clone(),
        offset: reader.records.iter().rfind(|(at, _)| *at == lease.partition).map_or(0, |(_, last)| last.offset),
        metadata: format!("m{number}"),
    };
    let commits: Vec<Commit> = leases.iter().enumerate().map(|(number, lease)| commit(lease, number)).collect();
    assert_eq!(reader.consumer.commit(commits.clone()).await, Ok(vec![]));
    reader.consumer.leave().await;
    let next = holding_both(&log).await;
    for commit in commits {
        let found = &next.held[&commit.lease.partition];
        assert_eq!((found.offset, &found.metadata), (commit.offset, &commit.metadata), "{:?}", commit.lease);
    }
    check_stale(&reader, &leases).await;
}

pub async fn a_restart_of_one_restarts_what_goes_with_it(store: &impl Store) {
    let log = open(store).await;
    for topic in &TOPICS {
        append(&log, in_topic(topic, records(40))).await;
    }
    let mut reader = holding_both(&log).await;
    reader.until_records(80).await;
    reader.commit_all().await;
    for leads in [true, false] {
        let old = both(&reader, 0);
        reader.consumer.restart(&old[usize::from(!leads)]);
        let is_new = |reader: &Reader| both(reader, 0).iter().all(|lease| lease.epoch > old[0].epoch);
        reader.until("both are assigned again", is_new).await;
        check_stale(&reader, &old).await;
        let new = both(&reader, 0);
        let again = new.iter().map(|lease| Commit {
            lease: lease.clone(),
            offset: reader.held[&lease.partition].offset,
            metadata: String::new(),
        });
        assert_eq!(reader.consumer.commit(again.collect()).await, Ok(vec![]));
        for lease in &new {
            let appended = reader.consumer.append(lease, vec![]).await;
            assert_eq!(appended, Ok(vec![]), "{lease:?}");
        }
    }
    reader.until_quiet().await;
    assert_eq!(reader.records.len(), 80, "what was committed does not come again");
}

/// The leases of one number, the one that leads first.
fn both(reader: &Reader, number: u32) -> Vec<Lease> {
    let lease = |topic: Topic| reader.held[&TopicPartition::new(topic, number)].lease.clone();
    TOPICS.map(lease).into()
}

/// Whatever is done under `leases` is refused.
async fn check_stale(reader: &Reader, leases: &[Lease]) {
    let commit = |lease: &Lease| Commit { lease: lease.clone(), offset: 0, metadata: "stale".into() };
    let mut refused = reader.consumer.commit(leases.iter().map(commit).collect()).await.expect("the log is there");
    refused.sort_by_key(|lease| lease.partition.clone());
    assert_eq!(refused, leases);
    for lease in leases {
        assert_eq!(reader.consumer.append(lease, records(1)).await, Err(AppendError::Fenced));
        assert_eq!(reader.consumer.append_and_commit(records(1), commit(lease)).await, Err(AppendError::Fenced));
    }
}

pub async fn a_pause_of_one_topic_leaves_the_other_alone(store: &impl Store) {
    let log = open(store).await;
    let mut reader = holding_both(&log).await;
    let number = record("k", "").key.partition(PARTITIONS);
    for (place, other) in [(1, 0), (0, 1)] {
        reader.records.clear();
        let lease = both(&reader, number)[place].clone();
        reader.consumer.pause(&lease);
        reader.until_quiet().await;
        for topic in &TOPICS {
            append(&log, in_topic(topic, vec![record("k", "1"), record("k", "2")])).await;
        }
        reader.until_records(2).await;
        reader.until_quiet().await;
        let from = |topic: &Topic| reader.records.iter().filter(|(at, _)| at.topic == *topic).count();
        assert_eq!((from(&TOPICS[place]), from(&TOPICS[other])), (0, 2), "`{}` is paused", TOPICS[place]);
        reader.consumer.resume(&lease);
        reader.until_records(4).await;
    }
}

pub async fn topics_of_other_partition_counts_do_not_go_together(store: &impl Store) {
    let log = open(store).await;
    let refused = log.subscribe("readers", &[Topic::Messages, Topic::Control]).await.map(drop);
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
}
