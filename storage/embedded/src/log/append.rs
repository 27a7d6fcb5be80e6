//! Appending records and committing positions inside a transaction: fences, identities written once, offsets.
//! Run by the writer for `append`, `commit` and `append_and_commit`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chat4all_proto::Timestamp;
use chat4all_storage::log::{AppendError, Appended, Fingerprint, NewRecord, Record};
use rusqlite::OptionalExtension as _;

use super::job::Size;
use super::schema::{int, lease_id, records_table, uint};
use super::topics::TopicInfo;
use super::tx::Tx;

/// The assignment on whose behalf something is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fence {
    pub group: i64,
    pub member: i64,
    pub partition: u32,
    pub epoch: u64,
}

/// A position to be committed under its fence.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub fence: Fence,
    pub offset: u64,
    pub metadata: String,
}

/// Records and where they go.
pub(super) struct Batch {
    /// Each with its partition's number and id.
    records: Vec<(NewRecord, u32, u32)>,
}

impl Batch {
    /// Refuses what can never be written. `topics` are those of the records, in their order.
    pub(super) fn new(
        records: Vec<NewRecord>,
        topics: &[Arc<TopicInfo>],
        record_bytes_max: usize,
    ) -> Result<Self, AppendError> {
        let placed = records.into_iter().zip(topics).map(|(record, topic)| {
            let bytes = record.value.len() + record.key.as_str().len();
            if bytes > record_bytes_max {
                let reason = format!("it has {bytes} bytes, at most {record_bytes_max} are allowed");
                return Err(AppendError::Refused(reason));
            }
            if topic.latest {
                return Err(AppendError::Refused(format!("the topic `{}` keeps latest values only", topic.topic)));
            }
            let number = record.key.partition(u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX));
            Ok((record, number, topic.partitions[number as usize]))
        });
        Ok(Self { records: placed.collect::<Result<_, _>>()? })
    }

    pub(super) fn size(&self) -> Size {
        let bytes = self.records.iter().map(|(record, ..)| record.value.len() + record.key.as_str().len() + 200).sum();
        Size { records: self.records.len().max(1), bytes }
    }

    /// Writes all of them. The results stand in the order of the records.
    pub(super) fn write(&self, tx: &mut Tx<'_>) -> rusqlite::Result<Vec<Appended>> {
        let mut results = Vec::with_capacity(self.records.len());
        let mut by_partition: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, (record, number, partition)) in self.records.iter().enumerate() {
            let refused = match record.once {
                Some(fingerprint) => claim(tx, record, fingerprint)?,
                None => None,
            };
            if refused.is_none() {
                by_partition.entry(*partition).or_default().push(index);
            }
            results.push(refused.unwrap_or(Appended::At { partition: *number, offset: 0 }));
        }
        for (partition, indexes) in by_partition {
            self.write_partition(tx, partition, &indexes, &mut results)?;
        }
        Ok(results)
    }

    fn write_partition(
        &self,
        tx: &mut Tx<'_>,
        partition: u32,
        indexes: &[usize],
        results: &mut [Appended],
    ) -> rusqlite::Result<()> {
        let mut next = tx.end(partition)?;
        let followed = tx.is_followed(partition);
        let mut insert = tx.prepare(&format!(
            "INSERT INTO {}(offset, appended_at, key, uuid, generation, traceparent, value) VALUES (?,?,?,?,?,?,?)",
            records_table(partition)
        ))?;
        for &index in indexes {
            let (record, number, _) = &self.records[index];
            insert.execute((
                int(next),
                int(tx.now.as_millis()),
                record.key.as_str(),
                record.id.uuid.as_bytes().as_slice(),
                record.id.generation.0,
                record.traceparent.as_deref(),
                record.value.as_ref(),
            ))?;
            results[index] = Appended::At { partition: *number, offset: next };
            if followed {
                let appended = Arc::new(appended(record, next, tx.now));
                tx.effects.appended.entry(partition).or_default().records.push(appended);
            }
            next += 1;
        }
        tx.set_end(partition, next);
        Ok(())
    }
}

