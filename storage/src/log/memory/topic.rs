//! The records and latest values of one topic in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat4all_proto::Timestamp;
use tokio::sync::watch;

use crate::log::{AppendError, Appended, Error, LatestValues, NewRecord, Recent, Record, TopicKind, TopicSpec};

/// Every offset that leaves this rest is left out.
const GAP: (u64, u64) = (7, 6);
/// The most that one `Records` event holds.
pub(super) const FETCH_MAX: usize = 500;

pub(super) struct MemoryTopic {
    kind: TopicKind,
    partitions: Vec<Partition>,
    latest: watch::Sender<Arc<LatestValues>>,
}

#[derive(Default)]
struct Partition {
    start: u64,
    end: u64,
    records: VecDeque<Arc<Record>>,
}

impl MemoryTopic {
    pub fn new(spec: &TopicSpec) -> Self {
        let partitions = (0..spec.partitions).map(|_| Partition::default()).collect();
        Self { kind: spec.kind.clone(), partitions, latest: watch::Sender::default() }
    }

    pub fn is_latest(&self) -> bool {
        self.kind == TopicKind::Latest
    }

    pub fn check(&self, spec: &TopicSpec) -> Result<(), Error> {
        let same_kind = self.is_latest() == (spec.kind == TopicKind::Latest);
        if same_kind && self.partitions.len() == spec.partitions as usize {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "the topic `{}` is of {} partitions and another kind or count was asked for",
            spec.topic,
            self.partitions.len()
        )))
    }

    pub fn set_retention(&mut self, spec: &TopicSpec) {
        self.kind = spec.kind.clone();
    }

    pub fn count(&self) -> usize {
        self.partitions.len()
    }

    pub fn starts(&self) -> Vec<u64> {
        self.partitions.iter().map(|partition| partition.start).collect()
    }

    pub fn ends(&self) -> Vec<u64> {
        self.partitions.iter().map(|partition| partition.end).collect()
    }

    pub fn append(&mut self, new: NewRecord, appended_at: Timestamp) -> Appended {
        let count = u32::try_from(self.partitions.len()).expect("made from a u32");
        let number = new.key.partition(count);
        let partition = &mut self.partitions[number as usize];
        let offset = partition.end + u64::from(partition.end % GAP.0 == GAP.1);
        let NewRecord { key, id, value, traceparent, .. } = new;
        partition.records.push_back(Arc::new(Record { offset, appended_at, key, id, value, traceparent }));
        partition.end = offset + 1;
        Appended::At { partition: number, offset }
    }

    /// Up to `max` records of a partition from `offset` on; `None` if there is no such partition.
    pub fn fetch(&self, number: u32, offset: u64, max: usize) -> Option<Vec<Arc<Record>>> {
        let records = &self.partitions.get(number as usize)?.records;
        let from = records.partition_point(|record| record.offset < offset);
        Some(records.iter().skip(from).take(max).cloned().collect())
    }

    pub fn recent(&self, number: u32, offset: u64, count: usize) -> Option<Vec<Recent>> {
        let records = &self.partitions.get(number as usize)?.records;
        let to = records.partition_point(|record| record.offset < offset);
        Some(
            records
                .range(to.saturating_sub(count)..to)
                .map(|record| Recent { id: record.id, appended_at: record.appended_at, epoch: None })
                .collect(),
        )
    }

    /// Deletes what is past the retention and below what `needed_from` says for a partition's number and start.
    pub fn delete_old(&mut self, now: Timestamp, needed_from: impl Fn(u32, u64) -> Option<u64>) {
        let TopicKind::Stream { retention } = self.kind else { return };
        for (number, partition) in (0..).zip(&mut self.partitions) {
            let below = needed_from(number, partition.start).unwrap_or(partition.end);
            while partition.records.front().is_some_and(|record| {
                record.offset < below
                    && now.saturating_since(record.appended_at) > retention.max(Duration::from_millis(1))
            }) {
                partition.start = partition.records.pop_front().map_or(partition.start, |record| record.offset + 1);
            }
        }
    }

    pub fn put_latest(&self, key: &str, value: Option<Bytes>) -> Result<(), AppendError> {
        if !self.is_latest() {
            return Err(AppendError::Refused("the topic keeps no latest values".into()));
        }
        self.latest.send_modify(|values| {
            let values = Arc::make_mut(values);
            match value {
                Some(value) => drop(values.insert(key.to_owned(), value)),
                None => drop(values.remove(key)),
            }
        });
        Ok(())
    }

    pub fn follow_latest(&self) -> Result<watch::Receiver<Arc<LatestValues>>, Error> {
        if !self.is_latest() {
            return Err(Error::Refused("the topic keeps no latest values".into()));
        }
        Ok(self.latest.subscribe())
    }
}
