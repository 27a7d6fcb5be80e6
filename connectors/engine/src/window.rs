//! The last ids that passed, to drop exact repeats.

use std::collections::{HashSet, VecDeque};

use chat4all_proto::Generation;
use uuid::Uuid;

/// Remembers the last `capacity` ids.
#[derive(Debug)]
pub struct Window {
    order: VecDeque<(Uuid, Generation)>,
    known: HashSet<(Uuid, Generation)>,
    capacity: usize,
}

impl Window {
    pub fn new(capacity: usize) -> Self {
        Self { order: VecDeque::new(), known: HashSet::new(), capacity }
    }

    /// Notes an id. False if it is known already.
    pub fn insert(&mut self, uuid: Uuid, generation: Generation) -> bool {
        if !self.known.insert((uuid, generation)) {
            return false;
        }
        self.order.push_back((uuid, generation));
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_known_until_the_window_has_moved_on() {
        let mut window = Window::new(2);
        let id = Uuid::from_u128;
        assert!(window.insert(id(1), Generation(0)));
        assert!(!window.insert(id(1), Generation(0)));
        assert!(window.insert(id(1), Generation(1)), "a replay is no repeat");
        assert!(window.insert(id(2), Generation(0)));
        assert!(window.insert(id(1), Generation(0)), "moved out by now");
    }
}
