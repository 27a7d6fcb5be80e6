//! Members that come and go while records flow, on the broker that `CHAT4ALL_TEST_KAFKA` names.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chat4all_kafka::KafkaLog;
use chat4all_proto::{Topic, TopicPartition};
use chat4all_storage::Log as _;
use chat4all_storage::log::{Commit, Consumer, Event};
use support::member::Member;
use support::traffic::{Seen, Writers};
use support::{PATIENCE, options, quick, specs};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Two at once would only slow each other down.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A member comes, or goes, once in so long.
const INTERVAL: Duration = Duration::from_secs(3);
/// A partition moves within a heartbeat or two; the rest is for a busy machine.
const GAP_MAX: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_come_and_go_every_3_s_cost_no_record_and_no_order() {
    storm(&[Topic::Messages]).await;
}

/// The group knows of the first topic only: a partition of the other that were not let go would come to two members.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_do_they_where_a_second_topic_goes_with_the_first() {
    storm(&[Topic::Messages, Topic::StatusUpdates]).await;
}

async fn storm(topics: &[Topic]) {
    let Some(options) = options() else { return };
    let _turn = ONE_AT_A_TIME.lock().await;
    let log = KafkaLog::open(quick(options)).unwrap();
    log.ensure_topics(&specs()).await.unwrap();
    let long = std::env::var_os("CHAT4ALL_LONG").is_some_and(|value| value != "0");
    let ends_at = Instant::now() + Duration::from_secs(if long { 300 } else { 30 });
    let writers = Writers::start(&log, topics);
    let mut storm = Storm { member: Member::join_to(&log, topics).await, done: Seen::default(), last: BTreeMap::new() };
    let mut joined = 0;
    while Instant::now() < ends_at {
        let mut other = Member::join_to(&log, topics).await;
        joined += usize::from(storm.share_with(&mut other).await);
        other.subscription.consumer.leave().await;
        let _ = timeout(INTERVAL, storm.work_alone(|_| false)).await;
    }
    let written = writers.end().await;
    timeout(PATIENCE, storm.work_alone(|done| done.has_all(&written))).await.expect("what was written comes");
    let Seen { count, repeats, gap_max, .. } = storm.done;
    println!("{joined} members came and went: {count} records, longest gap of a key {gap_max:?}");
    assert_eq!(repeats, 0, "whoever lets go has committed");
    assert!(joined > 0, "no other got anything to do");
    assert!(gap_max < GAP_MAX, "{gap_max:?}");
}

/// A member that stays while another comes and goes; each finishes and commits what comes.
struct Storm {
    member: Member,
    done: Seen,
    /// For each partition, the offset finished last and under which epoch.
    last: BTreeMap<TopicPartition, (u64, u64)>,
}

impl Storm {
    /// For a while; whether the other got something to do.
    async fn share_with(&mut self, other: &mut Member) -> bool {
        let (mut worked, ends_at) = (false, tokio::time::Instant::now() + INTERVAL);
        loop {
            let (event, consumer) = tokio::select! {
                event = self.member.next() => (event, &self.member.subscription.consumer),
                event = other.next() => {
                    worked |= matches!(event, Event::Records { .. });
                    (event, &other.subscription.consumer)
                }
                () = tokio::time::sleep_until(ends_at) => return worked,
            };
            self.finish(&*consumer.clone(), event).await;
        }
    }

    async fn work_alone(&mut self, enough: impl Fn(&Seen) -> bool) {
        while !enough(&self.done) {
            let event = self.member.next().await;
            self.finish(&*self.member.subscription.consumer.clone(), event).await;
        }
    }

    async fn finish(&mut self, consumer: &dyn Consumer, event: Event) {
        let Event::Records { lease, records } = event else { return };
        records.iter().for_each(|record| self.done.take(record));
        let offset = records.last().unwrap().offset + 1;
        let (first, epoch) = (records[0].offset, lease.epoch);
        let before = self.last.insert(lease.partition.clone(), (offset, epoch));
        // Every record was committed before its partition was released: none comes again, none is left out.
        assert_eq!(before.map_or(0, |(next, _)| next), first, "{lease:?}");
        assert!(before.is_none_or(|(_, before)| before <= epoch), "{before:?}, {lease:?}");
        let commit = Commit { lease, offset, metadata: String::new() };
        assert_eq!(consumer.commit(vec![commit]).await, Ok(vec![]));
    }
}
