//! What must hold, whatever happens. It sees what the provider and the log see, and what each lease began with.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::AddAssign;

use chat4all_engine::Attempt;
use chat4all_proto::outcome::Outcome;
use chat4all_proto::progress::FinishedSet;
use chat4all_proto::{DeliveryStatus, Timestamp};

use super::script::Written;

#[derive(Debug, Default)]
pub struct Figures {
    pub deliveries: u64,
    pub crashes: u64,
    pub drains: u64,
    pub cut_off: u64,
    /// Records that repeat an earlier one.
    pub repeats: u64,
    /// Deliveries that were attempted again after the provider had taken them, by a later lease.
    pub resent: u64,
    pub failed: u64,
    pub expired: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.deliveries += other.deliveries;
        self.crashes += other.crashes;
        self.drains += other.drains;
        self.cut_off += other.cut_off;
        self.repeats += other.repeats;
        self.resent += other.resent;
        self.failed += other.failed;
        self.expired += other.expired;
    }
}

/// What is known of one delivery.
#[derive(Debug, Clone, Default)]
struct Delivery {
    lane: String,
    expires_at: Timestamp,
    /// The provider took it, and the holder of that time learnt so.
    taken_and_told: bool,
    taken: bool,
    end: Option<DeliveryStatus>,
    /// What the present lease began with says that nothing is left to do.
    closed: bool,
    burnt: u32,
    /// The present lease has published its end.
    published: bool,
}

pub struct Judge {
    deliveries: Vec<Delivery>,
    by_offset: HashMap<u64, usize>,
    /// Lane to offset in flight, under the present lease.
    in_flight: BTreeMap<String, u64>,
    /// Ends and other events on their way to the log.
    publishing: HashMap<u64, DeliveryStatus>,
    /// Highest index that was taken first, by lane.
    last_first_taken: HashMap<String, usize>,
    draining: bool,
    figures: Figures,
}

impl Judge {
    pub fn new(log: &[Written]) -> Self {
        let count = log.iter().map(|written| written.index + 1).max().unwrap_or(0);
        let mut deliveries = vec![Delivery::default(); count];
        for written in log {
            let delivery = &mut deliveries[written.index];
            delivery.lane = written.delivery.conversation_id.to_string();
            delivery.expires_at = written.delivery.expires_at;
        }
        let figures = Figures { deliveries: count as u64, repeats: (log.len() - count) as u64, ..Figures::default() };
        Self {
            deliveries,
            by_offset: log.iter().map(|written| (written.offset, written.index)).collect(),
            in_flight: BTreeMap::new(),
            publishing: HashMap::new(),
            last_first_taken: HashMap::new(),
            draining: false,
            figures,
        }
    }

    fn of(&mut self, offset: u64) -> &mut Delivery {
        &mut self.deliveries[self.by_offset[&offset]]
    }

    pub fn started(&mut self, attempt: &Attempt, wall: Timestamp) -> Result<(), String> {
        let offset = attempt.offset;
        let index = self.by_offset[&offset];
        let delivery = self.deliveries[index].clone();
        let wrong = |what: &str| Err(format!("offset {offset} (delivery {index}): {what}: {delivery:?}"));
        if self.draining {
            return wrong("started while draining");
        }
        if let Some(other) = self.in_flight.insert(delivery.lane.clone(), offset) {
            return wrong(&format!("offset {other} of its lane is in flight"));
        }
        if delivery.closed {
            return wrong("started though the commit it resumed from had it finished");
        }
        if delivery.published {
            return wrong("started after its end");
        }
        if delivery.expires_at <= wall {
            return wrong("started after its expiry");
        }
        if delivery.taken_and_told {
            self.figures.resent += 1;
        }
        Ok(())
    }

