//! Folders that cannot be used, disks that are full, and processes that hold everybody up.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chat4all_embedded::log::{EmbeddedLog, OpenError, Options};
use chat4all_embedded::turnstile::Turnstile;
use chat4all_proto::Topic;
use chat4all_storage::log::{AppendError, Appended, Commit, Error, TopicKind, TopicSpec};
use support::{Member, PATIENCE, Process, Task, open, options, record, said};
use tracing::field::{Field, Visit};

const SESSION: Duration = Duration::from_secs(6);
/// A user who owns nothing, on every Unix.
const NOBODY: u32 = 65_534;

/// Not a test: what child processes run.
#[tokio::test]
async fn child() {
    let Some(task) = Task::of_this_process() else { return };
    match &*task.role {
        "open" => println!("\nresult {}", EmbeddedLog::open(&task.folder, task.options).err().unwrap()),
        "hold" => {
            let turnstile = Turnstile::open(&task.folder.join("locks"), "log").unwrap();
            let _pass = turnstile.pass().unwrap();
            println!("\nholding");
            said().recv().await;
        }
        // As a process that is stopped before it could do anything with the lock.
        "lock" => {
            let writer = std::fs::File::options().write(true).open(task.folder.join("locks/log.writer")).unwrap();
            writer.lock().unwrap();
            println!("\nholding");
            said().recv().await;
        }
        other => panic!("no role `{other}`"),
    }
}

fn refusal(folder: &Path) -> OpenError {
    EmbeddedLog::open(folder, Options::default()).err().expect("the folder is refused")
}

/// A folder with a database that `change` was done to.
async fn changed_folder(change: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), Options::default()).await.close().await;
    let connection = rusqlite::Connection::open(folder.path().join("log.db")).unwrap();
    connection.execute_batch(change).unwrap();
    folder
}

#[tokio::test]
async fn a_folder_of_another_version_is_refused() {
    let folder = changed_folder("PRAGMA user_version = 7").await;
    let error = refusal(folder.path());
    assert!(matches!(error, OpenError::OtherVersion { found: 7, .. }), "{error:?}");
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let folder = changed_folder("PRAGMA application_id = 7").await;
    assert!(matches!(refusal(folder.path()), OpenError::Foreign { .. }));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("log.db"), "no database at all, but a text of some length").unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::Foreign { .. }));
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut rights = std::fs::metadata(folder.path()).unwrap().permissions();
    rights.set_readonly(true);
    std::fs::set_permissions(folder.path(), rights).unwrap();
    // The rights do not bind root: another user tries then.
    let root = rustix::process::geteuid().is_root();
    let text = if root {
        Process::start_as("open", folder.path(), SESSION, Some(NOBODY)).line("result ")
    } else {
        refusal(folder.path()).to_string()
    };
    let name = folder.path().to_str().unwrap();
    assert!(text.contains("cannot be written") && text.contains(name), "{text}");
}

#[tokio::test]
async fn a_full_disk_refuses_appends_loses_nothing_and_works_again_with_room() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), Options { max_page_count: Some(400), ..Options::default() }).await;
    let mut member = Member::join(&log, "readers").await;
    member.until("all is ours", |member| member.held.len() == 4).await;
    let kilobyte = || vec![b'x'; 1_024];
    let mut written = 0;
    let refused = loop {
        match log.append((0..50).map(|n| record(&n.to_string(), kilobyte())).collect()).await {
            Ok(results) => written += results.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, AppendError::Unavailable(reason) if reason.contains("space")), "{refused:?}");
    assert!(written > 1_000, "{written}");
    member.until("all that was written comes", |member| member.records.len() == written).await;
    // Commits need no room.
    let ends = log.ends(&Topic::Messages).await.unwrap();
    let commits = member.held.values().map(|held| {
        let offset = ends[held.lease.partition.partition as usize];
        Commit { lease: held.lease.clone(), offset, metadata: String::new() }
    });
    assert_eq!(member.consumer.commit(commits.collect()).await, Ok(vec![]));
    let kind = TopicKind::Stream { retention: Duration::ZERO };
    log.ensure_topics(&[TopicSpec { topic: Topic::Messages, partitions: 4, kind }]).await.unwrap();
    assert_eq!(log.enforce_retention().await, Ok(()));
    let again = log.append((0..50).map(|n| record(&n.to_string(), kilobyte())).collect()).await;
    assert_eq!(again.map(|results| results.len()), Ok(50));
    member.until("what came later comes too", |member| member.records.len() == written + 50).await;
    log.close().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_large_record_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options { queue_records_max: 100, record_bytes_max: 10_000, ..Options::default() };
    let log = open(folder.path(), small).await;
    let refused = log.append(vec![record("k", vec![b'x'; 10_001])]).await;
    assert!(matches!(refused, Err(AppendError::Refused(_))), "{refused:?}");
    let mut holder = Process::start("hold", folder.path(), SESSION);
    holder.line("holding");
    let batch = || (0..40).map(|n| record(&n.to_string(), "v")).collect::<Vec<_>>();
    let held_up: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn({
                let (log, batch) = (log.clone(), batch());
                async move { log.append(batch).await }
            })
        })
        .collect();
    until("both wait", || log.oldest_unacknowledged().is_some()).await;
    let refused = log.append(batch()).await.expect_err("nothing is written while another process holds the folder");
    assert!(matches!(&refused, AppendError::Unavailable(reason) if reason.contains("full")), "{refused:?}");
    holder.kill();
    for waiting in held_up {
        assert!(waiting.await.unwrap().is_ok());
    }
    log.close().await;
}

