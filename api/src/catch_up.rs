//! Waits until the status store has caught up with the log: a message that was answered 202 is never answered 404.
//! One poller for the whole process, which rests while nobody waits; all misses look at its snapshots.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chat4all_proto::Topic;
use chat4all_runtime::clock;
use chat4all_storage::Log;
use chat4all_storage::log::Error;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Pause between two looks at the log.
const POLL: Duration = Duration::from_millis(10);
/// Longest wait for one answer of the log.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Where `messages` ended, and how far its readers had come when asked after that.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    /// When the ends were asked for: they cover everything accepted before.
    asked_at: Option<Instant>,
    ends: Vec<u64>,
    router: Vec<u64>,
    recorder: Vec<u64>,
}

/// The shared wait of a process.
pub struct CatchUp {
    log: Arc<dyn Log>,
    router_group: String,
    recorder_group: String,
    waiters: AtomicUsize,
    wanted: Notify,
    snapshots: watch::Sender<Snapshot>,
}

impl CatchUp {
    pub fn new(log: Arc<dyn Log>, router_group: String, recorder_group: String) -> Self {
        Self {
            log,
            router_group,
            recorder_group,
            waiters: AtomicUsize::new(0),
            wanted: Notify::new(),
            snapshots: watch::Sender::new(Snapshot::default()),
        }
    }

    /// The poller. Runs until it is aborted.
    pub async fn run(&self) {
        loop {
            let wanted = self.wanted.notified();
            if self.waiters.load(Ordering::SeqCst) == 0 {
                wanted.await;
            }
            match timeout(ANSWER_MAX, self.look()).await {
                Ok(Ok(snapshot)) => drop(self.snapshots.send_replace(snapshot)),
                Ok(Err(error)) => tracing::debug!(%error, "cannot ask how far the recorder is"),
                Err(_) => tracing::debug!("the log did not say how far the recorder is"),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The ends come first: whoever has passed them later has passed all that was there before.
    async fn look(&self) -> Result<Snapshot, Error> {
        let asked_at = Some(clock::instant());
        let ends = self.log.ends(&Topic::Messages).await?;
        let router = self.log.committed(&self.router_group, &Topic::Messages).await?;
        let recorder = self.log.committed(&self.recorder_group, &Topic::Messages).await?;
        Ok(Snapshot { asked_at, ends, router, recorder })
    }

    /// Returns once router and recorder have finished everything that was on `messages` at `since`. The caller bounds
    /// the wait.
    pub async fn passed(&self, since: Instant) {
        let _waiter = Waiter::new(self);
        let mut snapshots = self.snapshots.subscribe();
        let mut ends: Option<Vec<u64>> = None;
        loop {
            {
                let snapshot = snapshots.borrow_and_update();
                if snapshot.asked_at.is_some_and(|asked_at| asked_at >= since) {
                    let ends = ends.get_or_insert_with(|| snapshot.ends.clone());
                    if is_past(&snapshot.router, ends) && is_past(&snapshot.recorder, ends) {
                        return;
                    }
                }
            }
            snapshots.changed().await.expect("the sender lives as long as `self`");
        }
    }
}

fn is_past(committed: &[u64], ends: &[u64]) -> bool {
    committed.len() >= ends.len() && ends.iter().zip(committed).all(|(end, committed)| committed >= end)
}

/// Keeps the poller awake.
struct Waiter<'a>(&'a CatchUp);

impl<'a> Waiter<'a> {
    fn new(catch_up: &'a CatchUp) -> Self {
        if catch_up.waiters.fetch_add(1, Ordering::SeqCst) == 0 {
            catch_up.wanted.notify_one();
        }
        Self(catch_up)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}
