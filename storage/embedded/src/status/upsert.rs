//! Writes a coalesced batch. Each statement keeps, of the row that is there and the one that comes, the same as
//! `Rows::apply` does.

use chat4all_storage::status::rows::{self, AttemptKey, DeliveryKey, DeliveryRow, MessageKey, MessageRow, Rows};
use chat4all_storage::status::rows::{ProviderIdKey, ProviderIdRow, decode};
use rusqlite::{Connection, params};

const MESSAGE: &str = "
    INSERT INTO messages (tenant, id, accepted_at_ms, conversation, body) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (tenant, id) DO UPDATE
    SET accepted_at_ms = excluded.accepted_at_ms, conversation = excluded.conversation, body = excluded.body
    WHERE (excluded.accepted_at_ms, excluded.conversation, excluded.body)
        < (messages.accepted_at_ms, messages.conversation, messages.body)";

const DELIVERY: &str = "
    INSERT INTO deliveries (tenant, message_id, delivery_id, precedence, status, updated_at_ms, accepted_at_ms, channel,
        target, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
    ON CONFLICT (tenant, message_id, delivery_id) DO UPDATE
    SET precedence = excluded.precedence, status = excluded.status, updated_at_ms = excluded.updated_at_ms,
        accepted_at_ms = excluded.accepted_at_ms, channel = excluded.channel, target = excluded.target,
        body = excluded.body
    WHERE excluded.precedence > deliveries.precedence OR excluded.precedence = deliveries.precedence
        AND (excluded.updated_at_ms, excluded.accepted_at_ms, excluded.channel, excluded.target, excluded.body)
          > (deliveries.updated_at_ms, deliveries.accepted_at_ms, deliveries.channel, deliveries.target,
             deliveries.body)";

const ATTEMPT: &str = "
    INSERT INTO attempts (tenant, message_id, delivery_id, generation, started_at_ms, number, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (tenant, message_id, delivery_id, generation, started_at_ms, number) DO UPDATE
    SET body = excluded.body WHERE excluded.body > attempts.body";

const PROVIDER_ID: &str = "
    INSERT INTO provider_ids (tenant, message_id, delivery_id, channel, provider_id, precedence, accepted_at_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (tenant, message_id, delivery_id, channel, provider_id) DO UPDATE
    SET precedence = excluded.precedence, accepted_at_ms = excluded.accepted_at_ms
    WHERE (excluded.precedence, excluded.accepted_at_ms) > (provider_ids.precedence, provider_ids.accepted_at_ms)";

/// Writes every row, in the order of the keys: neighbours share pages.
pub(super) fn upsert(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    messages(connection, rows)?;
    deliveries(connection, rows)?;
    attempts(connection, rows)?;
    provider_ids(connection, rows)
}

fn messages(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(MESSAGE)?;
    for (MessageKey { tenant, message }, row) in &rows.messages {
        let MessageRow { accepted_at_ms, conversation, body } = row;
        let id = message.as_uuid();
        statement.execute(params![tenant.as_str(), id.as_bytes(), accepted_at_ms, conversation.as_str(), body])?;
    }
    Ok(())
}

fn deliveries(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(DELIVERY)?;
    for (DeliveryKey { message: MessageKey { tenant, message }, delivery }, row) in &rows.deliveries {
        let DeliveryRow { precedence, updated_at_ms, accepted_at_ms, address, body } = row;
        let (message, delivery) = (message.as_uuid(), delivery.as_uuid());
        let (_, status) = decode(*precedence).expect("encoded from a known status");
        statement.execute(params![
            tenant.as_str(),
            message.as_bytes(),
            delivery.as_bytes(),
            precedence,
            status.rank(),
            updated_at_ms,
            accepted_at_ms,
            address.channel.as_str(),
            &*address.target,
            body
        ])?;
    }
    Ok(())
}

fn attempts(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(ATTEMPT)?;
    for (AttemptKey { delivery, generation, started_at, number }, body) in &rows.attempts {
        let (message, id) = (delivery.message.message.as_uuid(), delivery.delivery.as_uuid());
        let tenant = delivery.message.tenant.as_str();
        let started_at_ms = rows::millis(*started_at);
        let row = params![tenant, message.as_bytes(), id.as_bytes(), generation.0, started_at_ms, number, body];
        statement.execute(row)?;
    }
    Ok(())
}

fn provider_ids(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(PROVIDER_ID)?;
    for (ProviderIdKey { delivery, channel, provider_id }, row) in &rows.provider_ids {
        let ProviderIdRow { precedence, accepted_at_ms } = row;
        let (message, id) = (delivery.message.message.as_uuid(), delivery.delivery.as_uuid());
        statement.execute(params![
            delivery.message.tenant.as_str(),
            message.as_bytes(),
            id.as_bytes(),
            channel.as_str(),
            provider_id,
            precedence,
            accepted_at_ms
        ])?;
    }
    Ok(())
}
