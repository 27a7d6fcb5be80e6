//! The ends of the partitions and the newest records of those that are followed here, handed on in memory.
//! Filled by the writer after each commit, told of other processes' appends by the watcher, read by the consumers.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chat4all_storage::log::Record;

use super::tx::Appends;

/// What a follower finds at its position.
pub(super) enum Found {
    Records(Vec<Arc<Record>>),
    /// There are records, but not in memory: read the file.
    InFile,
    Nothing,
}

/// Bounded by bytes: what does not fit is dropped and read from the file.
pub(super) struct Tail {
    state: Mutex<State>,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    partitions: HashMap<u32, Followed>,
    bytes: usize,
}

/// A partition that somebody here consumes. `records` are contiguous.
#[derive(Default)]
struct Followed {
    end: u64,
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    /// Follower and the offset it reads next.
    positions: Vec<(u64, u64)>,
}

impl Tail {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), bytes_max }
    }

    /// `follower` reads `partition` from `position` on; `end` is what it knows of its end.
    pub(super) fn follow(&self, follower: u64, partition: u32, position: u64, end: u64) {
        let mut state = self.lock();
        let followed = state.partitions.entry(partition).or_default();
        followed.end = followed.end.max(end);
        followed.positions.retain(|(other, _)| *other != follower);
        followed.positions.push((follower, position));
    }

    pub(super) fn unfollow(&self, follower: u64, partition: u32) {
        let mut state = self.lock();
        let Some(followed) = state.partitions.get_mut(&partition) else { return };
        followed.positions.retain(|(other, _)| *other != follower);
        if followed.positions.is_empty() {
            let bytes = followed.bytes;
            state.partitions.remove(&partition);
            state.bytes -= bytes;
        }
    }

    pub(super) fn is_followed(&self, partition: u32) -> bool {
        self.lock().partitions.contains_key(&partition)
    }

    pub(super) fn any_followed(&self) -> bool {
        !self.lock().partitions.is_empty()
    }

    /// What `follower` reads at `position`, at most `records_max` and `bytes_max` (but one record always).
    pub(super) fn find(
        &self,
        follower: u64,
        partition: u32,
        position: u64,
        (records_max, bytes_max): (usize, usize),
    ) -> Found {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(followed) = state.partitions.get_mut(&partition) else { return Found::Nothing };
        state.bytes -= followed.advance(follower, position);
        if position >= followed.end {
            return Found::Nothing;
        }
        let first = match followed.records.front() {
            Some(first) if first.offset <= position => first.offset,
            _ => return Found::InFile,
        };
        let skip = usize::try_from(position - first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let records = followed.records.iter().skip(skip).take(records_max);
        let found: Vec<_> = records
            .take_while(|record| {
                let fits = bytes == 0 || bytes + record.value.len() <= bytes_max;
                bytes += record.value.len().max(1);
                fits
            })
            .cloned()
            .collect();
        if found.is_empty() { Found::InFile } else { Found::Records(found) }
    }

    /// Takes over what this process committed.
    pub(super) fn publish(&self, partition: u32, appends: Appends) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(followed) = state.partitions.get_mut(&partition) else { return };
        followed.end = followed.end.max(appends.end);
        let before = followed.bytes;
        followed.extend(appends.records);
        state.bytes = state.bytes - before + followed.bytes;
        while state.bytes > self.bytes_max {
            let Some(largest) = state.partitions.values_mut().max_by_key(|followed| followed.bytes) else { return };
            state.bytes -= largest.clear();
        }
    }

    /// Another process appended. True if that was news.
    pub(super) fn raise_end(&self, partition: u32, end: u64) -> bool {
        match self.lock().partitions.get_mut(&partition) {
            Some(followed) if followed.end < end => {
                followed.end = end;
                true
            }
            _ => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Followed {
    /// Notes a follower's position and lets go what all have read. Returns the bytes that became free.
    fn advance(&mut self, follower: u64, position: u64) -> usize {
        if let Some(known) = self.positions.iter_mut().find(|(other, _)| *other == follower) {
            known.1 = position;
        }
        let needed_from = self.positions.iter().map(|(_, position)| *position).min().unwrap_or(u64::MAX);
        let before = self.bytes;
        while self.records.front().is_some_and(|record| record.offset < needed_from) {
            self.bytes -= self.records.pop_front().map_or(0, |record| weight(&record));
        }
        before - self.bytes
    }

    fn extend(&mut self, records: Vec<Arc<Record>>) {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        // Whoever followed the partition may have changed within the transaction: then some are missing.
        if last.offset - first.offset + 1 != records.len() as u64 {
            self.clear();
            return;
        }
        let contiguous = self.records.back().is_none_or(|last| last.offset + 1 == first.offset);
        if !contiguous {
            self.clear();
        }
        self.bytes += records.iter().map(|record| weight(record)).sum::<usize>();
        self.records.extend(records);
    }

    fn clear(&mut self) -> usize {
        self.records.clear();
        std::mem::take(&mut self.bytes)
    }
}

fn weight(record: &Record) -> usize {
    record.value.len() + record.key.as_str().len() + 160
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chat4all_proto::{Generation, Key, Timestamp};
    use chat4all_storage::log::RecordId;

    use super::*;

    fn appended(offsets: &[u64]) -> Appends {
        let record = |&offset: &u64| {
            Arc::new(Record {
                offset,
                appended_at: Timestamp::default(),
                key: Key::raw("k"),
                id: RecordId { uuid: uuid::Uuid::nil(), generation: Generation(0) },
                value: Bytes::from_static(b"{}"),
                traceparent: None,
            })
        };
        Appends { end: offsets.last().map_or(0, |last| last + 1), records: offsets.iter().map(record).collect() }
    }

    /// A partition that changes its follower within a transaction: what was appended in between is only in the file.
    #[test]
    fn a_batch_with_a_record_missing_is_read_from_the_file() {
        let tail = Tail::new(1 << 20);
        tail.follow(1, 7, 10, 10);
        tail.publish(7, appended(&[10, 12]));
        assert!(matches!(tail.find(1, 7, 10, (100, 1 << 20)), Found::InFile));
        tail.publish(7, appended(&[13, 14]));
        assert!(matches!(tail.find(1, 7, 13, (100, 1 << 20)), Found::Records(found) if found.len() == 2));
    }
}
