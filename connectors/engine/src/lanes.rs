//! Lanes: the queue of each (conversation, address). One head at a time moves; the others wait behind it. A lane exists
//! only while something waits in it or is parked.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use chat4all_proto::{Address, ConversationId, Outbound, TenantId};

use crate::event::At;
use crate::gate::On;

/// What order is kept within.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub tenant: TenantId,
    conversation: ConversationId,
    pub address: Address,
}

impl Key {
    fn of(delivery: &Outbound) -> Self {
        Self {
            tenant: delivery.tenant.clone(),
            conversation: delivery.conversation_id.clone(),
            address: delivery.to.clone(),
        }
    }
}

/// Refers to a lane while it exists.
pub type LaneId = usize;

#[derive(Debug)]
pub struct Lane {
    pub key: Key,
    pub destination: Option<Arc<str>>,
    /// First come first.
    queue: VecDeque<At>,
    head: Head,
    /// Positions of its deliveries that are on the parked topic, or on their way there, and not in the queue.
    pub away: BTreeSet<u64>,
    /// The line in which it stood first when it was let try.
    from: Option<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Head {
    /// Its queue is empty.
    None,
    Ready,
    InFlight,
    WaitingUntil(Instant),
    /// Stands in a line.
    InLine(Line),
    /// Its end is not committed yet.
    Ending,
}

/// Where lanes wait whose head was refused for a reason that they share. Only the first of a line tries again; once it
/// passes, the next may.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Line {
    Retries,
    Destination(Arc<str>),
    Tenant(TenantId),
    Recipient(Address),
}

#[derive(Debug, Default)]
struct Standing {
    lanes: VecDeque<LaneId>,
    /// When the first one tries again; none while it does.
    until: Option<Instant>,
}

/// All lanes of a partition.
#[derive(Debug, Default)]
pub struct Lanes {
    by_key: HashMap<Key, LaneId>,
    lanes: Vec<Option<Lane>>,
    free: Vec<LaneId>,
    ready: VecDeque<LaneId>,
    waiting: BTreeSet<(Instant, LaneId)>,
    lines: HashMap<Line, Standing>,
    line_wakes: BTreeSet<(Instant, Line)>,
    in_line: usize,
    in_flight: usize,
}

impl Lanes {
    pub fn find(&self, delivery: &Outbound) -> Option<LaneId> {
        self.by_key.get(&Key::of(delivery)).copied()
    }

    /// The delivery's lane. `destination` names its destination where it is made.
    pub fn find_or_make(&mut self, delivery: &Outbound, destination: impl FnOnce(&str) -> Option<Arc<str>>) -> LaneId {
        let key = Key::of(delivery);
        if let Some(&id) = self.by_key.get(&key) {
            return id;
        }
        let destination = destination(&key.address.target);
        let lane = Some(Lane {
            key: key.clone(),
            destination,
            queue: VecDeque::new(),
            head: Head::None,
            away: BTreeSet::new(),
            from: None,
        });
        let id = match self.free.pop() {
            Some(id) => {
                self.lanes[id] = lane;
                id
            }
            None => {
                self.lanes.push(lane);
                self.lanes.len() - 1
            }
        };
        self.by_key.insert(key, id);
        id
    }

    /// Puts a delivery at the end of its lane.
    pub fn push(&mut self, id: LaneId, at: At) {
        let lane = self.lane_mut(id);
        lane.queue.push_back(at);
        if lane.head == Head::None {
            lane.head = Head::Ready;
            self.ready.push_back(id);
        }
    }

    /// Lanes whose head could move now.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Lanes whose head waits for its time or its turn.
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.in_line
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes out the lane that has been ready longest: it is launched, put back, put in line or popped next.
    pub fn next(&mut self) -> Option<LaneId> {
        self.ready.pop_front()
    }

    pub fn head(&self, id: LaneId) -> At {
        *self.lane(id).queue.front().expect("a lane with a head has a queue")
    }

