//! What must hold, whatever happens. It sees what the provider and the log see and what each lease began with, and keeps
//! its own books: nothing here asks the engine or the gate.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::AddAssign;

use chat4all_proto::{DeliveryStatus, Timestamp};

use super::provider::{Answer, Spell};
use super::script::{Fate, Written};

/// Failures that count until a delivery has failed.
const ATTEMPTS_MAX: u32 = 5;
/// Longest time from a provider's return to the next call: it opens for 30 s at most, and lanes look every second.
pub const RETURN_MAX_MS: u64 = 32_000;
/// Until a breaker has noticed an outage: calls in flight may hang for 15 s.
const NOTICE_MS: u64 = 25_000;

#[derive(Debug, Default)]
pub struct Figures {
    pub deliveries: u64,
    pub faults: u64,
    pub crashes: u64,
    pub drains: u64,
    pub cut_off: u64,
    /// Records that repeat an earlier one.
    pub repeats: u64,
    /// Deliveries that were attempted again after the provider had taken them, by a later lease.
    pub resent: u64,
    pub failed: u64,
    pub expired: u64,
    pub cancelled: u64,
    pub parked: u64,
    /// Calls into an outage that was known.
    pub probes: u64,
    /// Returns of a provider that were looked at.
    pub returns: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.deliveries += other.deliveries;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.drains += other.drains;
        self.cut_off += other.cut_off;
        self.repeats += other.repeats;
        self.resent += other.resent;
        self.failed += other.failed;
        self.expired += other.expired;
        self.cancelled += other.cancelled;
        self.parked += other.parked;
        self.probes += other.probes;
        self.returns += other.returns;
    }
}

/// What is known of one delivery.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub lane: String,
    pub side: usize,
    partition: usize,
    pub expires_at: Timestamp,
    /// When its record was first on the outbound topic.
    pub written_ms: Option<u64>,
    /// The provider took it, and the holder of that time learnt so.
    taken_and_told: bool,
    taken: bool,
    end: Option<DeliveryStatus>,
    /// What the present lease began with says that nothing is left to do.
    closed: bool,
    /// Failures that may count: those of an outage only with a success of its side since the attempt before.
    burnt: u32,
    tried_ms: Option<u64>,
    /// The present lease has published its end.
    published: bool,
    cancelled: bool,
}

/// A call, for the bounds that are looked at in the end.
#[derive(Debug, Clone, Copy)]
struct Called {
    process: usize,
    /// Of the process: it begins anew with each restart.
    life: u64,
    side: usize,
    at_ms: u64,
}

pub struct Judge {
    pub deliveries: Vec<Delivery>,
    /// Lane to delivery in flight.
    in_flight: BTreeMap<String, usize>,
    /// Ends on their way to the log.
    publishing: HashMap<usize, DeliveryStatus>,
    /// Highest index that was taken first, by lane.
    last_first_taken: HashMap<String, usize>,
    last_success_ms: HashMap<usize, u64>,
    calls: Vec<Called>,
    paused: bool,
    draining: [bool; 2],
    pub figures: Figures,
}

impl Judge {
    pub fn new(logs: [&[Written]; 2], fates: &[Fate], side_of: impl Fn(&Written) -> usize) -> Self {
        let mut deliveries: Vec<Option<Delivery>> = vec![None; fates.len()];
        for (partition, log) in logs.into_iter().enumerate() {
            for written in log {
                deliveries[written.index].get_or_insert_with(|| Delivery {
                    lane: format!("{} {}", written.delivery.conversation_id, written.delivery.to),
                    side: side_of(written),
                    partition,
                    expires_at: written.delivery.expires_at,
                    written_ms: None,
                    taken_and_told: false,
                    taken: false,
                    end: None,
                    closed: false,
                    burnt: 0,
                    tried_ms: None,
                    published: false,
                    cancelled: false,
                });
            }
        }
        let records: usize = logs.iter().map(|log| log.len()).sum();
        let figures =
            Figures { deliveries: fates.len() as u64, repeats: (records - fates.len()) as u64, ..Figures::default() };
        Self {
            deliveries: deliveries.into_iter().map(|delivery| delivery.expect("each is written")).collect(),
            in_flight: BTreeMap::new(),
            publishing: HashMap::new(),
            last_first_taken: HashMap::new(),
            last_success_ms: HashMap::new(),
            calls: Vec::new(),
            paused: false,
            draining: [false; 2],
            figures,
        }
    }

    pub fn written(&mut self, index: usize, now_ms: u64) {
        self.deliveries[index].written_ms.get_or_insert(now_ms);
    }

