//! The disk is full: what cannot be kept is refused, what was accepted is delivered once there is room again.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::client::{Api, message};
use crate::harness::cluster::{Cluster, config};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::{run, turn, until};

/// A file system of its own, in memory.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where mounting is not permitted.
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = mount(folder.path(), &format!("size={size}"))?;
        mounted.then_some(Self(folder))
    }

    fn grow(&self, size: &str) {
        assert_eq!(mount(self.0.path(), &format!("remount,size={size}")), Some(true));
    }
}

fn mount(folder: &Path, options: &str) -> Option<bool> {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "chat4all-test"]).arg(folder);
    command.output().ok().map(|output| output.status.success())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0.path()).status().ok();
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing_accepted() {
    let _turn = turn::alone();
    let Some(disk) = SmallDisk::mount("24m") else {
        println!("SKIPPED a_full_disk: mounting a small disk is not permitted here");
        return;
    };
    run(async {
        let receiver = Receiver::start().await;
        // Nothing gets through at first, so that everything stays on the disk.
        receiver.usually("/inbox", Reply::With(429, "retry-after", "1".into()));
        let at = disk.0.path().display();
        let mut cluster = Cluster::with(&config(&format!("log = \"embedded:{at}\"\nstatus = \"embedded:{at}\""), ""));
        let process = cluster.start(&[]).await;
        let api = Api::new(cluster.url(process, "api"));
        let to = receiver.target("/inbox");
        let (mut accepted, text, begin) = (Vec::new(), "x".repeat(100_000), Instant::now());
        let refused = loop {
            let conversation = format!("full {}", accepted.len() % 7);
            let answer = api.post("/v1/messages", &message(&to, &conversation, &text)).await.expect("an answer");
            match answer.status {
                202 => accepted.push(answer.json()["message_id"].as_str().expect("an id").to_owned()),
                _ => break answer,
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "the disk never gets full");
        };
        println!("full disk: after {} messages of 100 kB: {} {}", accepted.len(), refused.status, refused.text);
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert!(accepted.len() > 20, "some room there was: {}", accepted.len());
        assert!(api.get("/health/live").await.is_ok_and(|answer| answer.status == 200));
        assert!(cluster.runs(process), "a full disk is no reason to end:\n{}", cluster.tail(process));
        let why = cluster.log(process).to_lowercase();
        assert!(why.contains("no space") || why.contains("no room"), "the log says why:\n{}", cluster.tail(process));

        // Killed while it is full, it may start or say why it cannot. With room, all goes on.
        cluster.kill(process);
        cluster.spawn(process);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let started = cluster.runs(process);
        println!("full disk: after a kill it {}", if started { "starts all the same" } else { "refuses to start" });
        if started {
            cluster.kill(process);
        } else {
            let status = cluster.ended(process, Duration::from_secs(1)).await;
            assert_eq!(status.code(), Some(1), "{}", cluster.tail(process));
        }
        disk.grow("400m");
        receiver.usually("/inbox", Reply::Status(200));
        cluster.start_again(process).await;
        api.moved(cluster.url(process, "api"));
        let all = |receiver: &Receiver| {
            let requests = receiver.requests();
            let taken: std::collections::HashSet<String> = requests
                .iter()
                .filter(|request| request.taken())
                .map(|request| request.data("message_id").to_owned())
                .collect();
            accepted.iter().all(|id| taken.contains(id)).then_some(())
        };
        until("everything accepted, delivered", Duration::from_secs(90), || all(&receiver)).await;
        let id = api.accepted(&to, "after", "there is room").await;
        assert_eq!(api.ended(&id, Duration::from_secs(20)).await["status"], "delivered");
        for id in &accepted {
            assert_eq!(api.ended(id, Duration::from_secs(30)).await["status"], "delivered");
        }
        cluster.terminate_all().await;
    });
}
