//! The thread that notices what other processes commit: it looks at SQLite's change counter every few milliseconds and
//! tells the consumers and the followers of latest values. One a process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use tracing::warn;

use super::schema::uint;
use super::shared::Shared;
use crate::sqlite;

/// Between two looks: while records come from elsewhere, otherwise, and when there is nobody else or nobody here waits.
const BUSY: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_millis(10);
const UNUSED: Duration = Duration::from_millis(100);
/// A write may leave the times of the write-ahead log as they are if it follows another this closely (they advance by
/// ticks of the kernel, 10 ms at most), and a look sooner than this after a change trusts them not.
const TICK: Duration = Duration::from_millis(30);
/// Records came this recently: more may.
const BUSY_FOR: Duration = Duration::from_millis(50);
/// Looked at, never opened.
const WAL: &str = "log.db-wal";
/// Before trying again what failed.
const RETRY: Duration = Duration::from_millis(200);

pub(super) struct Watcher {
    shared: Arc<Shared>,
    data_version: i64,
    records_at: Option<Instant>,
    /// The write-ahead log's size and time at the last look, and when they changed.
    wal: Option<(u64, SystemTime)>,
    wal_changed_at: Instant,
    asked_at: Instant,
}

impl Watcher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        Self { shared, data_version: -1, records_at: None, wal: None, wal_changed_at: now, asked_at: now }
    }

    pub(super) fn run(mut self) {
        let mut connection = None;
        while !self.shared.has_ended() {
            let look = if self.may_have_changed() { self.look(&mut connection) } else { Ok(()) };
            let pause = match look {
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
        } else if self.shared.others.load(Ordering::SeqCst)
            && (self.shared.tail.any_followed() || self.shared.latest.any())
        {
            IDLE
        } else {
            UNUSED
        }
    }

    /// Asking the file system is much cheaper than asking SQLite. The latter is asked anyway now and then, and when our
    /// own writer changed a latest value.
    fn may_have_changed(&mut self) -> bool {
        let metadata = std::fs::metadata(self.shared.folder.join(WAL));
        let wal = metadata.and_then(|metadata| Ok((metadata.len(), metadata.modified()?))).ok();
        if wal != self.wal {
            self.wal = wal;
            self.wal_changed_at = Instant::now();
        }
        let unsure = wal.is_none() || self.wal_changed_at.elapsed() < TICK || self.shared.latest.has_changed_here();
        let ask = unsure || self.asked_at.elapsed() >= UNUSED;
        if ask {
            self.asked_at = Instant::now();
        }
        ask
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
