//! The status store in memory: the port's reference, for tests and for a process that may forget. Every listing looks
//! at every row, so it is for thousands of messages, not millions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chat4all_proto::http::{MessagePage, MessageView};
use chat4all_proto::{ChannelName, ConversationId, DeliveryId, MessageId, TenantId, Timestamp};

use super::rows::{self, Listing, MessageKey, Position, Rows};
use super::{Error, Filter, PageRequest, Status, Write};

/// A store that lives as long as its last handle.
#[derive(Debug)]
pub struct MemoryStatus {
    rows: Mutex<Rows>,
    available: AtomicBool,
    closed: AtomicBool,
}

impl MemoryStatus {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { rows: Mutex::default(), available: AtomicBool::new(true), closed: AtomicBool::new(false) })
    }

    /// While false every call fails with `Unavailable`, as if the store were away.
    pub fn set_available(&self, available: bool) {
        self.available.store(available, Ordering::SeqCst);
    }

    /// Everything that is stored, for tests that compare stores.
    pub fn dump(&self) -> Rows {
        self.locked().clone()
    }

    fn open(&self) -> Result<MutexGuard<'_, Rows>, Error> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("it is closed".into()));
        }
        if !self.available.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("it was made unavailable".into()));
        }
        Ok(self.locked())
    }

    fn locked(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Status for MemoryStatus {
    async fn write(&self, writes: Vec<Write>) -> Result<(), Error> {
        let mut rows = self.open()?;
        for write in &writes {
            rows.apply(write);
        }
        Ok(())
    }

    async fn message(&self, tenant: &TenantId, id: MessageId, now: Timestamp) -> Result<Option<MessageView>, Error> {
        self.open()?.view(&MessageKey { tenant: tenant.clone(), message: id }, now)
    }

    async fn conversation(
        &self,
        tenant: &TenantId,
        conversation: &ConversationId,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<MessagePage, Error> {
        let rows = self.open()?;
        let found = rows
            .messages
            .iter()
            .filter(|(key, row)| key.tenant == *tenant && row.conversation == *conversation)
            .map(|(key, row)| Position { accepted_at_ms: row.accepted_at_ms, message: key.message })
            .collect();
        show(&rows, Listing::Conversation(tenant, conversation), found, page, now)
    }

    async fn messages(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<MessagePage, Error> {
        let rows = self.open()?;
        show(&rows, Listing::Messages(tenant, filter), matching(&rows, tenant, filter), page, now)
    }

    async fn by_provider_id(
        &self,
        channel: &ChannelName,
        provider_id: &str,
    ) -> Result<Option<(MessageId, DeliveryId)>, Error> {
        let rows = self.open()?;
        let newest = rows
            .provider_ids
            .iter()
            .filter(|(key, _)| key.channel == *channel && key.provider_id == provider_id)
            .max_by_key(|(key, row)| (row.accepted_at_ms, &key.delivery));
        Ok(newest.map(|(key, _)| (key.delivery.message.message, key.delivery.delivery)))
    }

    async fn purge(&self, accepted_before: Timestamp) -> Result<u64, Error> {
        let mut rows = self.open()?;
        let bound = rows::millis(accepted_before);
        let messages_before = rows.messages.len();
        let orphans_before = rows.deliveries.keys().filter(|key| !rows.messages.contains_key(&key.message)).count();
        let Rows { messages, deliveries, attempts, provider_ids } = &mut *rows;
        deliveries.retain(|key, row| match messages.get(&key.message) {
            Some(message) => message.accepted_at_ms >= bound,
            None => row.accepted_at_ms >= bound,
        });
        messages.retain(|_, row| row.accepted_at_ms >= bound);
        attempts.retain(|key, _| deliveries.contains_key(&key.delivery));
        provider_ids.retain(|key, _| deliveries.contains_key(&key.delivery));
        let orphans = deliveries.keys().filter(|key| !messages.contains_key(&key.message)).count();
        Ok((messages_before - messages.len() + orphans_before - orphans) as u64)
    }

    async fn check(&self) -> Result<(), Error> {
        self.open().map(drop)
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

fn matching(rows: &Rows, tenant: &TenantId, filter: &Filter) -> Vec<Position> {
    if *filter == Filter::default() {
        return rows
            .messages
            .iter()
            .filter(|(key, _)| key.tenant == *tenant)
            .map(|(key, row)| Position { accepted_at_ms: row.accepted_at_ms, message: key.message })
            .collect();
    }
    rows.deliveries
        .iter()
        .filter(|(key, _)| key.message.tenant == *tenant && rows.messages.contains_key(&key.message))
        .filter(|(_, row)| filter.channel.as_ref().is_none_or(|channel| *channel == row.address.channel))
        .filter(|(_, row)| {
            filter.status.is_none_or(|status| rows::decode(row.precedence).is_some_and(|(_, stored)| stored == status))
        })
        .map(|(key, row)| Position { accepted_at_ms: row.accepted_at_ms, message: key.message.message })
        .collect()
}

fn show(
    rows: &Rows,
    listing: Listing<'_>,
    mut found: Vec<Position>,
    page: &PageRequest,
    now: Timestamp,
) -> Result<MessagePage, Error> {
    let after = Position::of_cursor(page.cursor.as_deref(), listing)?;
    found.retain(|position| *position < after);
    rows.page(listing, found, page.limit, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::conformance;

    #[tokio::test]
    async fn it_is_a_status_store() {
        conformance::all(async || MemoryStatus::new() as Arc<dyn Status>).await;
    }

    #[tokio::test]
    async fn it_can_be_away_for_a_while() {
        let status = MemoryStatus::new();
        status.set_available(false);
        assert!(matches!(status.check().await, Err(Error::Unavailable(_))));
        status.set_available(true);
        assert_eq!(status.check().await, Ok(()));
    }
}