/// 128 MiB go through it, four callers at a time, so that there is always something under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_stays_small_under_steady_load() {
    const CALLERS: usize = 4;
    const APPENDS: usize = 256;
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), options(SESSION)).await;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let log = log.clone();
            tokio::spawn(async move {
                for number in 0..APPENDS {
                    let key = format!("{caller} {number}");
                    let batch = (0..16).map(|_| record(&key, vec![b'x'; 8_000])).collect();
                    log.append(batch).await.expect("there is room");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let bytes = std::fs::metadata(folder.path().join("log.db-wal")).unwrap().len();
    println!("the write-ahead log has {} MiB", bytes >> 20);
    assert!(bytes < 48 << 20, "it was never begun anew: {bytes} bytes");
    log.close().await;
}

#[tokio::test]
async fn a_process_that_holds_everybody_up_is_named_and_all_goes_on_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let warnings = Warnings::default();
    tracing::subscriber::set_global_default(warnings.clone()).unwrap();
    let log = open(folder.path(), options(SESSION)).await;
    let mut holder = Process::start("lock", folder.path(), SESSION);
    holder.line("holding");
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.append(vec![record("k", "v")]).await }
    });
    let named = format!("holder_pid={} ", holder.pid());
    until("the holder is named", || warnings.0.lock().unwrap().iter().any(|line| line.contains(&named))).await;
    assert!(log.oldest_unacknowledged().is_some_and(|age| age >= Duration::from_millis(500)));
    assert!(!waiting.is_finished());
    holder.kill();
    assert!(waiting.await.unwrap().is_ok());
    until("nothing is unacknowledged", || log.oldest_unacknowledged().is_none()).await;
    log.close().await;
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What was logged, a line each.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

#[tokio::test]
async fn what_every_group_has_passed_is_deleted_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), Options::default()).await;
    log.append((0..3_000).map(|n| record("one-key", n.to_string())).collect()).await.unwrap();
    let partition = record("one-key", "").key.partition(4) as usize;
    for (group, offset) in [("slow", 1_500), ("quick", 3_000)] {
        let mut member = Member::join(&log, group).await;
        member.until("all is ours", |member| member.held.len() == 4).await;
        let lease = member.held.values().nth(partition).unwrap().lease.clone();
        let commit = Commit { lease, offset, metadata: String::new() };
        assert_eq!(member.consumer.commit(vec![commit]).await, Ok(vec![]));
        member.consumer.leave().await;
    }
    let check = async |retention: Duration, start: u64| {
        let kind = TopicKind::Stream { retention };
        log.ensure_topics(&[TopicSpec { topic: Topic::Messages, partitions: 4, kind }]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await; // past a retention of nothing
        log.enforce_retention().await.unwrap();
        // Where an unknown group would start.
        let starts: Result<_, Error> = log.committed("unknown", &Topic::Messages).await;
        assert_eq!(starts.unwrap()[partition], start);
    };
    check(Duration::from_secs(3_600), 0).await;
    check(Duration::ZERO, 1_500).await;
    log.close().await;
}

/// Whoever is stopped while it is next in line holds only its place.
#[test]
fn a_process_stopped_in_the_line_stops_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let turnstile = Turnstile::open(folder.path(), "log").unwrap();
    let next = std::fs::File::open(folder.path().join("log.next")).unwrap();
    next.lock().unwrap();
    let (passed, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _pass = turnstile.pass().unwrap();
        let _ = passed.send(());
    });
    seen.recv_timeout(PATIENCE).expect("it passes whoever stands still");
}

#[tokio::test]
async fn an_identity_is_kept_for_its_time_and_free_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { once_kept: Duration::from_millis(300), ..Options::default() };
    let log = open(folder.path(), options).await;
    let mut keyed = record("k", "v");
    keyed.once = Some([7; 32]);
    let append = async || log.append(vec![keyed.clone()]).await.unwrap()[0];
    assert!(matches!(append().await, Appended::At { .. }));
    assert!(matches!(append().await, Appended::Repeated { .. }));
    let freed = async {
        while !matches!(append().await, Appended::At { .. }) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // Sooner than old rows are deleted: the row's age decides, not whether it is still there.
    tokio::time::timeout(Duration::from_secs(5), freed).await.expect("its time is over");
    log.close().await;
}
