//! Deletes what is too old, a bounded part in each transaction, so that other writers get their turn.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::{claims, query};

/// Most messages that one call deletes, and most rows after which it stops.
const MESSAGES_MAX: u32 = 1_000;
const ROWS_MAX: usize = 10_000;

pub(super) const OLD_MESSAGES: &str = "
    SELECT id FROM messages WHERE tenant = ?1 AND accepted_at_ms < ?2 ORDER BY accepted_at_ms LIMIT ?3";
pub(super) const NEXT_TENANT: &str = "SELECT tenant FROM messages WHERE tenant > ?1 ORDER BY tenant LIMIT 1";
/// Events may come after their message was deleted, and nothing else would ever delete what they made.
pub(super) const OLD_ORPHANS: &str = "
    SELECT message_id, delivery_id FROM deliveries d
    WHERE tenant = ?1 AND status = ?2 AND channel = ?3 AND accepted_at_ms < ?4
      AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.tenant = d.tenant AND m.id = d.message_id)
    ORDER BY accepted_at_ms LIMIT ?5";

/// What carries its message's time, and so goes with it. `?1` is the bound, `?2` the most rows.
pub(super) const OLD_BY_TIME: [&str; 3] = [
    "DELETE FROM joins
     WHERE (channel, id) IN (SELECT channel, id FROM joins WHERE event_at_ms < ?1 LIMIT ?2)",
    "DELETE FROM contacts
     WHERE (tenant, channel, target) IN
        (SELECT tenant, channel, target FROM contacts WHERE accepted_at_ms < ?1 LIMIT ?2)",
    "DELETE FROM dead_letters
     WHERE rowid IN
        (SELECT rowid FROM dead_letters WHERE coalesce(accepted_at_ms, replay_accepted_at_ms) < ?1 LIMIT ?2)",
];
/// Receipts that no event came for within a day. `?1` is the most rows.
pub(super) const IN_VAIN: &str = "
    DELETE FROM joins
    WHERE (channel, id) IN
        (SELECT channel, id FROM joins WHERE event_at_ms IS NULL AND written_at_s < unixepoch() - 86400 LIMIT ?1)";

const DELETE_MESSAGE: [&str; 3] = [
    "DELETE FROM messages WHERE tenant = ?1 AND id = ?2",
    "DELETE FROM deliveries WHERE tenant = ?1 AND message_id = ?2",
    "DELETE FROM attempts WHERE tenant = ?1 AND message_id = ?2",
];
const DELETE_DELIVERY: [&str; 2] = [
    "DELETE FROM deliveries WHERE tenant = ?1 AND message_id = ?2 AND delivery_id = ?3",
    "DELETE FROM attempts WHERE tenant = ?1 AND message_id = ?2 AND delivery_id = ?3",
];

/// Deletes messages accepted before `bound_ms`, then what is from before it and has no message, then receipts that waited
/// in vain and claims that have outlived such messages for long enough. The number of rows.
pub(super) fn purge(connection: &Connection, bound_ms: i64) -> rusqlite::Result<u64> {
    let mut done = Done::default();
    let mut tenant = String::new();
    while let Some(next) = next_tenant(connection, &tenant)? {
        purge_tenant(connection, &next, bound_ms, &mut done)?;
        tenant = next;
    }
    let mut run = query::Run::default();
    while let Some(next) = query::next_run(connection, &run)? {
        purge_orphans(connection, &next, bound_ms, &mut done)?;
        run = next;
    }
    for statement in OLD_BY_TIME {
        done.rows += connection.prepare_cached(statement)?.execute(params![bound_ms, done.rows_left()])?;
    }
    done.rows += connection.prepare_cached(IN_VAIN)?.execute([done.rows_left()])?;
    done.rows += claims::purge(connection, bound_ms, done.rows_left())?;
    Ok(done.rows as u64)
}

#[derive(Default)]
struct Done {
    deleted: u32,
    rows: usize,
}

impl Done {
    fn left(&self) -> u32 {
        if self.rows < ROWS_MAX { MESSAGES_MAX - self.deleted } else { 0 }
    }

    fn rows_left(&self) -> i64 {
        ROWS_MAX.saturating_sub(self.rows) as i64
    }
}

fn next_tenant(connection: &Connection, after: &str) -> rusqlite::Result<Option<String>> {
    connection.prepare_cached(NEXT_TENANT)?.query_row([after], |row| row.get(0)).optional()
}

fn purge_tenant(connection: &Connection, tenant: &str, bound_ms: i64, done: &mut Done) -> rusqlite::Result<()> {
    let ids: Vec<Uuid> = connection
        .prepare_cached(OLD_MESSAGES)?
        .query_map(params![tenant, bound_ms, done.left()], |row| row.get(0).map(Uuid::from_bytes))?
        .collect::<rusqlite::Result<_>>()?;
    for id in ids {
        if done.left() == 0 {
            break;
        }
        for statement in DELETE_MESSAGE {
            done.rows += connection.prepare_cached(statement)?.execute(params![tenant, id.as_bytes()])?;
        }
        done.deleted += 1;
    }
    Ok(())
}

fn purge_orphans(connection: &Connection, run: &query::Run, bound_ms: i64, done: &mut Done) -> rusqlite::Result<()> {
    let found: Vec<(Uuid, Uuid)> = connection
        .prepare_cached(OLD_ORPHANS)?
        .query_map(params![run.tenant, run.status, run.channel, bound_ms, done.left()], |row| {
            Ok((Uuid::from_bytes(row.get(0)?), Uuid::from_bytes(row.get(1)?)))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (message, delivery) in found {
        for statement in DELETE_DELIVERY {
            let key = params![run.tenant, message.as_bytes(), delivery.as_bytes()];
            done.rows += connection.prepare_cached(statement)?.execute(key)?;
        }
        done.deleted += 1;
    }
    Ok(())
}
