//! What an append costs: `cargo run --release -p chat4all-embedded --example append_rate [FOLDER]`.
//! Prints wall time and CPU time a record of 1 KiB, for batches of 1 to 1,000 handed over one after another, for 64
//! callers at once, and with a consumer that follows.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chat4all_embedded::log::{EmbeddedLog, Options};
use chat4all_proto::{Generation, Key, Topic};
use chat4all_storage::Log;
use chat4all_storage::log::{Event, NewRecord, RecordId, TopicKind, TopicSpec};
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let temporary = tempfile::tempdir().expect("a temporary folder can be made");
    let folder = std::env::args().nth(1).map_or_else(|| temporary.path().to_owned(), Into::into);
    let log = open(&folder).await;
    for (size, batches) in [(1, 2_000), (10, 1_000), (100, 500), (1_000, 60)] {
        measure(&format!("batches of {size}"), size * batches, one_by_one(&log, size, batches)).await;
    }
    measure("64 callers, one record each", 64 * 500, callers(&log, 64, 500)).await;
    let mut subscription = log.subscribe("readers", &[Topic::Messages]).await.expect("a group can be joined");
    let ends = log.ends(&Topic::Messages).await.expect("the log is there");
    let backlog = ends.into_iter().sum::<u64>() as usize;
    measure("reading the backlog from the file", backlog, read(&mut subscription.events, backlog)).await;
    let both = async {
        tokio::join!(one_by_one(&log, 100, 500), read(&mut subscription.events, 50_000));
    };
    measure("batches of 100, followed in memory", 50_000, both).await;
    log.close().await;
}

async fn open(folder: &Path) -> Arc<dyn Log> {
    let log = EmbeddedLog::open(folder, Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let kind = TopicKind::Stream { retention: Duration::from_secs(3_600) };
    let topic = TopicSpec { topic: Topic::Messages, partitions: 6, kind };
    log.ensure_topics(&[topic]).await.expect("a topic can be made");
    log
}

async fn measure(what: &str, records: usize, work: impl Future<Output = ()>) {
    let (begun, cpu_before) = (Instant::now(), cpu_time());
    work.await;
    let (wall, cpu) = (begun.elapsed(), cpu_time() - cpu_before);
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / records as f64;
    let rate = records as f64 / wall.as_secs_f64();
    println!("{what:36} {rate:9.0}/s  {:7.1} µs wall, {:6.1} µs CPU a record", micros(wall), micros(cpu));
}

/// CPU time of all threads so far, in steps of 10 ms (`/proc/self/stat`, fields 14 and 15, 100 ticks a second).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    let fields = stat.rsplit(')').next().expect("the name is in brackets").split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

async fn one_by_one(log: &Arc<dyn Log>, size: usize, batches: usize) {
    for _ in 0..batches {
        log.append(records(size)).await.expect("the log is there");
    }
}

async fn callers(log: &Arc<dyn Log>, callers: usize, each: usize) {
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move { one_by_one(&log, 1, each).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no caller panics");
    }
}

async fn read(events: &mut tokio::sync::mpsc::Receiver<Event>, count: usize) {
    let mut read = 0;
    while read < count {
        if let Event::Records { records, .. } = events.recv().await.expect("the membership goes on") {
            read += records.len();
        }
    }
}

fn records(count: usize) -> Vec<NewRecord> {
    let value = Bytes::from(vec![b'x'; 1_024]);
    let record = |n: usize| NewRecord {
        topic: Topic::Messages,
        key: Key::raw(format!("default/conversation-{}", n % 1_000)),
        id: RecordId { uuid: Uuid::now_v7(), generation: Generation(0) },
        value: value.clone(),
        traceparent: None,
        once: None,
    };
    (0..count).map(record).collect()
}
