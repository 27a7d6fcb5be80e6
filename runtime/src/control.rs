//! What operators want, as this process knows it: the topic `control`, read whole and followed. Whoever acts on a wish
//! watches it here; nothing here acts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat4all_proto::control::{Breaker, Cancelled, DrainWanted, Paused};
use chat4all_proto::{ChannelName, ControlKey, MessageId, Topic};
use chat4all_storage::Log;
use chat4all_storage::log::{Error, LatestValues};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::warn;

use crate::Shutdown;

/// Before the topic is read again that could not be.
const AGAIN: Duration = Duration::from_millis(500);

/// Every wish that stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Control {
    /// False until the topic was read: what else stands here says nothing then.
    pub is_read: bool,
    pub paused: BTreeMap<ChannelName, Paused>,
    /// The same `Arc` for as long as the set is the same.
    pub cancelled: Arc<HashSet<MessageId>>,
    /// By channel and process; also those of processes that have ended.
    pub breakers: BTreeMap<ChannelName, BTreeMap<String, Breaker>>,
    /// Whether this process shall end.
    pub drain: bool,
}

/// Follows the topic until shutdown, also while the log is away or the topic is not made yet. The receiver keeps its last
/// value when that is over. Must be called within a tokio runtime.
pub fn follow(log: &Arc<dyn Log>, shutdown: &Shutdown) -> watch::Receiver<Arc<Control>> {
    let (control, receiver) = watch::channel(Arc::default());
    let (log, shutdown) = (Arc::clone(log), shutdown.clone());
    let mut follower = Follower { process: log.process().to_owned(), control, told: BTreeSet::new() };
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.requested() => {}
            () = follower.keep_following(&*log) => {}
        }
    });
    receiver
}

struct Follower {
    process: String,
    control: watch::Sender<Arc<Control>>,
    /// What was warned of already: keys that cannot be read, and why the topic cannot.
    told: BTreeSet<String>,
}