    pub fn queue(&self, id: LaneId) -> impl Iterator<Item = At> {
        self.lane(id).queue.iter().copied()
    }

    /// The head is in flight from now on.
    pub fn launch(&mut self, id: LaneId) {
        self.in_flight += 1;
        self.lane_mut(id).head = Head::InFlight;
        self.pass(id);
    }

    /// Nobody may move now: it stays the first.
    pub fn put_back(&mut self, id: LaneId) {
        self.ready.push_front(id);
    }

    /// The line that the head would stand in for this reason. None for what holds everybody.
    pub fn line(&self, id: LaneId, on: On) -> Option<Line> {
        let lane = self.lane(id);
        match on {
            On::Channel => None,
            On::Retries => Some(Line::Retries),
            On::Destination => lane.destination.clone().map(Line::Destination),
            On::Tenant => Some(Line::Tenant(lane.key.tenant.clone())),
            On::Recipient => Some(Line::Recipient(lane.key.address.clone())),
        }
    }

    pub fn has_lines(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Whether others stand in this line, and the lane is not the one that they let try.
    pub fn must_stand_behind(&self, id: LaneId, line: &Line) -> bool {
        self.lines.contains_key(line) && self.lane(id).from.as_ref() != Some(line)
    }

    /// The head has to wait in a line, whose first one tries again at `until`; none: as the line has it.
    pub fn stand_in_line(&mut self, id: LaneId, line: Line, until: Option<Instant>) {
        let was_first = self.lane(id).from.as_ref() == Some(&line);
        if was_first {
            self.lane_mut(id).from = None;
        } else {
            self.pass(id);
        }
        self.lane_mut(id).head = Head::InLine(line.clone());
        self.in_line += 1;
        let standing = self.lines.entry(line.clone()).or_default();
        if was_first {
            standing.lanes.push_front(id)
        } else {
            standing.lanes.push_back(id)
        }
        if let Some(until) = until
            && (was_first || standing.lanes.len() == 1)
        {
            if let Some(before) = standing.until.replace(until) {
                self.line_wakes.remove(&(before, line.clone()));
            }
            self.line_wakes.insert((until, line));
        }
    }

    /// The first of a line may try at once.
    pub fn wake_line(&mut self, line: &Line) {
        let Some(standing) = self.lines.get_mut(line) else { return };
        if let Some(until) = standing.until.take() {
            self.line_wakes.remove(&(until, line.clone()));
            self.let_try(line);
        }
    }

    /// The lane has passed what its line waits for: the next one may try.
    fn pass(&mut self, id: LaneId) {
        if let Some(line) = self.lane_mut(id).from.take() {
            self.let_try(&line);
        }
    }

    fn let_try(&mut self, line: &Line) {
        let Some(standing) = self.lines.get_mut(line) else { return };
        let Some(id) = standing.lanes.pop_front() else {
            self.lines.remove(line);
            return;
        };
        self.in_line -= 1;
        let lane = self.lane_mut(id);
        lane.head = Head::Ready;
        lane.from = Some(line.clone());
        self.ready.push_front(id);
    }

    /// The head in flight stays and becomes ready again at `until`.
    pub fn wait(&mut self, id: LaneId, until: Instant) {
        self.land(id);
        self.lane_mut(id).head = Head::WaitingUntil(until);
        self.waiting.insert((until, id));
    }

    /// The head in flight has ended, but the next one must not overtake it until `pop`.
    pub fn close(&mut self, id: LaneId) {
        self.land(id);
        self.lane_mut(id).head = Head::Ending;
    }

    /// The head, in flight or closed, is done with: the next one is ready, or the lane ends too.
    pub fn pop(&mut self, id: LaneId) {
        if self.lane(id).head != Head::Ending {
            self.land(id);
        }
        self.lane_mut(id).queue.pop_front();
        self.advance(id);
    }

    /// Takes one delivery out that is not in flight, wherever it stands.
    pub fn remove(&mut self, id: LaneId, at: At) {
        if self.head(id) != at {
            self.lane_mut(id).queue.retain(|other| *other != at);
            return;
        }
        self.unsettle(id);
        self.lane_mut(id).queue.pop_front();
        self.advance(id);
    }

    /// Takes all deliveries out, first come first. None of them is in flight or ending.
    pub fn take_all(&mut self, id: LaneId) -> VecDeque<At> {
        self.unsettle(id);
        let lane = self.lane_mut(id);
        lane.head = Head::None;
        std::mem::take(&mut lane.queue)
    }

    /// The lane's next delivery becomes its head.
    fn advance(&mut self, id: LaneId) {
        self.pass(id);
        let lane = self.lane_mut(id);
        if lane.queue.is_empty() {
            lane.head = Head::None;
            self.end_if_empty(id);
        } else {
            lane.head = Head::Ready;
            self.ready.push_back(id);
        }
    }

    /// Takes the lane out of where its head waits.
    fn unsettle(&mut self, id: LaneId) {
        match self.lane(id).head.clone() {
            Head::WaitingUntil(until) => drop(self.waiting.remove(&(until, id))),
            Head::InLine(line) => {
                let standing = self.lines.get_mut(&line).expect("a lane stands in a line that exists");
                standing.lanes.retain(|other| *other != id);
                self.in_line -= 1;
                if standing.lanes.is_empty()
                    && let Some(until) = standing.until
                {
                    self.line_wakes.remove(&(until, line.clone()));
                    self.lines.remove(&line);
                }
            }
            Head::Ready => {
                self.ready.retain(|other| *other != id);
                self.pass(id);
            }
            Head::None | Head::InFlight | Head::Ending => {}
        }
    }

    /// Forgets a lane that holds nothing any more.
    pub fn end_if_empty(&mut self, id: LaneId) {
        let lane = self.lane(id);
        if lane.queue.is_empty() && lane.away.is_empty() {
            let lane = self.lanes[id].take().expect("checked by `lane`");
            self.by_key.remove(&lane.key);
            self.free.push(id);
        }
    }

    /// Sends the head to the end of its lane: a defect, for tests.
    pub fn overtake(&mut self, id: LaneId) {
        self.unsettle(id);
        self.lane_mut(id).queue.rotate_left(1);
        self.lane_mut(id).head = Head::Ready;
        self.ready.push_back(id);
    }

    /// Lanes that will not move before `until`, by their own doing.
    pub fn stuck(&self, until: Instant) -> impl Iterator<Item = LaneId> {
        let waiting = self.waiting.range((until, 0)..).map(|(_, id)| *id);
        waiting.chain(self.lines.values().flat_map(|standing| standing.lanes.iter().copied()))
    }

    /// Makes the lanes ready whose time has come.
    pub fn wake(&mut self, now: Instant) {
        while let Some(&(until, id)) = self.waiting.first()
            && until <= now
        {
            self.waiting.pop_first();
            self.lane_mut(id).head = Head::Ready;
            self.ready.push_back(id);
        }
        while self.line_wakes.first().is_some_and(|(until, _)| *until <= now) {
            let (_, line) = self.line_wakes.first().cloned().expect("seen just now");
            self.wake_line(&line);
        }
    }

    /// When `wake` has something to do next.
    pub fn next_wake(&self) -> Option<Instant> {
        let waiting = self.waiting.first().map(|(until, _)| *until);
        let in_line = self.line_wakes.first().map(|(until, _)| *until);
        [waiting, in_line].into_iter().flatten().min()
    }

    fn land(&mut self, id: LaneId) {
        debug_assert_eq!(self.lane(id).head, Head::InFlight);
        self.in_flight -= 1;
    }

    pub fn lane(&self, id: LaneId) -> &Lane {
        self.lanes[id].as_ref().expect("a lane lives while it holds something")
    }

    pub fn lane_mut(&mut self, id: LaneId) -> &mut Lane {
        self.lanes[id].as_mut().expect("a lane lives while it holds something")
    }
}
