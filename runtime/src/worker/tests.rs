//! The worker over the in-memory log: order, retries, restarts, bounds, hand-over.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Actor;
use bytes::Bytes;
use chat4all_proto::{Generation, Key, Topic, TopicPartition};
use chat4all_storage::Log;
use chat4all_storage::log::memory::MemoryLog;
use chat4all_storage::log::{
    Appended, Assignment, Event, NewRecord, Record, RecordId, Subscription, TopicKind, TopicSpec,
};
use futures_util::future::{FutureExt, LocalBoxFuture};

use super::in_order::{Desk, Done, Failure, Process};
use super::{Consumer, Drain, Factory, InOrder, Inflow, Limits, Settings, size_of_record};
use crate::Shutdown;
use crate::supervisor::Handle;

const GROUP: &str = "readers";
/// The second one goes with the first.
const BOTH: [Topic; 2] = [Topic::Messages, Topic::StatusUpdates];
const WAIT: Duration = Duration::from_secs(10);

/// Offsets by partition.
type Offsets = BTreeMap<TopicPartition, Vec<u64>>;

/// What all workers of a test have done, and how they shall behave.
#[derive(Default)]
struct World {
    done: Mutex<Offsets>,
    /// Batches that still fail before one succeeds, and that still panic.
    failures: AtomicUsize,
    panics: AtomicUsize,
}

struct Reader(Arc<World>);

impl Process for Reader {
    const NAME: &'static str = "reader";

    fn batch_max(&self) -> usize {
        3
    }

    fn process(&self, batch: Rc<[Arc<Record>]>, desk: &Desk) -> LocalBoxFuture<'static, Result<Done, Failure>> {
        let (world, partition) = (Arc::clone(&self.0), desk.lease.partition.clone());
        let take = |count: &AtomicUsize| count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        assert!(take(&world.panics).is_err(), "told to panic");
        let fails = take(&world.failures).is_ok();
        async move {
            if fails {
                return Err(Failure::Later("told to fail".to_owned()));
            }
            let offsets = batch.iter().map(|record| record.offset);
            world.done.lock().expect("no test panics holding it").entry(partition).or_default().extend(offsets);
            Ok(Done::Uncommitted)
        }
        .boxed_local()
    }
}

async fn log() -> Arc<MemoryLog> {
    let log = MemoryLog::new();
    let kind = TopicKind::Stream { retention: Duration::from_secs(3_600) };
    let topics = BOTH.map(|topic| TopicSpec { topic, partitions: 4, kind: kind.clone() });
    log.ensure_topics(&topics).await.expect("the topics are new");
    log
}

fn start(log: Arc<dyn Log>, world: &Arc<World>) -> Handle<Consumer<InOrder<Reader>>> {
    start_on(&[Topic::Messages], log, world)
}

fn start_on(topics: &[Topic], log: Arc<dyn Log>, world: &Arc<World>) -> Handle<Consumer<InOrder<Reader>>> {
    let world = Arc::clone(world);
    let factory: Factory<InOrder<Reader>> = Arc::new(move |partition| {
        InOrder::new(Reader(Arc::clone(&world)), partition, Duration::from_millis(5)).start()
    });
    let settings = Settings { group: GROUP.to_owned(), topics: topics.to_vec(), limits: ROOMY };
    super::start(&log, settings, factory, &Shutdown::new())
}

const ROOMY: Limits = Limits { records_max: 1_000, bytes_max: 1 << 20 };

/// Appends `count` records of 17 keys.
async fn append(log: &MemoryLog, count: u128) -> Offsets {
    append_to(&Topic::Messages, log, count).await
}

async fn append_to(topic: &Topic, log: &MemoryLog, count: u128) -> Offsets {
    let records = (0..count).map(|n| NewRecord {
        topic: topic.clone(),
        key: Key::raw(format!("default/{}", n % 17)),
        id: RecordId { uuid: uuid::Uuid::from_u128(n), generation: Generation(0) },
        value: Bytes::from_static(b"{}"),
        traceparent: None,
        once: None,
    });
    let mut offsets = Offsets::new();
    for appended in log.append(records.collect()).await.expect("the log is there") {
        if let Appended::At { partition, offset } = appended {
            offsets.entry(TopicPartition::new(topic.clone(), partition)).or_default().push(offset);
        }
    }
    offsets
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(WAIT, waiting).await.unwrap_or_else(|_| panic!("not within {WAIT:?}: {what}"));
}

async fn until_all_committed(log: &MemoryLog) {
    until_committed(&Topic::Messages, log).await;
}

async fn until_committed(topic: &Topic, log: &MemoryLog) {
    until("everything is committed", async || {
        let ends = log.ends(topic).await.expect("the log is there");
        log.committed(GROUP, topic).await.expect("the log is there") == ends
    })
    .await;
}

fn done(world: &World) -> Offsets {
    world.done.lock().expect("no test panics holding it").clone()
}

#[actix::test]
async fn records_are_worked_off_in_order_and_committed() {
    let (log, world) = (log().await, Arc::new(World::default()));
    let _consumer = start(log.clone(), &world);
    let expected = append(&log, 100).await;
    until("everything is done", async || done(&world) == expected).await;
    until_all_committed(&log).await;
}

#[actix::test]
async fn a_batch_that_fails_is_tried_again_and_nothing_overtakes_it() {
    let (log, world) = (log().await, Arc::new(World::default()));
    world.failures.store(3, Ordering::SeqCst);
    let _consumer = start(log.clone(), &world);
    let expected = append(&log, 40).await;
    until("everything is done", async || done(&world) == expected).await;
}

