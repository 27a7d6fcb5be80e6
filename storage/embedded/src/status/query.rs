//! Queries, each on one snapshot. A listing first finds the places of its messages in an index, then loads the rows of
//! those that the page shows.
//!
//! `deliveries_by_status` holds one *run* for each (tenant, status, channel), newest last. A filter names some runs:
//! with both parts one, with a status those of all channels, with a channel those of all statuses. Each run gives its
//! newest, and the newest of these make the page. So one index serves all filters, and every write pays for one only.

pub(super) mod dead_letters;
pub(super) mod joins;

use std::fmt::Display;
use std::str::FromStr;

use chat4all_proto::http::{MessagePage, MessageView};
use chat4all_proto::{
    Address, ConversationId, DeliveryId, DeliveryStatus, Generation, Message, MessageId, TenantId, Timestamp,
};
use chat4all_storage::status::rows::{
    self, AttemptKey, DeliveryKey, DeliveryRow, Listing, MessageKey, MessageRow, Position, ProviderIdRow, Rows,
};
use chat4all_storage::status::{Error, Filter};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row, ToSql, Transaction, params};
use uuid::Uuid;

use super::readers::QueryError;

pub(super) const CONVERSATION: &str = "
    SELECT accepted_at_ms, id FROM messages
    WHERE tenant = ?1 AND conversation = ?2 AND (accepted_at_ms, id) < (?3, ?4)
    ORDER BY accepted_at_ms DESC, id DESC LIMIT ?5";
pub(super) const ALL: &str = "
    SELECT accepted_at_ms, id FROM messages
    WHERE tenant = ?1 AND (accepted_at_ms, id) < (?2, ?3)
    ORDER BY accepted_at_ms DESC, id DESC LIMIT ?4";
/// Leaves out deliveries whose message has not come.
pub(super) const RUN: &str = "
    SELECT accepted_at_ms, message_id FROM deliveries d
    WHERE tenant = ?1 AND status = ?2 AND channel = ?3 AND (accepted_at_ms, message_id) < (?4, ?5)
      AND EXISTS (SELECT 1 FROM messages m WHERE m.tenant = d.tenant AND m.id = d.message_id)
    ORDER BY accepted_at_ms DESC, message_id DESC";
pub(super) const NEXT_CHANNEL: &str = "
    SELECT channel FROM deliveries WHERE tenant = ?1 AND status = ?2 AND channel > ?3 ORDER BY channel LIMIT 1";
pub(super) const NEXT_RUN: &str = "
    SELECT tenant, status, channel FROM deliveries WHERE (tenant, status, channel) > (?1, ?2, ?3)
    ORDER BY tenant, status, channel LIMIT 1";
pub(super) const MESSAGE: &str = "
    SELECT accepted_at_ms, conversation, body FROM messages WHERE tenant = ?1 AND id = ?2";
pub(super) const DELIVERIES: &str = "
    SELECT delivery_id, precedence, updated_at_ms, accepted_at_ms, channel, target, body, provider_precedence, provider_id
    FROM deliveries WHERE tenant = ?1 AND message_id = ?2";
pub(super) const ATTEMPTS: &str = "
    SELECT delivery_id, generation, number, body, started_at_ms FROM attempts WHERE tenant = ?1 AND message_id = ?2";
pub(super) const ANY: &str = "SELECT 1 FROM messages WHERE tenant = '' LIMIT 1";

type Result<T, E = QueryError> = std::result::Result<T, E>;

pub(super) fn message(
    snapshot: &Transaction<'_>,
    tenant: &TenantId,
    id: MessageId,
    now: Timestamp,
) -> Result<Option<MessageView>> {
    let key = MessageKey { tenant: tenant.clone(), message: id };
    let mut rows = Rows::default();
    load(snapshot, &key, &mut rows)?;
    Ok(rows.view(&key, now)?)
}

