//! Writes a coalesced batch. Each statement keeps, of the row that is there and the one that comes, the same as
//! `Rows::apply` does.

use chat4all_proto::status::Precedence;
use chat4all_storage::status::JoinKey;
use chat4all_storage::status::rows::{
    self, AttemptKey, ContactKey, ContactRow, DeliveryKey, DeliveryRow, Half, JoinRow, Letter, LetterKey, LetterRow,
    MessageKey, MessageRow, ProviderIdRow, Replay, Rows, decode,
};
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
    UPDATE deliveries SET provider_precedence = ?4, provider_id = ?5
    WHERE tenant = ?1 AND message_id = ?2 AND delivery_id = ?3
      AND (provider_id IS NULL OR (?4, ?5) > (provider_precedence, provider_id))";

const EVENT_HALF: &str = "
    INSERT INTO joins (channel, id, event_rank, event_at_ms, event) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (channel, id) DO UPDATE
    SET event_rank = excluded.event_rank, event_at_ms = excluded.event_at_ms, event = excluded.event
    WHERE joins.event IS NULL
        OR (excluded.event_rank, excluded.event_at_ms, excluded.event)
         > (joins.event_rank, joins.event_at_ms, joins.event)";

const RECEIPT_HALF: &str = "
    INSERT INTO joins (channel, id, receipt_rank, receipt_at_ms, receipt) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (channel, id) DO UPDATE
    SET receipt_rank = excluded.receipt_rank, receipt_at_ms = excluded.receipt_at_ms, receipt = excluded.receipt
    WHERE joins.receipt IS NULL
        OR (excluded.receipt_rank, excluded.receipt_at_ms, excluded.receipt)
         > (joins.receipt_rank, joins.receipt_at_ms, joins.receipt)";

const CONTACT: &str = "
    INSERT INTO contacts (tenant, channel, target, accepted_at_ms, conversation) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (tenant, channel, target) DO UPDATE
    SET accepted_at_ms = excluded.accepted_at_ms, conversation = excluded.conversation
    WHERE (excluded.accepted_at_ms, excluded.conversation) > (contacts.accepted_at_ms, contacts.conversation)";

const LETTER: &str = "
    INSERT INTO dead_letters (tenant, delivery_id, generation, failed_at_ms, body, accepted_at_ms, channel, reason)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (tenant, delivery_id) DO UPDATE
    SET generation = excluded.generation, failed_at_ms = excluded.failed_at_ms, body = excluded.body,
        accepted_at_ms = excluded.accepted_at_ms, channel = excluded.channel, reason = excluded.reason
    WHERE dead_letters.body IS NULL
        OR (excluded.generation, excluded.failed_at_ms, excluded.body)
         > (dead_letters.generation, dead_letters.failed_at_ms, dead_letters.body)";

const REPLAY: &str = "
    INSERT INTO dead_letters (tenant, delivery_id, replayed_as, replay_accepted_at_ms) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (tenant, delivery_id) DO UPDATE
    SET replayed_as = excluded.replayed_as, replay_accepted_at_ms = excluded.replay_accepted_at_ms
    WHERE (excluded.replayed_as, excluded.replay_accepted_at_ms)
        > (dead_letters.replayed_as, dead_letters.replay_accepted_at_ms)";

/// Writes every row, in the order of the keys: neighbours share pages.
pub(super) fn upsert(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    messages(connection, rows)?;
    deliveries(connection, rows)?;
    attempts(connection, rows)?;
    provider_ids(connection, rows)?;
    joins(connection, rows)?;
    contacts(connection, rows)?;
    dead_letters(connection, rows)
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
        let Precedence { status, .. } = decode(*precedence).expect("encoded from a known status");
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
    for (DeliveryKey { message: MessageKey { tenant, message }, delivery }, row) in &rows.provider_ids {
        let ProviderIdRow { precedence, provider_id } = row;
        let (message, delivery) = (message.as_uuid(), delivery.as_uuid());
        let row = params![tenant.as_str(), message.as_bytes(), delivery.as_bytes(), precedence, provider_id];
        connection.prepare_cached(PROVIDER_ID)?.execute(row)?;
    }
    Ok(())
}

fn joins(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    for (JoinKey { channel, id }, JoinRow { event, receipt }) in &rows.joins {
        for (statement, half) in [(EVENT_HALF, event), (RECEIPT_HALF, receipt)] {
            let Some(Half { rank, at_ms, body }) = half else { continue };
            connection.prepare_cached(statement)?.execute(params![channel.as_str(), id, rank, at_ms, body])?;
        }
    }
    Ok(())
}

fn contacts(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    for (ContactKey { tenant, address }, ContactRow { accepted_at_ms, conversation }) in &rows.contacts {
        let (channel, target) = (address.channel.as_str(), &*address.target);
        let row = params![tenant.as_str(), channel, target, accepted_at_ms, conversation.as_str()];
        connection.prepare_cached(CONTACT)?.execute(row)?;
    }
    Ok(())
}

fn dead_letters(connection: &Connection, rows: &Rows) -> rusqlite::Result<()> {
    for (LetterKey { tenant, delivery }, LetterRow { letter, replay }) in &rows.dead_letters {
        let (tenant, id) = (tenant.as_str(), delivery.as_uuid());
        if let Some(Letter { generation, failed_at_ms, body, accepted_at_ms, channel, reason }) = letter {
            let channel = channel.as_str();
            let row = params![tenant, id.as_bytes(), generation.0, failed_at_ms, body, accepted_at_ms, channel, reason];
            connection.prepare_cached(LETTER)?.execute(row)?;
        }
        if let Some(Replay { generation, accepted_at_ms }) = replay {
            let row = params![tenant, id.as_bytes(), generation.0, accepted_at_ms];
            connection.prepare_cached(REPLAY)?.execute(row)?;
        }
    }
    Ok(())
}
