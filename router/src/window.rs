//! The ids of the last messages of a partition, to drop repeats of one id.

use std::collections::{HashSet, VecDeque};

use chat4all_storage::log::RecordId;

/// Ids that are remembered for each partition.
pub const WINDOW: usize = 65_536;

/// Remembers the last [`WINDOW`] ids in the order of their records.
#[derive(Debug, Default)]
pub struct Window {
    order: VecDeque<RecordId>,
    known: HashSet<RecordId>,
}

impl Window {
    /// Whether this id is among the last ones.
    pub fn contains(&self, id: RecordId) -> bool {
        self.known.contains(&id)
    }

    pub fn insert(&mut self, id: RecordId) {
        if !self.known.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > WINDOW
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
