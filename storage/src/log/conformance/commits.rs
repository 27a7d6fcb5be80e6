//! Commits, fences, and what is read back.

use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::{Timestamp, Topic, TopicPartition};

use super::appends::append;
use super::reader::Reader;
use super::{PARTITIONS, Store, open, record, records, specs};
use crate::log::{AppendError, Appended, Commit, Consumer, Error, Lease, Log, NewRecord};

const ALL: usize = PARTITIONS as usize;

pub async fn a_commit_comes_back_with_its_metadata(store: &impl Store) {
    let log = open(store).await;
    append(&log, records(100)).await;
    let mut reader = Reader::holding(&log, "readers", ALL).await;
    reader.until_records(100).await;
    let partition = reader.records[0].0.clone();
    let offsets: Vec<u64> =
        reader.records.iter().filter(|(at, _)| *at == partition).map(|(_, record)| record.offset).collect();
    let lease = reader.held[&partition].lease.clone();
    let metadata = "x".repeat(4_096);
    for (offset, metadata) in [(offsets[1], "first"), (offsets[2], &metadata)] {
        let commit = Commit { lease: lease.clone(), offset, metadata: metadata.into() };
        assert_eq!(reader.consumer.commit(vec![commit]).await, Ok(vec![]));
    }
    reader.consumer.leave().await;
    let mut next = Reader::holding(&log, "readers", ALL).await;
    let assignment = next.held[&partition].clone();
    assert!(assignment.lease.epoch > lease.epoch);
    assert_eq!((assignment.offset, assignment.metadata), (offsets[2], metadata));
    let others = next.held.values().filter(|held| held.lease.partition != partition);
    assert!(others.into_iter().all(|held| held.metadata.is_empty()));
    next.until_records(98).await;
    let first = next.records.iter().find(|(at, _)| *at == partition).expect("98 of 100 came");
    assert_eq!(first.1.offset, offsets[2]);
}

pub async fn a_metadata_too_long_is_refused(store: &impl Store) {
    let log = open(store).await;
    let reader = Reader::holding(&log, "readers", ALL).await;
    let commit = Commit { lease: reader.lease(0), offset: 0, metadata: "x".repeat(4_097) };
    let refused = reader.consumer.commit(vec![commit]).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
}

pub async fn a_restarted_lease_is_fenced(store: &impl Store) {
    let log = open(store).await;
    append(&log, records(100)).await;
    let mut reader = Reader::holding(&log, "readers", ALL).await;
    reader.until_records(100).await;
    reader.commit_all().await;
    let old = reader.lease(0);
    reader.consumer.restart(&old);
    reader.until("the partition is assigned again", |reader| reader.lease(0).epoch > old.epoch).await;
    check_fenced(&log, &*reader.consumer, &old, &reader.lease(0)).await;
    reader.consumer.restart(&old);
    reader.until_quiet().await;
    assert_eq!(reader.records.len(), 100, "what was committed does not come again");
}

/// Whatever is done under `old` is refused and leaves nothing behind; the same under `new` is done.
async fn check_fenced(log: &Arc<dyn Log>, consumer: &dyn Consumer, old: &Lease, new: &Lease) {
    let ends = log.ends(&Topic::Messages).await;
    let commit = |lease: &Lease| Commit { lease: lease.clone(), offset: 0, metadata: "fenced?".into() };
    assert_eq!(consumer.append(old, records(3)).await, Err(AppendError::Fenced));
    assert_eq!(consumer.append_and_commit(records(3), commit(old)).await, Err(AppendError::Fenced));
    assert_eq!(consumer.append_and_commit(vec![], commit(old)).await, Err(AppendError::Fenced));
    assert_eq!(consumer.commit(vec![commit(old)]).await, Ok(vec![old.clone()]));
    assert_eq!(log.ends(&Topic::Messages).await, ends, "a refused append wrote something");
    let committed = log.committed("readers", &Topic::Messages).await.expect("the log is there");
    assert_ne!(committed[old.partition.partition as usize], 0, "a refused commit was written");
    let offset = committed[new.partition.partition as usize];
    let good = Commit { lease: new.clone(), offset, metadata: String::new() };
    assert_eq!(consumer.commit(vec![commit(old), good]).await, Ok(vec![old.clone()]));
}

