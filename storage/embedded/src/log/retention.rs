//! Deleting what is old and finished, a little at a time: the writer is never held long.

use super::append;
use super::schema::{int, records_table, uint};
use super::tx::Tx;

/// Rows deleted in one transaction.
const ROWS_MAX: usize = 1_000;

/// A partition that may have something to delete.
struct Candidate {
    partition: u32,
    start: u64,
    /// Some group is not past this.
    needed_from: u64,
    /// Appended before this: old.
    old_before_ms: u64,
}

/// Deletes records that are older than their topic's retention and below the commit of every group that ever joined
/// there, and identities that have served their time. True if there may be more.
pub(super) fn delete_some(tx: &mut Tx<'_>) -> rusqlite::Result<bool> {
    let mut more = append::forget_identities(tx, ROWS_MAX)?;
    let mut rows_left = ROWS_MAX;
    for candidate in candidates(tx)? {
        let deleted = delete(tx, &candidate, rows_left)?;
        rows_left -= deleted;
        if rows_left == 0 {
            more = true;
            break;
        }
    }
    Ok(more)
}

fn candidates(tx: &Tx<'_>) -> rusqlite::Result<Vec<Candidate>> {
    let now_ms = tx.now.as_millis();
    tx.prepare(
        "SELECT p.id, p.start_offset,
             coalesce((SELECT min(coalesce(l.committed, p.start_offset)) FROM leases l WHERE l.partition = p.id),
                      p.end_offset),
             t.retention_ms
         FROM partitions p JOIN topics t ON t.id = p.topic WHERE NOT t.latest",
    )?
    .query_map([], |row| {
        Ok(Candidate {
            partition: row.get(0)?,
            start: uint(row.get(1)?),
            needed_from: uint(row.get(2)?),
            old_before_ms: now_ms.saturating_sub(uint(row.get(3)?)),
        })
    })?
    .filter(|candidate| candidate.as_ref().map_or(true, |candidate| candidate.needed_from > candidate.start))
    .collect()
}

fn delete(tx: &Tx<'_>, candidate: &Candidate, rows_max: usize) -> rusqlite::Result<usize> {
    let table = records_table(candidate.partition);
    let oldest: Vec<(u64, u64)> = tx
        .prepare(&format!("SELECT offset, appended_at FROM {table} WHERE offset < ? ORDER BY offset LIMIT ?"))?
        .query_map((int(candidate.needed_from), int(rows_max as u64)), |row| {
            Ok((uint(row.get(0)?), uint(row.get(1)?)))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let old = oldest.into_iter().take_while(|(_, appended_at)| *appended_at < candidate.old_before_ms);
    let Some((last, _)) = old.last() else { return Ok(0) };
    let deleted = tx.prepare(&format!("DELETE FROM {table} WHERE offset <= ?"))?.execute([int(last)])?;
    tx.prepare("UPDATE partitions SET start_offset = ? WHERE id = ?")?.execute((int(last + 1), candidate.partition))?;
    Ok(deleted)
}