impl Follower {
    async fn keep_following(&mut self, log: &dyn Log) {
        loop {
            match log.follow_latest(&Topic::Control).await {
                Ok(values) => self.follow(values).await,
                Err(Error::Unavailable(reason) | Error::Refused(reason)) => {
                    if self.told.insert(reason.clone()) {
                        warn!(reason, "what operators want cannot be read yet, trying again until it can");
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Until nobody tells the values any more.
    async fn follow(&mut self, mut values: watch::Receiver<Arc<LatestValues>>) {
        loop {
            let read = Arc::clone(&values.borrow_and_update());
            self.take(&read);
            if values.changed().await.is_err() {
                return;
            }
        }
    }

    fn take(&mut self, values: &LatestValues) {
        let mut control = Control { is_read: true, ..Control::default() };
        let mut cancelled = HashSet::new();
        for (key, value) in values {
            if let Err(error) = self.take_one(key, value, &mut control, &mut cancelled)
                && self.told.insert(key.clone())
            {
                warn!(key, error, "an entry of the topic `control` cannot be read and is ignored");
            }
        }
        self.control.send_if_modified(|known| {
            let same = *known.cancelled == cancelled;
            control.cancelled = if same { Arc::clone(&known.cancelled) } else { Arc::new(cancelled) };
            let changed = **known != control;
            if changed {
                *known = Arc::new(control);
            }
            changed
        });
    }

    fn take_one(
        &self,
        key: &str,
        value: &Bytes,
        control: &mut Control,
        cancelled: &mut HashSet<MessageId>,
    ) -> Result<(), String> {
        match key.parse()? {
            ControlKey::Paused(channel) => drop(control.paused.insert(channel, read(value)?)),
            ControlKey::Cancelled(id) => {
                read::<Cancelled>(value)?;
                cancelled.insert(id);
            }
            ControlKey::Drain(process) => {
                read::<DrainWanted>(value)?;
                control.drain |= process == self.process;
            }
            ControlKey::Breaker { channel, process } => {
                let breaker = read(value)?;
                control.breakers.entry(channel).or_default().insert(process, breaker);
            }
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(value: &Bytes) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat4all_storage::log::memory::MemoryLog;
    use chat4all_storage::log::{TopicKind, TopicSpec};

    const LIMIT: Duration = Duration::from_secs(5);
    const ID: &str = "msg_018f4e0e-0000-7000-8000-000000000001";

    async fn make_topic(log: &MemoryLog) {
        let topic = TopicSpec { topic: Topic::Control, partitions: 1, kind: TopicKind::Latest };
        log.ensure_topics(&[topic]).await.expect("the log is there");
    }

    async fn put(log: &MemoryLog, key: &str, value: Option<&'static str>) {
        log.put_latest(&Topic::Control, key, value.map(Bytes::from)).await.expect("the log is there");
    }

    async fn reaches(control: &mut watch::Receiver<Arc<Control>>, is_so: impl FnMut(&Arc<Control>) -> bool) {
        tokio::time::timeout(LIMIT, control.wait_for(is_so)).await.expect("in time").expect("it is followed");
    }

    #[tokio::test]
    async fn what_was_put_before_is_there_at_once_and_what_is_put_later_follows() {
        let log = MemoryLog::new();
        make_topic(&log).await;
        put(&log, "paused/hook", Some(r#"{"v":1,"since":7}"#)).await;
        put(&log, &format!("cancelled/{ID}"), Some(r#"{"v":1,"at":7,"until":9}"#)).await;
        let another: Arc<dyn Log> = log.another();
        let mut control = follow(&another, &Shutdown::new());
        reaches(&mut control, |control| control.is_read).await;
        let first = control.borrow().clone();
        assert!(first.paused.contains_key(&"hook".parse().unwrap()) && first.cancelled.contains(&ID.parse().unwrap()));
        put(&log, "breaker/hook/3f9a", Some(r#"{"v":1,"state":"open","since":7,"until":8}"#)).await;
        reaches(&mut control, |control| !control.breakers.is_empty()).await;
        assert!(Arc::ptr_eq(&first.cancelled, &control.borrow().cancelled), "the same set is the same `Arc`");
        put(&log, "paused/hook", None).await;
        put(&log, &format!("cancelled/{ID}"), None).await;
        reaches(&mut control, |control| control.paused.is_empty() && control.cancelled.is_empty()).await;
    }

    #[tokio::test]
    async fn only_the_process_that_is_named_shall_end() {
        let log = MemoryLog::new();
        make_topic(&log).await;
        let (one, other): (Arc<dyn Log>, Arc<dyn Log>) = (log.another(), log.another());
        let shutdown = Shutdown::new();
        let (mut of_one, of_other) = (follow(&one, &shutdown), follow(&other, &shutdown));
        log.put_latest(&Topic::Control, &format!("drain/{}", one.process()), Some(Bytes::from(r#"{"v":1,"at":7}"#)))
            .await
            .unwrap();
        reaches(&mut of_one, |control| control.drain).await;
        assert!(!of_other.borrow().drain);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_ignored_and_hides_nothing_else() {
        let log = MemoryLog::new();
        make_topic(&log).await;
        for (key, value) in [("paused/a", r#"{"v":2,"since":7}"#), ("paused/A", "{}"), ("limits/a", "1"), ("x", "")] {
            put(&log, key, Some(value)).await;
        }
        put(&log, "paused/b", Some(r#"{"v":1,"since":7,"later":1}"#)).await;
        let log: Arc<dyn Log> = log;
        let mut control = follow(&log, &Shutdown::new());
        reaches(&mut control, |control| control.is_read).await;
        assert_eq!(control.borrow().paused.keys().map(ChannelName::as_str).collect::<Vec<_>>(), ["b"]);
    }

    #[tokio::test]
    async fn a_topic_that_is_made_later_is_read_then() {
        let log = MemoryLog::new();
        let another: Arc<dyn Log> = log.another();
        let mut control = follow(&another, &Shutdown::new());
        tokio::time::sleep(Duration::from_millis(20)).await; // so that it finds none first
        assert!(!control.borrow().is_read);
        make_topic(&log).await;
        reaches(&mut control, |control| control.is_read).await;
    }
}
