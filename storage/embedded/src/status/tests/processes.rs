//! Several processes on one file, some of them killed while they write.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use chat4all_proto::{DeliveryStatus, MessageId, MessageStatus, TenantId};
use chat4all_storage::Status;
use chat4all_storage::status::conformance::{Random, Sample};

use super::{event, open};

const FOLDER: &str = "CHAT4ALL_TEST_STATUS_FOLDER";

/// Started by the test below, not by itself: writes until it is killed and prints what was acknowledged.
#[tokio::test]
#[ignore = "a process of `what_killed_processes_were_told_is_there`"]
async fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let status = open(Path::new(&folder));
    let mut sample = Sample::new();
    sample.tenant = TenantId::default();
    loop {
        let (row, message) = sample.message_to(&["ana"]);
        status.write(vec![event(&message, DeliveryStatus::Delivered), row]).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {}", message.message_id).and_then(|()| out.flush()).unwrap();
    }
}

/// Kills on drop, so that a failing test leaves no process.
struct Writing(Child);

impl Writing {
    fn start(folder: &Path, acknowledged: mpsc::Sender<(u32, MessageId)>) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "status::tests::processes::child", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, pid) = (BufReader::new(child.stdout.take().unwrap()).lines(), child.id());
        std::thread::spawn(move || {
            // The last line may have been cut off by the kill.
            for line in lines.map_while(Result::ok) {
                let id = line.split_once("acknowledged ").and_then(|(_, id)| id.parse().ok());
                if let Some(id) = id {
                    let _ = acknowledged.send((pid, id));
                }
            }
        });
        Self(child)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[tokio::test]
async fn what_killed_processes_were_told_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::unpredictable();
    let (sender, acknowledged) = mpsc::channel();
    let start = || Writing::start(folder.path(), sender.clone());
    let mut children = vec![start(), start(), start()];
    let mut told = Vec::new();
    for _kill in 0..6 {
        // All that live make progress beside each other, however many write.
        let mut waiting: Vec<u32> = children.iter().map(|child| child.0.id()).collect();
        let more = told.len() + 20 + random.below(40);
        while !waiting.is_empty() || told.len() < more {
            let wait = std::time::Duration::from_secs(20);
            let (pid, id) = acknowledged.recv_timeout(wait).expect("every process gets its turn");
            waiting.retain(|other| *other != pid);
            told.push(id);
        }
        let index = random.below(children.len());
        drop(children.swap_remove(index));
        children.push(start());
    }
    drop(children);
    drop(sender);
    told.extend(acknowledged.iter().map(|(_, id)| id));

    let status = open(folder.path());
    for id in &told {
        let seen = status.message(&TenantId::default(), *id, Sample::new().now()).await.unwrap();
        let reached = seen.map(|view| view.status);
        assert_eq!(reached, Some(MessageStatus::Delivered), "seed {}, {id} of {}", random.seed, told.len());
    }
    let intact: String = status
        .writer
        .run(|file| file.query_row("PRAGMA integrity_check", [], |row| row.get(0)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(intact, "ok");
}

#[tokio::test]
async fn another_handle_sees_a_write_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(folder.path()), open(folder.path()));
    let sample = Sample::new();
    for _ in 0..100 {
        let (row, message) = sample.message_to(&["ana"]);
        one.write(vec![row]).await.unwrap();
        assert!(other.message(&sample.tenant, message.message_id, sample.now()).await.unwrap().is_some());
    }
}
