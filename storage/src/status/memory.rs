//! The status store in memory: the port's reference, for tests and for a process that may forget. Every listing looks
//! at every row, so it is for thousands of messages, not millions.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chat4all_proto::http::{DeadLetterPage, MessagePage, MessageView};
use chat4all_proto::{
    Address, ChannelName, ConversationId, DeliveryId, Generation, Message, MessageId, TenantId, Timestamp,
};

use super::claims::{Claim, ClaimRow, Claimed, OUTLIVES_MESSAGE_BY};
use super::rows::{self, ContactKey, LetterKey, Listing, MessageKey, MessageRow, Position, Rows};
use super::{DeadLetterFilter, DeadLetterRow, Error, Filter, Join, JoinKey, PageRequest, Status, Write};

/// A store that lives as long as its last handle.
#[derive(Debug)]
pub struct MemoryStatus {
    rows: Mutex<Rows>,
    claims: Mutex<BTreeMap<MessageKey, KeptClaim>>,
    available: AtomicBool,
    answers_claims: AtomicBool,
    marks_claims: AtomicBool,
    closed: AtomicBool,
}

#[derive(Debug)]
struct KeptClaim {
    row: ClaimRow,
    /// When the latest append was allowed.
    last_at: Timestamp,
}

impl MemoryStatus {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::default(),
            claims: Mutex::default(),
            available: AtomicBool::new(true),
            answers_claims: AtomicBool::new(true),
            marks_claims: AtomicBool::new(true),
            closed: AtomicBool::new(false),
        })
    }

    /// While false every call fails with `Unavailable`, as if the store were away.
    pub fn set_available(&self, available: bool) {
        self.available.store(available, Ordering::SeqCst);
    }

    /// While false no claim is answered, as if the store hung.
    pub fn set_answers_claims(&self, answers: bool) {
        self.answers_claims.store(answers, Ordering::SeqCst);
    }

    /// While false no claim can be marked as appended.
    pub fn set_marks_claims(&self, marks: bool) {
        self.marks_claims.store(marks, Ordering::SeqCst);
    }

    /// Claims that are not marked as appended.
    pub fn unsettled_claims(&self) -> usize {
        self.locked_claims().values().filter(|claim| !claim.row.appended).count()
    }

    /// From now on whoever asks for this join is told that it cannot be read.
    pub fn damage(&self, key: &JoinKey) {
        let half = rows::Half { rank: i64::MAX, at_ms: i64::MAX, body: "no JSON".into() };
        self.locked().joins.entry(key.clone()).or_default().event = Some(half);
    }

    /// Everything that is stored, for tests that compare stores.
    pub fn dump(&self) -> Rows {
        self.locked().clone()
    }

    fn open(&self) -> Result<MutexGuard<'_, Rows>, Error> {
        self.check_open().map(|()| self.locked())
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("it is closed".into()));
        }
        if !self.available.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("it was made unavailable".into()));
        }
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked_claims(&self) -> MutexGuard<'_, BTreeMap<MessageKey, KeptClaim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim_one(&self, claim: &Claim) -> Claimed {
        let mut claims = self.locked_claims();
        let kept = match claims.entry(key_of(claim)) {
            Entry::Vacant(vacant) => {
                let row = ClaimRow { fingerprint: claim.fingerprint, first_at: claim.accepted_at, appended: false };
                vacant.insert(KeptClaim { row, last_at: claim.accepted_at });
                return Claimed::New;
            }
            Entry::Occupied(occupied) => occupied.into_mut(),
        };
        let claimed = kept.row.meet(&claim.fingerprint);
        if matches!(claimed, Claimed::Unsettled { .. }) {
            kept.last_at = kept.last_at.max(claim.accepted_at);
        }
        claimed
    }
}

