//! The last ids that passed through a partition, to drop exact repeats.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use crate::time::Timestamp;

/// Remembers the last `capacity` ids, and none for longer than `kept`: an id may come into use again later.
#[derive(Debug, Clone)]
pub struct Window<T> {
    order: VecDeque<(T, Timestamp)>,
    known: HashSet<T>,
    capacity: usize,
    kept: Duration,
}

impl<T: Copy + Eq + Hash> Window<T> {
    pub fn new(capacity: usize, kept: Duration) -> Self {
        Self { order: VecDeque::new(), known: HashSet::new(), capacity, kept }
    }

    /// Notes an id that passed at `at`. False if it is known already. Times are about those of the calls before, or
    /// later.
    pub fn insert(&mut self, id: T, at: Timestamp) -> bool {
        while self.order.front().is_some_and(|&(_, first)| at.saturating_since(first) > self.kept) {
            self.forget_oldest();
        }
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back((id, at));
        if self.order.len() > self.capacity {
            self.forget_oldest();
        }
        true
    }

    pub fn contains(&self, id: T, at: Timestamp) -> bool {
        let fresh = |&(_, first): &(T, Timestamp)| at.saturating_since(first) <= self.kept;
        self.known.contains(&id) && (self.order.front().is_some_and(fresh) || self.is_fresh(id, at))
    }

    /// Looks through the ids that should have been forgotten; there are some only after a pause.
    fn is_fresh(&self, id: T, at: Timestamp) -> bool {
        self.order.iter().any(|&(known, first)| known == id && at.saturating_since(first) <= self.kept)
    }

    fn forget_oldest(&mut self) {
        if let Some((oldest, _)) = self.order.pop_front() {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_secs(60);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
    }

    #[test]
    fn a_repeat_is_known_until_the_window_has_moved_on() {
        let mut window = Window::new(2, KEPT);
        assert!(window.insert(1, at(0)));
        assert!(!window.insert(1, at(1)));
        assert!(window.insert(2, at(2)));
        assert!(window.insert(3, at(3)));
        assert!(!window.contains(1, at(3)) && window.contains(2, at(3)));
        assert!(window.insert(1, at(4)));
    }

    #[test]
    fn an_id_may_be_used_again_when_its_time_is_over() {
        let mut window = Window::new(9, KEPT);
        assert!(window.insert(1, at(0)) && window.insert(2, at(50)));
        assert!(window.contains(1, at(60)) && !window.contains(1, at(61)));
        assert!(window.contains(2, at(61)), "looked up behind one whose time is over");
        assert!(window.insert(1, at(61)));
        assert!(!window.insert(2, at(62)));
    }
}
