//! The topics that are there: making them, and finding a topic's partitions without asking the file each time.
//! Topics are never removed, so that what was found once stays true.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use chat4all_proto::Topic;
use chat4all_storage::diagnosis::Finding;
use chat4all_storage::log::{Error, TopicKind, TopicSpec};
use rusqlite::{Connection, OptionalExtension as _};

use super::schema::{self, create_records, int, millis};
use super::tx::Tx;
use crate::doctor;

/// A topic of the file.
#[derive(Debug)]
pub(super) struct TopicInfo {
    pub id: i64,
    pub topic: Topic,
    pub latest: bool,
    /// Ids of its partitions, by number.
    pub partitions: Vec<u32>,
}

/// Topics found before.
#[derive(Default)]
pub(super) struct Topics {
    known: RwLock<HashMap<Topic, Arc<TopicInfo>>>,
}

impl Topics {
    pub(super) fn get(&self, topic: &Topic) -> Option<Arc<TopicInfo>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// Looks a topic up in the file. `None`: nobody made it. Blocks.
    pub(super) fn load(&self, connection: &Connection, topic: &Topic) -> rusqlite::Result<Option<Arc<TopicInfo>>> {
        let found = connection
            .prepare_cached("SELECT id, latest FROM topics WHERE name = ?")?
            .query_row([topic.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, latest)) = found else { return Ok(None) };
        let partitions = partitions(connection, id)?;
        let info = Arc::new(TopicInfo { id, topic: topic.clone(), latest, partitions });
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(topic.clone(), info.clone());
        Ok(Some(info))
    }
}

fn partitions(connection: &Connection, topic: i64) -> rusqlite::Result<Vec<u32>> {
    connection
        .prepare_cached("SELECT id FROM partitions WHERE topic = ? ORDER BY number")?
        .query_map([topic], |row| row.get(0))?
        .collect()
}

/// Finds out whether the log in `folder` can be used with `specs`. Makes and changes nothing. Blocks.
pub fn examine(folder: &Path, specs: &[TopicSpec]) -> Vec<Finding> {
    doctor::examine(folder, schema::FILE, &schema::SCHEMA, |connection| {
        let mut there = 0;
        let mut others = Vec::new();
        for spec in specs {
            match existing(connection, spec)? {
                None => continue,
                Some(found) if found == (is_latest(spec), spec.partitions as usize) => {}
                Some(found) => others.push(mismatch(spec, found)),
            }
            there += 1;
        }
        Ok((format!("{there} of {} topics there", specs.len()), Finding::of_topics(&others)))
    })
}

/// Makes the missing ones of `specs`, or none if one of them is there otherwise.
pub(super) fn ensure(tx: &mut Tx<'_>, specs: &[TopicSpec]) -> rusqlite::Result<Result<(), Error>> {
    let mut missing = Vec::new();
    for spec in specs {
        match existing(tx.connection, spec)? {
            None => missing.push(spec),
            Some(found) if found == (is_latest(spec), spec.partitions as usize) => update_retention(tx, spec)?,
            Some(found) => return Ok(Err(mismatch(spec, found))),
        }
    }
    for spec in missing {
        create(tx.connection, spec)?;
    }
    Ok(Ok(()))
}

fn existing(connection: &Connection, spec: &TopicSpec) -> rusqlite::Result<Option<(bool, usize)>> {
    let found = connection
        .query_row("SELECT id, latest FROM topics WHERE name = ?", [spec.topic.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((id, latest)) = found else { return Ok(None) };
    Ok(Some((latest, partitions(connection, id)?.len())))
}

fn update_retention(tx: &Tx<'_>, spec: &TopicSpec) -> rusqlite::Result<()> {
    let retention = retention_ms(spec);
    tx.prepare("UPDATE topics SET retention_ms = ?1 WHERE name = ?2 AND retention_ms <> ?1")?
        .execute((retention, spec.topic.to_string()))
        .map(drop)
}

fn create(connection: &Connection, spec: &TopicSpec) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO topics(name, latest, retention_ms) VALUES (?, ?, ?)",
        (spec.topic.to_string(), is_latest(spec), retention_ms(spec)),
    )?;
    let topic = connection.last_insert_rowid();
    for number in 0..spec.partitions {
        connection.execute("INSERT INTO partitions(topic, number) VALUES (?, ?)", (topic, number))?;
        let id = u32::try_from(connection.last_insert_rowid()).expect("there are fewer than 2^32 partitions");
        connection.execute_batch(&create_records(id))?;
    }
    Ok(())
}

fn is_latest(spec: &TopicSpec) -> bool {
    spec.kind == TopicKind::Latest
}

fn retention_ms(spec: &TopicSpec) -> i64 {
    match spec.kind {
        TopicKind::Stream { retention } => int(millis(retention)),
        TopicKind::Latest => 0,
    }
}

fn mismatch(spec: &TopicSpec, (latest, partitions): (bool, usize)) -> Error {
    let kind = |latest| if latest { "keyed latest values" } else { "a stream" };
    Error::Refused(format!(
        "the topic `{}` is {} of {partitions} partitions, asked for is {} of {}: configure what is there, or begin \
         with an empty folder",
        spec.topic,
        kind(latest),
        kind(is_latest(spec)),
        spec.partitions
    ))
}
