//! The power fails, again and again: what was answered 202 is there afterwards, because it was fsynced before.
//!
//! `kill -9` alone cannot show that: the kernel keeps what a dead process wrote. `power_cut.c` notes what is not fsynced, and after
//! the kill it is taken back.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::checker::{self, Taken, Verdict};
use crate::harness::arrivals::at_rest;
use crate::harness::client::{Api, message};
use crate::harness::cluster::{Cluster, PATIENT, config};
use crate::harness::engines::Engines;
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::{Received, Receiver, Reply};
use crate::harness::{Random, long, run, turn, until};

const LIMIT: Duration = Duration::from_secs(60);
const NOTES: &str = "unsynced";

/// What came of a run.
struct Outcome {
    verdict: Verdict,
    accepted: usize,
    /// Accepted, and yet not `delivered` in the end.
    undelivered: usize,
    /// Bytes of writes that the cuts took back.
    taken_back: usize,
}

/// Builds the library that notes what is not fsynced.
fn library(folder: &Path) -> PathBuf {
    let library = folder.join("power_cut.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/power_cut.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", source, "-o"]).arg(&library);
    assert!(compiler.status().expect("a C compiler").success());
    library
}

/// Takes back what the dead processes of `data` wrote and did not fsync.
fn cut_power(data: &Path) -> usize {
    let mut taken_back = 0;
    for entry in fs::read_dir(data).expect("the folder").flatten() {
        let notes = entry.path();
        match notes.extension().and_then(|extension| extension.to_str()) {
            Some(NOTES) => {
                taken_back += take_back(&notes);
                fs::remove_file(&notes).expect("ours");
            }
            // An index of what is in the write-ahead log, in memory that they shared.
            Some("db-shm") => fs::remove_file(&notes).expect("ours"),
            _ => {}
        }
    }
    taken_back
}

fn take_back(notes: &Path) -> usize {
    let bytes = fs::read(notes).expect("notes");
    let (mut rest, mut writes) = (bytes.as_slice(), Vec::new());
    // The process may have died while it wrote the last one; the write it is about was not begun then.
    while let Some((head, after)) = rest.split_at_checked(24) {
        let mut numbers = head.chunks_exact(8).map(|number| u64::from_ne_bytes(number.try_into().expect("eight")));
        let [offset, length, size] = [(); 3].map(|()| numbers.next().expect("three"));
        let Some((before, after)) = after.split_at_checked(usize::try_from(length).expect("a write's length")) else {
            break;
        };
        writes.push((offset, before, size));
        rest = after;
    }
    let file = fs::OpenOptions::new().write(true).open(notes.with_extension("")).expect("the file noted about");
    for (offset, before, size) in writes.iter().rev() {
        file.write_all_at(before, *offset).expect("a write");
        file.set_len(*size).expect("a size");
    }
    bytes.len()
}

