//! A member that obeys.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chat4all_kafka::KafkaLog;
use chat4all_proto::{Topic, TopicPartition};
use chat4all_storage::Log as _;
use chat4all_storage::log::{Assignment, Event, Subscription};
use tokio::time::timeout;

use super::PATIENCE;

pub struct Member {
    pub subscription: Subscription,
    pub held: BTreeMap<TopicPartition, Assignment>,
}

impl Member {
    pub async fn join(log: &KafkaLog) -> Self {
        Self::join_to(log, &[Topic::Messages]).await
    }

    pub async fn join_to(log: &KafkaLog, topics: &[Topic]) -> Self {
        let subscription = log.subscribe("readers", topics).await.unwrap();
        Self { subscription, held: BTreeMap::new() }
    }

    pub async fn next(&mut self) -> Event {
        let event = self.subscription.events.recv().await.unwrap();
        match &event {
            Event::Assigned(assignments) => {
                let held =
                    assignments.iter().map(|assignment| (assignment.lease.partition.clone(), assignment.clone()));
                self.held.extend(held);
            }
            Event::Revoking(leases) | Event::Lost(leases) => {
                for lease in leases {
                    self.held.remove(&lease.partition);
                    self.subscription.consumer.release(lease);
                }
            }
            Event::Records { .. } => {}
            Event::Failed(reason) => panic!("{reason}"),
        }
        event
    }

    pub async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "waited in vain; held: {:?}", self.held);
            // Not everything that is awaited is an event.
            let _ = timeout(Duration::from_millis(100), self.next()).await;
        }
    }
}
