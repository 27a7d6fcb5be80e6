//! A member that does what every member must, and notes what it sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use chat4all_proto::{Topic, TopicPartition};
use tokio::time::timeout;

use super::{PATIENCE, QUIET};
use crate::log::{Assignment, Commit, Consumer, Event, Lease, Log, Record, Subscription};

pub(super) struct Reader {
    pub consumer: Arc<dyn Consumer>,
    topics: Vec<Topic>,
    events: tokio::sync::mpsc::Receiver<Event>,
    /// What is ours now.
    pub held: BTreeMap<TopicPartition, Assignment>,
    pub records: Vec<(TopicPartition, Arc<Record>)>,
    /// The offset that must be exceeded next.
    next: BTreeMap<TopicPartition, u64>,
}

impl Reader {
    pub async fn join(log: &Arc<dyn Log>, group: &str, topics: &[Topic]) -> Self {
        let Subscription { consumer, events } = log.subscribe(group, topics).await.expect("a group can be joined");
        let topics = topics.to_vec();
        Self { consumer, topics, events, held: BTreeMap::new(), records: Vec::new(), next: BTreeMap::new() }
    }

    /// A member that is alone, once it holds `count` partitions.
    pub async fn holding(log: &Arc<dyn Log>, group: &str, count: usize) -> Self {
        let mut reader = Self::join(log, group, &[Topic::Messages]).await;
        reader.until("all partitions are assigned", |reader| reader.held.len() == count).await;
        reader
    }

    /// Goes on until `done`.
    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let event = timeout(PATIENCE, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("waited in vain until {what}; held: {:?}", self.held));
            self.take(event.expect("the membership goes on"));
        }
    }

    pub async fn until_records(&mut self, count: usize) {
        self.until(&format!("{count} records came"), |reader| reader.records.len() >= count).await;
    }

    /// Goes on until nothing happens.
    pub async fn until_quiet(&mut self) {
        while let Ok(Some(event)) = timeout(QUIET, self.events.recv()).await {
            self.take(event);
        }
    }

    /// Obeys: releases what is asked back, checks that records are ours and ascend, and that partitions of one number
    /// come and go together.
    pub fn take(&mut self, event: Event) {
        self.check_together(&event);
        match event {
            Event::Assigned(assignments) => assignments.into_iter().for_each(|assignment| {
                let partition = assignment.lease.partition.clone();
                self.next.insert(partition.clone(), assignment.offset);
                let before = self.held.insert(partition, assignment.clone());
                assert!(assignment.lease.epoch >= 1);
                assert!(before.is_none_or(|before| before.lease.epoch < assignment.lease.epoch), "an epoch must rise");
            }),
            Event::Records { lease, records } => self.take_records(&lease, records),
            Event::Revoking(leases) => {
                for lease in &leases {
                    self.held.remove(&lease.partition).expect("only what is held is asked back");
                }
                // One lease of each number is enough.
                let last = leases.iter().filter(|lease| Some(&lease.partition.topic) == self.topics.last());
                last.for_each(|lease| self.consumer.release(lease));
            }
            Event::Lost(leases) => leases.iter().for_each(|lease| drop(self.held.remove(&lease.partition))),
            Event::Failed(reason) => panic!("the membership failed: {reason}"),
        }
    }

    fn check_together(&self, event: &Event) {
        let leases: Vec<&Lease> = match event {
            Event::Assigned(assignments) => assignments.iter().map(|assignment| &assignment.lease).collect(),
            Event::Revoking(leases) | Event::Lost(leases) => leases.iter().collect(),
            Event::Records { .. } | Event::Failed(_) => return,
        };
        for lease in &leases {
            for topic in &self.topics {
                let partition = TopicPartition::new(topic.clone(), lease.partition.partition);
                let together = Lease { partition, epoch: lease.epoch };
                assert!(leases.contains(&&together), "{together:?} does not go with {lease:?}: {event:?}");
            }
        }
    }

    fn take_records(&mut self, lease: &Lease, records: Vec<Arc<Record>>) {
        // Others are on their way from before a restart.
        if self.held.get(&lease.partition).is_some_and(|held| held.lease == *lease) {
            assert!(!records.is_empty(), "an event of no records");
            for record in records {
                let next = self.next.get_mut(&lease.partition).expect("set when assigned");
                assert!(record.offset >= *next, "offset {} of {} comes too late", record.offset, lease.partition);
                *next = record.offset + 1;
                self.records.push((lease.partition.clone(), record));
            }
        }
    }

    pub fn values(&self) -> Vec<String> {
        self.records.iter().map(|(_, record)| String::from_utf8_lossy(&record.value).into_owned()).collect()
    }

    pub fn sorted_numbers(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.values().iter().map(|value| value.parse().expect("a number")).collect();
        numbers.sort_unstable();
        numbers
    }

    pub fn lease(&self, partition: u32) -> Lease {
        self.held[&TopicPartition::new(Topic::Messages, partition)].lease.clone()
    }

    /// Commits all that came.
    pub async fn commit_all(&self) {
        let commits = self.held.iter().map(|(partition, held)| Commit {
            lease: held.lease.clone(),
            offset: self.next[partition],
            metadata: String::new(),
        });
        let refused = self.consumer.commit(commits.collect()).await.expect("the log is there");
        assert_eq!(refused, [], "commits of what is held");
    }
}
