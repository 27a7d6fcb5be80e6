//! Topics that go together, in members that are killed, frozen and let go, on the broker that `CHAT4ALL_TEST_KAFKA`
//! names. The group knows of the first topic only.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chat4all_kafka::{KafkaLog, Options};
use chat4all_proto::{Key, Topic};
use chat4all_storage::Log as _;
use chat4all_storage::log::{Appended, Commit, Event, Lease, NewRecord, Record};
use rustix::process::Signal;
use support::member::Member;
use support::process::{CHILD, Process, lines};
use support::{PARTITIONS, options, options_of, quick, record, specs};
use tokio::time::{sleep, timeout};

const TOPICS: [Topic; 2] = [Topic::Messages, Topic::StatusUpdates];
/// Partitions of both.
const ALL: usize = 2 * PARTITIONS as usize;
/// A second copy of a record would have come by then.
const QUIET: Duration = Duration::from_secs(2);

/// Not a test: what child processes run. Says what it holds, what comes and what is lost, and commits it unless told to
/// `keep` it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(prefix) = std::env::var(CHILD) else { return };
    let log = KafkaLog::open(quick(options_of(&prefix))).unwrap();
    let mut member = Member::join_to(&log, &TOPICS).await;
    let (mut said, mut commits) = (lines(std::io::stdin()), true);
    loop {
        tokio::select! {
            event = member.next() => {
                if let Event::Lost(leases) = &event {
                    println!("\nlost {}", leases.len());
                }
                if let Event::Records { lease, records } = &event {
                    if commits {
                        commit(&member, lease, records).await;
                    }
                    places(lease, records).iter().for_each(|place| println!("\ngot {place}"));
                }
                println!("\nheld {}", member.held.len());
            }
            Some(_) = said.recv() => {
                commits = false;
                println!("\nkeeps");
            }
        }
    }
}

async fn commit(member: &Member, lease: &Lease, records: &[Arc<Record>]) {
    let offset = records.last().unwrap().offset + 1;
    let commit = Commit { lease: lease.clone(), offset, metadata: format!("m{offset}") };
    assert_eq!(member.subscription.consumer.commit(vec![commit]).await, Ok(vec![]));
}

fn places(lease: &Lease, records: &[Arc<Record>]) -> Vec<String> {
    records.iter().map(|record| format!("{}/{}", lease.partition, record.offset)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_members_partitions_are_taken_over_with_both_commits() {
    let Some(options) = options() else { return };
    let (log, mut child) = start(&options).await;
    let first = append(&log, 20).await;
    until_got(&mut child, &first).await;
    child.say("keep");
    child.until("keeps").await;
    let second = append(&log, 20).await;
    until_got(&mut child, &second).await;
    child.signal(Signal::KILL);
    let mut member = Member::join_to(&log, &TOPICS).await;
    let mut got = Vec::new();
    while got.len() < second.len() {
        if let Event::Records { lease, records } = timeout(support::PATIENCE, member.next()).await.unwrap() {
            got.extend(places(&lease, &records));
        }
    }
    assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), second, "what was not committed, and nothing else");
    check_together(&member);
    for held in member.held.values() {
        assert_eq!(held.metadata, format!("m{}", held.offset));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_lets_go_of_what_the_group_knows_nothing_of() {
    let Some(options) = options() else { return };
    let (log, mut child) = start(&options).await;
    child.signal(Signal::STOP);
    let mut member = Member::join_to(&log, &TOPICS).await;
    member.until(|member| member.held.len() == ALL).await;
    child.signal(Signal::CONT);
    child.until(&format!("lost {ALL}")).await;
    let half = format!("held {}", ALL / 2);
    tokio::join!(child.until(&half), member.until(|member| member.held.len() == ALL / 2));
    check_together(&member);
    check_once(&log, &mut child, Some(&mut member)).await;
    member.subscription.consumer.leave().await;
    child.until(&format!("held {ALL}")).await;
    check_once(&log, &mut child, None).await;
}

/// What is appended now comes to one of them, once.
async fn check_once(log: &KafkaLog, child: &mut Process, member: Option<&mut Member>) {
    let heard = child.heard.len();
    let appended = append(log, 40).await;
    let mut came: BTreeMap<String, usize> = BTreeMap::new();
    if let Some(member) = member {
        let take = async {
            loop {
                if let Event::Records { lease, records } = member.next().await {
                    commit(member, &lease, &records).await;
                    places(&lease, &records).into_iter().for_each(|place| *came.entry(place).or_default() += 1);
                }
            }
        };
        let _ = timeout(2 * QUIET, take).await;
    } else {
        sleep(2 * QUIET).await;
    }
    child.say("keep");
    child.until("keeps").await;
    let got = child.heard[heard..].iter().filter_map(|line| line.strip_prefix("got "));
    got.for_each(|place| *came.entry(place.to_owned()).or_default() += 1);
    assert_eq!(came, appended.into_iter().map(|place| (place, 1)).collect());
}

/// Every partition number has both topics, under one epoch.
fn check_together(member: &Member) {
    for lease in member.held.values().map(|held| &held.lease) {
        for topic in TOPICS {
            let other = member.held.values().find(|held| {
                held.lease.partition.topic == topic && held.lease.partition.partition == lease.partition.partition
            });
            assert_eq!(other.map(|other| other.lease.epoch), Some(lease.epoch), "{:?}", member.held);
        }
    }
}

/// `count` records to each topic, over all partitions; their places.
async fn append(log: &KafkaLog, count: usize) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    for topic in TOPICS {
        let new = |n| NewRecord { key: Key::raw(format!("k{n}")), ..record(topic.clone(), "", "1") };
        for appended in log.append((0..count).map(new).collect()).await.unwrap() {
            let Appended::At { partition, offset } = appended else { panic!("{appended:?}") };
            places.insert(format!("{topic}/{partition}/{offset}"));
        }
    }
    places
}

async fn until_got(child: &mut Process, places: &BTreeSet<String>) {
    for place in places {
        let line = format!("got {place}");
        if !child.heard.contains(&line) {
            child.until(&line).await;
        }
    }
}

/// The topics, and a child process that holds all partitions.
async fn start(options: &Options) -> (Arc<KafkaLog>, Process) {
    let log = KafkaLog::open(quick(options.clone())).unwrap();
    log.ensure_topics(&specs()).await.unwrap();
    let mut child = Process::start(&options.topic_prefix);
    child.until(&format!("held {ALL}")).await;
    (log, child)
}
