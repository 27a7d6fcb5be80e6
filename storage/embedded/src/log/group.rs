//! Groups in the file: joining, sharing out partitions, giving them up, beating, and burying the dead. Every function
//! runs inside a transaction, on behalf of a member's poll thread or of the coordinator.
//!
//! There is no leader. A member that looks takes free partitions up to its fair share and names what it holds above it;
//! whoever frees a partition or changes the members raises the group's generation, and the others look again.

use std::sync::Arc;

use rusqlite::OptionalExtension as _;

use super::append::{self, Fence};
use super::schema::{int, lease_id, uint};
use super::topics::TopicInfo;
use super::tx::Tx;

/// What a member wants to change when it looks.
#[derive(Clone)]
pub(super) struct Look {
    pub group: Arc<str>,
    pub process: Arc<str>,
    /// The first one leads: its partitions are shared out, those of the same number in the others go with them.
    pub topics: Arc<[Arc<TopicInfo>]>,
    /// `None`: joins.
    pub member: Option<i64>,
    /// Numbers and epochs given up.
    pub released: Vec<(u32, u64)>,
    /// Numbers and epochs given up and taken again.
    pub restarted: Vec<(u32, u64)>,
    /// Numbers that are being drained: not counted as held.
    pub revoking: Vec<u32>,
}

impl Look {
    /// The partitions of one number.
    fn together(&self, number: u32) -> impl Iterator<Item = u32> {
        self.topics.iter().map(move |topic| topic.partitions[number as usize])
    }
}

/// What it finds.
pub(super) enum Seen {
    /// The membership is over: everything held is lost.
    Gone,
    Shared(Share),
}

pub(super) struct Share {
    pub group: i64,
    pub member: i64,
    pub generation: u64,
    pub granted: Vec<Grant>,
    /// Numbers held above the fair share.
    pub surplus: Vec<u32>,
}

/// A partition that is ours from now on.
pub(super) struct Grant {
    pub partition: u32,
    pub epoch: u64,
    pub offset: u64,
    pub end: u64,
    pub metadata: String,
}

/// Joins or looks.
pub(super) fn look(tx: &mut Tx<'_>, look: &Look) -> rusqlite::Result<Seen> {
    let group = group_id(tx, &look.group)?;
    let member = match look.member {
        Some(member) if !is_member(tx, member)? => return Ok(Seen::Gone),
        Some(member) => member,
        None => join(tx, group, look)?,
    };
    release(tx, group, member, look)?;
    let mut granted = restart(tx, group, member, look)?;
    let mut surplus = Vec::new();
    if let Some(lead) = look.topics.first() {
        let share = fair_share(tx, group, member, lead)?;
        let held = numbers_of(tx, group, lead.id, Some(member))?;
        let kept: Vec<u32> = held.into_iter().filter(|number| !look.revoking.contains(number)).collect();
        surplus.extend(kept.iter().skip(share));
        let free = numbers_of(tx, group, lead.id, None)?;
        for number in free.into_iter().take(share.saturating_sub(kept.len())) {
            granted.extend(grant(tx, group, member, look, number)?);
        }
    }
    let generation = tx
        .prepare("SELECT generation FROM consumer_groups WHERE id = ?")?
        .query_row([group], |row| row.get(0).map(uint))?;
    Ok(Seen::Shared(Share { group, member, generation, granted, surplus }))
}

fn group_id(tx: &Tx<'_>, name: &str) -> rusqlite::Result<i64> {
    let found =
        tx.prepare("SELECT id FROM consumer_groups WHERE name = ?")?.query_row([name], |row| row.get(0)).optional()?;
    match found {
        Some(id) => Ok(id),
        None => tx.prepare("INSERT INTO consumer_groups(name, generation) VALUES (?, 1)")?.insert([name]),
    }
}

fn is_member(tx: &Tx<'_>, member: i64) -> rusqlite::Result<bool> {
    tx.prepare("SELECT 1 FROM members WHERE id = ?")?.exists([member])
}

