//! Lanes: the queue of each (conversation, address). One head at a time moves; the others wait behind it. A lane exists
//! only while something waits in it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use chat4all_proto::{Address, ConversationId, Outbound, TenantId};

/// What order is kept within.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    conversation: ConversationId,
    address: Address,
}

/// Refers to a lane while it exists.
pub type LaneId = usize;

#[derive(Debug)]
struct Lane {
    key: Key,
    /// Offsets, first come first.
    queue: VecDeque<u64>,
    head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    Ready,
    InFlight,
    WaitingUntil(Instant),
    /// Its end is not committed yet.
    Ending,
}

/// All lanes of a partition.
#[derive(Debug, Default)]
pub struct Lanes {
    by_key: HashMap<Key, LaneId>,
    lanes: Vec<Option<Lane>>,
    free: Vec<LaneId>,
    ready: VecDeque<LaneId>,
    waiting: BTreeSet<(Instant, LaneId)>,
    in_flight: usize,
}

impl Lanes {
    /// Puts a delivery at the end of its lane.
    pub fn enqueue(&mut self, offset: u64, delivery: &Outbound) -> LaneId {
        let key = Key {
            tenant: delivery.tenant.clone(),
            conversation: delivery.conversation_id.clone(),
            address: delivery.to.clone(),
        };
        if let Some(&id) = self.by_key.get(&key) {
            self.lane(id).queue.push_back(offset);
            return id;
        }
        let lane = Some(Lane { key: key.clone(), queue: VecDeque::from([offset]), head: Head::Ready });
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
        self.ready.push_back(id);
        id
    }

    /// Lanes whose head could move now.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Lanes whose head waits for its time.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes the head of the lane that has been ready longest; it is in flight from now on.
    pub fn start(&mut self) -> Option<u64> {
        let id = self.ready.pop_front()?;
        self.in_flight += 1;
        let lane = self.lane(id);
        lane.head = Head::InFlight;
        Some(*lane.queue.front().expect("a lane that exists has a head"))
    }

    /// The head in flight stays and becomes ready again at `until`.
    pub fn wait(&mut self, id: LaneId, until: Instant) {
        self.land(id);
        self.lane(id).head = Head::WaitingUntil(until);
        self.waiting.insert((until, id));
    }

    /// The head in flight has ended, but the next one must not overtake it until `pop`.
    pub fn close(&mut self, id: LaneId) {
        self.land(id);
        self.lane(id).head = Head::Ending;
    }

    /// The head, in flight or closed, is done with: the next one is ready, or the lane ends too.
    pub fn pop(&mut self, id: LaneId) {
        if self.lane(id).head != Head::Ending {
            self.land(id);
        }
        let lane = self.lane(id);
        lane.queue.pop_front();
        if lane.queue.is_empty() {
            let lane = self.lanes[id].take().expect("checked by `lane`");
            self.by_key.remove(&lane.key);
            self.free.push(id);
        } else {
            lane.head = Head::Ready;
            self.ready.push_back(id);
        }
    }

    fn land(&mut self, id: LaneId) {
        debug_assert_eq!(self.lane(id).head, Head::InFlight);
        self.in_flight -= 1;
    }

    /// Makes the lanes ready whose time has come.
    pub fn wake(&mut self, now: Instant) {
        while let Some(&(until, id)) = self.waiting.first() {
            if until > now {
                return;
            }
            self.waiting.pop_first();
            self.lane(id).head = Head::Ready;
            self.ready.push_back(id);
        }
    }

    /// When `wake` has something to do next.
    pub fn next_wake(&self) -> Option<Instant> {
        self.waiting.first().map(|&(until, _)| until)
    }

    fn lane(&mut self, id: LaneId) -> &mut Lane {
        self.lanes[id].as_mut().expect("a lane lives while one of its offsets is queued")
    }
}
