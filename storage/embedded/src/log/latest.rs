//! Keyed latest values: writing one, and following all of a topic.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chat4all_storage::log::LatestValues;
use rusqlite::Connection;
use tokio::sync::watch;

use super::shared::lock;
use super::tx::Tx;

/// Sets or removes the value of a key.
pub(super) fn put(tx: &mut Tx<'_>, topic: i64, key: &str, value: Option<&Bytes>) -> rusqlite::Result<()> {
    match value {
        Some(value) => tx
            .prepare("INSERT INTO latest(topic, key, value) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = ?3")?
            .execute((topic, key, value.as_ref()))?,
        None => tx.prepare("DELETE FROM latest WHERE topic = ? AND key = ?")?.execute((topic, key))?,
    };
    tx.prepare("UPDATE topics SET version = version + 1 WHERE id = ?")?.execute([topic])?;
    tx.effects.latest.insert(topic);
    Ok(())
}

/// The topics that are followed here. Refreshed by the watcher.
#[derive(Default)]
pub(super) struct Followers {
    topics: Mutex<HashMap<i64, Followed>>,
    changed_here: AtomicBool,
}

struct Followed {
    version: i64,
    values: watch::Sender<Arc<LatestValues>>,
}

impl Followers {
    /// All values of `topic` as they are now, and whatever comes after.
    pub(super) fn follow(
        &self,
        connection: &Connection,
        topic: i64,
    ) -> rusqlite::Result<watch::Receiver<Arc<LatestValues>>> {
        let (version, values) = read(connection, topic)?;
        let mut topics = lock(&self.topics);
        let followed = topics
            .entry(topic)
            .or_insert_with(|| Followed { version, values: watch::Sender::new(Arc::new(LatestValues::new())) });
        followed.take(version, values);
        Ok(followed.values.subscribe())
    }

    pub(super) fn any(&self) -> bool {
        !lock(&self.topics).is_empty()
    }

    /// Our writer changed a value.
    pub(super) fn changed_here(&self) {
        self.changed_here.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_changed_here(&self) -> bool {
        self.changed_here.load(Ordering::SeqCst)
    }

    pub(super) fn take_changed_here(&self) -> bool {
        self.changed_here.swap(false, Ordering::SeqCst)
    }

    /// Reads the topics anew that changed.
    pub(super) fn refresh(&self, connection: &Connection) -> rusqlite::Result<()> {
        let known: Vec<(i64, i64)> = lock(&self.topics).iter().map(|(id, followed)| (*id, followed.version)).collect();
        for (topic, known_version) in known {
            if version(connection, topic)? != known_version {
                let (version, values) = read(connection, topic)?;
                if let Some(followed) = lock(&self.topics).get_mut(&topic) {
                    followed.take(version, values);
                }
            }
        }
        Ok(())
    }
}

impl Followed {
    fn take(&mut self, version: i64, values: LatestValues) {
        if version >= self.version {
            self.version = version;
            self.values.send_if_modified(|known| {
                let changed = **known != values;
                if changed {
                    *known = Arc::new(values);
                }
                changed
            });
        }
    }
}

fn version(connection: &Connection, topic: i64) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT version FROM topics WHERE id = ?")?.query_row([topic], |row| row.get(0))
}

/// The version is read first: the values may be newer than it says, never older.
fn read(connection: &Connection, topic: i64) -> rusqlite::Result<(i64, LatestValues)> {
    let version = version(connection, topic)?;
    let values = connection
        .prepare_cached("SELECT key, value FROM latest WHERE topic = ?")?
        .query_map([topic], |row| Ok((row.get(0)?, Bytes::from(row.get::<_, Vec<u8>>(1)?))))?
        .collect::<rusqlite::Result<LatestValues>>()?;
    Ok((version, values))
}
