//! Membership: sharing out, handing over, pausing. Two handles stand for two processes; what only real processes can
//! show (kills, hangs) is each adapter's own to test.

use std::sync::Arc;

use chat4all_proto::{Topic, TopicPartition};

use super::appends::{append, wait_until};
use super::reader::Reader;
use super::{PARTITIONS, Store, open, record, records};
use crate::log::{AppendError, Commit, Log};

const ALL: usize = PARTITIONS as usize;

pub async fn a_paused_partition_is_silent(store: &impl Store) {
    let log = open(store).await;
    let mut reader = Reader::holding(&log, "readers", ALL).await;
    let record = |value: &str| record("k", value.to_owned());
    let lease = reader.lease(record("").key.partition(PARTITIONS));
    reader.consumer.pause(&lease);
    reader.until_quiet().await;
    append(&log, vec![record("1"), record("2")]).await;
    reader.until_quiet().await;
    assert_eq!(reader.values(), [""; 0]);
    reader.consumer.resume(&lease);
    reader.until_records(2).await;
    assert_eq!(reader.values(), ["1", "2"]);
}

pub async fn a_partition_that_was_paused_flows_when_it_comes_back(store: &impl Store) {
    let (one, two) = (open(store).await, open(store).await);
    let mut first = Reader::holding(&one, "readers", ALL).await;
    (0..PARTITIONS).for_each(|partition| first.consumer.pause(&first.lease(partition)));
    let mut second = Reader::join(&two, "readers", &[Topic::Messages]).await;
    tokio::join!(
        first.until("the first holds its share", |reader| reader.held.len() == ALL / 2),
        second.until("the second holds its share", |reader| reader.held.len() == ALL / 2),
    );
    let kept: Vec<_> = first.held.values().map(|held| held.lease.clone()).collect();
    second.consumer.leave().await;
    first.until("the first holds everything", |reader| reader.held.len() == ALL).await;
    let records = records(200);
    let comes_back = |partition| kept.iter().all(|kept| kept.partition.partition != partition);
    let count = records.iter().filter(|record| comes_back(record.key.partition(PARTITIONS))).count();
    assert!((1..200).contains(&count), "{count} of 200");
    append(&one, records).await;
    first.until_records(count).await;
    first.until_quiet().await;
    assert_eq!(first.records.len(), count, "what stayed is paused still");
    kept.iter().for_each(|kept| first.consumer.resume(kept));
    first.until_records(200).await;
}

pub async fn groups_do_not_touch_each_other(store: &impl Store) {
    let log = open(store).await;
    append(&log, records(50)).await;
    let mut one = Reader::holding(&log, "one", ALL).await;
    one.until_records(50).await;
    one.commit_all().await;
    let mut two = Reader::holding(&log, "two", ALL).await;
    two.until_records(50).await;
    append(&log, records(50)).await;
    one.until_records(100).await;
    two.until_records(100).await;
    assert_eq!(one.held.len(), ALL);
}

/// Two members of one group, each holding its share.
async fn two_members(one: &Arc<dyn Log>, two: &Arc<dyn Log>, topics: &[Topic], each: usize) -> (Reader, Reader) {
    let mut first = Reader::join(one, "readers", topics).await;
    first.until("a member alone holds everything", |reader| reader.held.len() == 2 * each).await;
    let mut second = Reader::join(two, "readers", topics).await;
    tokio::join!(
        first.until("the first holds its share", |reader| reader.held.len() == each),
        second.until("the second holds its share", |reader| reader.held.len() == each),
    );
    (first, second)
}

pub async fn two_members_share_evenly(store: &impl Store) {
    let (one, two) = (open(store).await, open(store).await);
    let topics = [Topic::Messages, Topic::StatusUpdates];
    let (mut first, mut second) = two_members(&one, &two, &topics, ALL).await;
    assert!(first.held.keys().all(|partition| !second.held.contains_key(partition)), "a partition has one holder");
    append(&one, records(200)).await;
    let all_came = |first: &Reader, second: &Reader| first.records.len() + second.records.len() >= 200;
    while !all_came(&first, &second) {
        first.until_quiet().await;
        second.until_quiet().await;
    }
    let mut numbers = [first.sorted_numbers(), second.sorted_numbers()].concat();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..200), "each record comes to one of them");
    let current = || first.consumer.is_current() && second.consumer.is_current();
    wait_until("both are current", current).await;
}