pub(super) fn conversation(
    snapshot: &Transaction<'_>,
    tenant: &TenantId,
    conversation: &ConversationId,
    after: Position,
    limit: usize,
    now: Timestamp,
) -> Result<MessagePage> {
    let mut statement = snapshot.prepare_cached(CONVERSATION)?;
    let key = params![tenant.as_str(), conversation.as_str(), after.at_ms, after.id.as_bytes(), more_than(limit)];
    let found = positions(&mut statement, key, limit)?;
    show(snapshot, Listing::Conversation(tenant, conversation), found, limit, now)
}

pub(super) fn messages(
    snapshot: &Transaction<'_>,
    tenant: &TenantId,
    filter: &Filter,
    after: Position,
    limit: usize,
    now: Timestamp,
) -> Result<MessagePage> {
    let mut found = Vec::new();
    if *filter == Filter::default() {
        let mut statement = snapshot.prepare_cached(ALL)?;
        let key = params![tenant.as_str(), after.at_ms, after.id.as_bytes(), more_than(limit)];
        found = positions(&mut statement, key, limit)?;
    }
    for (status, channel) in runs(snapshot, tenant, filter)? {
        let mut statement = snapshot.prepare_cached(RUN)?;
        let key = params![tenant.as_str(), status.rank(), channel, after.at_ms, after.id.as_bytes()];
        found.extend(positions(&mut statement, key, limit)?);
    }
    show(snapshot, Listing::Messages(tenant, filter), found, limit, now)
}

pub(super) fn accepted(snapshot: &Transaction<'_>, tenant: &TenantId, id: MessageId) -> Result<Option<Message>> {
    let key = MessageKey { tenant: tenant.clone(), message: id };
    let mut rows = Rows::default();
    load_message(snapshot, &key, &mut rows)?;
    Ok(rows.accepted(&key)?)
}

pub(super) fn check(snapshot: &Transaction<'_>) -> Result<()> {
    snapshot.prepare_cached(ANY)?.exists([])?;
    Ok(())
}

/// A key of `deliveries_by_status` without the time.
#[derive(Default)]
pub(super) struct Run {
    pub(super) tenant: String,
    pub(super) status: i64,
    pub(super) channel: String,
}

/// The run after `run`, over all tenants.
pub(super) fn next_run(connection: &Connection, run: &Run) -> rusqlite::Result<Option<Run>> {
    let next = |row: &Row<'_>| Ok(Run { tenant: row.get(0)?, status: row.get(1)?, channel: row.get(2)? });
    connection.prepare_cached(NEXT_RUN)?.query_row(params![run.tenant, run.status, run.channel], next).optional()
}

/// The runs that a filter names; none for the empty filter, which is no matter of deliveries.
fn runs(snapshot: &Transaction<'_>, tenant: &TenantId, filter: &Filter) -> Result<Vec<(DeliveryStatus, String)>> {
    Ok(match (filter.status, &filter.channel) {
        (None, None) => Vec::new(),
        (Some(status), Some(channel)) => vec![(status, channel.to_string())],
        (None, Some(channel)) => DeliveryStatus::ALL.map(|status| (status, channel.to_string())).into(),
        (Some(status), None) => {
            let channels = channels(snapshot, NEXT_CHANNEL, tenant, &status.rank())?;
            channels.into_iter().map(|channel| (status, channel)).collect()
        }
    })
}

/// The channels of all runs of a status or reason: `next` finds the one after another.
fn channels(snapshot: &Connection, next: &str, tenant: &TenantId, of: &dyn ToSql) -> rusqlite::Result<Vec<String>> {
    let mut statement = snapshot.prepare_cached(next)?;
    let mut channels: Vec<String> = Vec::new();
    loop {
        let after = channels.last().map_or("", String::as_str);
        let found = statement.query_row(params![tenant.as_str(), of, after], |row| row.get(0)).optional()?;
        let Some(channel) = found else { return Ok(channels) };
        channels.push(channel);
    }
}