pub async fn an_append_with_its_commit_is_both(store: &impl Store) {
    let log = open(store).await;
    append(&log, vec![record("k", "1"), record("k", "2")]).await;
    let mut reader = Reader::holding(&log, "readers", ALL).await;
    reader.until_records(2).await;
    let (partition, second) = reader.records[1].clone();
    let lease = reader.held[&partition].lease.clone();
    let commit = Commit { lease: lease.clone(), offset: second.offset, metadata: "m".into() };
    let results = reader.consumer.append_and_commit(vec![record("k", "3")], commit).await;
    assert!(matches!(results.as_deref(), Ok([Appended::At { .. }])), "{results:?}");
    let alone = reader.consumer.append(&lease, vec![record("k", "4")]).await;
    assert!(matches!(alone.as_deref(), Ok([Appended::At { .. }])), "{alone:?}");
    reader.until_records(4).await;
    assert_eq!(reader.values(), ["1", "2", "3", "4"]);
    let committed = log.committed("readers", &Topic::Messages).await.expect("the log is there");
    assert_eq!(committed[partition.partition as usize], second.offset);
}

pub async fn recent_records_are_those_below_the_offset(store: &impl Store) {
    let log = open(store).await;
    let batch: Vec<_> = (0..20).map(|n| record("k", n.to_string())).collect();
    let results = append(&log, batch.clone()).await;
    let offset = |n: usize| match results[n] {
        Appended::At { offset, .. } => offset,
        other => panic!("{other:?}"),
    };
    let partition = TopicPartition::new(Topic::Messages, batch[0].key.partition(PARTITIONS));
    let reader = Reader::holding(&log, "readers", ALL).await;
    for (below, count, expected) in [(offset(15), 5, 10..15), (offset(3), 8, 0..3), (offset(19) + 1, 100, 0..20)] {
        let seen = reader.consumer.recent(&partition, below, count).await.expect("the log is there");
        assert!(
            seen.is_sorted_by_key(|seen| seen.appended_at)
                && seen.iter().all(|seen| seen.appended_at > Timestamp::default())
        );
        let ids: Vec<_> = seen.into_iter().map(|seen| seen.id).collect();
        let expected: Vec<_> = batch[expected].iter().map(|record| record.id).collect();
        assert_eq!(ids, expected, "{count} below {below}");
    }
    let none = reader.consumer.recent(&partition, offset(0), 5).await;
    assert_eq!(none, Ok(vec![]));
}

pub async fn recent_records_tell_the_epoch_where_writes_are_not_fenced(store: &impl Store) {
    let log = open(store).await;
    let mut reader = Reader::holding(&log, "readers", ALL).await;
    let old = reader.lease(0);
    append(&log, vec![record("k", "0")]).await;
    append_under(&*reader.consumer, &old).await;
    reader.consumer.restart(&old);
    reader.until("the partition is assigned again", |reader| reader.lease(0).epoch > old.epoch).await;
    let new = reader.lease(0);
    append_under(&*reader.consumer, &new).await;
    let commit = Commit { lease: new.clone(), offset: 0, metadata: String::new() };
    let committed = reader.consumer.append_and_commit(vec![record("k", "3")], commit).await;
    assert!(matches!(committed.as_deref(), Ok([Appended::At { .. }])), "{committed:?}");
    let partition = TopicPartition::new(Topic::Messages, record("k", "").key.partition(PARTITIONS));
    let recent = reader.consumer.recent(&partition, u64::MAX, 4).await.expect("the log is there");
    let epochs: Vec<_> = recent.into_iter().map(|recent| recent.epoch).collect();
    let expected = [None, Some(old.epoch), Some(new.epoch), Some(new.epoch)];
    assert_eq!(epochs, if log.guarantees().fences_writes { [None; 4] } else { expected });
}

