//! The tables in Cassandra and every statement on them. `{ks}` stands for the keyspace.
//!
//! `messages`, `dead_letters` and `joins` hold *facts*: each write as the port got it, under a tag that its content
//! gives. A repeat is the same row, nothing is ever overwritten, and a reader merges the few facts of one partition by
//! the port's own rules. So neither order nor clocks decide, and no row can mix two writes. Write timestamps could not
//! do this: the port's order (32 bits of generation, rank, attempt, time, then the text itself) does not fit into 64
//! bits; of two cells with one timestamp and a TTL Cassandra keeps the one that expires later, whatever their values,
//! so that arrival would decide; and what was purged could not be written again. Only `contacts`, one row for ever
//! growing numbers of messages, is decided by timestamp.
//!
//! `claims` has a row for each id that a client chose, where the log cannot tell repeats: who may append is decided by
//! lightweight transactions, in local serial consistency. Every write of a row is one, since others would not be in
//! their order, and writes every column, so that all of a row expires together.
//!
//! `listings` holds the places of one listing in a partition for each hour (day, of a conversation). All listings are
//! read alike, so they share a table. The partitions that exist are in `buckets`, the listings themselves in `names`.

use std::time::Duration;

use chat4all_storage::diagnosis::Part;
use chat4all_storage::status::Error;
use scylla::client::session::Session;
use scylla::statement::SerialConsistency;
use scylla::statement::prepared::PreparedStatement;

use crate::failure;
use crate::options::{Options, Replication};

/// Raised with every change that a former version would not understand.
pub(crate) const VERSION: i32 = 2;

/// Of each row, where nothing else is asked for and there are as many nodes.
const COPIES: usize = 3;

/// For one change of the schema, which all nodes must agree to.
const CHANGE_MAX: Duration = Duration::from_secs(30);

const KEYSPACE: &str = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
const VERSION_TABLE: &str = "
    SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'schema_version'";
const TABLES: &str = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";

const CREATE: [&str; 9] = [
    "CREATE TABLE IF NOT EXISTS {ks}.schema_version (id int PRIMARY KEY, version int)",
    "CREATE TABLE IF NOT EXISTS {ks}.messages (
        tenant text, message uuid, tag uuid, kind tinyint, body text,
        PRIMARY KEY ((tenant, message), tag))",
    "CREATE TABLE IF NOT EXISTS {ks}.dead_letters (
        tenant text, delivery uuid, tag uuid, kind tinyint, body text,
        PRIMARY KEY ((tenant, delivery), tag))",
    "CREATE TABLE IF NOT EXISTS {ks}.joins (
        channel text, id text, tag uuid, kind tinyint, body text,
        PRIMARY KEY ((channel, id), tag))",
    "CREATE TABLE IF NOT EXISTS {ks}.contacts (
        tenant text, channel text, target text, conversation text,
        PRIMARY KEY ((tenant, channel, target)))",
    "CREATE TABLE IF NOT EXISTS {ks}.claims (
        tenant text, message uuid, fingerprint blob, first_at_ms bigint, appended boolean,
        PRIMARY KEY ((tenant, message)))",
    // An id is a blob, since a uuid would not be sorted by its bytes.
    "CREATE TABLE IF NOT EXISTS {ks}.listings (
        tenant text, listing text, bucket bigint, at_ms bigint, id blob,
        PRIMARY KEY ((tenant, listing, bucket), at_ms, id))
        WITH CLUSTERING ORDER BY (at_ms DESC, id DESC)",
    "CREATE TABLE IF NOT EXISTS {ks}.buckets (
        tenant text, listing text, bucket bigint,
        PRIMARY KEY ((tenant, listing), bucket))
        WITH CLUSTERING ORDER BY (bucket DESC)",
    "CREATE TABLE IF NOT EXISTS {ks}.names (scope text, name text, PRIMARY KEY ((scope), name))",
];

/// Makes keyspace and tables where they are missing, which needs the right to; another version's are refused. Processes
/// that start at once on a new cluster of several nodes should let one of them do this first: Cassandra can lose one of
/// two equal tables.
pub(crate) async fn migrate(session: &Session, options: &Options) -> Result<Vec<Part>, Error> {
    let had_keyspace = has_keyspace(session, options).await?;
    let had = if had_keyspace { tables(session, options).await? } else { Vec::new() };
    match version(session, options).await? {
        Some(VERSION) => {}
        Some(other) => return Err(other_version(options, other)),
        None => create(session, options, had_keyspace).await?,
    }
    let keyspace = Part { name: format!("keyspace `{}`", options.keyspace), is_new: !had_keyspace };
    let table = |table: String| Part { name: format!("table `{table}`"), is_new: !had.contains(&table) };
    Ok([keyspace].into_iter().chain(tables(session, options).await?.into_iter().map(table)).collect())
}