    pub fn started(&mut self, index: usize, process: (usize, u64), now_ms: u64, wall: Timestamp) -> Result<(), String> {
        let delivery = self.deliveries[index].clone();
        let wrong = |what: &str| Err(format!("delivery {index}: {what}: {delivery:?}"));
        if self.paused {
            return wrong("started while the channel is paused");
        }
        if self.draining[delivery.partition] {
            return wrong("started while draining");
        }
        if let Some(other) = self.in_flight.insert(delivery.lane.clone(), index) {
            return wrong(&format!("delivery {other} of its lane is in flight"));
        }
        if delivery.closed {
            return wrong("started though the commit it resumed from had it finished");
        }
        if delivery.published {
            return wrong("started after its end");
        }
        if delivery.cancelled {
            return wrong("started after it was cancelled");
        }
        if delivery.expires_at <= wall {
            return wrong("started after its expiry");
        }
        if delivery.taken_and_told {
            self.figures.resent += 1;
        }
        let (process, life) = process;
        self.calls.push(Called { process, life, side: delivery.side, at_ms: now_ms });
        Ok(())
    }

    /// The provider has it. `told`: and its answer came through.
    pub fn taken(&mut self, index: usize, told: bool) -> Result<(), String> {
        let delivery = &mut self.deliveries[index];
        delivery.taken_and_told |= told;
        if std::mem::replace(&mut delivery.taken, true) {
            return Ok(());
        }
        match self.last_first_taken.insert(delivery.lane.clone(), index) {
            Some(last) if last > index => Err(format!("delivery {index} came after {last} of its lane")),
            _ => Ok(()),
        }
    }

    pub fn answered(&mut self, index: usize, answer: Answer, now_ms: u64) {
        let delivery = &mut self.deliveries[index];
        self.in_flight.remove(&delivery.lane);
        let others = self.last_success_ms.get(&delivery.side).copied();
        // A success in the same millisecond may have come before or after.
        let counts = match answer {
            Answer::Failed => true,
            _ if answer.is_outage_like() => {
                others.is_some_and(|success| success >= delivery.tried_ms.or(delivery.written_ms).unwrap_or(0))
            }
            _ => false,
        };
        delivery.burnt += u32::from(counts);
        delivery.tried_ms = Some(now_ms);
        if answer == Answer::Taken {
            self.last_success_ms.insert(delivery.side, now_ms);
        }
    }

    pub fn published(
        &mut self,
        index: usize,
        status: DeliveryStatus,
        exhausted: bool,
        ends: bool,
    ) -> Result<(), String> {
        if ends != status.is_end() {
            return Err(format!("delivery {index}: `{status}` with ends {ends}"));
        }
        let delivery = &mut self.deliveries[index];
        if exhausted && delivery.burnt < ATTEMPTS_MAX {
            return Err(format!("delivery {index} failed though the provider was away: {delivery:?}"));
        }
        if ends {
            if std::mem::replace(&mut delivery.published, true) {
                return Err(format!("delivery {index} ended twice under one lease"));
            }
            self.publishing.insert(index, status);
        }
        Ok(())
    }

    /// Its end is now on the log.
    pub fn acknowledged(&mut self, index: usize) -> Result<(), String> {
        let Some(status) = self.publishing.remove(&index) else { return Ok(()) };
        let delivery = &mut self.deliveries[index];
        if status == DeliveryStatus::Delivered && !delivery.taken {
            return Err(format!("delivery {index} is called delivered and was never taken"));
        }
        delivery.end = Some(status);
        Ok(())
    }

    pub fn cancelled(&mut self, index: usize) {
        self.deliveries[index].cancelled = true;
    }

    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub fn draining(&mut self, partition: usize) {
        self.draining[partition] = true;
        self.figures.drains += 1;
    }

    /// A drained holder has let go: all that was taken must be closed for its successor.
    pub fn released(&self, partition: usize) -> Result<(), String> {
        let here = |index: &&usize| self.deliveries[**index].partition == partition;
        let (flying, unwritten) =
            (self.in_flight.values().filter(here).count(), self.publishing.keys().filter(here).count());
        if flying + unwritten == 0 {
            return Ok(());
        }
        Err(format!("partition {partition} released with {flying} in flight, {unwritten} unwritten"))
    }

    /// Calls under way for a partition are cut off; what they were for.
    pub fn cut_off(&mut self, partition: usize) -> Vec<usize> {
        let here: Vec<usize> =
            self.in_flight.values().copied().filter(|index| self.deliveries[*index].partition == partition).collect();
        self.in_flight.retain(|_, index| !here.contains(index));
        self.figures.cut_off += here.len() as u64;
        here
    }

