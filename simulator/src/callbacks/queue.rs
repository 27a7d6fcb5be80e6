//! Callbacks that wait for their time or their next attempt. Decides only: no I/O and no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::providers::Callback;

const WAITING_MAX: usize = 100_000;
/// Waits before the second attempt and on; the last one repeats.
const REPEAT_AFTER_MS: [u64; 6] = [250, 500, 1_000, 2_000, 4_000, 5_000];
/// From the first attempt on.
const REPEAT_FOR: Duration = Duration::from_secs(600);

/// A callback that is not settled.
pub struct Waiting {
    pub callback: Callback,
    /// The reports that follow on the same message: none is tried before this one was.
    next: VecDeque<(Instant, Callback)>,
    /// Tells somebody what the latest answer was.
    status: Option<watch::Sender<Option<u16>>>,
    number: u64,
    attempts: usize,
    first_at: Instant,
}

impl Waiting {
    fn count(&self) -> usize {
        1 + self.next.len()
    }
}

/// Everything that waits, and counts of what does no more.
#[derive(Default)]
pub struct Queue {
    /// By when it is due; the number keeps the order of arrival among equals.
    by_due: BTreeMap<(Instant, u64), Waiting>,
    /// By number: when it is due.
    by_age: BTreeMap<u64, Instant>,
    next: u64,
    /// Those on their way included.
    waiting: usize,
    /// Answered 2xx.
    pub delivered: u64,
    /// Tried for ten minutes.
    pub given_up: u64,
    /// Made room for others.
    pub dropped: u64,
}

impl Queue {
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes the reports on one message, the earliest first. The oldest of other messages make room.
    pub fn add(&mut self, mut chain: VecDeque<(Instant, Callback)>, status: Option<watch::Sender<Option<u16>>>) {
        let Some((due, callback)) = chain.pop_front() else {
            return;
        };
        self.next += 1;
        let waiting = Waiting { callback, next: chain, status, number: self.next, attempts: 0, first_at: due };
        self.waiting += waiting.count();
        while self.waiting > WAITING_MAX && self.drop_oldest() {}
        self.insert(due, waiting);
    }

    /// `false`: everything is on its way.
    fn drop_oldest(&mut self) -> bool {
        let oldest = self.by_age.pop_first().and_then(|(number, due)| self.by_due.remove(&(due, number)));
        let count = oldest.as_ref().map_or(0, Waiting::count);
        self.waiting -= count;
        self.dropped += count as u64;
        oldest.is_some()
    }

    fn insert(&mut self, due: Instant, waiting: Waiting) {
        self.by_age.insert(waiting.number, due);
        self.by_due.insert((due, waiting.number), waiting);
    }

    /// Takes what is due first. Else says when something is; `None`: nothing waits. What was taken has to be brought back
    /// by `ended`.
    pub fn due(&mut self, now: Instant) -> Result<Waiting, Option<Instant>> {
        match self.by_due.first_entry() {
            Some(first) if first.key().0 <= now => {
                let waiting = first.remove();
                self.by_age.remove(&waiting.number);
                Ok(waiting)
            }
            first => Err(first.map(|first| first.key().0)),
        }
    }

    /// An attempt ended with this answer, or without one.
    pub fn ended(&mut self, mut waiting: Waiting, status: Option<u16>, now: Instant) {
        if let Some(told) = &waiting.status {
            told.send_replace(status);
        }
        if waiting.attempts == 0 {
            waiting.first_at = now;
        }
        waiting.attempts += 1;
        self.follow(&mut waiting, now);
        let again = now + repeat_after(waiting.attempts);
        if matches!(status, Some(200..=299)) {
            self.delivered += 1;
            self.waiting -= 1;
        } else if again > waiting.first_at + REPEAT_FOR {
            self.given_up += 1;
            self.waiting -= 1;
        } else {
            self.insert(again, waiting);
        }
    }

