//! The thread that notices what other processes commit: it looks at SQLite's change counter every few milliseconds and
//! tells the consumers and the followers of latest values. One a process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tracing::warn;

use super::schema::uint;
use super::shared::Shared;
use crate::sqlite;

/// Between two looks: while records come from elsewhere, otherwise, and when nobody here waits for anything.
const BUSY: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_millis(10);
const UNUSED: Duration = Duration::from_millis(100);
/// Records came this recently: more may.
const BUSY_FOR: Duration = Duration::from_millis(50);
/// Before trying again what failed.
const RETRY: Duration = Duration::from_millis(200);

pub(super) struct Watcher {
    shared: Arc<Shared>,
    data_version: i64,
    records_at: Option<Instant>,
}

impl Watcher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, data_version: -1, records_at: None }
    }

    pub(super) fn run(mut self) {
        let mut connection = None;
        while !self.shared.has_ended() {
            let pause = match self.look(&mut connection) {
                Ok(()) => self.pause(),
                Err(error) => {
                    warn!(error, "cannot see what other processes append, trying again");
                    connection = None;
                    RETRY
                }
            };
            self.shared.watcher.wait(pause);
        }
    }

    fn pause(&self) -> Duration {
        if self.records_at.is_some_and(|at| at.elapsed() < BUSY_FOR) {
            BUSY
        } else if self.shared.tail.any_followed() || self.shared.latest.any() {
            IDLE
        } else {
            UNUSED
        }
    }

    fn look(&mut self, connection: &mut Option<Connection>) -> Result<(), String> {
        let open = match connection {
            Some(open) => open,
            None => {
                let file = self.shared.folder.join(super::schema::FILE);
                connection.insert(sqlite::open_reader(&file).map_err(|error| error.to_string())?)
            }
        };
        self.look_at(open).map_err(|error| error.to_string())
    }

    fn look_at(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let version = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        let changed = self.data_version != version;
        if changed {
            self.look_at_partitions(connection)?;
            self.look_at_groups(connection)?;
            self.data_version = version;
        }
        if changed || self.shared.latest.take_changed_here() {
            self.shared.latest.refresh(connection)?;
        }
        Ok(())
    }

    fn look_at_partitions(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut statement = connection.prepare_cached("SELECT id, end_offset FROM partitions")?;
        let mut rows = statement.query([])?;
        let mut risen = Vec::new();
        while let Some(row) = rows.next()? {
            let partition = row.get(0)?;
            if self.shared.tail.raise_end(partition, uint(row.get(1)?)) {
                risen.push(partition);
            }
        }
        if !risen.is_empty() {
            self.records_at = Some(Instant::now());
            self.shared.memberships().iter().for_each(|membership| membership.notice(None, &risen));
        }
        Ok(())
    }

    fn look_at_groups(&self, connection: &Connection) -> rusqlite::Result<()> {
        let generations = connection
            .prepare_cached("SELECT id, generation FROM consumer_groups")?
            .query_map([], |row| Ok((row.get(0)?, uint(row.get(1)?))))?
            .collect::<rusqlite::Result<HashMap<i64, u64>>>()?;
        for membership in self.shared.memberships() {
            let generation = membership.group_id().and_then(|group| generations.get(&group));
            membership.notice(generation.copied(), &[]);
        }
        Ok(())
    }
}
