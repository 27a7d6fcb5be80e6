//! Opening SQLite files the one way that both adapters need: write-ahead log, fsync on every commit unless told otherwise,
//! 8 KiB pages, and a check that the file is ours and of this version. Called by `log` and `status`; knows nothing of their tables.
//!
//! A database file is opened and closed by SQLite alone. Whoever opens and closes it otherwise, even to look at it,
//! drops the POSIX locks that SQLite holds on it in this process.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::turnstile::Turnstile;

/// Bytes of a database page. A record of 1 KiB does not spill to an overflow page.
pub const PAGE_BYTES: u32 = 8_192;
/// Writers queue at the turnstile, so that SQLite's own lock is only ever held by a recovery or a tool.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Page cache of one connection, KiB.
const CACHE_KIB: i32 = 1_024;
/// Prepared statements that a connection keeps.
const STATEMENTS_MAX: usize = 256;

/// What a file holds.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Told apart from other programs' files by this number (`PRAGMA application_id`).
    pub application_id: i32,
    /// `PRAGMA user_version`. Another one is refused.
    pub version: i32,
    /// Makes the tables of an empty file.
    pub create: &'static str,
}

/// Why a folder cannot be used. The texts say what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the folder `{}` cannot be written ({source}): give this user the right to write there, or choose another folder",
        folder.display()
    )]
    NotWritable { folder: PathBuf, source: io::Error },
    #[error(
        "the file `{}` was made by another version (its format is {found}, this version reads {expected}): run that \
         version, or choose another folder",
        file.display()
    )]
    OtherVersion { file: PathBuf, found: i32, expected: i32 },
    #[error("the file `{}` is not a database of chat4all: move it away, or choose another folder", file.display())]
    Foreign { file: PathBuf },
    #[error(
        "files in the folder `{}` cannot be locked ({source}): choose a folder on a local disk",
        folder.display()
    )]
    Lock { folder: PathBuf, source: io::Error },
    #[error("the file `{}` cannot be opened: {reason}", file.display())]
    Database { file: PathBuf, reason: String },
}

/// Makes `folder`, if need be, with all above it.
pub fn make_folder(folder: &Path) -> Result<(), OpenError> {
    // Messages are nobody else's business.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| OpenError::NotWritable { folder: folder.into(), source })
}

/// Opens `file` for the one writing connection of this process, and makes its tables if it is new.
/// Passes `turnstile`: making tables and recovering after a crash are writes. `page_count_max` makes the disk look
/// full, for tests. Blocks.
pub fn open_writer(
    file: &Path,
    schema: &Schema,
    turnstile: &Turnstile,
    page_count_max: Option<u32>,
) -> Result<Connection, OpenError> {
    let failed = |error: rusqlite::Error| refusal(file, &error);
    let _pass = turnstile.pass().map_err(|source| OpenError::Lock { folder: folder_of(file), source })?;
    let connection = Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(failed)?;
    prepare(&connection).map_err(failed)?;
    if is_new(&connection).map_err(failed)? {
        connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        make_tables(&connection, schema).map_err(failed)?;
    }
    check_identity(&connection, file, schema)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    if let Some(pages) = page_count_max {
        set_page_count_max(&connection, pages).map_err(failed)?;
    }
    Ok(connection)
}

/// Opens `file`, which a writer has opened before, for reading only. Blocks.
pub fn open_reader(file: &Path) -> Result<Connection, OpenError> {
    let failed = |error: rusqlite::Error| refusal(file, &error);
    let connection =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .map_err(failed)?;
    prepare(&connection).map_err(failed)?;
    connection.pragma_update(None, "query_only", true).map_err(failed)?;
    Ok(connection)
}

/// Opens `file`, if it is there and not empty, to see whether it is ours. No turnstile is passed: nothing is written but what SQLite does of
/// its own accord after a crash. Blocks.
pub fn open_to_look(file: &Path, schema: &Schema) -> Result<Option<Connection>, OpenError> {
    // By name only: see above.
    if !file.exists() {
        return Ok(None);
    }
    let connection = open_reader(file)?;
    if is_new(&connection).map_err(|error| refusal(file, &error))? {
        return Ok(None);
    }
    check_identity(&connection, file, schema)?;
    Ok(Some(connection))
}

/// From now on no commit of `connection`, which writes `file`, waits for the disk: what matters is durable once the returned
/// file, its write-ahead log, is fsynced. SQLite still sees to it that a checkpoint copies nothing that is not.
pub fn sync_by_hand(connection: &Connection, file: &Path) -> Result<File, OpenError> {
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(|error| refusal(file, &error))?;
    let mut wal = file.as_os_str().to_owned();
    wal.push("-wal");
    File::open(&wal).map_err(|error| OpenError::Database { file: wal.into(), reason: error.to_string() })
}

/// The most pages the file may grow to from now on; fewer than it has means: no more than it has.
pub fn set_page_count_max(connection: &Connection, pages: u32) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "foreign_keys", false)
}

fn is_new(connection: &Connection) -> rusqlite::Result<bool> {
    let entries: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(entries == 0 && number(connection, "application_id")? == 0)
}

fn make_tables(connection: &Connection, schema: &Schema) -> rusqlite::Result<()> {
    let (id, version, create) = (schema.application_id, schema.version, schema.create);
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {create}; PRAGMA application_id = {id}; PRAGMA user_version = {version}; COMMIT;"
    ))
}

fn check_identity(connection: &Connection, file: &Path, schema: &Schema) -> Result<(), OpenError> {
    let read = |name| number(connection, name).map_err(|error| refusal(file, &error));
    if read("application_id")? != schema.application_id {
        return Err(OpenError::Foreign { file: file.into() });
    }
    match read("user_version")? {
        found if found == schema.version => Ok(()),
        found => Err(OpenError::OtherVersion { file: file.into(), found, expected: schema.version }),
    }
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i32> {
    connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))
}

fn refusal(file: &Path, error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { file: file.into() },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::NotWritable { folder: folder_of(file), source: io::Error::other(error.to_string()) }
        }
        _ => OpenError::Database { file: file.into(), reason: error.to_string() },
    }
}

fn folder_of(file: &Path) -> PathBuf {
    file.parent().map(Path::to_path_buf).unwrap_or_default()
}