    /// Lets the next report go its own way.
    fn follow(&mut self, waiting: &mut Waiting, now: Instant) {
        let mut next = std::mem::take(&mut waiting.next);
        if let Some((due, callback)) = next.pop_front() {
            self.next += 1;
            let number = self.next;
            self.insert(due, Waiting { callback, next, status: None, number, attempts: 0, first_at: now });
        }
    }
}

/// Wait after so many attempts, at least one.
fn repeat_after(attempts: usize) -> Duration {
    Duration::from_millis(REPEAT_AFTER_MS[(attempts - 1).min(REPEAT_AFTER_MS.len() - 1)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::Provider;

    const MS: Duration = Duration::from_millis(1);

    fn chain(start: Instant, reports: &[(&'static str, u32)]) -> VecDeque<(Instant, Callback)> {
        let callback = |body: &'static str| Callback {
            provider: Provider::WhatsApp,
            header: ("x", String::new()),
            body: body.as_bytes().into(),
        };
        reports.iter().map(|(body, after_ms)| (start + MS * *after_ms, callback(body))).collect()
    }

    /// What is due now, in its order; each is answered with `status` at once.
    fn check(queue: &mut Queue, now: Instant, status: Option<u16>, expected: &[&str]) {
        let mut posted = Vec::new();
        while let Ok(waiting) = queue.due(now) {
            posted.push(String::from_utf8(waiting.callback.body.to_vec()).unwrap());
            queue.ended(waiting, status, now);
        }
        assert_eq!(posted, expected);
    }

    #[test]
    fn reports_go_out_in_their_time_and_order() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.add(chain(start, &[("sent", 0), ("delivered", 100), ("read", 100)]), None);
        check(&mut queue, start, Some(200), &["sent"]);
        assert_eq!(queue.due(start).err(), Some(Some(start + MS * 100)));
        check(&mut queue, start + MS * 100, Some(200), &["delivered", "read"]);
        assert_eq!((queue.waiting(), queue.delivered), (0, 3));
    }

    #[test]
    fn a_report_waits_for_the_first_attempt_of_the_one_before_and_not_for_its_repeats() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        queue.add(chain(start, &[("sent", 0), ("delivered", 0)]), None);
        let sent = queue.due(start).ok().unwrap();
        assert!(queue.due(start + MS * 9_000).is_err(), "`sent` has not ended");
        queue.ended(sent, None, start);
        check(&mut queue, start, Some(200), &["delivered"]);
        check(&mut queue, start + MS * 250, Some(200), &["sent"]);
    }

    #[test]
    fn what_is_not_taken_is_repeated_ever_later_for_ten_minutes() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        let start = now;
        queue.add(chain(now, &[("sent", 0)]), None);
        for wait_ms in [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000] {
            check(&mut queue, now, Some(503), &["sent"]);
            assert_eq!(queue.due(now).err(), Some(Some(now + MS * wait_ms)));
            now += MS * wait_ms;
        }
        check(&mut queue, now, None, &["sent"]);
        while let Err(Some(due)) = queue.due(now) {
            now = due;
            check(&mut queue, now, None, &["sent"]);
        }
        assert!(now - start > REPEAT_FOR - MS * 5_000 && now - start <= REPEAT_FOR);
        assert_eq!((queue.waiting(), queue.given_up, queue.by_age.len()), (0, 1, 0));
    }

    #[test]
    fn beyond_the_limit_the_oldest_are_dropped_whole() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(chain(now, &[("first", 0), ("second", 0), ("third", 0)]), None);
        for _ in 0..WAITING_MAX - 3 {
            queue.add(chain(now, &[("other", 0)]), None);
        }
        assert_eq!((queue.waiting(), queue.dropped), (WAITING_MAX, 0));
        queue.add(chain(now, &[("last", 0)]), None);
        assert_eq!((queue.waiting(), queue.dropped), (WAITING_MAX - 2, 3));
        assert_eq!(&queue.due(now).ok().unwrap().callback.body[..], b"other");
    }
}
