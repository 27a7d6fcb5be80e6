//! What only Kafka's own behaviour can show, on the broker that `CHAT4ALL_TEST_KAFKA` names, and on none at all.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::time::{Duration, Instant};

use chat4all_kafka::{KafkaLog, Options};
use chat4all_proto::{Topic, TopicPartition};
use chat4all_storage::Log as _;
use chat4all_storage::log::{AppendError, Appended, Commit, Error, Event, Subscription};
use rdkafka::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use support::{PATIENCE, options, record, specs};

#[tokio::test]
async fn any_tool_can_read_a_record() {
    let Some(options) = options() else { return };
    let log = KafkaLog::open(options.clone()).unwrap();
    log.ensure_topics(&specs()).await.unwrap();
    let appended = log.append(vec![record(Topic::Messages, "default/c", r#"{"a":1}"#)]).await.unwrap();
    let Appended::At { partition, offset } = appended[0] else { panic!("{appended:?}") };
    let tool: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &options.brokers).set("group.id", "tool").create().unwrap();
    let mut list = TopicPartitionList::new();
    let name = format!("{}messages", options.topic_prefix);
    let (partition, offset) = (partition.try_into().unwrap(), Offset::Offset(offset.try_into().unwrap()));
    list.add_partition_offset(&name, partition, offset).unwrap();
    tool.assign(&list).unwrap();
    let message = tool.poll(PATIENCE).unwrap().unwrap().detach();
    assert_eq!((message.key(), message.payload()), (Some(&b"default/c"[..]), Some(&br#"{"a":1}"#[..])));
    let headers = message.headers().unwrap();
    let header = |key| headers.iter().find(|header| header.key == key).map(|header| header.value.unwrap());
    assert_eq!(header("ce_id"), Some(&b"00000000-0000-0000-0000-000000000007/2"[..]));
    assert_eq!(header("ce_specversion"), Some(&b"1.0"[..]));
    assert_eq!(header("ce_type"), Some(&b"chat4all.message"[..]));
    assert_eq!(header("traceparent"), Some(&b"00-4bf92f-00f067-01"[..]));
}

#[tokio::test]
async fn a_member_stays_current_without_any_commit() {
    let Some(options) = options() else { return };
    let log = KafkaLog::open(options.clone()).unwrap();
    log.ensure_topics(&specs()).await.unwrap();
    let mut subscription = log.subscribe("readers", &[Topic::Messages]).await.unwrap();
    let assigned = tokio::time::timeout(PATIENCE, subscription.events.recv()).await.unwrap().unwrap();
    let Event::Assigned(assignments) = assigned else { panic!("{assigned:?}") };
    assert_eq!(assignments.len(), 2);
    // Longer than half a session.
    let deadline = Instant::now() + options.session_timeout * 7 / 10;
    let mut appended = 0;
    while Instant::now() < deadline {
        subscription.consumer.append(&assignments[0].lease, vec![record(Topic::Messages, "k", "1")]).await.unwrap();
        assert!(subscription.consumer.is_current());
        appended += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(appended > 10);
    log.close().await;
    assert!(!subscription.consumer.is_current());
}

#[tokio::test]
async fn what_was_deleted_before_it_was_read_is_skipped_and_the_rest_comes() {
    let Some(options) = options() else { return };
    let log = KafkaLog::open(options.clone()).unwrap();
    log.ensure_topics(&specs()).await.unwrap();
    let mut subscription = log.subscribe("readers", &[Topic::Messages]).await.unwrap();
    let Event::Assigned(assignments) = next(&mut subscription).await else { panic!("not assigned") };
    for assignment in &assignments {
        subscription.consumer.pause(&assignment.lease);
    }
    tokio::time::sleep(Duration::from_millis(500)).await; // nothing tells that a pause has begun
    let appended = log.append((0..10).map(|n| record(Topic::Messages, "k", &n.to_string())).collect()).await.unwrap();
    let Appended::At { partition, offset: 0 } = appended[0] else { panic!("{appended:?}") };
    delete_below(&options, partition, 5).await;
    let place = TopicPartition::new(Topic::Messages, partition);
    let aside = subscription.consumer.read(&place, 0, 3).await.unwrap();
    assert_eq!(aside.iter().map(|record| record.offset).collect::<Vec<_>>(), [5, 6, 7], "nor is it read aside");
    for assignment in &assignments {
        subscription.consumer.resume(&assignment.lease);
    }
    let Event::Records { lease, records } = next(&mut subscription).await else { panic!("no records") };
    assert_eq!((lease.partition.partition, records[0].offset), (partition, 5));
    // A commit from before the start of the log, found by the next holder.
    let commit = Commit { lease: lease.clone(), offset: 6, metadata: "m".into() };
    assert_eq!(subscription.consumer.commit(vec![commit]).await, Ok(vec![]));
    subscription.consumer.leave().await;
    delete_below(&options, partition, 8).await;
    let mut subscription = log.subscribe("readers", &[Topic::Messages]).await.unwrap();
    let Event::Assigned(assignments) = next(&mut subscription).await else { panic!("not assigned") };
    let assignment = assignments.iter().find(|assignment| assignment.lease.partition == lease.partition).unwrap();
    assert_eq!((assignment.offset, &*assignment.metadata), (8, ""));
    let Event::Records { records, .. } = next(&mut subscription).await else { panic!("no records") };
    assert_eq!(records[0].offset, 8);
    assert_eq!(counted("chat4all_log_gaps_total"), 2.0, "each gap is counted");
}

/// The sum of a counter of this process.
fn counted(name: &str) -> f64 {
    let families = chat4all_metrics::prometheus::gather();
    let family = families.iter().find(|family| family.name() == name).expect("it is registered");
    family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum()
}

async fn next(subscription: &mut Subscription) -> Event {
    tokio::time::timeout(PATIENCE, subscription.events.recv()).await.unwrap().unwrap()
}

/// Deletes what retention would have deleted one day.
async fn delete_below(options: &Options, partition: u32, offset: i64) {
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &options.brokers).create().unwrap();
    let mut list = TopicPartitionList::new();
    let name = format!("{}messages", options.topic_prefix);
    list.add_partition_offset(&name, partition.try_into().unwrap(), Offset::Offset(offset)).unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
}

/// Markers of transactions take offsets, and what was aborted does: nothing comes for them.
#[tokio::test]
async fn reading_aside_finds_the_end_behind_offsets_that_hold_nothing() {
    let Some(options) = options() else { return };
    let log = KafkaLog::open(options.clone()).unwrap();
    log.ensure_topics(&specs()).await.unwrap();
    let name = format!("{}messages", options.topic_prefix);
    let written = {
        let brokers = options.brokers.clone();
        tokio::task::spawn_blocking(move || write_with_gaps(&brokers, &name)).await.unwrap()
    };
    let subscription = log.subscribe("readers", &[Topic::Messages]).await.unwrap();
    let partition = TopicPartition::new(Topic::Messages, 0);
    let check = async |from: u64, max: usize, expected: &[&str]| {
        let begun = Instant::now();
        let read = subscription.consumer.read(&partition, from, max).await.unwrap();
        let values: Vec<_> = read.iter().map(|record| String::from_utf8_lossy(&record.value)).collect();
        assert_eq!(values, expected, "from {from}");
        println!("{max} from {from} on: {} in {:?}", read.len(), begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    };
    check(0, 100, &written).await;
    check(0, 2, &written[..2]).await;
    // Only markers and what was aborted are left.
    let end = log.ends(&Topic::Messages).await.unwrap()[0];
    assert_eq!(end, 9, "six records and three markers");
    check(6, 100, &[]).await;
    check(end, 100, &[]).await;
}

/// Two transactions that are committed and one that is aborted, of two records each. Blocks.
fn write_with_gaps(brokers: &str, topic: &str) -> Vec<&'static str> {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("transactional.id", topic).create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for (values, is_committed) in [(["1", "2"], true), (["3", "4"], true), (["aborted", "aborted"], false)] {
        producer.begin_transaction().unwrap();
        for value in values {
            producer.send(BaseRecord::<str, str>::to(topic).partition(0).key("k").payload(value)).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        let ended =
            if is_committed { producer.commit_transaction(PATIENCE) } else { producer.abort_transaction(PATIENCE) };
        ended.unwrap();
    }
    vec!["1", "2", "3", "4"]
}

#[tokio::test]
async fn without_a_broker_calls_fail_within_bounds_and_the_age_tells() {
    // Nobody listens on the discard port.
    let log = KafkaLog::open(Options::new("127.0.0.1:9")).unwrap();
    let begun = Instant::now();
    let refused = log.append(vec![record(Topic::Messages, "k", "1")]).await;
    assert!(matches!(refused, Err(AppendError::Unavailable(_))), "{refused:?}");
    let refused = log.ends(&Topic::Messages).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    let announcing = {
        let log = log.clone();
        tokio::spawn(async move { log.announce(vec![], vec![]).await })
    };
    while log.oldest_unacknowledged().is_none() {
        tokio::task::yield_now().await;
    }
    announcing.abort();
}