fn join(tx: &mut Tx<'_>, group: i64, look: &Look) -> rusqlite::Result<i64> {
    add_process(tx, &look.process)?;
    let member = tx
        .prepare("INSERT INTO members(consumer_group, process, beat) VALUES (?, ?, 0)")?
        .insert((group, &*look.process))?;
    if let Some(lead) = look.topics.first() {
        tx.prepare("INSERT INTO subscriptions(member, topic) VALUES (?, ?)")?.execute((member, lead.id))?;
    }
    for topic in look.topics.iter() {
        for &partition in &topic.partitions {
            tx.prepare(
                "INSERT OR IGNORE INTO leases(id, consumer_group, partition, epoch, metadata) VALUES (?, ?, ?, 0, '')",
            )?
            .execute((lease_id(group, partition), group, partition))?;
        }
    }
    tx.bump_group(group)?;
    Ok(member)
}

/// Makes the row of this process, if there is none.
pub(super) fn add_process(tx: &Tx<'_>, process: &str) -> rusqlite::Result<()> {
    tx.prepare("INSERT OR IGNORE INTO processes(name, pid, started_at, roles, listens) VALUES (?, ?, ?, '[]', '[]')")?
        .execute((process, std::process::id(), int(tx.now.as_millis())))
        .map(drop)
}

