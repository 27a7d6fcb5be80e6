//! What can be known once the processes have ended: takeovers from their logs, positions and commits from the log's file.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::checker::{Position, Takeover};

/// The outbound topic of the channel that most tests send through.
pub const HOOK: &str = "hook-outbound";

/// The takeovers of an outbound topic's partitions that JSON logs tell of, by time.
pub fn takeovers(logs: &str, outbound: &str) -> Vec<Takeover> {
    let mut takeovers: Vec<Takeover> = logs.lines().filter_map(|line| takeover(line, outbound)).collect();
    takeovers.sort_by_key(|takeover| takeover.at);
    takeovers
}

fn takeover(line: &str, outbound: &str) -> Option<Takeover> {
    if !line.contains("partition assigned") {
        return None;
    }
    let line: Value = serde_json::from_str(line).ok()?;
    if line["topic"] != outbound {
        return None;
    }
    Some(Takeover {
        at: OffsetDateTime::parse(line["timestamp"].as_str()?, &Rfc3339).ok().map(SystemTime::from)?,
        partition: line["partition"].as_u64()?.try_into().ok()?,
        epoch: line["epoch"].as_u64()?,
        watermark: line["watermark"].as_u64()?,
        finished: ranges(line["finished"].as_str()?)?,
    })
}

/// `3,5-7` as the offsets 3, 5, 6, 7.
fn ranges(text: &str) -> Option<BTreeSet<u64>> {
    let mut offsets = BTreeSet::new();
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        offsets.extend(first.parse::<u64>().ok()?..=last.parse().ok()?);
    }
    Some(offsets)
}

/// The log's file, open for reading. Only when no process of the cluster runs.
pub fn open(data: &Path) -> Connection {
    Connection::open_with_flags(data.join("log.db"), OpenFlags::SQLITE_OPEN_READ_WRITE).expect("the log's file")
}

/// For each partition of a topic: its number, and its table.
fn tables(log: &Connection, topic: &str) -> Vec<(u32, String)> {
    let sql = "SELECT number, partitions.id FROM partitions JOIN topics ON topics.id = topic WHERE name = ?1";
    let mut statement = log.prepare(sql).expect("the schema");
    let rows = statement.query_map([topic], |row| Ok((row.get(0)?, format!("records_{}", row.get::<_, i64>(1)?))));
    rows.and_then(Iterator::collect).expect("partitions")
}

/// Where every record of a topic stands, each partition's in its order, by the `dlv_…` that it is about.
pub fn all_positions(data: &Path, topic: &str) -> Vec<(String, Position)> {
    let log = open(data);
    let mut positions = Vec::new();
    for (partition, table) in tables(&log, topic) {
        let mut statement = log.prepare(&format!("SELECT uuid, offset FROM {table} ORDER BY offset")).expect("a table");
        let rows = statement.query_map([], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, i64>(1)?)));
        for row in rows.expect("records") {
            let (uuid, offset) = row.expect("a record");
            let position = Position { partition, offset: offset.try_into().expect("not negative") };
            positions.push((format!("dlv_{}", Uuid::from_bytes(uuid)), position));
        }
    }
    positions
}

/// Records of a topic beyond the first of their id. None on the embedded log: a key is accepted once, a message routed
/// once.
fn written_again(log: &Connection, topic: &str) -> i64 {
    let count = |(_, table): &(u32, String)| {
        let sql = format!("SELECT count(*) - count(DISTINCT uuid) FROM {table}");
        log.query_row(&sql, [], |row| row.get::<_, i64>(0)).expect("a table")
    };
    tables(log, topic).iter().map(count).sum()
}

/// Panics unless each message was accepted once and routed once.
pub fn must_be_written_once(data: &Path, outbound: &str) {
    let log = open(data);
    for topic in ["messages", outbound] {
        assert_eq!(written_again(&log, topic), 0, "records written again on `{topic}`");
    }
}

/// The values of all records of a topic, as JSON.
pub fn values(data: &Path, topic: &str) -> Vec<Value> {
    let log = open(data);
    let mut values = Vec::new();
    for (_, table) in tables(&log, topic) {
        let mut statement = log.prepare(&format!("SELECT value FROM {table} ORDER BY offset")).expect("a table");
        let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("records");
        values.extend(rows.map(|row| serde_json::from_slice::<Value>(&row.expect("a record")).expect("JSON")));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_is_read_from_its_log_line() {
        let line = r#"{"timestamp":"2026-11-24T21:53:50.123456Z","level":"INFO","message":"partition assigned","group":"hook","topic":"hook-outbound","partition":4,"epoch":3,"watermark":12,"finished":"13,15-17","target":"x"}"#;
        let takeovers = takeovers(&format!("{line}\n{}\nno json", line.replace(HOOK, "messages")), HOOK);
        let [takeover] = takeovers.as_slice() else { panic!("{takeovers:?}") };
        assert_eq!((takeover.partition, takeover.epoch, takeover.watermark), (4, 3, 12));
        assert_eq!(takeover.finished, BTreeSet::from([13, 15, 16, 17]));
    }
}
