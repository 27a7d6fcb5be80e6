//! The poll thread of one membership: it beats, looks after its share of the partitions, fetches and hands on events.
//! It never waits for the one who reads the events: a hung reader stops the records, not the beats.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chat4all_storage::log::outgoing::{Outgoing, RECORDS_BYTES_MAX, RECORDS_MAX};
use chat4all_storage::log::{Assignment, Event, Lease, Record};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::consumer::{Membership, Request};
use super::group::{self, Grant, Look, Seen, Share};
use super::job::{Failure, Size};
use super::read;
use super::tail::Found;

/// Longest sleep: the beat goes on.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// While the reader of the events is behind: from, to.
const FULL_SLEEP: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// Before looking again after the file could not be written.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// The most that is fetched at a time, which is one event's worth: records, bytes.
const FETCH_MAX: (usize, usize) = (RECORDS_MAX, RECORDS_BYTES_MAX);

static FOLLOWERS: AtomicU64 = AtomicU64::new(1);

pub(super) struct Poll {
    me: Arc<Membership>,
    events: Outgoing,
    /// Our name at the tail.
    follower: u64,
    owned: BTreeMap<u32, Owned>,
    released: Vec<(u32, u64)>,
    restarted: Vec<(u32, u64)>,
    look: Option<Looking>,
    look_not_before: Option<Instant>,
    must_look: bool,
    seen_generation: u64,
    /// The partition that was fetched last.
    turn: u32,
    full_sleep: Duration,
}

/// A look under way, with what it asked for.
struct Looking {
    released: Vec<(u32, u64)>,
    restarted: Vec<(u32, u64)>,
    begun_ms: u64,
}

/// A partition that is ours.
struct Owned {
    lease: Lease,
    position: u64,
    paused: bool,
    /// It is to be released until then.
    revoked_at: Option<Instant>,
    /// It was given up to be taken again.
    restarting: bool,
}

impl Poll {
    pub(super) fn new(me: Arc<Membership>, events: mpsc::Sender<Event>) -> Self {
        Self {
            me,
            events: Outgoing::new(events),
            follower: FOLLOWERS.fetch_add(1, Ordering::Relaxed),
            owned: BTreeMap::new(),
            released: Vec::new(),
            restarted: Vec::new(),
            look: None,
            look_not_before: None,
            must_look: false,
            seen_generation: 0,
            turn: 0,
            full_sleep: FULL_SLEEP.0,
        }
    }

    pub(super) fn membership(&self) -> Arc<Membership> {
        self.me.clone()
    }

    /// Takes over what the first look, begun at `begun_ms`, found.
    pub(super) fn start(&mut self, share: Share, begun_ms: u64) {
        self.take_share(share, begun_ms);
    }

