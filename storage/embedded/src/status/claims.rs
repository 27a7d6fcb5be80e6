//! Claims on message ids, for a log that cannot tell repeats itself. Called on the writer's thread, in a transaction.

use chat4all_storage::status::claims::{ClaimRow, OUTLIVES_MESSAGE_BY};
use chat4all_storage::status::{Claim, Claimed, rows};
use rusqlite::{Connection, params};

const INSERT: &str = "
    INSERT INTO claims (tenant, message_id, fingerprint, first_at_ms, last_at_ms) VALUES (?1, ?2, ?3, ?4, ?4)
    ON CONFLICT DO NOTHING";
pub(super) const FIND: &str = "
    SELECT fingerprint, first_at_ms, appended FROM claims WHERE tenant = ?1 AND message_id = ?2";
pub(super) const ALLOW_AGAIN: &str = "
    UPDATE claims SET last_at_ms = max(last_at_ms, ?3) WHERE tenant = ?1 AND message_id = ?2";
pub(super) const MARK: &str = "
    UPDATE claims SET appended = TRUE WHERE tenant = ?1 AND message_id = ?2 AND fingerprint = ?3";
pub(super) const OLD: &str = "
    DELETE FROM claims
    WHERE (tenant, message_id) IN (SELECT tenant, message_id FROM claims WHERE last_at_ms < ?1 LIMIT ?2)";

pub(super) fn claim(connection: &Connection, claims: &[Claim]) -> rusqlite::Result<Vec<Claimed>> {
    claims.iter().map(|claim| claim_one(connection, claim)).collect()
}

fn claim_one(connection: &Connection, claim: &Claim) -> rusqlite::Result<Claimed> {
    let (tenant, id, at_ms) = (claim.tenant.as_str(), claim.message_id.as_uuid(), rows::millis(claim.accepted_at));
    let row = params![tenant, id.as_bytes(), claim.fingerprint, at_ms];
    if connection.prepare_cached(INSERT)?.execute(row)? == 1 {
        return Ok(Claimed::New);
    }
    let found = connection.prepare_cached(FIND)?.query_row(params![tenant, id.as_bytes()], |row| {
        Ok(ClaimRow { fingerprint: row.get(0)?, first_at: rows::timestamp(row.get(1)?), appended: row.get(2)? })
    })?;
    let claimed = found.meet(&claim.fingerprint);
    if matches!(claimed, Claimed::Unsettled { .. }) {
        connection.prepare_cached(ALLOW_AGAIN)?.execute(params![tenant, id.as_bytes(), at_ms])?;
    }
    Ok(claimed)
}

pub(super) fn mark_appended(connection: &Connection, claims: &[Claim]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(MARK)?;
    for claim in claims {
        statement.execute(params![claim.tenant.as_str(), claim.message_id.as_uuid().as_bytes(), claim.fingerprint])?;
    }
    Ok(())
}

/// Deletes at most `rows_max` claims that have outlived messages accepted before `bound_ms` for long enough. Their number.
pub(super) fn purge(connection: &Connection, bound_ms: i64, rows_max: i64) -> rusqlite::Result<usize> {
    let outlived_ms = i64::try_from(OUTLIVES_MESSAGE_BY.as_millis()).expect("an hour of milliseconds fits");
    connection.prepare_cached(OLD)?.execute(params![bound_ms.saturating_sub(outlived_ms), rows_max])
}