    /// A new lease begins. `finished` tells whether the commit has a record of the outbound topic finished, and `parked`
    /// names the deliveries that have an unfinished copy.
    pub fn taken_over(
        &mut self,
        partition: usize,
        log: &[Written],
        finished: impl Fn(u64) -> bool,
        parked: &HashSet<usize>,
    ) {
        self.in_flight.retain(|_, index| self.deliveries[*index].partition != partition);
        self.publishing.retain(|index, _| self.deliveries[*index].partition != partition);
        self.draining[partition] = false;
        for delivery in self.deliveries.iter_mut().filter(|delivery| delivery.partition == partition) {
            (delivery.closed, delivery.published) = (false, false);
        }
        let (mut seen, mut router_epoch) = (HashSet::new(), 0);
        for written in log {
            router_epoch = router_epoch.max(written.delivery.router_epoch);
            // Its first record decides, but for the late ones of a router that was replaced: whatever else comes is
            // finished as soon as it is recognised.
            if written.delivery.router_epoch < router_epoch || !seen.insert(written.index) {
                continue;
            }
            self.deliveries[written.index].closed = finished(written.offset) && !parked.contains(&written.index);
        }
    }

    /// Whether something waits for a side for which nothing speaks against calling it.
    pub fn waits_for(&self, side: usize, wall: Timestamp) -> bool {
        self.deliveries.iter().any(|delivery| {
            delivery.side == side
                && delivery.written_ms.is_some()
                && delivery.end.is_none()
                && !delivery.published
                && !delivery.cancelled
                && delivery.expires_at > wall
        })
    }

    pub fn was_called(&self, side: usize, from_ms: u64) -> bool {
        self.calls.iter().rev().take_while(|call| call.at_ms >= from_ms).any(|call| call.side == side)
    }

    /// In a calm world only what is for the dead side may still wait.
    pub fn must_have_ended(&self, dead_side: usize, written_before_ms: u64) -> Result<(), String> {
        let waits = self.deliveries.iter().enumerate().find(|(_, delivery)| {
            delivery.side != dead_side
                && delivery.written_ms.is_some_and(|written| written < written_before_ms)
                && delivery.end.is_none()
        });
        waits.map_or(Ok(()), |(index, delivery)| Err(format!("delivery {index} waits for a neighbour: {delivery:?}")))
    }

    /// Once an outage is known, a process makes only its probes: three at a time, after 8 s or more.
    fn bound_probes(&mut self, spells: &[Spell], lives: &[(usize, u64, u64)]) -> Result<(), String> {
        for spell in spells.iter().filter(|spell| spell.kind.is_outage()) {
            for &(process, life, to_ms) in lives {
                let theirs = |call: &&Called| (call.process, call.life, call.side) == (process, life, spell.side);
                // Who has not called yet cannot know.
                let first = self.calls.iter().filter(theirs).find(|call| call.at_ms >= spell.from_ms);
                let Some(first) = first else { continue };
                let (from, to) = (first.at_ms + NOTICE_MS, to_ms.min(spell.to_ms));
                if from >= to {
                    continue;
                }
                let overlaps = spells.iter().any(|other| {
                    other.side == spell.side && other.to_ms != spell.to_ms && other.from_ms < to && other.to_ms > from
                });
                let known = self.calls.iter().filter(theirs).filter(|call| (from..to).contains(&call.at_ms));
                let calls = known.count() as u64;
                let most = 3 * ((to - from) / 8_000 + 2);
                if calls > most && !overlaps {
                    return Err(format!("process {process} called a side that is away {calls} times: {spell:?}"));
                }
                self.figures.probes += calls;
            }
        }
        Ok(())
    }

    /// Everything has had its time: nothing may be missing.
    pub fn at_rest(mut self, spells: &[Spell], lives: &[(usize, u64, u64)]) -> Result<Figures, String> {
        self.bound_probes(spells, lives)?;
        for (index, delivery) in self.deliveries.iter().enumerate() {
            match delivery.end {
                None => return Err(format!("delivery {index} never ended: {delivery:?}")),
                Some(DeliveryStatus::Failed) => self.figures.failed += 1,
                Some(DeliveryStatus::Expired) => self.figures.expired += 1,
                Some(DeliveryStatus::Cancelled) => self.figures.cancelled += 1,
                Some(_) => {}
            }
        }
        Ok(self.figures)
    }
}
