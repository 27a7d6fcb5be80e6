//! Members that share, and members in real processes that are killed or frozen, on the broker that
//! `CHAT4ALL_TEST_KAFKA` names.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_kafka::{KafkaLog, Options};
use chat4all_proto::{Topic, TopicPartition};
use chat4all_storage::Log as _;
use chat4all_storage::log::{AppendError, Appended, Commit, Event};
use rustix::process::Signal;
use support::member::Member;
use support::process::{CHILD, Process, lines};
use support::{PARTITIONS, PATIENCE, options, options_of, quick, record, specs};
use tokio::time::timeout;

const ALL: usize = PARTITIONS as usize;
/// A session, a rebalance, and as much again for a busy machine.
const TAKEOVER_MAX: Duration = Duration::from_secs(20);

/// Not a test: what child processes run. Holds its share and says so, commits each record with metadata, and at `append`
/// appends under the first lease it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(prefix) = std::env::var(CHILD) else { return };
    let log = KafkaLog::open(quick(options_of(&prefix))).unwrap();
    let mut member = Member::join(&log).await;
    let mut said = lines(std::io::stdin());
    let mut first = None;
    loop {
        tokio::select! {
            event = member.next() => {
                if let Event::Lost(_) = event {
                    println!("\nlost");
                }
                if let Event::Records { lease, records } = &event {
                    let offset = records.last().unwrap().offset;
                    let commit = Commit { lease: lease.clone(), offset, metadata: format!("m{offset}") };
                    assert_eq!(member.subscription.consumer.commit(vec![commit]).await, Ok(vec![]));
                    println!("\ncommitted {offset}");
                }
                println!("\nheld {}", member.held.len());
                first = first.or_else(|| member.held.values().next().map(|held| held.lease.clone()));
            }
            Some(_) = said.recv() => {
                println!("\nhanding over");
                let records = vec![record(Topic::StatusUpdates, "k", "from the first lease")];
                match member.subscription.consumer.append(first.as_ref().unwrap(), records).await {
                    Ok(_) => println!("\nappended"),
                    Err(AppendError::Fenced | AppendError::Unavailable(_)) => println!("\nrefused"),
                    Err(error) => println!("\n{error}"),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_members_partitions_are_taken_over_where_it_stood() {
    let Some(options) = options() else { return };
    let (log, mut child) = start(&options).await;
    log.append(vec![record(Topic::Messages, "k", "1"), record(Topic::Messages, "k", "2")]).await.unwrap();
    child.until("committed 1").await;
    let epochs = log.cluster().await.unwrap().groups[0].partitions.iter().map(|partition| partition.epoch).max();
    child.signal(Signal::KILL);
    let killed_at = Instant::now();
    let mut member = Member::join(&log).await;
    member.until(|member| member.held.len() == ALL).await;
    assert!(killed_at.elapsed() < TAKEOVER_MAX, "it took {:?}", killed_at.elapsed());
    assert!(member.held.values().all(|held| Some(held.lease.epoch) > epochs), "{:?}", member.held);
    let stood: Vec<_> = member.held.values().map(|held| (held.offset, &*held.metadata)).collect();
    assert!(stood.contains(&(1, "m1")), "{stood:?}");
    println!("taken over after {:?}", killed_at.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_writes_nothing_after_it_was_replaced_and_comes_back() {
    let Some(options) = options() else { return };
    let (log, mut child) = start(&options).await;
    child.say("append");
    child.until("appended").await;
    child.signal(Signal::STOP);
    let mut member = Member::join(&log).await;
    member.until(|member| member.held.len() == ALL).await;
    let ends = log.ends(&Topic::StatusUpdates).await.unwrap();
    // It finds this the moment it wakes.
    child.say("append");
    child.signal(Signal::CONT);
    child.until("refused").await;
    assert_eq!(log.ends(&Topic::StatusUpdates).await.unwrap(), ends);
    tokio::join!(child.until("held 1"), member.until(|member| member.held.len() == ALL / 2));
    assert!(child.heard.iter().any(|line| line == "lost"), "{:?}", child.heard);
    member.until(|member| member.subscription.consumer.is_current()).await;
}

/// What was with the producer already cannot be taken back: it is written when the member wakes, and known by its epoch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_frozen_member_had_handed_over_tells_that_it_is_late() {
    let Some(options) = options() else { return };
    let (log, mut child) = start(&options).await;
    child.say("append");
    child.until("appended").await;
    child.say("append");
    child.until("handing over").await;
    child.signal(Signal::STOP);
    let mut member = Member::join(&log).await;
    member.until(|member| member.held.len() == ALL).await;
    let (lease, consumer) = (member.held.values().next().unwrap().lease.clone(), &member.subscription.consumer);
    let successor = consumer.append(&lease, vec![record(Topic::StatusUpdates, "k", "from the successor")]).await;
    let Ok([Appended::At { partition, .. }]) = successor.as_deref() else { panic!("{successor:?}") };
    child.signal(Signal::CONT);
    child.until_one_of(&["appended", "refused"]).await;
    let partition = TopicPartition::new(Topic::StatusUpdates, *partition);
    let recent = consumer.recent(&partition, u64::MAX, 10).await.unwrap();
    assert!(recent.iter().all(|recent| recent.epoch.is_some()), "{recent:?}");
    let late = recent.iter().filter(|recent| recent.epoch < Some(lease.epoch)).count();
    assert_eq!(recent.len() - late, 1, "only the successor's own is of its epoch: {recent:?}");
    assert!((1..=2).contains(&late), "{recent:?}");
    println!("written after its successor's: {}", usize::from(recent.last().unwrap().epoch < Some(lease.epoch)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_asked_back_goes_when_it_is_released() {
    let Some(options) = options() else { return };
    let log = KafkaLog::open(quick(options)).unwrap();
    log.ensure_topics(&specs()).await.unwrap();
    let mut first = Member::join(&log).await;
    first.until(|first| first.held.len() == ALL).await;
    let mut second = Member::join(&log).await;
    let mut asked_back = Vec::new();
    while asked_back.is_empty() {
        // Not `next`, which would release at once.
        match timeout(PATIENCE, first.subscription.events.recv()).await.unwrap().unwrap() {
            Event::Revoking(leases) => asked_back = leases,
            other => panic!("{other:?}"),
        }
    }
    let early = timeout(Duration::from_secs(3), second.next()).await;
    assert!(early.is_err(), "{early:?}");
    let consumer = &first.subscription.consumer;
    let commit = Commit { lease: asked_back[0].clone(), offset: 0, metadata: "the last word".into() };
    assert_eq!(consumer.commit(vec![commit]).await, Ok(vec![]));
    consumer.release(&asked_back[0]);
    second.until(|second| second.held.len() == ALL / 2).await;
    assert_eq!(second.held[&asked_back[0].partition].metadata, "the last word");
}

/// The topics, and a child process that holds all partitions.
async fn start(options: &Options) -> (Arc<KafkaLog>, Process) {
    let log = KafkaLog::open(quick(options.clone())).unwrap();
    log.ensure_topics(&specs()).await.unwrap();
    let mut child = Process::start(&options.topic_prefix);
    child.until(&format!("held {ALL}")).await;
    (log, child)
}
