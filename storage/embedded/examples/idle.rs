//! What an idle log costs: `cargo run --release -p chat4all-embedded --example idle [CONSUMERS] [SECONDS]`.
//! Prints the share of one core that this process used while nothing happened. Start several on one FOLDER
//! (third argument) to see them all together.

use std::time::Duration;

use chat4all_embedded::log::{EmbeddedLog, Options};
use chat4all_proto::Topic;
use chat4all_storage::Log;
use chat4all_storage::log::{TopicKind, TopicSpec};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let argument = |index| std::env::args().nth(index);
    let consumers: usize = argument(1).map_or(12, |text| text.parse().expect("a number of consumers"));
    let seconds: u64 = argument(2).map_or(20, |text| text.parse().expect("a number of seconds"));
    let temporary = tempfile::tempdir().expect("a temporary folder can be made");
    let folder = argument(3).map_or_else(|| temporary.path().to_owned(), Into::into);
    let log = EmbeddedLog::open(&folder, Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let kind = TopicKind::Stream { retention: Duration::from_secs(3_600) };
    log.ensure_topics(&[TopicSpec { topic: Topic::Messages, partitions: 6, kind }]).await.expect("a topic");
    let mut subscriptions = Vec::new();
    for n in 0..consumers {
        subscriptions.push(log.subscribe(&format!("group-{n}"), &[Topic::Messages]).await.expect("a membership"));
    }
    tokio::time::sleep(Duration::from_secs(2)).await; // until all is settled
    let before = cpu_seconds();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let percent = (cpu_seconds() - before) * 100.0 / seconds as f64;
    println!("{consumers} consumers, idle: {percent:.2} % of a core");
    drop(subscriptions);
    log.close().await;
}

/// CPU time of all threads so far (`/proc/self/schedstat` counts the first thread only, so all tasks are summed).
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it");
    let nanos = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    nanos.filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}
