//! Appending: order, results, identities written once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::{Timestamp, Topic};
use futures_util::FutureExt as _;

use super::reader::Reader;
use super::{PARTITIONS, PATIENCE, Store, number, open, record, records};
use crate::log::{AppendError, Appended, Error, Log, NewRecord, RecordId};

pub async fn records_of_one_key_keep_their_order(store: &impl Store) {
    let log = open(store).await;
    for batch in records(600).chunks(7) {
        log.append(batch.to_vec()).await.unwrap_or_else(|error| panic!("{error}"));
    }
    let mut reader = Reader::join(&log, "readers", &[Topic::Messages]).await;
    reader.until_records(600).await;
    let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (partition, record) in &reader.records {
        assert_eq!(record.key.partition(PARTITIONS), partition.partition, "the partition of a key");
        let n = String::from_utf8_lossy(&record.value).parse().expect("a number");
        by_key.entry(record.key.as_str().to_owned()).or_default().push(n);
    }
    assert_eq!(by_key.len(), 10);
    for (key, numbers) in by_key {
        assert_eq!(numbers.len(), 60, "{key}");
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
    }
}

pub async fn results_stand_in_the_order_of_the_records(store: &impl Store) {
    let log = open(store).await;
    let batch = records(200);
    let results = append(&log, batch.clone()).await;
    let mut reader = Reader::join(&log, "readers", &[Topic::Messages]).await;
    reader.until_records(200).await;
    assert_eq!(results.len(), 200);
    for (new, result) in batch.iter().zip(results) {
        let Appended::At { partition, offset } = result else { panic!("{result:?}") };
        assert_eq!(partition, new.key.partition(PARTITIONS));
        let read = reader.records.iter().find(|(at, read)| at.partition == partition && read.offset == offset);
        let (_, read) = read.unwrap_or_else(|| panic!("nothing at {partition}/{offset}"));
        assert_eq!((&read.value, read.id, &read.key), (&new.value, new.id, &new.key));
    }
}

pub async fn an_empty_append_writes_nothing(store: &impl Store) {
    let log = open(store).await;
    assert_eq!(append(&log, Vec::new()).await, []);
    assert_eq!(log.ends(&Topic::Messages).await.map(|ends| ends.len()), Ok(PARTITIONS as usize));
}

pub async fn a_record_for_no_topic_is_refused(store: &impl Store) {
    let log = open(store).await;
    let astray = NewRecord { topic: Topic::DeadLetters, ..record("k", "1") };
    let refused = log.append(vec![record("k", "0"), astray]).await;
    assert!(matches!(refused, Err(AppendError::Refused(_))), "{refused:?}");
    let mut reader = Reader::holding(&log, "readers", PARTITIONS as usize).await;
    reader.until_quiet().await;
    assert_eq!(reader.records.len(), 0, "all or none");
    let unknown = log.subscribe("readers", &[Topic::DeadLetters]).await.map(drop);
    assert!(matches!(unknown, Err(Error::Refused(_))), "{unknown:?}");
}

pub async fn a_large_record_comes_back_whole(store: &impl Store) {
    let log = open(store).await;
    // Kafka's default limit, less what goes with a record.
    let value = vec![b'x'; 1_000_000];
    let large = NewRecord { traceparent: Some("00-4bf92f-00f067-01".into()), ..record("large", value.clone()) };
    append(&log, vec![large, record("large", "small")]).await;
    let mut reader = Reader::join(&log, "readers", &[Topic::Messages]).await;
    reader.until_records(2).await;
    assert!(reader.records[0].1.value == value);
    assert_eq!(reader.records[0].1.traceparent.as_deref(), Some("00-4bf92f-00f067-01"));
    assert_eq!(reader.records[1].1.value, "small");
    assert_eq!(reader.records[1].1.traceparent, None);
}

pub async fn what_is_once_is_written_once(store: &impl Store) {
    let log = open(store).await;
    let first = once("first", 1);
    let other = NewRecord { value: "other".into(), ..once_as(first.id, 2) };
    let (a, b) = (append_one(&log, &first).await, append_one(&log, &first).await);
    let (c, d) = (append_one(&log, &other).await, append_one(&log, &first).await);
    append(&log, vec![record("k", "last")]).await;
    if log.guarantees().writes_once {
        check_kinds(&[a, b, c, d], "at repeated conflict repeated");
        assert_eq!(first_at(&b), first_at(&d), "the first time stays");
        check_read(&log, first.id, &["first"]).await;
    } else {
        check_kinds(&[a, b, c, d], "at at at at");
        check_read(&log, first.id, &["first", "first", "other", "first"]).await;
    }
}

pub async fn what_is_once_is_once_within_a_batch(store: &impl Store) {
    let log = open(store).await;
    let first = once("first", 1);
    let other = NewRecord { value: "other".into(), ..once_as(first.id, 2) };
    let free = NewRecord { once: None, value: "free".into(), ..first.clone() };
    let results = append(&log, vec![first.clone(), first.clone(), other, free]).await;
    append(&log, vec![record("k", "last")]).await;
    if log.guarantees().writes_once {
        check_kinds(&results, "at repeated conflict at");
        check_read(&log, first.id, &["first", "free"]).await;
    } else {
        check_kinds(&results, "at at at at");
        check_read(&log, first.id, &["first", "first", "other", "free"]).await;
    }
}

