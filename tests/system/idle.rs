//! On an idle machine: what it costs to do nothing, and how soon a status shows.

use std::time::{Duration, SystemTime};

use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, ROLES};
use crate::harness::receiver::Receiver;
use crate::harness::{quantile, run, turn};

/// CPU time that all threads of a process have used.
fn cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let nanos = tasks.flatten().filter_map(|task| {
        let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        times.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// The least share of a core over some spans: what else runs on the machine makes every wake-up dearer, never cheaper.
async fn share_of_a_core(pids: &[u32]) -> f64 {
    const SPAN: Duration = Duration::from_secs(3);
    const SPANS: usize = 8;
    let used = || pids.iter().map(|&pid| cpu(pid)).sum::<Duration>();
    let mut least = f64::INFINITY;
    for _ in 0..SPANS {
        let before = used();
        tokio::time::sleep(SPAN).await;
        least = least.min((used() - before).as_secs_f64() / SPAN.as_secs_f64());
        if least < SHARE_MAX * pids.len() as f64 {
            break;
        }
    }
    least
}

/// Of a core, for each process.
const SHARE_MAX: f64 = 0.01;

#[test]
fn idle_roles_cost_next_to_nothing() {
    let _turn = turn::alone();
    run(async {
        let receiver = Receiver::start().await;
        for (shape, processes) in
            [("one process", vec![ROLES.to_vec()]), ("four", ROLES.map(|role| vec![role]).to_vec())]
        {
            let mut cluster = Cluster::new();
            let mut ids = Vec::new();
            for roles in &processes {
                ids.push(cluster.start(roles).await);
            }
            let api = Api::new(cluster.url(ids[0], "api"));
            let id = api.accepted(&receiver.target("/inbox"), "c", "hi").await;
            api.ended(&id, Duration::from_secs(10)).await;
            let pids: Vec<u32> = ids.iter().map(|&id| cluster.pid(id)).collect();
            let share = share_of_a_core(&pids).await / pids.len() as f64;
            println!("idle, {shape}: {:.2} % of a core a process", share * 100.0);
            assert!(share < SHARE_MAX, "{:.2} %", share * 100.0);
        }
    });
}

#[test]
fn delivered_shows_within_200_ms_of_the_providers_answer() {
    let _turn = turn::alone();
    run(async {
        let receiver = Receiver::start().await;
        for (shape, processes) in
            [("one process", vec![ROLES.to_vec()]), ("four", ROLES.map(|role| vec![role]).to_vec())]
        {
            let mut cluster = Cluster::new();
            let mut ids = Vec::new();
            for roles in &processes {
                ids.push(cluster.start(roles).await);
            }
            let api = Api::new(cluster.url(ids[0], "api"));
            let mut delays = Vec::new();
            for number in 0..60 {
                let path = format!("/{shape}/{number}").replace(' ', "-");
                let id = api.accepted(&receiver.target(&path), &format!("c{number}"), "hi").await;
                let shown = loop {
                    let view = api.show(&id).await;
                    if view.is_some_and(|view| view["status"] == "delivered") {
                        break SystemTime::now();
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                };
                let answered = receiver.requests_on(&path)[0].at;
                delays.push(shown.duration_since(answered).unwrap_or_default());
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
            // The first one meets cold caches and new connections.
            delays.remove(0);
            let (median, p90, worst) =
                (quantile(&mut delays, 0.5), quantile(&mut delays, 0.9), quantile(&mut delays, 1.0));
            println!("delivered shows after, {shape}: p50 {median:?}, p90 {p90:?}, worst {worst:?}");
            assert!(p90 < Duration::from_millis(200), "p90 {p90:?}");
            assert!(worst < Duration::from_secs(1), "worst {worst:?}");
        }
    });
}
