//! The port's [`Log`] on Kafka: hands each call to the part that does it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat4all_proto::Topic;
use chat4all_proto::http::ClusterView;
use chat4all_storage::diagnosis::Part;
use chat4all_storage::log::{
    AppendError, Appended, Error, LatestValues, Log, NewRecord, Subscription, TopicSpec, check_counts,
};
use tokio::sync::watch;
use uuid::Uuid;

use crate::latest::Values;
use crate::shared::{KeepOpen, Sender, Shared, closed, lock};
use crate::{Options, cluster, latest, poll, read, topics};

/// One process's access to the topics of a Kafka cluster. When it and its last consumer are dropped it closes in the
/// background; what waits to be written then may be lost: [`Log::close`] writes it.
pub struct KafkaLog {
    shared: Arc<Shared>,
    open: Arc<KeepOpen>,
}

impl KafkaLog {
    /// Does not connect yet: while Kafka is away, calls fail. An error: the options cannot work.
    pub fn open(options: Options) -> Result<Arc<Self>, Error> {
        let process: Arc<str> = Uuid::new_v4().simple().to_string().into();
        let shared = Shared::new(options, process).map_err(|error| Error::Refused(error.to_string()))?;
        let shared = Arc::new(shared);
        Ok(Arc::new(Self { open: Arc::new(KeepOpen(shared.clone())), shared }))
    }

    /// As [`Log::ensure_topics`]; says which topics there are now, our own included.
    pub async fn make_topics(&self, topics: &[TopicSpec]) -> Result<Vec<Part>, Error> {
        topics::ensure(&self.shared, topics).await
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), Error> {
        self.make_topics(topics).await.map(drop)
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        self.shared.append(records, Sender::Ingress).await
    }

    fn oldest_unacknowledged(&self) -> Option<Duration> {
        // As long as no broker was ever reached, nothing would be answered either.
        self.shared.outbox.oldest().or_else(|| self.shared.topics.none_found_for())
    }

    async fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Subscription, Error> {
        let (mut names, mut counts) = (Vec::new(), Vec::new());
        for topic in topics {
            let info = topics::existing(&self.shared, topic).await?;
            names.push((info.name.to_string(), topic.clone()));
            counts.push((topic, info.partitions as usize));
        }
        check_counts(counts)?;
        let (group, open) = (group.to_owned(), self.open.clone());
        self.shared.blocking(move |_| poll::join(open, &group, names)).await
    }

    async fn ends(&self, topic: &Topic) -> Result<Vec<u64>, Error> {
        let topic = topics::existing(&self.shared, topic).await?;
        let bounds = self.shared.blocking(move |shared| read::all_bounds(shared, &[&topic])).await?;
        Ok(bounds.concat().into_iter().map(|(_, end)| end).collect())
    }

    async fn committed(&self, group: &str, topic: &Topic) -> Result<Vec<u64>, Error> {
        let (group, topic) = (group.to_owned(), topics::existing(&self.shared, topic).await?);
        self.shared
            .blocking(move |shared| {
                let committed = read::committed(shared, &group, &topic)?;
                let bounds = read::all_bounds(shared, &[&topic])?.concat();
                let starts = bounds.into_iter().map(|(start, _)| start);
                Ok(committed.into_iter().zip(starts).map(|(at, start)| at.unwrap_or(start).max(start)).collect())
            })
            .await
    }

    async fn put_latest(&self, topic: &Topic, key: &str, value: Option<Bytes>) -> Result<(), AppendError> {
        if self.shared.is_closing() {
            return Err(closed());
        }
        check_latest(topic)?;
        let info = topics::existing(&self.shared, topic).await?;
        cluster::put(&self.shared, &info.name, key, value).await
    }

    async fn follow_latest(&self, topic: &Topic) -> Result<watch::Receiver<Arc<LatestValues>>, Error> {
        check_latest(topic)?;
        let info = topics::existing(&self.shared, topic).await?;
        let mut followed = latest::follow(&self.shared, &info.name).await?;
        let (sender, values) = watch::channel(plain(&followed.borrow_and_update()));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = followed.changed() => match changed {
                        Ok(()) => drop(sender.send_replace(plain(&followed.borrow_and_update()))),
                        Err(_) => break,
                    },
                    () = sender.closed() => break,
                }
            }
        });
        Ok(values)
    }

    fn process(&self) -> &str {
        &self.shared.process
    }

    async fn announce(&self, roles: Vec<String>, listens: Vec<String>) -> Result<(), Error> {
        cluster::announce(&self.shared, roles, listens).await
    }

    async fn cluster(&self) -> Result<ClusterView, Error> {
        cluster::view(&self.shared).await
    }

    /// Kafka does so by itself, by time alone.
    async fn enforce_retention(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) {
        if !self.shared.begin_closing() {
            return;
        }
        let shared = self.shared.clone();
        // An error means that it panicked; there is nothing left to close then.
        let _ = tokio::task::spawn_blocking(move || {
            cluster::retire(&shared);
            let threads = std::mem::take(&mut *lock(&shared.threads));
            threads.into_iter().for_each(|thread| drop(thread.join()));
            shared.flush();
        })
        .await;
    }
}

/// Which kind a topic is, its name says.
fn check_latest(topic: &Topic) -> Result<(), Error> {
    if *topic == Topic::Control {
        return Ok(());
    }
    Err(Error::Refused(format!("the topic `{topic}` keeps no latest values")))
}

fn plain(values: &Values) -> Arc<LatestValues> {
    let values = values.iter().flat_map(|values| values.iter());
    Arc::new(values.map(|(key, value)| (key.clone(), value.bytes.clone())).collect())
}
