//! A process that stands still inside a write holds up the folder: POST says so at once, and all resumes by itself.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::checker;
use crate::harness::client::{Api, message};
use crate::harness::cluster::{Cluster, PATIENT, config};
use crate::harness::engines::Engines;
use crate::harness::load::{Load, Plan};
use crate::harness::receiver::Receiver;
use crate::harness::{Random, ledger, run, turn, until};

/// Inodes of the lock files below a folder that end in one of `names`: `writer` is held while writing, `next` by whoever
/// writes next.
fn locks(folder: &Path, names: &[&str]) -> Vec<u64> {
    let mut inodes = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            inodes.extend(locks(&path, names));
        } else if path.extension().is_some_and(|extension| names.iter().any(|name| extension == *name)) {
            inodes.extend(entry.metadata().map(|metadata| metadata.ino()));
        }
    }
    inodes
}

/// Whether a process (stopped, so that it stays so) holds one of the folder's locks, as the kernel tells it.
pub fn holds(cluster: &Cluster, id: usize, names: &[&str]) -> bool {
    let (inodes, pid) = (locks(&cluster.data(), names), cluster.pid(id).to_string());
    assert!(!inodes.is_empty(), "the folder has no locks {names:?}");
    let locks = std::fs::read_to_string("/proc/locks").expect("the kernel's list of locks");
    locks.lines().filter(|line| !line.contains("->")).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let inode = fields.get(5).and_then(|place| place.rsplit(':').next()).and_then(|inode| inode.parse().ok());
        fields.get(4) == Some(&pid.as_str()) && inode.is_some_and(|inode| inodes.contains(&inode))
    })
}

#[test]
fn a_process_stopped_inside_a_write_costs_503_and_nothing_else() {
    let _turn = turn::alone();
    run(async {
        let receiver = Receiver::start().await;
        receiver.wobbles(Random::from_env("stopped writer"));
        let mut cluster = Cluster::with(&config("", PATIENT));
        let api_process = cluster.start(&["api"]).await;
        let worker = cluster.start(&["router", "connectors"]).await;
        cluster.start(&["recorder"]).await;
        let api = Api::new(cluster.url(api_process, "api"));
        let plan = Plan {
            name: "stopped-writer",
            conversations: 50,
            messages: 6_000,
            per_second: 300.0,
            target: receiver.target("/inbox"),
            insists: true,
        };
        let load = Load::start(&plan, &api);
        until("some load", Duration::from_secs(10), || (load.count() > 300).then_some(())).await;

        let tries = stop_inside_a_write(&cluster, worker).await;
        let stopped = Instant::now();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let begin = Instant::now();
        let refused = api.post("/v1/messages", &message(&plan.target, "other", "hi")).await.expect("an answer");
        let waited = begin.elapsed();
        assert_eq!(refused.status, 503, "{}", refused.text);
        let code = refused.json()["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!(code, "log_unavailable", "the oldest append is over a second old: {}", refused.text);
        assert!(!refused.header("retry-after").is_empty());
        assert!(waited < Duration::from_millis(500), "refused at once, not after {waited:?}");
        let accepted_then = load.count();
        // Longer than the session: nobody can take over either.
        tokio::time::sleep(Duration::from_secs(8).saturating_sub(stopped.elapsed())).await;
        assert!(load.count() <= accepted_then + 1, "nothing is accepted meanwhile");
        let pid = cluster.pid(worker);
        let named = |id| cluster.log(id).lines().any(|line| line.contains(&format!("\"holder_pid\":{pid}")));
        // The recorder only waits if it had something left to write when the worker stopped.
        assert!(named(api_process), "the waiter logs who holds the folder:\n{}", cluster.tail(api_process));

        cluster.go_on(worker);
        let again = Instant::now();
        until("accepting again", Duration::from_secs(10), || (load.count() > accepted_then + 1).then_some(())).await;
        let resumed = again.elapsed();
        let (accepted, _) = load.finish(Duration::from_secs(90)).await;
        assert_eq!((accepted.len(), checker::doubled(&accepted)), (plan.messages, 0));
        let limit = Duration::from_secs(60);
        until("all deliveries", limit, || (receiver.distinct() >= accepted.len()).then_some(())).await;
        cluster.terminate_all().await;
        let evidence = Engines::Embedded.evidence(&cluster, accepted, &receiver);
        let verdict = checker::judge(&evidence);
        println!(
            "stopped inside a write (found at try {tries}): `{code}` within {waited:?}, accepting again {resumed:?} \
             after SIGCONT, {} duplicates",
            verdict.duplicates
        );
        verdict.must_be_clean();
        ledger::must_be_written_once(&cluster.data(), ledger::HOOK);
    });
}

/// Stops the process again and again until it is caught holding the lock. How often it took.
async fn stop_inside_a_write(cluster: &Cluster, id: usize) -> u32 {
    for attempt in 1..=2_000 {
        cluster.stop(id);
        if holds(cluster, id, &["writer"]) {
            return attempt;
        }
        cluster.go_on(id);
        tokio::time::sleep(Duration::from_micros(700 + u64::from(attempt % 13) * 370)).await;
    }
    panic!("never caught inside a write");
}
