//! Members in real processes: killed, stopped, leaving; several writers on one folder.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_proto::{Topic, TopicPartition};
use chat4all_storage::Log;
use chat4all_storage::log::{AppendError, Event};
use rustix::process::Signal;
use support::{BOTH, Member, PARTITIONS, Process, Task, open, options, record, said};
use tempfile::TempDir;
use tokio::time::timeout;

const ALL: usize = PARTITIONS as usize;
const LONG: Duration = Duration::from_secs(600);

/// Not a test: what child processes run.
#[tokio::test]
async fn child() {
    let Some(task) = Task::of_this_process() else { return };
    let log = open(&task.folder, task.options).await;
    match task.role.split_once(' ').unwrap_or((&task.role, "")) {
        ("member", _) => child_member(&log).await,
        ("both", _) => child_both(&log).await,
        ("writer", name) => child_writer(&log, name).await,
        ("busy", _) => child_busy(&log).await,
        ("batches", name) => child_batches(&log, name).await,
        (other, _) => panic!("no role `{other}`"),
    }
}

/// Holds its share, says what happens to it, and at `try` uses the leases it held first.
async fn child_member(log: &Arc<dyn Log>) {
    let mut member = Member::join(log, "readers").await;
    let mut said = said();
    let mut first = None;
    loop {
        tokio::select! {
            Some(()) = member.next(|_, event| if matches!(event, Event::Lost(_)) { println!("\nlost") }) => {
                println!("\nheld {}", member.held.len());
                if member.held.len() == ALL / 2 {
                    first.get_or_insert_with(|| member.held.clone());
                }
            }
            Some(line) = said.recv() => match &*line {
                "try" => try_first(&member, first.as_ref().unwrap()).await,
                "leave" => {
                    member.consumer.leave().await;
                    println!("\nleft");
                }
                other => panic!("`{other}`?"),
            }
        }
    }
}

/// Holds its share of both topics, says how much, and commits all of it in one call.
async fn child_both(log: &Arc<dyn Log>) {
    let mut member = Member::join_to(log, "readers", &BOTH).await;
    let mut said = said();
    loop {
        tokio::select! {
            Some(()) = member.next(|_, event| if let Event::Lost(lost) = event { println!("\nlost {}", lost.len()) }) => {
                println!("\nheld {}", member.held.len());
            }
            Some(_) = said.recv() => println!("\nrefused {}", member.commit(&member.held).await),
        }
    }
}

type Held = std::collections::BTreeMap<chat4all_proto::TopicPartition, chat4all_storage::log::Assignment>;

async fn try_first(member: &Member, first: &Held) {
    let lease = &first.values().next().unwrap().lease;
    println!("\ncurrent {}", member.consumer.is_current());
    println!("\nrefused {}", member.commit(first).await);
    let fenced = member.consumer.append(lease, vec![record("zombie", "zombie")]).await == Err(AppendError::Fenced);
    println!("\nfenced {fenced}");
}

/// The parent's membership and a child's, each holding half.
async fn two_members(session: Duration) -> (TempDir, Arc<dyn Log>, Member, Process) {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options(session)).await;
    let mut member = Member::join(&log, "readers").await;
    member.until("everything is ours", |member| member.held.len() == ALL).await;
    let mut child = Process::start("member", folder.path(), session);
    member.until("half is ours", |member| member.held.len() == ALL / 2).await;
    assert_eq!(said_of(&mut child, &format!("held {}", ALL / 2)), "");
    (folder, log, member, child)
}

fn said_of(child: &mut Process, line: &str) -> String {
    child.line(line)
}