fn key_of(claim: &Claim) -> MessageKey {
    MessageKey { tenant: claim.tenant.clone(), message: claim.message_id }
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
            .map(position)
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
        let join = self.open()?.join(&JoinKey::new(channel, provider_id))?;
        Ok(join.event.map(|event| (event.message_id, event.delivery_id)))
    }

    async fn joins(&self, keys: &[JoinKey]) -> Result<Vec<Join>, Error> {
        let rows = self.open()?;
        keys.iter().map(|key| rows.join(key)).collect()
    }

    async fn accepted(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Message>, Error> {
        self.open()?.accepted(&MessageKey { tenant: tenant.clone(), message: id })
    }

    async fn conversation_with(&self, tenant: &TenantId, address: &Address) -> Result<Option<ConversationId>, Error> {
        let key = ContactKey { tenant: tenant.clone(), address: address.clone() };
        Ok(self.open()?.contacts.get(&key).map(|row| row.conversation.clone()))
    }

    async fn dead_letter(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Option<DeadLetterRow>, Error> {
        self.open()?.dead_letter(&LetterKey { tenant: tenant.clone(), delivery })
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        filter: &DeadLetterFilter,
        page: &PageRequest,
    ) -> Result<DeadLetterPage, Error> {
        let (rows, listing) = (self.open()?, Listing::DeadLetters(tenant, filter));
        let after = filter.start(Position::of_cursor(page.cursor.as_deref(), listing)?);
        let found = rows
            .dead_letters
            .iter()
            .filter(|(key, row)| key.tenant == *tenant && row.is_listed(filter))
            .filter_map(|(key, row)| {
                Some(Position { at_ms: row.letter.as_ref()?.failed_at_ms, id: key.delivery.as_uuid() })
            })
            .filter(|position| *position < after)
            .collect();
        rows.dead_letter_page(listing, found, page.limit)
    }

    async fn discard(&self, tenant: &TenantId, letters: &[(DeliveryId, Generation)]) -> Result<u64, Error> {
        let mut rows = self.open()?;
        let discard = |(delivery, generation): &&(DeliveryId, Generation)| {
            rows.discard(&LetterKey { tenant: tenant.clone(), delivery: *delivery }, *generation)
        };
        Ok(letters.iter().filter(discard).count() as u64)
    }

    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, Error> {
        if !self.answers_claims.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.check_open()?;
        Ok(claims.iter().map(|claim| self.claim_one(claim)).collect())
    }

    async fn mark_appended(&self, claims: &[Claim]) -> Result<(), Error> {
        self.check_open()?;
        if !self.marks_claims.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("it was made to mark no claims".into()));
        }
        let mut kept = self.locked_claims();
        for claim in claims {
            if let Some(KeptClaim { row, .. }) = kept.get_mut(&key_of(claim)) {
                row.appended |= row.fingerprint == claim.fingerprint;
            }
        }
        Ok(())
    }

    async fn purge(&self, accepted_before: Timestamp) -> Result<u64, Error> {
        let mut rows = self.open()?;
        self.locked_claims().retain(|_, claim| claim.last_at.saturating_add(OUTLIVES_MESSAGE_BY) >= accepted_before);
        let bound = rows::millis(accepted_before);
        let before = size(&rows);
        let Rows { messages, deliveries, attempts, provider_ids, joins, contacts, dead_letters } = &mut *rows;
        deliveries.retain(|key, row| match messages.get(&key.message) {
            Some(message) => message.accepted_at_ms >= bound,
            None => row.accepted_at_ms >= bound,
        });
        messages.retain(|_, row| row.accepted_at_ms >= bound);
        attempts.retain(|key, _| deliveries.contains_key(&key.delivery));
        provider_ids.retain(|key, _| deliveries.contains_key(key));
        joins.retain(|_, row| row.event.as_ref().or(row.receipt.as_ref()).is_some_and(|half| half.at_ms >= bound));
        contacts.retain(|_, row| row.accepted_at_ms >= bound);
        dead_letters.retain(|_, row| row.accepted_at_ms() >= bound);
        Ok((before - size(&rows)) as u64)
    }

    async fn check(&self) -> Result<(), Error> {
        self.check_open()
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

/// Rows of all kinds.
fn size(rows: &Rows) -> usize {
    let Rows { messages, deliveries, attempts, provider_ids, joins, contacts, dead_letters } = rows;
    let of_messages = messages.len() + deliveries.len() + attempts.len() + provider_ids.len();
    of_messages + joins.len() + contacts.len() + dead_letters.len()
}

fn position((key, row): (&MessageKey, &MessageRow)) -> Position {
    Position { at_ms: row.accepted_at_ms, id: key.message.as_uuid() }
}

fn matching(rows: &Rows, tenant: &TenantId, filter: &Filter) -> Vec<Position> {
    if *filter == Filter::default() {
        return rows.messages.iter().filter(|(key, _)| key.tenant == *tenant).map(position).collect();
    }
    rows.deliveries
        .iter()
        .filter(|(key, _)| key.message.tenant == *tenant && rows.messages.contains_key(&key.message))
        .filter(|(_, row)| filter.channel.as_ref().is_none_or(|channel| *channel == row.address.channel))
        .filter(|(_, row)| {
            filter.status.is_none_or(|asked| rows::decode(row.precedence).is_some_and(|stored| stored.status == asked))
        })
        .map(|(key, row)| Position { at_ms: row.accepted_at_ms, id: key.message.message.as_uuid() })
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