/// Under load, the power fails `cuts` times. Half of the messages wait for a receiver that is away meanwhile: they are still only
/// on the log then.
async fn run_with(cuts: usize, disk_lies: bool) -> Outcome {
    let mut random = Random::from_env("power cut");
    let (inbox, away) = (Receiver::start().await, Receiver::start().await);
    inbox.wobbles(random.branch());
    away.usually("/inbox", Reply::Status(503));
    let mut cluster = Cluster::with(&config("", PATIENT));
    cluster.env("LD_PRELOAD", library(cluster.folder()).to_str().expect("a path in UTF-8"));
    if disk_lies {
        cluster.env("POWER_CUT_DISK_LIES", "1");
    }
    let process = cluster.start(&[]).await;
    let api = Api::new(cluster.url(process, "api"));
    let loads = [("inbox", &inbox), ("away", &away)].map(|(name, receiver)| {
        let target = receiver.target("/inbox");
        let plan = Plan { name, conversations: 25, messages: cuts * 125, per_second: 150.0, target, insists: true };
        Load::start(&plan, &api)
    });
    let mut taken_back = 0;
    for _ in 0..cuts {
        let (taken, waiting) = (inbox.taken(), loads[1].count());
        let goes_on = || (inbox.taken() > taken && loads[1].count() > waiting + 10).then_some(());
        until("deliveries, and messages that wait", Duration::from_secs(10), goes_on).await;
        tokio::time::sleep(random.pause(Duration::from_millis(600))).await;
        cluster.kill(process);
        taken_back += cut_power(&cluster.data());
        cluster.start_again(process).await;
        api.moved(cluster.url(process, "api"));
    }
    away.usually("/inbox", Reply::Status(200));
    let mut accepted = Vec::new();
    for load in loads {
        accepted.extend(load.finish(Duration::from_secs(180)).await.0);
    }
    assert_eq!((accepted.len(), checker::doubled(&accepted)), (cuts * 250, 0));
    at_rest(&api, LIMIT).await;
    let mut undelivered = 0;
    for accepted in &accepted {
        let answer = api.get(&format!("/v1/messages/{}", accepted.message_id)).await.expect("an answer");
        undelivered += usize::from(answer.json()["status"] != "delivered");
    }
    cluster.terminate_all().await;
    let (count, mut taken) = (accepted.len(), inbox.requests());
    taken.extend(away.requests());
    taken.retain(Received::taken);
    let taken = taken.iter().map(Taken::of).collect();
    let verdict = checker::judge(&Engines::Embedded.evidence_of("hook", &cluster, accepted, taken));
    Outcome { verdict, accepted: count, undelivered, taken_back }
}

#[test]
fn a_power_cut_loses_nothing_that_was_accepted() {
    let _turn = turn::alone();
    let cuts = if long() { 100 } else { 8 };
    let Outcome { verdict, accepted, undelivered, taken_back } = run(run_with(cuts, false));
    println!(
        "power cut: {cuts} times, {accepted} messages, {} duplicates, {taken_back} bytes of writes taken back",
        verdict.duplicates
    );
    verdict.must_be_clean();
    assert_eq!(undelivered, 0);
    assert!(taken_back > 0, "nothing was ever cut off");
    assert!(verdict.duplicates < 100 * cuts, "{}", verdict.duplicates);
}

#[test]
fn a_power_cut_with_a_disk_that_lies_is_noticed() {
    let _turn = turn::alone();
    let Outcome { verdict, undelivered, taken_back, .. } = run(run_with(1, true));
    let lost = verdict.lost.len();
    println!(
        "power cut with a disk that lies: {lost} lost, {undelivered} undelivered, {taken_back} bytes of writes taken back"
    );
    assert!(lost > 0 && undelivered > 0, "nobody noticed that nothing was synced");
}

#[test]
fn deliveries_go_on_while_the_disk_takes_its_time() {
    if !cfg!(feature = "failpoints") {
        println!("SKIPPED deliveries beside a slow disk: built without the feature `failpoints`");
        return;
    }
    let _turn = turn::alone();
    run(async {
        let receiver = Receiver::start().await;
        let mut cluster = Cluster::new();
        cluster.env("FAILPOINTS", "embedded-log::before-sync=sleep(200)");
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        api.ready(LIMIT).await;
        let mut before = 0;
        for number in 1..=5 {
            let body = message(&receiver.target("/inbox"), "slow disk", &number.to_string());
            let answer = api.post("/v1/messages", &body).await.expect("an answer");
            let answered = SystemTime::now();
            assert_eq!(answer.status, 202, "{}", answer.text);
            until("its delivery", LIMIT, || (receiver.taken() >= number).then_some(())).await;
            before += usize::from(receiver.requests()[number - 1].at < answered);
        }
        println!("beside a slow disk: {before} of 5 arrived before their 202");
        assert!(before > 0, "every delivery waited for the disk");
        cluster.terminate_all().await;
    });
}