pub async fn records_are_read_aside(store: &impl Store) {
    let log = open(store).await;
    let batch: Vec<_> = (0..20).map(|n| record("k", n.to_string())).collect();
    let offsets = offsets(&append(&log, batch.clone()).await);
    let partition = TopicPartition::new(Topic::Messages, batch[0].key.partition(PARTITIONS));
    let mut reader = Reader::holding(&log, "readers", ALL).await;
    let check = async |from: u64, max: usize, expected: std::ops::Range<usize>| {
        let read = reader.consumer.read(&partition, from, max).await.expect("the log is there");
        let found: Vec<_> = read.iter().map(|record| (record.offset, record.id, record.value.clone())).collect();
        let expected = expected.map(|n| (offsets[n], batch[n].id, batch[n].value.clone()));
        assert_eq!(found, expected.collect::<Vec<_>>(), "{max} from {from} on");
    };
    check(0, 100, 0..20).await;
    check(offsets[5], 3, 5..8).await;
    check(offsets[4] + 1, 1, 5..6).await;
    check(offsets[19], 100, 19..20).await;
    check(offsets[19] + 1, 100, 0..0).await;
    check(u64::MAX, 100, 0..0).await;
    check(0, 0, 0..0).await;
    // In another topic, of which we hold nothing.
    let other = NewRecord { topic: Topic::StatusUpdates, ..record("k", "elsewhere") };
    append(&log, vec![other]).await;
    let elsewhere = TopicPartition::new(Topic::StatusUpdates, partition.partition);
    let read = reader.consumer.read(&elsewhere, 0, 100).await.expect("the log is there");
    assert_eq!(read.iter().map(|record| &record.value[..]).collect::<Vec<_>>(), [b"elsewhere"]);
    let unknown = reader.consumer.read(&TopicPartition::new(Topic::Messages, PARTITIONS), 0, 100).await;
    assert!(matches!(unknown, Err(Error::Refused(_))), "{unknown:?}");
    // The flow knows nothing of all this.
    reader.until_records(20).await;
    let at_once = append(&log, vec![record("k", "20")]).await;
    let read = reader.consumer.read(&partition, offsets[19] + 1, 100).await.expect("the log is there");
    assert_eq!(read.iter().map(|record| record.offset).collect::<Vec<_>>(), self::offsets(&at_once));
    reader.until_records(21).await;
    reader.until_quiet().await;
    assert!(reader.sorted_numbers().into_iter().eq(0..21), "{:?}", reader.values());
}

fn offsets(appended: &[Appended]) -> Vec<u64> {
    let offset = |appended: &Appended| match appended {
        Appended::At { offset, .. } => *offset,
        other => panic!("{other:?}"),
    };
    appended.iter().map(offset).collect()
}

/// Where age alone decides, nothing of ours is old enough: each adapter tests that for itself.
pub async fn what_retention_deleted_is_not_read_aside(store: &impl Store) {
    let log = open(store).await;
    if !log.guarantees().retention_awaits_groups {
        return;
    }
    log.ensure_topics(&specs(Duration::from_millis(1))).await.expect("retention may change");
    append(&log, (0..20).map(|n| record("k", n.to_string())).collect()).await;
    let mut reader = Reader::holding(&log, "readers", ALL).await;
    reader.until_records(20).await;
    let (partition, tenth) = reader.records[10].clone();
    let lease = reader.held[&partition].lease.clone();
    let commit = Commit { lease, offset: tenth.offset, metadata: String::new() };
    assert_eq!(reader.consumer.commit(vec![commit]).await, Ok(vec![]));
    tokio::time::sleep(Duration::from_millis(10)).await; // past the retention
    assert_eq!(log.enforce_retention().await, Ok(()));
    let read = reader.consumer.read(&partition, 0, 3).await.expect("the log is there");
    assert_eq!(read.iter().map(|record| &record.value[..]).collect::<Vec<_>>(), [b"10", b"11", b"12"]);
}

async fn append_under(consumer: &dyn Consumer, lease: &Lease) {
    let appended = consumer.append(lease, vec![record("k", "1")]).await;
    assert!(matches!(appended.as_deref(), Ok([Appended::At { .. }])), "{appended:?}");
}

pub async fn ends_and_commits_tell_the_lag(store: &impl Store) {
    let log = open(store).await;
    let starts = log.committed("readers", &Topic::Messages).await.expect("an unknown group has committed nothing");
    append(&log, records(100)).await;
    let mut reader = Reader::holding(&log, "readers", ALL).await;
    reader.until_records(100).await;
    assert_eq!(log.committed("readers", &Topic::Messages).await, Ok(starts));
    let ends = log.ends(&Topic::Messages).await.expect("the log is there");
    for (partition, record) in &reader.records {
        assert!(record.offset < ends[partition.partition as usize]);
    }
    reader.commit_all().await;
    let committed = log.committed("readers", &Topic::Messages).await.expect("the log is there");
    for (number, (committed, end)) in committed.iter().zip(&ends).enumerate() {
        let above =
            reader.records.iter().any(|(at, record)| at.partition as usize == number && record.offset >= *committed);
        assert!(committed <= end && !above, "partition {number}: committed {committed}, end {end}");
    }
}