/// The first places of a listing in order, each once, and one more than the page shows, to know whether it is the last.
fn positions(statement: &mut CachedStatement<'_>, key: impl Params, limit: usize) -> Result<Vec<Position>> {
    let mut found: Vec<Position> = Vec::new();
    let mut rows = statement.query(key)?;
    while found.len() <= limit
        && let Some(row) = rows.next()?
    {
        let position = Position { at_ms: row.get(0)?, id: uuid(row, 1)? };
        if found.last() != Some(&position) {
            found.push(position);
        }
    }
    Ok(found)
}

fn more_than(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

fn show(
    snapshot: &Transaction<'_>,
    listing: Listing<'_>,
    mut found: Vec<Position>,
    limit: usize,
    now: Timestamp,
) -> Result<MessagePage> {
    Position::newest_first(&mut found);
    let mut rows = Rows::default();
    for position in found.iter().take(limit) {
        let message = MessageId::from_uuid(position.id);
        load(snapshot, &MessageKey { tenant: listing.tenant().clone(), message }, &mut rows)?;
    }
    Ok(rows.page(listing, found, limit, now)?)
}

/// Loads a message's row and all that belongs to it; nothing if it has not come.
fn load(connection: &Connection, key: &MessageKey, rows: &mut Rows) -> Result<()> {
    load_message(connection, key, rows)?;
    if !rows.messages.contains_key(key) {
        return Ok(());
    }
    let id = key.message.as_uuid();
    let params = params![key.tenant.as_str(), id.as_bytes()];
    let delivery = |row: &Row<'_>| {
        uuid(row, 0).map(|id| DeliveryKey { message: key.clone(), delivery: DeliveryId::from_uuid(id) })
    };
    let mut statement = connection.prepare_cached(DELIVERIES)?;
    let mut found = statement.query(params)?;
    while let Some(row) = found.next()? {
        let key = delivery(row)?;
        if let Some(provider_id) = row.get(8)? {
            rows.provider_ids.insert(key.clone(), ProviderIdRow { precedence: row.get(7)?, provider_id });
        }
        rows.deliveries.insert(key, delivery_row(row)?);
    }
    let mut statement = connection.prepare_cached(ATTEMPTS)?;
    let mut found = statement.query(params)?;
    while let Some(row) = found.next()? {
        let key = AttemptKey {
            delivery: delivery(row)?,
            generation: Generation(row.get(1)?),
            started_at: rows::timestamp(row.get(4)?),
            number: row.get(2)?,
        };
        rows.attempts.insert(key, row.get(3)?);
    }
    Ok(())
}

fn load_message(connection: &Connection, key: &MessageKey, rows: &mut Rows) -> Result<()> {
    let id = key.message.as_uuid();
    let mut statement = connection.prepare_cached(MESSAGE)?;
    let mut found = statement.query(params![key.tenant.as_str(), id.as_bytes()])?;
    if let Some(row) = found.next()? {
        rows.messages.insert(key.clone(), message_row(row)?);
    }
    Ok(())
}

fn message_row(row: &Row<'_>) -> Result<MessageRow> {
    Ok(MessageRow { accepted_at_ms: row.get(0)?, conversation: parsed(row, 1)?, body: row.get(2)? })
}

fn delivery_row(row: &Row<'_>) -> Result<DeliveryRow> {
    let target: String = row.get(5)?;
    Ok(DeliveryRow {
        precedence: row.get(1)?,
        updated_at_ms: row.get(2)?,
        accepted_at_ms: row.get(3)?,
        address: Address { channel: parsed(row, 4)?, target: target.into() },
        body: row.get(6)?,
    })
}

/// A checked name.
fn parsed<T: FromStr<Err: Display>>(row: &Row<'_>, index: usize) -> Result<T> {
    let text: String = row.get(index)?;
    let refused = |error| Error::Refused(format!("a row of the status store cannot be read: {error}"));
    Ok(text.parse().map_err(refused)?)
}

fn uuid(row: &Row<'_>, index: usize) -> rusqlite::Result<Uuid> {
    row.get(index).map(Uuid::from_bytes)
}
