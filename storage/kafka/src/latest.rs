//! Compacted topics of one partition, read whole and followed by a thread each: the port's latest values and our own
//! notes about the cluster.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use chat4all_proto::Timestamp;
use chat4all_storage::log::Error;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset};
use tokio::sync::watch;
use tracing::debug;

use crate::client::{Logs, failure};
use crate::shared::{Shared, lock, start};
use crate::{read, record};

/// Longest wait for a topic to be read whole.
const WHOLE_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// The last record of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub bytes: Bytes,
    pub offset: u64,
    pub at: Timestamp,
}

/// The values of a topic; `None` until it has been read whole once.
pub(crate) type Values = Option<Arc<BTreeMap<String, Value>>>;

/// Topics that are followed, by their names in Kafka.
#[derive(Default)]
pub(crate) struct Followers {
    followed: Mutex<HashMap<String, watch::Receiver<Values>>>,
}

/// The values of `topic`, complete when this returns.
pub(crate) async fn follow(shared: &Arc<Shared>, topic: &str) -> Result<watch::Receiver<Values>, Error> {
    let mut values = receiver(shared, topic)?;
    let complete = tokio::time::timeout(WHOLE_MAX, values.wait_for(Option::is_some)).await;
    match complete.map(|complete| complete.is_ok()) {
        Ok(true) => Ok(values),
        Ok(false) => Err(Error::Unavailable("it was closed".into())),
        Err(_) => Err(Error::Unavailable(format!("the topic `{topic}` could not be read whole in time"))),
    }
}

fn receiver(shared: &Arc<Shared>, topic: &str) -> Result<watch::Receiver<Values>, Error> {
    if shared.is_closing() {
        return Err(Error::Unavailable("it was closed".into()));
    }
    let mut followed = lock(&shared.followers.followed);
    if let Some(values) = followed.get(topic) {
        return Ok(values.clone());
    }
    let reader = read::reader(shared, topic, 0, Offset::Beginning).map_err(|error| failure(&error))?;
    let (sender, values) = watch::channel(None);
    followed.insert(topic.to_owned(), values.clone());
    let weak = Arc::downgrade(shared);
    lock(&shared.threads).push(start("log-follower", move || run(&weak, &reader, &sender)));
    Ok(values)
}

/// Until the log is closed.
fn run(shared: &Weak<Shared>, reader: &BaseConsumer<Logs>, values: &watch::Sender<Values>) {
    let (mut state, mut whole) = (BTreeMap::new(), false);
    while shared.upgrade().is_some_and(|shared| !shared.is_closing()) {
        let mut changed = false;
        let mut next = reader.poll(POLL);
        while let Some(polled) = next {
            match polled {
                Ok(message) => {
                    take(&mut state, &message);
                    changed = true;
                }
                Err(KafkaError::PartitionEOF(_)) => {
                    changed |= !whole;
                    whole = true;
                }
                Err(error) => debug!(%error, "could not follow a topic, trying again"),
            }
            next = reader.poll(Duration::ZERO);
        }
        if whole && changed {
            values.send_replace(Some(Arc::new(state.clone())));
        }
    }
}

fn take(state: &mut BTreeMap<String, Value>, message: &BorrowedMessage<'_>) {
    let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
    match message.payload() {
        Some(bytes) => {
            let (offset, at) = (record::offset(message), record::appended_at(message));
            state.insert(key, Value { bytes: Bytes::copy_from_slice(bytes), offset, at });
        }
        None => drop(state.remove(&key)),
    }
}