async fn create(session: &Session, options: &Options, has_keyspace: bool) -> Result<(), Error> {
    if !has_keyspace {
        let replication = replication(session, options).to_cql();
        let create = format!("CREATE KEYSPACE IF NOT EXISTS {{ks}} WITH replication = {replication}");
        run(session, options, &create).await?;
    }
    for create in CREATE {
        run(session, options, create).await?;
    }
    // Last, so that a start that was cut off is gone through again.
    run(session, options, &format!("INSERT INTO {{ks}}.schema_version (id, version) VALUES (0, {VERSION})")).await
}

pub(crate) async fn has_keyspace(session: &Session, options: &Options) -> Result<bool, Error> {
    exists(session, KEYSPACE, options).await
}

/// Names of the tables that are there.
async fn tables(session: &Session, options: &Options) -> Result<Vec<String>, Error> {
    let found = session.query_unpaged(TABLES, (&options.keyspace,)).await;
    let found =
        found.map_err(|error| failure::of_statement(&error))?.into_rows_result().map_err(failure::unreadable)?;
    let names = found.rows::<(String,)>().map_err(failure::unreadable)?;
    names.map(|name| name.map(|(name,)| name).map_err(failure::unreadable)).collect()
}

fn replication(session: &Session, options: &Options) -> Replication {
    let nodes = session.get_cluster_state().get_nodes_info().len();
    let copies = u32::try_from(nodes.clamp(1, COPIES)).expect("they are few");
    options.replication.clone().unwrap_or_else(|| {
        if copies == 1 {
            tracing::warn!("there is one node: statuses have one copy, and are away while that node is");
        }
        Replication::Simple(copies)
    })
}

pub(crate) fn other_version(options: &Options, version: i32) -> Error {
    Error::Refused(format!(
        "keyspace `{}` has tables of version `{version}`, this program needs `{VERSION}`: run the version that made \
         them, or name another keyspace",
        options.keyspace
    ))
}

/// `None` until all tables were made.
pub(crate) async fn version(session: &Session, options: &Options) -> Result<Option<i32>, Error> {
    if !exists(session, VERSION_TABLE, options).await? {
        return Ok(None);
    }
    let find = in_keyspace("SELECT version FROM {ks}.schema_version WHERE id = 0", options);
    let found = session.query_unpaged(find, ()).await.map_err(|error| failure::of_statement(&error))?;
    let found = found.into_rows_result().map_err(failure::unreadable)?;
    Ok(found.maybe_first_row::<(i32,)>().map_err(failure::unreadable)?.map(|(version,)| version))
}

/// Whether one of the server's own statements finds something of the keyspace.
async fn exists(session: &Session, find: &str, options: &Options) -> Result<bool, Error> {
    let found = session.query_unpaged(find, (&options.keyspace,)).await;
    let found =
        found.map_err(|error| failure::of_statement(&error))?.into_rows_result().map_err(failure::unreadable)?;
    Ok(found.rows_num() > 0)
}

async fn run(session: &Session, options: &Options, cql: &str) -> Result<(), Error> {
    let mut statement = scylla::statement::Statement::new(in_keyspace(cql, options));
    statement.set_is_idempotent(true);
    statement.set_request_timeout(Some(CHANGE_MAX));
    session.query_unpaged(statement, ()).await.map(drop).map_err(|error| failure::of_statement(&error))
}

fn in_keyspace(cql: &str, options: &Options) -> String {
    cql.replace("{ks}", &options.keyspace)
}

/// Names each statement once, as field and as text, and prepares them all.
macro_rules! statements {
    ($($name:ident: $cql:literal,)*) => {
        pub(crate) struct Statements {
            $(pub(crate) $name: PreparedStatement,)*
        }

        impl Statements {
            pub(crate) async fn prepare(session: &Session, options: &Options) -> Result<Self, Error> {
                Ok(Self { $($name: prepare(session, options, $cql).await?,)* })
            }
        }

        #[cfg(test)]
        const ALL: &[&str] = &[$($cql),*];
    };
}

