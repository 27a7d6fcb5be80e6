//! What people see of the cluster: processes, who holds what, how far behind.

use std::path::Path;

use chat4all_proto::Timestamp;
use chat4all_proto::http::{ClusterView, GroupView, PartitionView, ProcessView};
use rusqlite::Connection;
use serde::de::DeserializeOwned;

use super::group::add_process;
use super::processes;
use super::schema::uint;
use super::tx::Tx;

/// Says what this process is.
pub(super) fn announce(tx: &Tx<'_>, process: &str, roles: &str, listens: &str) -> rusqlite::Result<()> {
    add_process(tx, process)?;
    tx.prepare("UPDATE processes SET roles = ?, listens = ? WHERE name = ?")?
        .execute((roles, listens, process))
        .map(drop)
}

/// Everything at one point in time. `members` is the folder of the processes' files.
pub(super) fn cluster(connection: &Connection, members: &Path, own: &str) -> rusqlite::Result<ClusterView> {
    let snapshot = connection.unchecked_transaction()?;
    let view = ClusterView { processes: processes(&snapshot, members, own)?, groups: groups(&snapshot)? };
    snapshot.finish()?;
    Ok(view)
}

fn processes(connection: &Connection, members: &Path, own: &str) -> rusqlite::Result<Vec<ProcessView>> {
    connection
        .prepare_cached("SELECT name, pid, roles, listens, started_at FROM processes ORDER BY started_at, name")?
        .query_map([], |row| {
            let process: String = row.get(0)?;
            Ok(ProcessView {
                alive: process == own || processes::is_alive(members, &process),
                process,
                pid: row.get(1)?,
                roles: list(&row.get::<_, String>(2)?),
                listens: list(&row.get::<_, String>(3)?),
                started_at: Timestamp::from_millis(uint(row.get(4)?)),
            })
        })?
        .collect()
}

/// What we wrote reads back; whatever else is there is shown as nothing.
fn list<T: DeserializeOwned>(json: &str) -> Vec<T> {
    serde_json::from_str(json).unwrap_or_default()
}

fn groups(connection: &Connection) -> rusqlite::Result<Vec<GroupView>> {
    let mut statement = connection.prepare_cached(
        "SELECT g.name, t.name, p.number, m.process, l.epoch, max(p.start_offset, coalesce(l.committed, 0)), p.end_offset
         FROM leases l JOIN consumer_groups g ON g.id = l.consumer_group JOIN partitions p ON p.id = l.partition
         JOIN topics t ON t.id = p.topic LEFT JOIN members m ON m.id = l.member
         ORDER BY g.name, t.name, p.number",
    )?;
    let mut rows = statement.query([])?;
    let mut groups: Vec<GroupView> = Vec::new();
    while let Some(row) = rows.next()? {
        let group: String = row.get(0)?;
        if groups.last().is_none_or(|last| last.group != group) {
            groups.push(GroupView { group, partitions: Vec::new() });
        }
        let (committed, end) = (uint(row.get(5)?), uint(row.get(6)?));
        let partition = PartitionView {
            topic: row.get(1)?,
            partition: row.get(2)?,
            holder: row.get(3)?,
            epoch: uint(row.get(4)?),
            committed,
            end,
            lag: end.saturating_sub(committed),
        };
        groups.last_mut().expect("pushed above").partitions.push(partition);
    }
    Ok(groups)
}