    pub(super) fn run(mut self) {
        loop {
            self.me.beat.fetch_add(1, Ordering::SeqCst);
            fail::fail_point!("embedded-log::poll");
            let inbox = self.me.take_inbox();
            if let Some(seen) = inbox.seen {
                self.take_seen(seen);
            }
            let closing = self.me.shared.is_closing();
            if inbox.leave.is_some() || closing || self.events.is_closed() {
                return self.leave(inbox.leave.unwrap_or_default(), closing);
            }
            self.must_look |= inbox.look;
            inbox.requests.into_iter().for_each(|request| self.obey(request));
            self.give_up_overdue();
            self.look_if_needed();
            if !self.hand_on() {
                self.me.sleep(self.patience());
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.events.is_empty() { SLEEP_MAX } else { self.full_sleep }
    }

    fn obey(&mut self, request: Request) {
        match request {
            Request::Pause(lease) => self.with_owned(&lease, |owned| owned.paused = true),
            Request::Resume(lease) => self.with_owned(&lease, |owned| owned.paused = false),
            Request::Release(lease) => self.release(&lease),
            Request::Restart(lease) => self.restart(&lease),
        }
    }

    /// Stale leases are nobody's.
    fn with_owned(&mut self, lease: &Lease, change: impl FnOnce(&mut Owned)) {
        let owned = self.me.id_of(&lease.partition).and_then(|id| self.owned.get_mut(&id));
        if let Some(owned) = owned.filter(|owned| owned.lease == *lease && !owned.restarting) {
            change(owned);
        }
    }

    fn release(&mut self, lease: &Lease) {
        if self.owned(lease).is_some() {
            let number = lease.partition.partition;
            self.me.clone().together(number).for_each(|id| self.drop_owned(id));
            self.released.push((number, lease.epoch));
            self.must_look = true;
        }
    }

    fn restart(&mut self, lease: &Lease) {
        match self.owned(lease) {
            Some(owned) if owned.revoked_at.is_some() => self.release(lease),
            Some(owned) if !owned.restarting => {
                let number = lease.partition.partition;
                self.each_of(number, |owned| owned.restarting = true);
                self.restarted.push((number, lease.epoch));
                self.must_look = true;
            }
            _ => {}
        }
    }

    fn owned(&self, lease: &Lease) -> Option<&Owned> {
        self.owned.get(&self.me.id_of(&lease.partition)?).filter(|owned| owned.lease == *lease)
    }

    /// Changes the partitions of one number that are ours; their leases.
    fn each_of(&mut self, number: u32, change: impl Fn(&mut Owned)) -> Vec<Lease> {
        let mut leases = Vec::new();
        for id in self.me.together(number) {
            if let Some(owned) = self.owned.get_mut(&id) {
                change(owned);
                leases.push(owned.lease.clone());
            }
        }
        leases
    }

    fn drop_owned(&mut self, id: u32) {
        self.owned.remove(&id);
        self.me.shared.tail.unfollow(self.follower, id);
    }

    /// Who was asked to release and did not loses the partition.
    fn give_up_overdue(&mut self) {
        let (now, release_timeout) = (Instant::now(), self.me.shared.options.release_timeout);
        let is_overdue = |owned: &&Owned| owned.revoked_at.is_some_and(|at| at + release_timeout <= now);
        let overdue: Vec<Lease> = self.owned.values().filter(is_overdue).map(|owned| owned.lease.clone()).collect();
        for lease in &overdue {
            warn!(group = &*self.me.group, partition = %lease.partition, epoch = lease.epoch, "not released in time, given up");
            self.release(lease);
        }
        if !overdue.is_empty() {
            self.events.push(Event::Lost(overdue));
        }
    }

    fn look_if_needed(&mut self) {
        let needed = self.must_look || self.me.generation() > self.seen_generation;
        let waits = self.look.is_some() || self.look_not_before.is_some_and(|at| Instant::now() < at);
        if !needed || waits {
            return;
        }
        self.must_look = false;
        self.look_not_before = None;
        let looking = Looking {
            released: std::mem::take(&mut self.released),
            restarted: std::mem::take(&mut self.restarted),
            begun_ms: self.me.clock_ms(),
        };
        let look = Look {
            group: self.me.group.clone(),
            process: self.me.shared.process.clone(),
            topics: self.me.topics.clone(),
            member: self.me.member_id(),
            released: looking.released.clone(),
            restarted: looking.restarted.clone(),
            revoking: self.revoking(),
        };
        self.look = Some(looking);
        let me = self.me.clone();
        let reply = move |seen| me.tell(|inbox| inbox.seen = Some(seen));
        self.me.shared.submit(Size::default(), move |tx| group::look(tx, &look), reply);
    }

    /// Numbers that are to be released.
    fn revoking(&self) -> Vec<u32> {
        let revoking = self.owned.values().filter(|owned| owned.revoked_at.is_some());
        revoking.map(|owned| owned.lease.partition.partition).collect()
    }

    fn take_seen(&mut self, seen: Result<Seen, Failure>) {
        let Some(looking) = self.look.take() else { return };
        match seen {
            Ok(Seen::Shared(share)) => self.take_share(share, looking.begun_ms),
            Ok(Seen::Gone) => self.lose_all(),
            Err(failure) => {
                warn!(group = &*self.me.group, ?failure, "could not look after the group, trying again");
                self.released.extend(looking.released);
                self.restarted.extend(looking.restarted);
                self.must_look = true;
                self.look_not_before = Some(Instant::now() + LOOK_AGAIN);
            }
        }
    }

    fn take_share(&mut self, share: Share, begun_ms: u64) {
        if self.me.member_id().is_none() {
            self.me.confirm(begun_ms);
        }
        self.me.set_ids(share.group, Some(share.member));
        self.me.notice(Some(share.generation), &[]);
        self.seen_generation = share.generation;
        let assignments: Vec<_> = share.granted.into_iter().map(|grant| self.take_grant(grant)).collect();
        if !assignments.is_empty() {
            self.events.push(Event::Assigned(assignments));
        }
        let revoked_at = Some(Instant::now());
        let known = self.revoking();
        let surplus = share.surplus.into_iter().filter(|number| !known.contains(number));
        let revoking: Vec<Lease> =
            surplus.flat_map(|number| self.each_of(number, |owned| owned.revoked_at = revoked_at)).collect();
        if !revoking.is_empty() {
            self.events.push(Event::Revoking(revoking));
        }
    }

    fn take_grant(&mut self, grant: Grant) -> Assignment {
        let lease = Lease { partition: self.me.partition(grant.partition), epoch: grant.epoch };
        self.me.shared.tail.follow(self.follower, grant.partition, grant.offset, grant.end);
        let owned =
            Owned { lease: lease.clone(), position: grant.offset, paused: false, revoked_at: None, restarting: false };
        self.owned.insert(grant.partition, owned);
        Assignment { lease, offset: grant.offset, metadata: grant.metadata }
    }

    /// Others took our membership away: we hung, or looked like it. Joins anew.
    fn lose_all(&mut self) {
        let leases: Vec<Lease> = self.owned.values().map(|owned| owned.lease.clone()).collect();
        warn!(group = &*self.me.group, partitions = leases.len(), "the membership was taken away, joining again");
        for id in self.owned.keys().copied().collect::<Vec<_>>() {
            self.drop_owned(id);
        }
        self.me.unconfirm();
        self.me.set_ids(self.me.group_id().unwrap_or(0), None);
        self.events.forget(&leases);
        self.events.push(Event::Lost(leases));
        self.released.clear();
        self.restarted.clear();
        self.must_look = true;
    }

    /// Hands on what waits, then fetches once. False if there is nothing to do for now.
    fn hand_on(&mut self) -> bool {
        if !self.flush() {
            return false;
        }
        self.full_sleep = FULL_SLEEP.0;
        let Some((id, records)) = self.fetch() else { return false };
        let owned = self.owned.get_mut(&id).expect("only what we own is fetched");
        owned.position = records.last().map_or(owned.position, |record| record.offset + 1);
        self.events.push(Event::Records { lease: owned.lease.clone(), records });
        self.flush()
    }

    /// False if the reader is behind: the next attempt comes later then.
    fn flush(&mut self) -> bool {
        let clear = self.events.flush();
        if !clear {
            self.full_sleep = (self.full_sleep * 2).min(FULL_SLEEP.1);
        }
        clear
    }

    /// The records of the next partition that has some.
    fn fetch(&mut self) -> Option<(u32, Vec<Arc<Record>>)> {
        let after = self.owned.range(self.turn + 1..);
        let in_turn: Vec<u32> = after
            .chain(self.owned.range(..=self.turn))
            .filter(|(_, owned)| !owned.paused && !owned.restarting && owned.revoked_at.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in in_turn {
            let records = self.fetch_from(id);
            if !records.is_empty() {
                self.turn = id;
                return Some((id, records));
            }
        }
        None
    }

    fn fetch_from(&self, id: u32) -> Vec<Arc<Record>> {
        let position = self.owned[&id].position;
        match self.me.shared.tail.find(self.follower, id, position, FETCH_MAX) {
            Found::Records(records) => records,
            Found::Nothing => Vec::new(),
            Found::InFile => {
                let read = |connection: &rusqlite::Connection| read::records(connection, id, position, FETCH_MAX);
                self.me.shared.readers.read(read).unwrap_or_else(|error| {
                    warn!(partition = %self.owned[&id].lease.partition, %error, "could not read, trying again");
                    Vec::new()
                })
            }
        }
    }

    /// Ends the membership and this thread.
    fn leave(mut self, left: Vec<oneshot::Sender<()>>, closing: bool) {
        if closing {
            self.events.push(Event::Failed("the log was closed".into()));
            self.events.flush();
        }
        while self.look.is_some() {
            // It may make us a member.
            self.me.sleep(SLEEP_MAX);
            let seen = self.me.take_inbox().seen;
            seen.into_iter().for_each(|seen| self.take_seen(seen));
        }
        for id in self.owned.keys().copied().collect::<Vec<_>>() {
            self.drop_owned(id);
        }
        let member = self.me.member_id();
        self.me.set_ids(self.me.group_id().unwrap_or(0), None);
        self.me.end();
        if let Some(member) = member {
            let run = move |tx: &mut super::tx::Tx<'_>| group::remove_member(tx, member);
            self.me.shared.submit(Size::default(), run, move |_| drop(left));
        }
    }
}
