//! The last ids that passed through a partition, to drop exact repeats.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// Remembers the last `capacity` ids.
#[derive(Debug, Clone)]
pub struct Window<T> {
    order: VecDeque<T>,
    known: HashSet<T>,
    capacity: usize,
}

impl<T: Copy + Eq + Hash> Window<T> {
    pub fn new(capacity: usize) -> Self {
        Self { order: VecDeque::new(), known: HashSet::new(), capacity }
    }

    pub fn contains(&self, id: T) -> bool {
        self.known.contains(&id)
    }

    /// Notes an id. False if it is known already.
    pub fn insert(&mut self, id: T) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
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
        assert!(window.insert(1));
        assert!(!window.insert(1));
        assert!(window.insert(2));
        assert!(window.insert(3));
        assert!(!window.contains(1) && window.contains(2));
        assert!(window.insert(1));
    }
}
