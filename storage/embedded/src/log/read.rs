//! Reading from `log.db`: a few connections that take turns, and the queries that need no transaction.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use chat4all_proto::{Generation, Timestamp};
use chat4all_storage::log::{Error, Recent, Record, RecordId};
use rusqlite::Connection;
use uuid::Uuid;

use super::schema::{int, record, records_table, uint};
use super::topics::TopicInfo;
use crate::sqlite;

/// Connections kept when nobody uses them.
const KEPT_MAX: usize = 3;

/// The reading connections of this process.
pub(super) struct Readers {
    file: PathBuf,
    free: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, free: Mutex::default() }
    }

    /// Runs `query` on a connection of its own. Blocks.
    pub(super) fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        let free = self.lock().pop();
        let connection = match free {
            Some(connection) => connection,
            None => sqlite::open_reader(&self.file).map_err(|error| Error::Unavailable(error.to_string()))?,
        };
        let result = query(&connection);
        let mut free = self.lock();
        if result.is_ok() && free.len() < KEPT_MAX {
            free.push(connection);
        }
        result.map_err(|error| Error::Unavailable(error.to_string()))
    }

    pub(super) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records of `partition` from `offset` on, at most `records_max` and `bytes_max` (but one always).
pub(super) fn records(
    connection: &Connection,
    partition: u32,
    offset: u64,
    (records_max, bytes_max): (usize, usize),
) -> rusqlite::Result<Vec<Arc<Record>>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT offset, appended_at, key, uuid, generation, traceparent, value FROM {} WHERE offset >= ? \
         ORDER BY offset LIMIT ?",
        records_table(partition)
    ))?;
    let mut rows = statement.query((int(offset.min(i64::MAX as u64)), int(records_max as u64)))?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let record = record(row)?;
        bytes += record.value.len();
        if bytes > bytes_max && !found.is_empty() {
            break;
        }
        found.push(Arc::new(record));
    }
    Ok(found)
}

/// The last `count` records below `offset`, oldest first.
pub(super) fn recent(
    connection: &Connection,
    partition: u32,
    offset: u64,
    count: usize,
) -> rusqlite::Result<Vec<Recent>> {
    let mut seen = connection
        .prepare_cached(&format!(
            "SELECT uuid, generation, appended_at FROM {} WHERE offset < ? ORDER BY offset DESC LIMIT ?",
            records_table(partition)
        ))?
        .query_map((int(offset.min(i64::MAX as u64)), int(count as u64)), |row| {
            let id = RecordId { uuid: Uuid::from_bytes(row.get(0)?), generation: Generation(row.get(1)?) };
            Ok(Recent { id, appended_at: Timestamp::from_millis(uint(row.get(2)?)), epoch: None })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    seen.reverse();
    Ok(seen)
}

/// One past the last offset of each partition.
pub(super) fn ends(connection: &Connection, topic: &TopicInfo) -> rusqlite::Result<Vec<u64>> {
    connection
        .prepare_cached("SELECT end_offset FROM partitions WHERE topic = ? ORDER BY number")?
        .query_map([topic.id], |row| row.get(0).map(uint))?
        .collect()
}

/// What `group` has committed in each partition; the start of the partition if nothing.
pub(super) fn committed(connection: &Connection, group: &str, topic: &TopicInfo) -> rusqlite::Result<Vec<u64>> {
    connection
        .prepare_cached(
            "SELECT max(start_offset, coalesce(
                 (SELECT committed FROM leases WHERE partition = p.id
                  AND consumer_group = (SELECT id FROM consumer_groups WHERE name = ?)), 0))
             FROM partitions p WHERE topic = ? ORDER BY number",
        )?
        .query_map((group, topic.id), |row| row.get(0).map(uint))?
        .collect()
}
