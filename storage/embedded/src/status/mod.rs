//! The status store on one SQLite file, `status.db`, that several processes share: recorders write, apis read. Opened by
//! the binary; everybody else knows the port only.
//!
//! Writes of a process go through one thread that commits everything queued at once; reads run on connections of their
//! own, off the async threads. Nothing runs while nobody calls.

mod claims;
mod failure;
mod purge;
mod query;
mod readers;
mod schema;
mod upsert;
mod writer;

#[cfg(test)]
mod tests;

pub use crate::sqlite::OpenError;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chat4all_proto::http::{DeadLetterPage, MessagePage, MessageView};
use chat4all_proto::{
    Address, ChannelName, ConversationId, DeliveryId, Generation, Message, MessageId, TenantId, Timestamp,
};
use chat4all_storage::Status;
use chat4all_storage::diagnosis::Finding;
use chat4all_storage::status::rows::{self, Listing, Position};
use chat4all_storage::status::{
    Claim, Claimed, DeadLetterFilter, DeadLetterRow, Error, Filter, Join, JoinKey, PageRequest, Write,
};

use crate::doctor;
use crate::sqlite::{self, Schema};
use crate::turnstile::Turnstile;
use query::{dead_letters, joins};
use readers::Readers;
use writer::Writer;

/// Page cache of the writer: the inner nodes of all indices and the leaves that are written to now.
const WRITER_CACHE_KIB: i32 = 16 * 1_024;

/// How much one process's access may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Most queries at a time; further ones wait. At least 1.
    pub readers_max: usize,
    /// Most calls of `write` and `purge` that wait for the writer; further ones wait outside. At least 1.
    pub queued_calls_max: usize,
    /// Least time from the start of one write to that of the next: what comes meanwhile shares one commit. A write after
    /// a longer pause begins at once. Default: 5 ms.
    pub commit_interval_min: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { readers_max: 4, queued_calls_max: 256, commit_interval_min: Duration::from_millis(5) }
    }
}

/// One process's access to `status.db`. Dropping the last handle ends it as `close` does, without waiting.
#[derive(Debug)]
pub struct EmbeddedStatus {
    writer: Writer,
    readers: Readers,
}

/// In the folder.
pub const FILE: &str = "status.db";
const SCHEMA: Schema =
    Schema { application_id: schema::APPLICATION_ID, version: schema::VERSION, create: schema::CREATE };

/// Finds out whether the status store in `folder` can be used. Makes and changes nothing. Blocks.
pub fn examine(folder: &Path) -> Vec<Finding> {
    doctor::examine(folder, FILE, &SCHEMA, |_| Ok((format!("tables of version {}", schema::VERSION), None)))
}

impl EmbeddedStatus {
    /// Opens `dir/status.db`, making both where they are missing. Blocks for the time of some disk accesses, and while
    /// other processes write.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<Self>, OpenError> {
        sqlite::make_folder(dir)?;
        let file = dir.join(FILE);
        let failed = |reason: String| OpenError::Database { file: file.clone(), reason };
        let turnstile = Turnstile::open(dir, "status")
            .map_err(|source| OpenError::NotWritable { folder: dir.to_owned(), source })?;
        let connection = sqlite::open_writer(&file, &SCHEMA, &turnstile, None)?;
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB).map_err(|error| failed(error.to_string()))?;
        let writer = Writer::start(connection, turnstile, file.clone(), options.clone())
            .map_err(|error| failed(format!("no thread can be started: {error}")))?;
        Ok(Arc::new(Self { writer, readers: Readers::new(file, options.readers_max) }))
    }
}

#[async_trait]
impl Status for EmbeddedStatus {
    async fn write(&self, writes: Vec<Write>) -> Result<(), Error> {
        self.writer.write(writes).await
    }

    async fn message(&self, tenant: &TenantId, id: MessageId, now: Timestamp) -> Result<Option<MessageView>, Error> {
        let tenant = tenant.clone();
        self.readers.run(move |snapshot| query::message(snapshot, &tenant, id, now)).await
    }

    async fn conversation(
        &self,
        tenant: &TenantId,
        conversation: &ConversationId,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<MessagePage, Error> {
        let (tenant, conversation, limit) = (tenant.clone(), conversation.clone(), page.limit);
        let after = Position::of_cursor(page.cursor.as_deref(), Listing::Conversation(&tenant, &conversation))?;
        self.readers.run(move |snapshot| query::conversation(snapshot, &tenant, &conversation, after, limit, now)).await
    }

    async fn messages(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<MessagePage, Error> {
        let (tenant, filter, limit) = (tenant.clone(), filter.clone(), page.limit);
        let after = Position::of_cursor(page.cursor.as_deref(), Listing::Messages(&tenant, &filter))?;
        self.readers.run(move |snapshot| query::messages(snapshot, &tenant, &filter, after, limit, now)).await
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
        let keys = keys.to_vec();
        self.readers.run(move |snapshot| joins::find(snapshot, &keys)).await
    }

    async fn accepted(&self, tenant: &TenantId, id: MessageId) -> Result<Option<Message>, Error> {
        let tenant = tenant.clone();
        self.readers.run(move |snapshot| query::accepted(snapshot, &tenant, id)).await
    }

    async fn conversation_with(&self, tenant: &TenantId, address: &Address) -> Result<Option<ConversationId>, Error> {
        let (tenant, address) = (tenant.clone(), address.clone());
        self.readers.run(move |snapshot| joins::conversation_with(snapshot, &tenant, &address)).await
    }

    async fn dead_letter(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Option<DeadLetterRow>, Error> {
        let tenant = tenant.clone();
        self.readers.run(move |snapshot| dead_letters::find(snapshot, &tenant, delivery)).await
    }

    async fn dead_letters(
        &self,
        tenant: &TenantId,
        filter: &DeadLetterFilter,
        page: &PageRequest,
    ) -> Result<DeadLetterPage, Error> {
        let (tenant, filter, limit) = (tenant.clone(), filter.clone(), page.limit);
        let after = Position::of_cursor(page.cursor.as_deref(), Listing::DeadLetters(&tenant, &filter))?;
        let after = filter.start(after);
        self.readers.run(move |snapshot| dead_letters::list(snapshot, &tenant, &filter, after, limit)).await
    }

    async fn discard(&self, tenant: &TenantId, letters: &[(DeliveryId, Generation)]) -> Result<u64, Error> {
        let (tenant, letters) = (tenant.clone(), letters.to_vec());
        self.writer.in_transaction(move |transaction| dead_letters::discard(transaction, &tenant, &letters)).await
    }

    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, Error> {
        let claims = claims.to_vec();
        self.writer.in_transaction(move |transaction| claims::claim(transaction, &claims)).await
    }

    async fn mark_appended(&self, claims: &[Claim]) -> Result<(), Error> {
        let claims = claims.to_vec();
        self.writer.in_transaction(move |transaction| claims::mark_appended(transaction, &claims)).await
    }

    async fn purge(&self, accepted_before: Timestamp) -> Result<u64, Error> {
        let bound_ms = rows::millis(accepted_before);
        self.writer.in_transaction(move |transaction| purge::purge(transaction, bound_ms)).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.readers.run(query::check).await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
