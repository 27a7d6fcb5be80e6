//! The last ids that passed through a partition, to drop exact repeats.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use crate::time::Timestamp;

/// Remembers the last `capacity` ids, and none for longer than `kept`: an id may come into use again later.
#[derive(Debug, Clone)]
pub struct Window<T> {
    order: VecDeque<(T, Timestamp)>,
    /// When each passed last.
    passed: HashMap<T, Timestamp>,
    capacity: usize,
    kept: Duration,
}

impl<T: Copy + Eq + Hash> Window<T> {
    pub fn new(capacity: usize, kept: Duration) -> Self {
        Self { order: VecDeque::new(), passed: HashMap::new(), capacity, kept }
    }

    /// Whether the id is known, as seen at `at`.
    pub fn contains(&self, id: T, at: Timestamp) -> bool {
        self.passed.get(&id).is_some_and(|&passed| at.saturating_since(passed) <= self.kept)
    }

    /// Notes an id that passed at `at`. False if it is known already.
    pub fn insert(&mut self, id: T, at: Timestamp) -> bool {
        if self.contains(id, at) {
            return false;
        }
        self.passed.insert(id, at);
        self.order.push_back((id, at));
        if self.order.len() > self.capacity
            && let Some((oldest, passed)) = self.order.pop_front()
            // It may have passed again since.
            && self.passed.get(&oldest) == Some(&passed)
        {
            self.passed.remove(&oldest);
        }
        true
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
        assert!(window.contains(2, at(61)));
        assert!(window.insert(1, at(61)));
        assert!(!window.insert(2, at(62)));
        assert!(window.insert(2, at(111)), "whatever the order of those before it");
    }
}
