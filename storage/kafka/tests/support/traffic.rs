//! Records that flow while something breaks, and who checks that none is lost and none overtakes another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_kafka::KafkaLog;
use chat4all_proto::Topic;
use chat4all_storage::Log as _;
use chat4all_storage::log::{AppendError, Commit, Event, Record, Subscription};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, record, specs};

const KEYS: usize = 10;
/// Records of one append.
const BATCH: u64 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// What has come. The numbers of a key rise one by one, whatever comes again in between.
#[derive(Debug, Default)]
pub struct Seen {
    /// For each key the next number, and when the last one came.
    next: BTreeMap<String, (u64, Option<Instant>)>,
    pub count: u64,
    pub repeats: u64,
    /// Longest time from one new record of a key to the next.
    pub gap_max: Duration,
}

impl Seen {
    pub fn take(&mut self, record: &Record) {
        let key = record.key.as_str();
        let number: u64 = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
        let (next, last_at) = self.next.entry(key.to_owned()).or_default();
        assert!(number <= *next, "{key}: {number} has come and {next} has not");
        if number < *next {
            self.repeats += 1;
            return;
        }
        *next += 1;
        self.count += 1;
        let gap = last_at.replace(Instant::now()).map_or(Duration::ZERO, |at| at.elapsed());
        self.gap_max = self.gap_max.max(gap);
    }

    /// Whether nothing of what was `written` is missing.
    pub fn has_all(&self, written: &BTreeMap<String, u64>) -> bool {
        written.iter().all(|(key, count)| self.next.get(key).is_some_and(|(next, _)| next >= count))
    }
}

/// Writers of ten keys of each topic; each goes on when the log has acknowledged what it wrote.
pub struct Writers {
    over: CancellationToken,
    tasks: JoinSet<(String, u64)>,
}

impl Writers {
    pub fn start(log: &Arc<KafkaLog>, topics: &[Topic]) -> Self {
        let over = CancellationToken::new();
        let keys = topics.iter().flat_map(|topic| (0..KEYS).map(move |key| (topic, format!("{topic} {key}"))));
        let tasks = keys.map(|(topic, key)| write(log.clone(), topic.clone(), key, over.clone())).collect();
        Self { tasks, over }
    }

    /// Ends them; how many records of each key were acknowledged.
    pub async fn end(self) -> BTreeMap<String, u64> {
        self.over.cancel();
        timeout(PATIENCE, self.tasks.join_all()).await.expect("the log answers").into_iter().collect()
    }
}

async fn write(log: Arc<KafkaLog>, topic: Topic, key: String, over: CancellationToken) -> (String, u64) {
    let mut acknowledged = 0;
    while !over.is_cancelled() {
        let numbers = acknowledged..acknowledged + BATCH;
        let records = numbers.map(|number| record(topic.clone(), &key, &number.to_string()));
        match log.append(records.collect()).await {
            Ok(_) => acknowledged += BATCH,
            // What may be there is written again: it comes twice then.
            Err(AppendError::Unavailable(_) | AppendError::Unknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    (key, acknowledged)
}

/// Writers, and a member that reads and commits what they write.
pub struct Traffic {
    writers: Writers,
    reader: JoinHandle<()>,
    seen: watch::Receiver<Seen>,
}

impl Traffic {
    pub async fn start(log: &Arc<KafkaLog>) -> Self {
        log.ensure_topics(&specs()).await.unwrap();
        let (sender, seen) = watch::channel(Seen::default());
        Self { writers: Writers::start(log, &[Topic::Messages]), reader: tokio::spawn(read(log.clone(), sender)), seen }
    }

    /// Until `count` more records have come.
    pub async fn until_more(&mut self, count: u64) {
        let enough = self.seen.borrow().count + count;
        until(&mut self.seen, |seen| seen.count >= enough).await;
    }

    /// Stops the writers and waits for what was acknowledged.
    pub async fn end(mut self) {
        let written = self.writers.end().await;
        until(&mut self.seen, |seen| seen.has_all(&written)).await;
        self.reader.abort();
        let Seen { count, repeats, gap_max, .. } = &*self.seen.borrow();
        println!("{count} records, {repeats} came again, longest gap of a key {gap_max:?}");
    }
}

async fn until(seen: &mut watch::Receiver<Seen>, done: impl FnMut(&Seen) -> bool) {
    let came = timeout(PATIENCE, seen.wait_for(done)).await.map(|came| came.expect("the reader goes on").count);
    came.unwrap_or_else(|_| panic!("waited in vain: {:?}", seen.borrow()));
}

/// Reads and commits, and joins anew when a membership ends.
async fn read(log: Arc<KafkaLog>, seen: watch::Sender<Seen>) {
    loop {
        let Subscription { consumer, mut events } = log.subscribe("readers", &[Topic::Messages]).await.unwrap();
        while let Some(event) = events.recv().await {
            match event {
                Event::Records { lease, records } => {
                    let offset = records.last().expect("no event is empty").offset + 1;
                    seen.send_modify(|seen| records.iter().for_each(|record| seen.take(record)));
                    // What could not be committed comes again after the next takeover.
                    let _ = consumer.commit(vec![Commit { lease, offset, metadata: String::new() }]).await;
                }
                Event::Revoking(leases) => leases.iter().for_each(|lease| consumer.release(lease)),
                Event::Failed(reason) => println!("joining anew: {reason}"),
                Event::Assigned(_) | Event::Lost(_) => {}
            }
        }
    }
}
