//! Queries of what receipts are matched by.

use chat4all_proto::{Address, ConversationId, TenantId};
use chat4all_storage::status::rows::{Half, JoinRow, Rows};
use chat4all_storage::status::{Join, JoinKey};
use rusqlite::{Row, Transaction};

use super::{Result, parsed};

pub(in crate::status) const JOIN: &str = "
    SELECT event_rank, event_at_ms, event, receipt_rank, receipt_at_ms, receipt FROM joins WHERE channel = ?1 AND id = ?2";
pub(in crate::status) const CONTACT: &str = "
    SELECT conversation FROM contacts WHERE tenant = ?1 AND channel = ?2 AND target = ?3";

pub(in crate::status) fn find(snapshot: &Transaction<'_>, keys: &[JoinKey]) -> Result<Vec<Join>> {
    let mut statement = snapshot.prepare_cached(JOIN)?;
    let mut rows = Rows::default();
    for key in keys {
        let mut found = statement.query([key.channel.as_str(), &key.id])?;
        if let Some(row) = found.next()? {
            rows.joins.insert(key.clone(), join_row(row, 0)?);
        }
    }
    keys.iter().map(|key| Ok(rows.join(key)?)).collect()
}

pub(in crate::status) fn conversation_with(
    snapshot: &Transaction<'_>,
    tenant: &TenantId,
    address: &Address,
) -> Result<Option<ConversationId>> {
    let mut statement = snapshot.prepare_cached(CONTACT)?;
    let mut found = statement.query([tenant.as_str(), address.channel.as_str(), &address.target])?;
    found.next()?.map(|row| parsed(row, 0)).transpose()
}

/// A row of `joins` whose halves begin at column `first`.
pub(in crate::status) fn join_row(row: &Row<'_>, first: usize) -> rusqlite::Result<JoinRow> {
    Ok(JoinRow { event: half(row, first)?, receipt: half(row, first + 3)? })
}

fn half(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Half>> {
    let Some(rank) = row.get(first)? else { return Ok(None) };
    Ok(Some(Half { rank, at_ms: row.get(first + 1)?, body: row.get(first + 2)? }))
}
