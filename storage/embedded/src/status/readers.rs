//! Connections for queries. Each is used by one query at a time, on a thread where blocking is allowed, and kept for the
//! next.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use chat4all_storage::status::Error;
use rusqlite::{Connection, Transaction};
use tokio::sync::Semaphore;

use super::failure;
use crate::sqlite;

/// At most `readers_max` connections, made when first needed.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    slots: Arc<Semaphore>,
    readers_max: u32,
    file: PathBuf,
}

impl Readers {
    pub(super) fn new(file: PathBuf, readers_max: usize) -> Self {
        let readers_max = u32::try_from(readers_max).unwrap_or(u32::MAX).clamp(1, 1_024);
        let slots = Arc::new(Semaphore::new(readers_max as usize));
        Self { idle: Arc::default(), slots, readers_max, file }
    }

    /// Runs `query` on one snapshot of the store. It runs to its end even if the caller stops waiting.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Transaction<'_>) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, Error> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| failure::closed())?;
        let (idle, file) = (Arc::clone(&self.idle), self.file.clone());
        let ran = tokio::task::spawn_blocking(move || {
            let result = on_connection(&idle, &file, query);
            drop(slot);
            result
        });
        ran.await.unwrap_or_else(|_| Err(Error::Unavailable("the query was cut off".into())))
    }

    /// Lets running queries end, refuses further ones and closes the connections.
    pub(super) async fn close(&self) {
        let Ok(all) = self.slots.acquire_many(self.readers_max).await else { return };
        self.slots.close();
        drop(all);
        let idle = Arc::clone(&self.idle);
        // Closing may touch the disk. If the runtime is ending, the connections are dropped with `self`.
        let _ = tokio::task::spawn_blocking(move || idle.lock().unwrap_or_else(PoisonError::into_inner).clear()).await;
    }
}

/// Why a query failed, before the file's name is put to it.
pub(super) enum QueryError {
    Port(Error),
    Sqlite(rusqlite::Error),
}

impl From<Error> for QueryError {
    fn from(error: Error) -> Self {
        QueryError::Port(error)
    }
}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> Self {
        QueryError::Sqlite(error)
    }
}

fn on_connection<T>(
    idle: &Mutex<Vec<Connection>>,
    file: &std::path::Path,
    query: impl FnOnce(&Transaction<'_>) -> Result<T, QueryError>,
) -> Result<T, Error> {
    let locked = || idle.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = locked().pop();
    let mut connection = match kept {
        Some(connection) => connection,
        None => sqlite::open_reader(file).map_err(|error| Error::Unavailable(error.to_string()))?,
    };
    let result = connection.transaction().map_err(QueryError::from).and_then(|snapshot| query(&snapshot));
    match result {
        Ok(found) => {
            locked().push(connection);
            Ok(found)
        }
        Err(QueryError::Port(error)) => Err(error), // a fresh connection next time
        Err(QueryError::Sqlite(error)) => Err(failure::error(file, &error)),
    }
}