async fn all_ours(member: &mut Member) {
    member.until("everything is ours again", |member| member.held.len() == ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_is_taken_over_within_a_second_whatever_the_session() {
    let mut times = Vec::new();
    for _ in 0..4 {
        let (_folder, log, mut member, mut child) = two_members(LONG).await;
        let killed_at = Instant::now();
        child.kill();
        all_ours(&mut member).await;
        times.push(killed_at.elapsed());
        let records = (0..40).map(|n| record(&n.to_string(), n.to_string())).collect();
        log.append(records).await.unwrap();
        member.until("all records come", |member| member.records.len() == 40).await;
        log.close().await;
    }
    println!("takeover of a killed process: {times:?}");
    assert!(times.iter().all(|time| *time < Duration::from_secs(1)), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_leave_hands_over_at_once() {
    let (_folder, log, mut member, mut child) = two_members(LONG).await;
    let left_at = Instant::now();
    child.say("leave");
    all_ours(&mut member).await;
    println!("takeover after a leave: {:?}", left_at.elapsed());
    assert!(left_at.elapsed() < Duration::from_millis(800), "{:?}", left_at.elapsed());
    child.line("left");
    log.close().await;
}

/// Stops the child, but not inside a write transaction: that would hold up everybody, as it must.
async fn stop_outside_a_transaction(log: &Arc<dyn Log>, child: &Process) {
    for _ in 0..10 {
        child.signal(Signal::STOP);
        if timeout(Duration::from_secs(1), log.append(vec![record("probe", "probe")])).await.is_ok() {
            return;
        }
        child.signal(Signal::CONT);
    }
    panic!("the child is always inside a transaction");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_process_loses_its_partitions_and_as_a_zombie_is_refused() {
    let session = Duration::from_millis(1_200);
    let (_folder, log, mut member, mut child) = two_members(session).await;
    stop_outside_a_transaction(&log, &child).await;
    let stopped_at = Instant::now();
    child.say("try");
    all_ours(&mut member).await;
    println!("takeover of a hung process, session {session:?}: {:?}", stopped_at.elapsed());
    assert!(stopped_at.elapsed() + Duration::from_millis(400) > session, "{:?}", stopped_at.elapsed());
    let ends = log.ends(&Topic::Messages).await.unwrap();
    child.signal(Signal::CONT);
    // The order in which it finds out does not matter, the answers do.
    let mut answers = Vec::new();
    while answers.len() < 4 {
        let line = child.line("");
        let known = ["current ", "refused ", "fenced ", "lost"].iter().any(|start| line.starts_with(start));
        answers.extend(known.then_some(line));
    }
    answers.sort();
    assert_eq!(answers, ["current false", "fenced true", "lost", &format!("refused {}", ALL / 2)]);
    assert_eq!(log.ends(&Topic::Messages).await.unwrap(), ends, "a zombie's append was written");
    member.until("the child has joined again", |member| member.held.len() == ALL / 2).await;
    child.line(&format!("held {}", ALL / 2));
    assert_eq!(member.commit(&member.held).await, 0);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_go_together_are_taken_over_together() {
    for signal in [Signal::KILL, Signal::STOP] {
        let session = Duration::from_millis(1_200);
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), options(session)).await;
        let mut child = Process::start("both", folder.path(), session);
        child.line(&format!("held {}", 2 * ALL));
        child.say("commit");
        child.line("refused 0");
        match signal {
            Signal::STOP => stop_outside_a_transaction(&log, &child).await,
            _ => child.kill(),
        }
        let mut member = Member::join_to(&log, "readers", &BOTH).await;
        member.until("everything is ours", |member| member.held.len() == 2 * ALL).await;
        check_together(&member);
        assert!(member.held.values().all(|held| held.lease.epoch == 2 && held.metadata == "mine"), "{:?}", member.held);
        if signal == Signal::STOP {
            child.signal(Signal::CONT);
            child.line(&format!("lost {}", 2 * ALL));
            member.until("half is ours", |member| member.held.len() == ALL).await;
            check_together(&member);
            child.line(&format!("held {ALL}"));
        }
        log.close().await;
    }
}

/// Every number that is held has both topics, under one epoch.
fn check_together(member: &Member) {
    for (partition, held) in &member.held {
        for topic in BOTH {
            let other = member.held.get(&TopicPartition::new(topic, partition.partition));
            assert_eq!(other.map(|other| other.lease.epoch), Some(held.lease.epoch), "{:?}", member.held);
        }
    }
}

/// Appends records of one key one by one and in small batches; says how long the longest took.
async fn child_writer(log: &Arc<dyn Log>, name: &str) {
    said().recv().await;
    let (mut n, mut longest) = (0, Duration::ZERO);
    for round in 0..200 {
        let count = if round % 2 == 0 { 1 } else { 9 };
        let batch = (n..n + count).map(|n| record(name, format!("{name} {n}"))).collect();
        let begun = Instant::now();
        log.append(batch).await.unwrap();
        longest = longest.max(begun.elapsed());
        n += count;
    }
    println!("\nlongest {}", longest.as_millis());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_append_at_once_lose_and_reorder_nothing_and_none_starves() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options(LONG)).await;
    let mut member = Member::join(&log, "readers").await;
    let names = ["ana", "bob", "eva"];
    let mut children: Vec<_> =
        names.map(|name| Process::start(&format!("writer {name}"), folder.path(), LONG)).into_iter().collect();
    children.iter_mut().for_each(|child| child.say("go"));
    member.until("all records come", |member| member.records.len() == 3_000).await;
    for name in names {
        let start = format!("{name} ");
        let values = member.records.iter().map(|(_, record)| String::from_utf8_lossy(&record.value).into_owned());
        let numbers: Vec<u32> = values.filter_map(|value| value.strip_prefix(&start)?.parse().ok()).collect();
        assert!(numbers.into_iter().eq(0..1_000), "{name}'s records are lost or out of order");
    }
    let longest: Vec<u64> = children.iter_mut().map(|child| child.line("longest ").parse().unwrap()).collect();
    println!("three writers, longest append of each, ms: {longest:?}");
    assert!(longest.iter().all(|ms| *ms < 2_000), "{longest:?}");
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_busy_writers_others_get_their_turn() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options(LONG)).await;
    let mut busy = [0; 3].map(|_| Process::start("busy", folder.path(), LONG));
    busy.iter_mut().for_each(|busy| drop(busy.line("busy")));
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        let begun = Instant::now();
        log.append(vec![record("k", "v")]).await.unwrap();
        longest = longest.max(begun.elapsed());
    }
    println!("beside busy writers, longest of 200 appends: {longest:?}");
    // Without the turnstile it is 700 ms and more.
    assert!(longest < Duration::from_millis(400), "{longest:?}");
    busy.iter_mut().for_each(Process::kill);
    log.close().await;
}

/// Writes without a pause: while one transaction is written, the next one's records wait already.
async fn child_busy(log: &Arc<dyn Log>) {
    let write = || async {
        loop {
            log.append((0..20).map(|n| record(&format!("k{n}"), "v")).collect()).await.unwrap();
            println!("\nbusy");
        }
    };
    tokio::join!(write(), write(), write(), write());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_appends_arrives_within_milliseconds() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path(), options(LONG)).await, open(folder.path(), options(LONG)).await);
    let mut member = Member::join(&one, "readers").await;
    member.until("all is ours", |member| member.held.len() == ALL).await;
    let mut times = Vec::new();
    for n in 1..=30 {
        tokio::time::sleep(Duration::from_millis(120)).await; // all is idle again
        two.append(vec![record("k", "v")]).await.unwrap();
        let appended_at = Instant::now();
        member.until("it arrives", |member| member.records.len() == n).await;
        times.push(appended_at.elapsed());
    }
    times.sort();
    println!("from another handle's append to the record, idle: median {:?}, longest {:?}", times[15], times[29]);
    assert!(times[15] < Duration::from_millis(30), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_file_is_missing_is_cleared_away_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Process::start("member", folder.path(), LONG);
    child.line(&format!("held {ALL}"));
    child.kill();
    // As in a copy of the folder without its lock files.
    std::fs::remove_dir_all(folder.path().join("members")).unwrap();
    let log = open(folder.path(), options(LONG)).await;
    let mut member = Member::join(&log, "readers").await;
    member.until("everything is ours", |member| member.held.len() == ALL).await;
    assert_eq!(log.cluster().await.unwrap().processes.len(), 1);
    log.close().await;
}

