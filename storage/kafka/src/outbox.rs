//! What was handed over to the producers and is not acknowledged yet: its bound and its age. Shared by the producers of
//! one log; knows nothing of Kafka.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::shared::lock;

pub(crate) struct Outbox {
    records_max: usize,
    bytes_max: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    records: usize,
    bytes: usize,
    last_ticket: u64,
    /// When each append was handed over, in that order.
    since: BTreeMap<u64, Instant>,
}

/// The place of one append: given back when it is answered.
#[derive(Debug)]
pub(crate) struct Place {
    ticket: u64,
    records: usize,
    bytes: usize,
}

impl Outbox {
    pub fn new(records_max: usize, bytes_max: usize) -> Self {
        Self { records_max, bytes_max, open: Mutex::default() }
    }

    /// `None`: it is full. An append that exceeds the bound by itself passes when nothing else waits, and what counts
    /// no records passes always.
    pub fn enter(&self, records: usize, bytes: usize) -> Option<Place> {
        let mut open = lock(&self.open);
        let full = open.records + records > self.records_max || open.bytes + bytes > self.bytes_max;
        if full && records > 0 && open.records > 0 {
            return None;
        }
        open.records += records;
        open.bytes += bytes;
        open.last_ticket += 1;
        let ticket = open.last_ticket;
        open.since.insert(ticket, Instant::now());
        Some(Place { ticket, records, bytes })
    }

    pub fn leave(&self, place: &Place) {
        let mut open = lock(&self.open);
        if open.since.remove(&place.ticket).is_some() {
            open.records -= place.records;
            open.bytes -= place.bytes;
        }
    }

    /// Age of the oldest append that is not answered.
    pub fn oldest(&self) -> Option<Duration> {
        lock(&self.open).since.values().next().map(Instant::elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_by_records_and_by_bytes() {
        let check = |first: (usize, usize), second: (usize, usize), expected: bool| {
            let outbox = Outbox::new(10, 100);
            let place = outbox.enter(first.0, first.1).expect("an empty outbox takes anything");
            assert_eq!(outbox.enter(second.0, second.1).is_some(), expected, "{first:?}, {second:?}");
            outbox.leave(&place);
            outbox.leave(&place);
            assert!(expected || outbox.enter(second.0, second.1).is_some(), "{second:?} alone");
        };
        check((5, 50), (5, 50), true);
        check((5, 50), (6, 1), false);
        check((5, 50), (1, 51), false);
        check((11, 1_000), (1, 1), false);
        check((1, 1), (11, 1_000), false);
    }

    #[test]
    fn the_oldest_is_the_first_that_is_not_answered() {
        let outbox = Outbox::new(10, 100);
        assert_eq!(outbox.oldest(), None);
        let (first, second) = (outbox.enter(1, 1).unwrap(), outbox.enter(1, 1).unwrap());
        outbox.leave(&second);
        assert!(outbox.oldest().is_some());
        outbox.leave(&first);
        assert_eq!(outbox.oldest(), None);
    }
}