    /// The provider has it. `told`: and its answer came through.
    pub fn taken(&mut self, offset: u64, told: bool) -> Result<(), String> {
        let index = self.by_offset[&offset];
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

    pub fn answered(&mut self, offset: u64) {
        let lane = self.of(offset).lane.clone();
        self.in_flight.remove(&lane);
    }

    pub fn counted(&mut self, offset: u64, outcome: &Outcome) {
        if matches!(outcome, Outcome::Transient { .. } | Outcome::Ambiguous) {
            self.of(offset).burnt += 1;
        }
    }

    pub fn published(&mut self, offset: u64, status: DeliveryStatus, ends: bool) -> Result<(), String> {
        if ends != status.is_end() {
            return Err(format!("offset {offset}: `{status}` with ends {ends}"));
        }
        let delivery = self.of(offset);
        if delivery.burnt > 5 || (status == DeliveryStatus::Retrying && delivery.burnt >= 5) {
            return Err(format!("offset {offset}: {} counted attempts and {status}", delivery.burnt));
        }
        if ends {
            if std::mem::replace(&mut delivery.published, true) {
                return Err(format!("offset {offset} ended twice under one lease"));
            }
            self.publishing.insert(offset, status);
        }
        Ok(())
    }

    /// The status of the end that is now on the log.
    pub fn acknowledged(&mut self, offset: u64, ends: bool) -> Option<DeliveryStatus> {
        if ends { self.publishing.remove(&offset) } else { None }
    }

    pub fn ended(&mut self, offset: u64, status: DeliveryStatus) -> Result<(), String> {
        let delivery = self.of(offset);
        if status == DeliveryStatus::Delivered && !delivery.taken {
            return Err(format!("offset {offset} is called delivered and was never taken"));
        }
        delivery.end = Some(status);
        Ok(())
    }

    pub fn crashed(&mut self) {
        self.figures.crashes += 1;
    }

    pub fn draining(&mut self) {
        self.draining = true;
        self.figures.drains += 1;
    }

    /// A drained holder has let go: all that was taken must be closed for its successor.
    pub fn released(&self) -> Result<(), String> {
        if self.in_flight.is_empty() && self.publishing.is_empty() {
            return Ok(());
        }
        Err(format!("released with {:?} in flight, {:?} unwritten", self.in_flight, self.publishing))
    }

    /// Every call under way is cut off; the offsets they were for.
    pub fn cut_off(&mut self) -> Vec<u64> {
        let offsets: Vec<u64> = std::mem::take(&mut self.in_flight).into_values().collect();
        self.figures.cut_off += offsets.len() as u64;
        offsets
    }

    /// A new lease begins from this commit.
    pub fn taken_over(&mut self, watermark: u64, finished: &FinishedSet, log: &[Written]) {
        self.in_flight.clear();
        self.publishing.clear();
        self.draining = false;
        for delivery in &mut self.deliveries {
            (delivery.closed, delivery.burnt, delivery.published) = (false, 0, false);
        }
        let (mut seen, mut router_epoch) = (HashSet::new(), 0);
        for written in log {
            router_epoch = router_epoch.max(written.delivery.router_epoch);
            // Its first record decides, but for the late ones of a router that was replaced: whatever else comes is
            // finished as soon as it is recognised.
            if written.delivery.router_epoch < router_epoch || !seen.insert(written.index) {
                continue;
            }
            let closed = written.offset < watermark || finished.contains(written.offset);
            self.deliveries[written.index].closed = closed;
        }
    }

    /// Everything has had its time: nothing may be missing.
    pub fn at_rest(mut self, committed: u64, log: &[Written]) -> Result<Figures, String> {
        let end = log.last().map_or(0, |written| written.offset + 1);
        if committed != end {
            return Err(format!("stuck: committed {committed} of {end}"));
        }
        for (index, delivery) in self.deliveries.iter().enumerate() {
            match delivery.end {
                None => return Err(format!("delivery {index} never ended: {delivery:?}")),
                Some(DeliveryStatus::Failed) => self.figures.failed += 1,
                Some(DeliveryStatus::Expired) => self.figures.expired += 1,
                Some(_) => {}
            }
        }
        Ok(self.figures)
    }
}
