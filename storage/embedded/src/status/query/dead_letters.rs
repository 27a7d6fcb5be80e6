//! Queries of dead letters. `dead_letters_by_reason` holds one *run* for each (tenant, reason, channel), without those that
//! were replayed: they serve filters as the runs of deliveries do.

use chat4all_proto::envelope::Reason;
use chat4all_proto::http::DeadLetterPage;
use chat4all_proto::{DeliveryId, Generation, TenantId};
use chat4all_storage::status::rows::{Letter, LetterKey, LetterRow, Listing, Position, Replay, Rows};
use chat4all_storage::status::{DeadLetterFilter, DeadLetterRow};
use rusqlite::{Connection, Row, Transaction, params};

use super::{Result, channels, more_than, parsed, positions};

pub(in crate::status) const LETTER: &str = "
    SELECT generation, failed_at_ms, body, accepted_at_ms, channel, reason, replayed_as, replay_accepted_at_ms
    FROM dead_letters WHERE tenant = ?1 AND delivery_id = ?2";
pub(in crate::status) const RUN: &str = "
    SELECT failed_at_ms, delivery_id FROM dead_letters
    WHERE tenant = ?1 AND reason = ?2 AND channel = ?3 AND (failed_at_ms, delivery_id) < (?4, ?5)
      AND failed_at_ms >= ?7 AND replayed_as <= generation
    ORDER BY failed_at_ms DESC, delivery_id DESC LIMIT ?6";
pub(in crate::status) const NEXT_CHANNEL: &str = "
    SELECT channel FROM dead_letters
    WHERE tenant = ?1 AND reason = ?2 AND channel > ?3 AND replayed_as <= generation ORDER BY channel LIMIT 1";

/// What stays keeps the letter out of the listings, as a replay of it does.
pub(in crate::status) const DISCARD: &str = "
    UPDATE dead_letters
    SET generation = NULL, failed_at_ms = NULL, body = NULL, accepted_at_ms = NULL, channel = NULL, reason = NULL,
        replayed_as = max(replayed_as, generation + 1),
        replay_accepted_at_ms = max(replay_accepted_at_ms, accepted_at_ms)
    WHERE tenant = ?1 AND delivery_id = ?2 AND generation <= ?3";

/// Called on the writer's thread, in a transaction. The number of letters that were there.
pub(in crate::status) fn discard(
    connection: &Connection,
    tenant: &TenantId,
    letters: &[(DeliveryId, Generation)],
) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(DISCARD)?;
    let mut discarded = 0;
    for (delivery, generation) in letters {
        discarded += statement.execute(params![tenant.as_str(), delivery.as_uuid().as_bytes(), generation.0])?;
    }
    Ok(discarded as u64)
}

pub(in crate::status) fn find(
    snapshot: &Transaction<'_>,
    tenant: &TenantId,
    delivery: DeliveryId,
) -> Result<Option<DeadLetterRow>> {
    let key = LetterKey { tenant: tenant.clone(), delivery };
    let mut rows = Rows::default();
    load(snapshot, &key, &mut rows)?;
    Ok(rows.dead_letter(&key)?)
}

pub(in crate::status) fn list(
    snapshot: &Transaction<'_>,
    tenant: &TenantId,
    filter: &DeadLetterFilter,
    after: Position,
    limit: usize,
) -> Result<DeadLetterPage> {
    let mut statement = snapshot.prepare_cached(RUN)?;
    let mut found = Vec::new();
    for (reason, channel) in runs(snapshot, tenant, filter)? {
        let place = (after.at_ms, after.id.as_bytes());
        let from = filter.from_ms();
        let key = params![tenant.as_str(), reason.as_str(), channel, place.0, place.1, more_than(limit), from];
        found.extend(positions(&mut statement, key, limit)?);
    }
    Position::newest_first(&mut found);
    let mut rows = Rows::default();
    for position in found.iter().take(limit) {
        let delivery = DeliveryId::from_uuid(position.id);
        load(snapshot, &LetterKey { tenant: tenant.clone(), delivery }, &mut rows)?;
    }
    Ok(rows.dead_letter_page(Listing::DeadLetters(tenant, filter), found, limit)?)
}

fn runs(snapshot: &Connection, tenant: &TenantId, filter: &DeadLetterFilter) -> Result<Vec<(Reason, String)>> {
    let mut runs = Vec::new();
    for reason in Reason::ALL.into_iter().filter(|reason| filter.reason.is_none_or(|asked| asked == *reason)) {
        let channels = match &filter.channel {
            Some(channel) => vec![channel.to_string()],
            None => channels(snapshot, NEXT_CHANNEL, tenant, &reason.as_str())?,
        };
        runs.extend(channels.into_iter().map(|channel| (reason, channel)));
    }
    Ok(runs)
}

fn load(connection: &Connection, key: &LetterKey, rows: &mut Rows) -> Result<()> {
    let id = key.delivery.as_uuid();
    let mut statement = connection.prepare_cached(LETTER)?;
    let mut found = statement.query(params![key.tenant.as_str(), id.as_bytes()])?;
    if let Some(row) = found.next()? {
        rows.dead_letters.insert(key.clone(), letter_row(row, 0)?);
    }
    Ok(())
}

/// A row of `dead_letters` whose halves begin at column `first`.
pub(in crate::status) fn letter_row(row: &Row<'_>, first: usize) -> Result<LetterRow> {
    let replay = Replay { generation: Generation(row.get(first + 6)?), accepted_at_ms: row.get(first + 7)? };
    let replay = (replay.generation > Generation(0)).then_some(replay);
    let Some(generation) = row.get(first)? else { return Ok(LetterRow { letter: None, replay }) };
    let letter = Letter {
        generation: Generation(generation),
        failed_at_ms: row.get(first + 1)?,
        body: row.get(first + 2)?,
        accepted_at_ms: row.get(first + 3)?,
        channel: parsed(row, first + 4)?,
        reason: row.get(first + 5)?,
    };
    Ok(LetterRow { letter: Some(letter), replay })
}