#[actix::test]
async fn a_worker_that_panics_begins_again_from_the_last_commit() {
    let (log, world) = (log().await, Arc::new(World::default()));
    let _consumer = start(log.clone(), &world);
    append(&log, 20).await;
    until_all_committed(&log).await;
    let before = done(&world);
    world.panics.store(2, Ordering::SeqCst);
    let expected = append(&log, 20).await;
    let with = |offsets: &Offsets| {
        offsets.iter().all(|(partition, offsets)| {
            let seen = &done(&world)[partition][before.get(partition).map_or(0, Vec::len)..];
            offsets.iter().all(|offset| seen.contains(offset))
        })
    };
    until("everything is done", async || with(&expected)).await;
    until_all_committed(&log).await;
    for offsets in done(&world).values() {
        assert!(offsets.is_sorted(), "only what was not committed may come again: {offsets:?}");
    }
}

#[actix::test]
async fn a_worker_that_is_stuck_is_given_no_more_than_its_bounds() {
    let log = log().await;
    let Subscription { consumer, mut events } = log.subscribe(GROUP, &[Topic::Messages]).await.expect("it is there");
    let limits = Limits { records_max: 8, bytes_max: 1 << 20 };
    let mut inflows: HashMap<TopicPartition, Inflow> = HashMap::new();
    let (mut held, mut seen) = (Vec::new(), 0);
    let expected: usize = append(&log, 40_000).await.values().map(Vec::len).sum();
    while seen < expected {
        match tokio::time::timeout(Duration::from_millis(200), events.recv()).await {
            Ok(Some(Event::Assigned(assignments))) => {
                let new = assignments.into_iter().map(|Assignment { lease, .. }| {
                    (lease.partition.clone(), Inflow::new("test", Arc::clone(&consumer), lease, limits))
                });
                inflows.extend(new);
            }
            Ok(Some(Event::Records { lease, records })) => {
                inflows[&lease.partition].arrived(&records);
                seen += records.len();
                held.push((lease.partition, records));
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                // Paused: a batch may have been on its way to each of the four partitions.
                let in_memory: usize = held.iter().map(|(_, records): &(_, Vec<Arc<Record>>)| records.len()).sum();
                assert!(in_memory < expected / 4, "{in_memory} of {expected} in memory");
                for (partition, records) in held.drain(..) {
                    inflows[&partition].finished(records.len(), records.iter().map(|r| size_of_record(r)).sum());
                }
            }
        }
    }
}

#[actix::test]
async fn a_partition_that_goes_elsewhere_is_drained_first() {
    let (log, world) = (log().await, Arc::new(World::default()));
    let first = start(log.clone(), &world);
    let mut expected = append(&log, 50).await;
    let second = start(log.another(), &world);
    for _ in 0..10 {
        for (partition, offsets) in append(&log, 50).await {
            expected.entry(partition).or_default().extend(offsets);
        }
    }
    until("everything is done once, in order", async || done(&world) == expected).await;
    first.addr().send(Drain).await.expect("it lives");
    for (partition, offsets) in append(&log, 50).await {
        expected.entry(partition).or_default().extend(offsets);
    }
    until("the other one does everything", async || done(&world) == expected).await;
    second.addr().send(Drain).await.expect("it lives");
}

#[actix::test]
async fn topics_that_go_together_are_streams_of_their_own() {
    let (log, world) = (log().await, Arc::new(World::default()));
    let first = start_on(&BOTH, log.clone(), &world);
    let mut expected = Offsets::new();
    let mut add = |more: Offsets| {
        more.into_iter().for_each(|(partition, offsets)| expected.entry(partition).or_default().extend(offsets));
        expected.clone()
    };
    let mut all = Offsets::new();
    for topic in &BOTH {
        all = add(append_to(topic, &log, 50).await);
    }
    let second = start_on(&BOTH, log.another(), &world);
    for topic in &BOTH {
        all = add(append_to(topic, &log, 200).await);
    }
    until("everything is done once, in order", async || done(&world) == all).await;
    first.addr().send(Drain).await.expect("it lives");
    for topic in &BOTH {
        all = add(append_to(topic, &log, 50).await);
    }
    until("the other one does everything", async || done(&world) == all).await;
    for topic in &BOTH {
        until_committed(topic, &log).await;
    }
    second.addr().send(Drain).await.expect("it lives");
}

#[actix::test]
async fn a_worker_that_panics_begins_all_its_sources_again() {
    let (log, world) = (log().await, Arc::new(World::default()));
    let _consumer = start_on(&BOTH, log.clone(), &world);
    for topic in &BOTH {
        append_to(topic, &log, 20).await;
        until_committed(topic, &log).await;
    }
    let before = done(&world);
    world.panics.store(3, Ordering::SeqCst);
    let mut expected = Offsets::new();
    for topic in &BOTH {
        expected.extend(append_to(topic, &log, 20).await);
    }
    for topic in &BOTH {
        until_committed(topic, &log).await;
    }
    for (partition, offsets) in done(&world) {
        let since = &offsets[before.get(&partition).map_or(0, Vec::len)..];
        assert!(expected[&partition].iter().all(|offset| since.contains(offset)), "{partition}: {offsets:?}");
        assert!(since.iter().all(|offset| expected[&partition].contains(offset)), "{partition} repeats: {offsets:?}");
    }
}
