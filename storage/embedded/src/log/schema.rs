//! The tables of `log.db`, and how rows become records. Used by everything under `log`.

use std::sync::Arc;

use bytes::Bytes;
use chat4all_proto::{Generation, Key, Timestamp};
use chat4all_storage::log::{Record, RecordId};
use rusqlite::Row;
use uuid::Uuid;

use crate::sqlite::Schema;

/// In the folder.
pub const FILE: &str = "log.db";

/// Records are in one table a partition (see [`records_table`]), by offset: reading on from an offset costs the same
/// whatever lies before and behind it.
pub(super) const SCHEMA: Schema = Schema {
    application_id: 0x4334_4C6F,
    version: 1,
    create: "
CREATE TABLE topics(
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, latest INTEGER NOT NULL, retention_ms INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 0);
CREATE TABLE partitions(
    id INTEGER PRIMARY KEY, topic INTEGER NOT NULL, number INTEGER NOT NULL,
    start_offset INTEGER NOT NULL DEFAULT 0, end_offset INTEGER NOT NULL DEFAULT 0, UNIQUE(topic, number));
CREATE TABLE latest(topic INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY(topic, key));
CREATE TABLE once(uuid BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, first_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX once_by_age ON once(first_at);
CREATE TABLE processes(
    name TEXT PRIMARY KEY, pid INTEGER NOT NULL, started_at INTEGER NOT NULL, roles TEXT NOT NULL,
    listens TEXT NOT NULL);
CREATE TABLE consumer_groups(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, generation INTEGER NOT NULL);
CREATE TABLE members(
    id INTEGER PRIMARY KEY AUTOINCREMENT, consumer_group INTEGER NOT NULL, process TEXT NOT NULL,
    beat INTEGER NOT NULL);
CREATE TABLE subscriptions(member INTEGER NOT NULL, topic INTEGER NOT NULL, PRIMARY KEY(member, topic)) WITHOUT ROWID;
CREATE TABLE leases(
    id INTEGER PRIMARY KEY, consumer_group INTEGER NOT NULL, partition INTEGER NOT NULL, member INTEGER,
    epoch INTEGER NOT NULL, committed INTEGER, metadata TEXT NOT NULL);
CREATE INDEX leases_by_member ON leases(member);
CREATE INDEX leases_by_partition ON leases(partition)",
};

/// Makes the table of a partition's records.
pub(super) fn create_records(partition: u32) -> String {
    format!(
        "CREATE TABLE {}(offset INTEGER PRIMARY KEY, appended_at INTEGER NOT NULL, key TEXT NOT NULL, \
         uuid BLOB NOT NULL, generation INTEGER NOT NULL, traceparent TEXT, value BLOB NOT NULL)",
        records_table(partition)
    )
}

pub(super) fn records_table(partition: u32) -> String {
    format!("records_{partition}")
}

/// The row of a partition's lease in a group.
pub(super) fn lease_id(group: i64, partition: u32) -> i64 {
    group << 32 | i64::from(partition)
}

/// Offsets, epochs and times are far below 2^63.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).expect("offsets, epochs and times stay below 2^63")
}

pub(super) fn uint(number: i64) -> u64 {
    u64::try_from(number).expect("we write no negative numbers")
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(i64::MAX as u64).min(i64::MAX as u64)
}

/// The wall clock.
pub(super) fn now() -> Timestamp {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(millis(since_1970))
}

/// Reads `offset, appended_at, key, uuid, generation, traceparent, value`.
pub(super) fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let traceparent: Option<Arc<str>> = row.get(5)?;
    Ok(Record {
        offset: uint(row.get(0)?),
        appended_at: Timestamp::from_millis(uint(row.get(1)?)),
        key: Key::raw(row.get::<_, String>(2)?),
        id: RecordId { uuid: Uuid::from_bytes(row.get(3)?), generation: Generation(row.get(4)?) },
        traceparent,
        value: Bytes::from(row.get::<_, Vec<u8>>(6)?),
    })
}
