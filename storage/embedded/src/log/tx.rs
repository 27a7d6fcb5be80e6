//! One write transaction: what the jobs in it see and what it changes for others once it is durable.
//! Made by the writer for each transaction, used by every job.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::Timestamp;
use chat4all_storage::log::Record;
use rusqlite::{CachedStatement, Connection};

use super::schema::{int, millis, uint};
use super::tail::Tail;

/// A transaction under way.
pub(super) struct Tx<'a> {
    pub connection: &'a Connection,
    /// The time of all that is written in it.
    pub now: Timestamp,
    /// How long an identity is kept that was written with `once`.
    pub once_ms: u64,
    pub effects: Effects,
    tail: &'a Tail,
    ends: HashMap<u32, u64>,
}

/// What others are told after the commit.
#[derive(Default)]
pub(super) struct Effects {
    /// By partition.
    pub appended: BTreeMap<u32, Appends>,
    /// Groups whose members or free partitions changed, and their new generation.
    pub groups: HashMap<i64, u64>,
    /// Keyed latest-value topics with a new value.
    pub latest: HashSet<i64>,
}

/// What was appended to one partition.
#[derive(Default)]
pub(super) struct Appends {
    pub end: u64,
    /// All of it, if somebody here follows the partition.
    pub records: Vec<Arc<Record>>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(connection: &'a Connection, tail: &'a Tail, now: Timestamp, once_kept: Duration) -> Self {
        Self { connection, now, once_ms: millis(once_kept), tail, effects: Effects::default(), ends: HashMap::new() }
    }

    pub(super) fn prepare(&self, sql: &str) -> rusqlite::Result<CachedStatement<'a>> {
        self.connection.prepare_cached(sql)
    }

    /// The offset of the next record of `partition`, as far as this transaction has come.
    pub(super) fn end(&mut self, partition: u32) -> rusqlite::Result<u64> {
        if let Some(end) = self.ends.get(&partition) {
            return Ok(*end);
        }
        let end = self
            .prepare("SELECT end_offset FROM partitions WHERE id = ?")?
            .query_row([partition], |row| row.get(0).map(uint))?;
        self.ends.insert(partition, end);
        Ok(end)
    }

    pub(super) fn set_end(&mut self, partition: u32, end: u64) {
        self.ends.insert(partition, end);
        self.effects.appended.entry(partition).or_default().end = end;
    }

    pub(super) fn is_followed(&self, partition: u32) -> bool {
        self.tail.is_followed(partition)
    }

    /// Tells the members of `group` to look again who holds what.
    pub(super) fn bump_group(&mut self, group: i64) -> rusqlite::Result<u64> {
        let generation = self
            .prepare("UPDATE consumer_groups SET generation = generation + 1 WHERE id = ? RETURNING generation")?
            .query_row([group], |row| row.get(0).map(uint))?;
        self.effects.groups.insert(group, generation);
        Ok(generation)
    }

    /// Writes what the jobs left to the end of the transaction.
    pub(super) fn finish(self) -> rusqlite::Result<Effects> {
        for (partition, appends) in &self.effects.appended {
            self.prepare("UPDATE partitions SET end_offset = ? WHERE id = ?")?
                .execute((int(appends.end), partition))?;
        }
        Ok(self.effects)
    }
}