statements! {
    insert_message: "INSERT INTO {ks}.messages (tenant, message, tag, kind, body) VALUES (?, ?, ?, ?, ?) USING TTL ?",
    insert_dead_letter:
        "INSERT INTO {ks}.dead_letters (tenant, delivery, tag, kind, body) VALUES (?, ?, ?, ?, ?) USING TTL ?",
    insert_join: "INSERT INTO {ks}.joins (channel, id, tag, kind, body) VALUES (?, ?, ?, ?, ?) USING TTL ?",
    insert_contact: "INSERT INTO {ks}.contacts (tenant, channel, target, conversation) VALUES (?, ?, ?, ?)
        USING TIMESTAMP ? AND TTL ?",
    insert_place:
        "INSERT INTO {ks}.listings (tenant, listing, bucket, at_ms, id) VALUES (?, ?, ?, ?, ?) USING TTL ?",
    insert_bucket: "INSERT INTO {ks}.buckets (tenant, listing, bucket) VALUES (?, ?, ?) USING TTL ?",
    insert_name: "INSERT INTO {ks}.names (scope, name) VALUES (?, ?) USING TTL ?",

    claim: "INSERT INTO {ks}.claims (tenant, message, fingerprint, first_at_ms, appended) VALUES (?, ?, ?, ?, false)
        IF NOT EXISTS USING TTL ?",
    mark_appended: "UPDATE {ks}.claims USING TTL ? SET fingerprint = ?, first_at_ms = ?, appended = true
        WHERE tenant = ? AND message = ? IF fingerprint = ?",

    claimed: "SELECT fingerprint, first_at_ms, appended FROM {ks}.claims WHERE tenant = ? AND message = ?",
    message: "SELECT kind, body FROM {ks}.messages WHERE tenant = ? AND message = ?",
    dead_letter: "SELECT kind, body FROM {ks}.dead_letters WHERE tenant = ? AND delivery = ?",
    join: "SELECT kind, body FROM {ks}.joins WHERE channel = ? AND id = ?",
    contact: "SELECT conversation FROM {ks}.contacts WHERE tenant = ? AND channel = ? AND target = ?",
    places: "SELECT at_ms, id FROM {ks}.listings
        WHERE tenant = ? AND listing = ? AND bucket = ? AND (at_ms, id) < (?, ?) LIMIT ?",
    buckets: "SELECT bucket FROM {ks}.buckets WHERE tenant = ? AND listing = ? AND bucket <= ? LIMIT ?",
    names: "SELECT name FROM {ks}.names WHERE scope = ?",
    version: "SELECT version FROM {ks}.schema_version WHERE id = 0",

    delete_message: "DELETE FROM {ks}.messages WHERE tenant = ? AND message = ?",
    delete_dead_letter: "DELETE FROM {ks}.dead_letters WHERE tenant = ? AND delivery = ?",
    delete_dead_letter_fact: "DELETE FROM {ks}.dead_letters WHERE tenant = ? AND delivery = ? AND tag = ?",
    delete_join: "DELETE FROM {ks}.joins WHERE channel = ? AND id = ?",
    delete_contact: "DELETE FROM {ks}.contacts USING TIMESTAMP ? WHERE tenant = ? AND channel = ? AND target = ?",
    delete_place: "DELETE FROM {ks}.listings WHERE tenant = ? AND listing = ? AND bucket = ? AND at_ms = ? AND id = ?",
    delete_bucket: "DELETE FROM {ks}.buckets WHERE tenant = ? AND listing = ? AND bucket = ?",
}

async fn prepare(session: &Session, options: &Options, cql: &str) -> Result<PreparedStatement, Error> {
    let prepared = session.prepare(in_keyspace(cql, options)).await;
    let mut prepared = prepared.map_err(|error| failure::of_preparing(&error))?;
    // Also those with a condition: a claim that was taken and is taken again finds itself.
    prepared.set_is_idempotent(true);
    prepared.set_serial_consistency(Some(SerialConsistency::LocalSerial));
    Ok(prepared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_statement_filters_a_table_and_lightweight_transactions_are_all_writes_of_claims_and_nothing_else() {
        for cql in ALL {
            let words: Vec<_> = cql.split_whitespace().collect();
            assert!(!words.contains(&"FILTERING"), "{cql}");
            assert!(cql.contains("{ks}."), "{cql}");
            let writes_claims = words[0] != "SELECT" && words.contains(&"{ks}.claims");
            assert_eq!(words.contains(&"IF"), writes_claims, "{cql}");
        }
    }
}
