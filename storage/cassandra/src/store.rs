//! An open session: runs prepared statements. Made by `connection`, used by the calls of the port.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chat4all_storage::diagnosis::Part;
use chat4all_storage::status::Error;
use chat4all_storage::status::rows::{ContactKey, Position};
use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::fact::Fact;
use crate::failure;
use crate::insert::{self, Directory, Insert};
use crate::listing::Name;
use crate::options::Options;
use crate::schema::{self, Statements};
use crate::tls;

/// How long a directory's row is taken for written. It is kept longer than what it leads to by twice that.
const DIRECTORY_FRESH: Duration = Duration::from_secs(3_600);
/// Most directory rows that are remembered; then all are forgotten, which costs a write each.
const DIRECTORIES_MAX: usize = 50_000;
/// Most rows that share a mutation. With the longest message it stays far below the 8 MiB that a server takes.
const MUTATION_ROWS_MAX: usize = 100;

pub(crate) struct Store {
    session: Session,
    pub(crate) statements: Statements,
    ttl_s: i32,
    pub(crate) claim_ttl_s: i32,
    pub(crate) in_flight_max: usize,
    written: Mutex<HashMap<Directory, Instant>>,
}

/// The driver's session knows the password.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Connects, migrates and prepares.
    pub(crate) async fn open(options: &Options) -> Result<Self, Error> {
        let session = connect(options).await?;
        schema::migrate(&session, options).await?;
        let statements = Statements::prepare(&session, options).await?;
        let (ttl_s, claim_ttl_s, in_flight_max) =
            (options.ttl_s(), options.claim_ttl_s(), options.in_flight_max.max(1));
        Ok(Self { session, statements, ttl_s, claim_ttl_s, in_flight_max, written: Mutex::default() })
    }

    /// Writes all rows, some at a time; neighbours in one partition share a mutation. After an error any may be there.
    pub(crate) async fn insert(&self, inserts: BTreeSet<Insert>) -> Result<(), Error> {
        let inserts: Vec<Insert> = inserts.into_iter().filter(|insert| !self.is_written(insert)).collect();
        let groups = inserts.chunk_by(Insert::is_beside).flat_map(|beside| beside.chunks(MUTATION_ROWS_MAX));
        let groups: Vec<Vec<Insert>> = groups.map(<[Insert]>::to_vec).collect();
        stream::iter(groups).map(Ok).try_for_each_concurrent(self.in_flight_max, |group| self.insert_group(group)).await
    }

    async fn insert_group(&self, mut group: Vec<Insert>) -> Result<(), Error> {
        if group.len() > 1 {
            return self.insert_beside(group).await;
        }
        match group.pop() {
            Some(only) => self.insert_one(only).await,
            None => Ok(()),
        }
    }

    /// Rows of one partition, as one mutation: no batch log, and all or none of them.
    async fn insert_beside(&self, inserts: Vec<Insert>) -> Result<(), Error> {
        let (mut facts, mut places) = (Vec::new(), Vec::new());
        for insert in inserts {
            match insert {
                Insert::Message { tenant, message, fact } => facts.push(self.message_row(tenant, message, fact)),
                Insert::Place { tenant, listing, place } => places.push(self.place_row(tenant, listing, place)),
                other => self.insert_one(other).await?,
            }
        }
        self.run_batch(&self.statements.insert_message, facts).await?;
        self.run_batch(&self.statements.insert_place, places).await
    }

    async fn run_batch(&self, statement: &PreparedStatement, rows: Vec<impl SerializeRow>) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let statements = rows.iter().map(|_| statement.clone().into()).collect();
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
        batch.set_is_idempotent(true);
        self.session.batch(&batch, rows).await.map(drop).map_err(|error| failure::of_statement(&error))
    }

    fn message_row(&self, tenant: String, message: Uuid, fact: Fact) -> (String, Uuid, Uuid, i8, String, i32) {
        (tenant, message, fact.tag, fact.kind, fact.body, self.ttl_s)
    }

    fn place_row(&self, tenant: String, listing: Name, place: Position) -> (String, String, i64, i64, Vec<u8>, i32) {
        let bucket = listing.bucket(place.at_ms);
        (tenant, listing.0, bucket, place.at_ms, place.id.as_bytes().to_vec(), self.ttl_s)
    }

    async fn insert_one(&self, insert: Insert) -> Result<(), Error> {
        let (statements, ttl) = (&self.statements, self.ttl_s);
        match insert {
            Insert::Message { tenant, message, fact } => {
                self.run(&statements.insert_message, self.message_row(tenant, message, fact)).await
            }
            Insert::DeadLetter { tenant, delivery, fact } => {
                let row = (tenant, delivery, fact.tag, fact.kind, fact.body, ttl);
                self.run(&statements.insert_dead_letter, row).await
            }
            Insert::Join { key, fact } => {
                let row = (key.channel.as_str(), key.id, fact.tag, fact.kind, fact.body, ttl);
                self.run(&statements.insert_join, row).await
            }
            Insert::Contact { key: ContactKey { tenant, address }, conversation, timestamp } => {
                let (channel, target) = (address.channel.as_str(), &*address.target);
                let row = (tenant.as_str(), channel, target, conversation, timestamp, ttl);
                self.run(&statements.insert_contact, row).await
            }
            Insert::Place { tenant, listing, place } => {
                self.run(&statements.insert_place, self.place_row(tenant, listing, place)).await
            }
            Insert::Directory(directory) => self.insert_directory(directory).await,
        }
    }

    async fn insert_directory(&self, directory: Directory) -> Result<(), Error> {
        let longer_s = i32::try_from(2 * DIRECTORY_FRESH.as_secs()).expect("hours of seconds fit");
        let ttl = if self.ttl_s == 0 { 0 } else { self.ttl_s.saturating_add(longer_s) };
        let begun = Instant::now();
        match &directory {
            Directory::Bucket { tenant, listing, bucket } => {
                self.run(&self.statements.insert_bucket, (tenant, &listing.0, bucket, ttl)).await?;
            }
            Directory::Name { scope, name } => self.run(&self.statements.insert_name, (scope, name, ttl)).await?,
        }
        let mut written = self.written();
        if written.len() >= DIRECTORIES_MAX {
            written.clear();
        }
        written.insert(directory, begun);
        Ok(())
    }

    fn is_written(&self, insert: &Insert) -> bool {
        let Insert::Directory(directory) = insert else { return false };
        self.written().get(directory).is_some_and(|at| at.elapsed() < DIRECTORY_FRESH)
    }

    /// Directories may have been deleted: the next write makes them again.
    pub(crate) fn forget_directories(&self) {
        self.written().clear();
    }

    fn written(&self) -> MutexGuard<'_, HashMap<Directory, Instant>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many nodes the cluster has.
    pub(crate) fn nodes(&self) -> usize {
        self.session.get_cluster_state().get_nodes_info().len()
    }

    pub(crate) async fn check(&self) -> Result<(), Error> {
        self.run(&self.statements.version, ()).await
    }

    pub(crate) async fn run(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<(), Error> {
        self.execute(statement, values).await.map(drop)
    }

    pub(crate) async fn rows<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, Error>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let found = self.execute(statement, values).await?.into_rows_result().map_err(failure::unreadable)?;
        let rows = found.rows::<R>().map_err(failure::unreadable)?;
        rows.collect::<Result<_, _>>().map_err(failure::unreadable)
    }

    pub(crate) async fn execute(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, Error> {
        self.session.execute_unpaged(statement, values).await.map_err(|error| failure::of_statement(&error))
    }

    /// The next places of a listing within a bucket, newest first.
    pub(crate) async fn places(
        &self,
        (tenant, listing, bucket): (&str, &Name, i64),
        after: Position,
        limit: i32,
    ) -> Result<Vec<Position>, Error> {
        let key = (tenant, &listing.0, bucket, after.at_ms, &after.id.as_bytes()[..], limit);
        let found: Vec<(i64, Vec<u8>)> = self.rows(&self.statements.places, key).await?;
        let place = |(at_ms, id): (i64, Vec<u8>)| {
            Ok(Position { at_ms, id: Uuid::from_slice(&id).map_err(failure::unreadable)? })
        };
        found.into_iter().map(place).collect()
    }

    /// The buckets that a listing has from that of `at_ms` back, newest first.
    pub(crate) async fn buckets(
        &self,
        tenant: &str,
        listing: &Name,
        at_ms: i64,
        limit: i32,
    ) -> Result<Vec<i64>, Error> {
        let found = self.rows(&self.statements.buckets, (tenant, &listing.0, listing.bucket(at_ms), limit)).await?;
        Ok(found.into_iter().map(|(bucket,)| bucket).collect())
    }

    pub(crate) async fn tenants(&self) -> Result<Vec<String>, Error> {
        let found = self.rows(&self.statements.names, (insert::TENANTS,)).await?;
        Ok(found.into_iter().map(|(tenant,)| tenant).collect())
    }

    /// The listings of deliveries and dead letters that a tenant has.
    pub(crate) async fn runs(&self, tenant: &str) -> Result<Vec<Name>, Error> {
        let found = self.rows(&self.statements.names, (insert::runs_of(tenant),)).await?;
        Ok(found.into_iter().map(|(name,)| Name(name)).collect())
    }
}

pub(crate) async fn migrate(options: &Options) -> Result<Vec<Part>, Error> {
    schema::migrate(&connect(options).await?, options).await
}

pub(crate) async fn connect(options: &Options) -> Result<Session, Error> {
    let profile = ExecutionProfile::builder()
        .consistency(options.consistency.into())
        .request_timeout(Some(options.request_timeout))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.nodes)
        .default_execution_profile_handle(profile.into_handle())
        // All that routing by token needs: how our keyspace is replicated. Columns come with prepared statements.
        .keyspaces_to_fetch([&options.keyspace])
        .fetch_full_schema_metadata(false);
    if let Some(credentials) = &options.credentials {
        builder = builder.user(&credentials.user, credentials.password.expose_secret());
    }
    if let Some(tls) = &options.tls {
        builder = builder.tls_context(Some(Arc::new(tls::client(tls)?)));
    }
    builder.build().await.map_err(|error| failure::of_connecting(&error))
}
