//! The status store on Apache Cassandra, for as many processes as one likes: recorders write, apis read. Connected by the
//! binary; everybody else knows the port only.
//!
//! **Invariant**: no lightweight transaction but on claims, no secondary index, no filtering, no batch over several
//! partitions; every statement may be repeated.

mod claims;
mod connection;
mod discard;
mod doctor;
mod fact;
mod failure;
mod insert;
mod listing;
mod options;
mod purge;
mod query;
mod schema;
mod store;
mod tls;

pub use connection::{make_tables, migrate};
pub use doctor::examine;
pub use options::{Consistency, Credentials, Options, Replication, Tls};

use std::sync::Arc;

use async_trait::async_trait;
use chat4all_proto::http::{DeadLetterPage, MessagePage, MessageView};
use chat4all_proto::{
    Address, ChannelName, ConversationId, DeliveryId, Generation, Message, MessageId, TenantId, Timestamp,
};
use chat4all_storage::Status;
use chat4all_storage::status::rows::{self, LetterKey, Listing, MessageKey};
use chat4all_storage::status::{
    Claim, Claimed, DeadLetterFilter, DeadLetterRow, Error, Filter, Join, JoinKey, PageRequest, Write,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use connection::State;
use store::Store;

/// One process's access to a keyspace. Dropping it ends it.
#[derive(Debug)]
pub struct CassandraStatus {
    state: Arc<watch::Sender<State>>,
    connecting: AbortHandle,
}

impl CassandraStatus {
    /// Begins to connect and returns at once: until Cassandra is there, calls fail with `Unavailable`, or with `Refused` if
    /// a person must act. Makes the keyspace and its tables where they are missing. `Refused` for options that can never
    /// work. Must be called within a tokio runtime, which it ends with.
    pub fn connect(options: Options) -> Result<Arc<Self>, Error> {
        options.validate()?;
        let away = Error::Unavailable("Cassandra has not answered yet".into());
        let state = Arc::new(watch::Sender::new(State::Away(away)));
        let connecting = tokio::spawn(connection::keep_trying(options, Arc::clone(&state))).abort_handle();
        Ok(Arc::new(Self { state, connecting }))
    }

    /// Waits until the first connection stands or the store is closed. As long as it takes: bound it.
    pub async fn connected(&self) {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| !matches!(state, State::Away(_))).await;
        drop(ended); // the sender lives as long as we do
    }

    fn store(&self) -> Result<Arc<Store>, Error> {
        self.state.borrow().store()
    }
}

impl Drop for CassandraStatus {
    fn drop(&mut self) {
        self.connecting.abort();
    }
}

#[async_trait]
impl Status for CassandraStatus {
    async fn write(&self, writes: Vec<Write>) -> Result<(), Error> {
        self.store()?.insert(insert::of(&writes)).await
    }

    async fn message(&self, tenant: &TenantId, id: MessageId, now: Timestamp) -> Result<Option<MessageView>, Error> {
        let key = MessageKey { tenant: tenant.clone(), message: id };
        self.store()?.message(&key).await?.view(&key, now)
    }

    async fn conversation(
        &self,
        tenant: &TenantId,
        conversation: &ConversationId,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<MessagePage, Error> {
        self.store()?.message_page(Listing::Conversation(tenant, conversation), page, now).await
    }

    /// A page may be short, or empty, before the last: after some thousand places that no longer hold it ends with the
    /// cursor to go on from.
    async fn messages(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<MessagePage, Error> {
        self.store()?.message_page(Listing::Messages(tenant, filter), page, now).await
    }

    async fn by_provider_id(
        &self,
        channel: &ChannelName,
        provider_id: &str,
    ) -> Result<Option<(MessageId, DeliveryId)>, Error> {
        let joins = self.joins(&[JoinKey::new(channel, provider_id)]).await?;
        Ok(joins.into_iter().find_map(|join| join.event).map(|event| (event.message_id, event.delivery_id)))
    }

    async fn joins(&self, keys: &[JoinKey]) -> Result<Vec<Join>, Error> {
        self.store()?.joins(keys).await
    }

    async fn accepted(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Message>, Error> {
        let key = MessageKey { tenant: tenant.clone(), message: id };
        self.store()?.message(&key).await?.accepted(&key)
    }

    async fn conversation_with(&self, tenant: &TenantId, address: &Address) -> Result<Option<ConversationId>, Error> {
        self.store()?.conversation_with(tenant, address).await
    }

    async fn dead_letter(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Option<DeadLetterRow>, Error> {
        let key = LetterKey { tenant: tenant.clone(), delivery };
        self.store()?.dead_letter(&key).await?.dead_letter(&key)
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        filter: &DeadLetterFilter,
        page: &PageRequest,
    ) -> Result<DeadLetterPage, Error> {
        self.store()?.dead_letter_page(Listing::DeadLetters(tenant, filter), page).await
    }

    async fn discard(&self, tenant: &TenantId, letters: &[(DeliveryId, Generation)]) -> Result<u64, Error> {
        self.store()?.discard(tenant, letters).await
    }

    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, Error> {
        self.store()?.claim(claims).await
    }

    async fn mark_appended(&self, claims: &[Claim]) -> Result<(), Error> {
        self.store()?.mark_appended(claims).await
    }

    async fn purge(&self, accepted_before: Timestamp) -> Result<u64, Error> {
        self.store()?.purge(rows::millis(accepted_before)).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.store()?.check().await
    }

    async fn close(&self) {
        self.connecting.abort();
        self.state.send_replace(State::Closed);
    }
}