pub async fn a_released_partition_goes_to_the_other_and_the_old_lease_is_fenced(store: &impl Store) {
    let (one, two) = (open(store).await, open(store).await);
    append(&one, records(100)).await;
    let mut first = Reader::holding(&one, "readers", ALL).await;
    first.until_records(100).await;
    let before = first.held.clone();
    let mut second = Reader::join(&two, "readers", &[Topic::Messages]).await;
    tokio::join!(
        first.until("the first holds its share", |reader| reader.held.len() == ALL / 2),
        second.until("the second holds its share", |reader| reader.held.len() == ALL / 2),
    );
    second.until_quiet().await;
    for (partition, held) in &second.held {
        let old = &before[partition].lease;
        assert!(held.lease.epoch > old.epoch, "an epoch must rise");
        let commit = Commit { lease: old.clone(), offset: held.offset + 1, metadata: "stale".into() };
        assert_eq!(first.consumer.commit(vec![commit.clone()]).await, Ok(vec![old.clone()]));
        assert_eq!(first.consumer.append(old, records(1)).await, Err(AppendError::Fenced));
        assert_eq!(first.consumer.append_and_commit(records(1), commit).await, Err(AppendError::Fenced));
    }
    let moved = first.records.iter().filter(|(partition, _)| second.held.contains_key(partition)).count();
    second.until_records(moved).await;
    second.until_quiet().await;
    assert_eq!(second.records.len(), moved, "what was not committed comes again, and nothing else");
    second.commit_all().await;
    first.commit_all().await;
}

pub async fn who_leaves_hands_over(store: &impl Store) {
    let (one, two) = (open(store).await, open(store).await);
    let (first, mut second) = two_members(&one, &two, &[Topic::Messages], ALL / 2).await;
    first.consumer.leave().await;
    first.consumer.leave().await;
    second.until("the other holds everything", |reader| reader.held.len() == ALL).await;
    append(&one, records(20)).await;
    second.until_records(20).await;
    check_stale(&first).await;
}

pub async fn who_is_dropped_hands_over(store: &impl Store) {
    let (one, two) = (open(store).await, open(store).await);
    let (first, mut second) = two_members(&one, &two, &[Topic::Messages], ALL / 2).await;
    drop(first);
    second.until("the other holds everything", |reader| reader.held.len() == ALL).await;
    append(&one, records(20)).await;
    second.until_records(20).await;
}

/// A member that left commits nothing more.
async fn check_stale(left: &Reader) {
    for held in left.held.values() {
        let commit = Commit { lease: held.lease.clone(), offset: held.offset, metadata: String::new() };
        assert_eq!(left.consumer.commit(vec![commit]).await, Ok(vec![held.lease.clone()]));
    }
    assert!(!left.consumer.is_current());
}

pub async fn a_cluster_shows_who_holds_what(store: &impl Store) {
    let view = open(store).await.cluster().await.expect("the log is there");
    assert_eq!(view.groups, [], "before anybody joins one");
    let log = open(store).await;
    log.announce(vec!["router".into()], vec!["127.0.0.1:8081".into()]).await.expect("the log is there");
    append(&log, records(40)).await;
    let mut reader = Reader::holding(&log, "readers", ALL).await;
    reader.until_records(40).await;
    let view = log.cluster().await.expect("the log is there");
    let process = view.processes.iter().find(|process| process.roles == ["router"]).expect("we announced ourselves");
    assert_eq!(process.process, log.process());
    assert_eq!((process.pid, process.alive), (std::process::id(), true));
    assert_eq!(process.listens, ["127.0.0.1:8081"]);
    let group = view.groups.iter().find(|group| group.group == "readers").expect("we joined it");
    let of_messages: Vec<_> = group.partitions.iter().filter(|partition| partition.topic == "messages").collect();
    assert_eq!(of_messages.len(), ALL);
    for partition in of_messages {
        assert_eq!(partition.holder.as_ref(), Some(&process.process));
        let lease = &reader.held[&TopicPartition::new(Topic::Messages, partition.partition)].lease;
        assert_eq!(partition.epoch, lease.epoch);
        assert!(partition.lag >= partition.end - partition.committed);
    }
}