/// Makes a record's identity its own, or says why it is not written.
fn claim(tx: &Tx<'_>, record: &NewRecord, fingerprint: Fingerprint) -> rusqlite::Result<Option<Appended>> {
    let uuid = record.id.uuid.as_bytes().as_slice();
    let found: Option<(Fingerprint, i64)> = tx
        .prepare("SELECT fingerprint, first_at FROM once WHERE uuid = ?")?
        .query_row([uuid], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let now_ms = tx.now.as_millis();
    match found {
        Some((known, first_at)) if now_ms.saturating_sub(uint(first_at)) < tx.once_ms => {
            let first_at = Timestamp::from_millis(uint(first_at));
            Ok(Some(if known == fingerprint { Appended::Repeated { first_at } } else { Appended::Conflict }))
        }
        _ => {
            tx.prepare("INSERT OR REPLACE INTO once(uuid, fingerprint, first_at) VALUES (?, ?, ?)")?.execute((
                uuid,
                fingerprint.as_slice(),
                int(now_ms),
            ))?;
            Ok(None)
        }
    }
}

/// What the tail keeps of a record. The value is copied: whoever encoded it left room in its buffer, often as much again,
/// and it would stay for as long as the tail holds the record.
fn appended(record: &NewRecord, offset: u64, appended_at: Timestamp) -> Record {
    Record {
        offset,
        appended_at,
        key: record.key.clone(),
        id: record.id,
        value: Bytes::copy_from_slice(&record.value),
        traceparent: record.traceparent.clone(),
    }
}

/// Whether the assignment still holds.
pub(super) fn holds(tx: &Tx<'_>, fence: Fence) -> rusqlite::Result<bool> {
    tx.prepare("SELECT 1 FROM leases WHERE id = ? AND member = ? AND epoch = ?")?.exists((
        lease_id(fence.group, fence.partition),
        fence.member,
        int(fence.epoch),
    ))
}

/// Commits a position; false if its assignment is gone.
pub(super) fn commit(tx: &Tx<'_>, position: &Position) -> rusqlite::Result<bool> {
    let Fence { group, member, partition, epoch } = position.fence;
    let changed = tx
        .prepare("UPDATE leases SET committed = ?, metadata = ? WHERE id = ? AND member = ? AND epoch = ?")?
        .execute((int(position.offset), &position.metadata, lease_id(group, partition), member, int(epoch)))?;
    Ok(changed == 1)
}

/// Deletes some of the identities that have served their time. True if there may be more.
pub(super) fn forget_identities(tx: &Tx<'_>, rows_max: usize) -> rusqlite::Result<bool> {
    let before = tx.now.as_millis().saturating_sub(tx.once_ms);
    let deleted = tx
        .prepare("DELETE FROM once WHERE uuid IN (SELECT uuid FROM once WHERE first_at < ? LIMIT ?)")?
        .execute((int(before), int(rows_max as u64)))?;
    Ok(deleted == rows_max)
}

#[cfg(test)]
mod tests {
    use chat4all_proto::{Generation, Key, Topic};
    use chat4all_storage::log::RecordId;

    use super::*;

    #[test]
    fn what_the_tail_keeps_does_not_hold_the_buffer_that_was_handed_in() {
        let mut value = Vec::with_capacity(1_000);
        value.extend_from_slice(b"{}");
        let record = NewRecord {
            topic: Topic::Messages,
            key: Key::raw("k"),
            id: RecordId { uuid: uuid::Uuid::nil(), generation: Generation(0) },
            value: value.into(),
            traceparent: None,
            once: None,
        };
        let kept = appended(&record, 7, Timestamp::default());
        assert_eq!(kept.value, record.value);
        assert_ne!(kept.value.as_ptr(), record.value.as_ptr());
    }
}