/// How many partitions of `topic` are this member's share. They are dealt out evenly among the members that it leads; the
/// odd ones go to those who joined first.
fn fair_share(tx: &Tx<'_>, group: i64, member: i64, topic: &TopicInfo) -> rusqlite::Result<usize> {
    let members: Vec<i64> = tx
        .prepare(
            "SELECT m.id FROM members m JOIN subscriptions s ON s.member = m.id
             WHERE m.consumer_group = ? AND s.topic = ? ORDER BY m.id",
        )?
        .query_map((group, topic.id), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let place = members.iter().position(|other| *other == member).expect("a member subscribes to its first topic");
    let (each, odd) = (topic.partitions.len() / members.len(), topic.partitions.len() % members.len());
    Ok(each + usize::from(place < odd))
}

/// Numbers of the partitions of a topic that `member` holds, or that nobody does.
fn numbers_of(tx: &Tx<'_>, group: i64, topic: i64, member: Option<i64>) -> rusqlite::Result<Vec<u32>> {
    tx.prepare(
        "SELECT p.number FROM partitions p JOIN leases l ON l.id = (?1 << 32 | p.id)
         WHERE p.topic = ?2 AND l.member IS ?3 ORDER BY p.number",
    )?
    .query_map((group, topic, member), |row| row.get(0))?
    .collect()
}

/// Takes the partitions of one number under one epoch, higher than all that any of them had.
fn grant(tx: &Tx<'_>, group: i64, member: i64, look: &Look, number: u32) -> rusqlite::Result<Vec<Grant>> {
    let mut epoch = 0;
    for partition in look.together(number) {
        let known: i64 = tx
            .prepare("SELECT epoch FROM leases WHERE id = ?")?
            .query_row([lease_id(group, partition)], |row| row.get(0))?;
        epoch = epoch.max(known + 1);
    }
    look.together(number).map(|partition| take(tx, group, member, partition, epoch)).collect()
}

fn take(tx: &Tx<'_>, group: i64, member: i64, partition: u32, epoch: i64) -> rusqlite::Result<Grant> {
    tx.prepare("UPDATE leases SET member = ?, epoch = ? WHERE id = ?")?.execute((
        member,
        epoch,
        lease_id(group, partition),
    ))?;
    tx.prepare(
        "SELECT l.epoch, max(p.start_offset, coalesce(l.committed, 0)), p.end_offset, l.metadata
         FROM leases l JOIN partitions p ON p.id = l.partition WHERE l.id = ?",
    )?
    .query_row([lease_id(group, partition)], |row| {
        Ok(Grant {
            partition,
            epoch: uint(row.get(0)?),
            offset: uint(row.get(1)?),
            end: uint(row.get(2)?),
            metadata: row.get(3)?,
        })
    })
}

fn release(tx: &mut Tx<'_>, group: i64, member: i64, look: &Look) -> rusqlite::Result<()> {
    let mut freed = 0;
    for (number, epoch) in &look.released {
        for partition in look.together(*number) {
            freed += tx
                .prepare("UPDATE leases SET member = NULL WHERE id = ? AND member = ? AND epoch = ?")?
                .execute((lease_id(group, partition), member, int(*epoch)))?;
        }
    }
    if freed > 0 {
        tx.bump_group(group)?;
    }
    Ok(())
}

fn restart(tx: &Tx<'_>, group: i64, member: i64, look: &Look) -> rusqlite::Result<Vec<Grant>> {
    let mut granted = Vec::new();
    for (number, epoch) in &look.restarted {
        let Some(lead) = look.together(*number).next() else { continue };
        let fence = Fence { group, member, partition: lead, epoch: *epoch };
        if append::holds(tx, fence)? {
            granted.extend(grant(tx, group, member, look, *number)?);
        }
    }
    Ok(granted)
}

/// Ends a membership; what it held is free. False if it had ended before.
pub(super) fn remove_member(tx: &mut Tx<'_>, member: i64) -> rusqlite::Result<bool> {
    let group = tx
        .prepare("SELECT consumer_group FROM members WHERE id = ?")?
        .query_row([member], |row| row.get(0))
        .optional()?;
    let Some(group) = group else { return Ok(false) };
    tx.prepare("UPDATE leases SET member = NULL WHERE member = ?")?.execute([member])?;
    tx.prepare("DELETE FROM subscriptions WHERE member = ?")?.execute([member])?;
    tx.prepare("DELETE FROM members WHERE id = ?")?.execute([member])?;
    tx.bump_group(group)?;
    Ok(true)
}

/// Removes a process and its members. Its pid and how many partitions are free now; `None` if it had no rows.
pub(super) fn remove_process(tx: &mut Tx<'_>, process: &str) -> rusqlite::Result<Option<(u32, usize)>> {
    let members: Vec<i64> = tx
        .prepare("SELECT id FROM members WHERE process = ?")?
        .query_map([process], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut freed = 0;
    for member in members {
        freed += leases_held(tx, member)?;
        remove_member(tx, member)?;
    }
    let pid = tx
        .prepare("DELETE FROM processes WHERE name = ? RETURNING pid")?
        .query_row([process], |row| row.get(0))
        .optional()?;
    Ok(pid.map(|pid| (pid, freed)))
}

/// Removes the processes that have no file, as after the folder was copied: a file is made before its rows.
pub(super) fn remove_missing(tx: &mut Tx<'_>, has_file: impl Fn(&str) -> bool) -> rusqlite::Result<()> {
    let processes: Vec<String> = tx
        .prepare("SELECT name FROM processes UNION SELECT process FROM members")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for process in processes.iter().filter(|process| !has_file(process)) {
        remove_process(tx, process)?;
    }
    Ok(())
}

fn leases_held(tx: &Tx<'_>, member: i64) -> rusqlite::Result<usize> {
    tx.prepare("SELECT count(*) FROM leases WHERE member = ?")?
        .query_row([member], |row| row.get(0).map(|n: i64| n as usize))
}

/// A member as everybody sees it.
#[derive(Debug, Clone)]
pub(super) struct Beat {
    pub member: i64,
    pub process: String,
    pub pid: u32,
    pub beat: i64,
}

/// Writes our members' beats. Those that are members no longer are missing in the answer, which lists all of all
/// processes.
pub(super) fn beat(tx: &Tx<'_>, ours: &[(i64, i64)]) -> rusqlite::Result<Vec<Beat>> {
    for (member, beat) in ours {
        tx.prepare("UPDATE members SET beat = ? WHERE id = ?")?.execute((beat, member))?;
    }
    tx.prepare("SELECT m.id, m.process, p.pid, m.beat FROM members m JOIN processes p ON p.name = m.process")?
        .query_map([], |row| {
            Ok(Beat { member: row.get(0)?, process: row.get(1)?, pid: row.get(2)?, beat: row.get(3)? })
        })?
        .collect()
}

/// Ends the membership of a member whose beat still is `beat`. False if it went on, or is gone.
pub(super) fn remove_hung(tx: &mut Tx<'_>, member: i64, beat: i64) -> rusqlite::Result<bool> {
    let stands = tx.prepare("SELECT 1 FROM members WHERE id = ? AND beat = ?")?.exists((member, beat))?;
    Ok(stands && remove_member(tx, member)?)
}