pub async fn what_is_once_is_once_for_every_handle(store: &impl Store) {
    let (one, two) = (open(store).await, open(store).await);
    let first = once("first", 1);
    let (a, b) = tokio::join!(append_one(&one, &first), append_one(&two, &first));
    append(&one, vec![record("k", "last")]).await;
    let mut results = [a, b];
    results.sort_by_key(|result| !matches!(result, Appended::At { .. }));
    if one.guarantees().writes_once {
        check_kinds(&results, "at repeated");
        check_read(&two, first.id, &["first"]).await;
    } else {
        check_kinds(&results, "at at");
        check_read(&two, first.id, &["first", "first"]).await;
    }
}

fn once(value: &'static str, fingerprint: u8) -> NewRecord {
    NewRecord { once: Some([fingerprint; 32]), ..record("k", value) }
}

fn once_as(id: RecordId, fingerprint: u8) -> NewRecord {
    NewRecord { id, ..once("", fingerprint) }
}

async fn append_one(log: &Arc<dyn Log>, record: &NewRecord) -> Appended {
    append(log, vec![record.clone()]).await.remove(0)
}

fn check_kinds(results: &[Appended], expected: &str) {
    let kinds: Vec<&str> = results
        .iter()
        .map(|result| match result {
            Appended::At { .. } => "at",
            Appended::Repeated { .. } => "repeated",
            Appended::Conflict => "conflict",
        })
        .collect();
    assert_eq!(kinds.join(" "), expected, "{results:?}");
}

/// What is read under `id` is `expected`, in this order, so that a window can tell repeats; then comes "last".
async fn check_read(log: &Arc<dyn Log>, id: RecordId, expected: &[&str]) {
    let mut reader = Reader::join(log, "readers", &[Topic::Messages]).await;
    reader.until_records(expected.len() + 1).await;
    reader.until_quiet().await;
    assert_eq!(reader.values(), [expected, &["last"]].concat());
    assert!(reader.records[..expected.len()].iter().all(|(_, record)| record.id == id));
}

fn first_at(appended: &Appended) -> Timestamp {
    match appended {
        Appended::Repeated { first_at } => *first_at,
        other => panic!("{other:?}"),
    }
}

pub async fn a_dropped_append_is_still_written(store: &impl Store) {
    let log = open(store).await;
    // The first call finds out about the topic; the second hands its records over when it is first polled.
    append(&log, vec![record("k", "kept")]).await;
    drop(log.append(vec![record("k", "dropped")]).now_or_never());
    let mut reader = Reader::join(&log, "readers", &[Topic::Messages]).await;
    reader.until_records(2).await;
    assert_eq!(reader.values(), ["kept", "dropped"]);
    wait_until("all is acknowledged", || log.oldest_unacknowledged().is_none()).await;
}

pub async fn a_closed_log_refuses(store: &impl Store) {
    let log = open(store).await;
    append(&log, records(10)).await;
    log.close().await;
    let refused = log.append(records(1)).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    assert!(log.subscribe("readers", &[Topic::Messages]).await.is_err());
    let mut reader = Reader::join(&open(store).await, "readers", &[Topic::Messages]).await;
    reader.until_records(10).await;
}

pub async fn records_of_another_handle_arrive(store: &impl Store) {
    let (one, two) = (open(store).await, open(store).await);
    let mut reader = Reader::holding(&one, "readers", PARTITIONS as usize).await;
    append_in_turn(&one, &two, 0..51).await;
    reader.until_records(51).await;
    // While nobody reads, what came from elsewhere is missing between our own.
    let leases: Vec<_> = reader.held.values().map(|held| held.lease.clone()).collect();
    leases.iter().for_each(|lease| reader.consumer.pause(lease));
    reader.until_quiet().await;
    append_in_turn(&one, &two, 51..100).await;
    leases.iter().for_each(|lease| reader.consumer.resume(lease));
    reader.until_records(100).await;
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(reader.values(), expected);
}

/// Records of one conversation, each third through `one`.
async fn append_in_turn(one: &Arc<dyn Log>, two: &Arc<dyn Log>, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let handle = if n % 3 == 0 { one } else { two };
        append(handle, vec![record("default/one-conversation", number(n))]).await;
    }
}

pub async fn a_slow_reader_loses_nothing(store: &impl Store) {
    let log = open(store).await;
    let mut reader = Reader::holding(&log, "readers", PARTITIONS as usize).await;
    let padding = "x".repeat(1_000);
    for batch in 0..30 {
        let values = (0..200).map(|n| format!("{}{padding}", batch * 200 + n));
        let records = values.map(|value| record(&format!("k{}", value.len() % 7), value)).collect();
        append(&log, records).await;
    }
    reader.until_records(6_000).await;
    let mut numbers: Vec<usize> =
        reader.values().iter().map(|value| value.trim_end_matches('x').parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..6_000));
}

pub(super) async fn append(log: &Arc<dyn Log>, records: Vec<NewRecord>) -> Vec<Appended> {
    log.append(records).await.unwrap_or_else(|error| panic!("an append failed: {error}"))
}

/// For what no event tells of.
pub(super) async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