const BATCH: usize = 200;

/// Appends batches without end and says which were acknowledged.
async fn child_batches(log: &Arc<dyn Log>, name: &str) {
    for n in 0.. {
        let batch = (0..BATCH).map(|i| record(&format!("k{}", i % 10), format!("{name}-{n}"))).collect();
        log.append(batch).await.unwrap();
        println!("\nacknowledged {name}-{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_killed_while_writing_leaves_whole_batches_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..8 {
        let mut child = Process::start(&format!("batches {round}"), folder.path(), LONG);
        acknowledged.push(child.line("acknowledged "));
        std::thread::sleep(Duration::from_millis(7 * round)); // the moment of the kill
        child.kill();
        let more = child.rest();
        acknowledged.extend(more.iter().filter_map(|line| line.strip_prefix("acknowledged ").map(str::to_owned)));
    }
    check_batches(folder.path(), &acknowledged).await;
}

async fn check_batches(folder: &Path, acknowledged: &[String]) {
    let log = open(folder, options(LONG)).await;
    let ends = log.ends(&Topic::Messages).await.unwrap();
    let total = usize::try_from(ends.iter().sum::<u64>()).unwrap();
    let mut member = Member::join(&log, "readers").await;
    member.until("all records come", |member| member.records.len() >= total).await;
    assert_eq!(member.records.len(), total, "an end that no record reaches");
    let mut counts = std::collections::BTreeMap::new();
    for (_, record) in &member.records {
        *counts.entry(String::from_utf8_lossy(&record.value).into_owned()).or_insert(0) += 1;
    }
    assert!(counts.values().all(|count| *count == BATCH), "half a batch: {counts:?}");
    let lost: Vec<_> = acknowledged.iter().filter(|batch| !counts.contains_key(*batch)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    log.close().await;
}
