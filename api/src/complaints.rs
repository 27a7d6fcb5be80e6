//! Lets a line in a while into the log for each kind of failure, and counts the others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chat4all_proto::Timestamp;

use crate::error::Code;

/// A line a second by code, which is the index.
pub struct Complaints([Pace; Code::ALL.len()]);

impl Complaints {
    pub const fn new() -> Self {
        Self([const { Pace::new(Duration::from_secs(1)) }; Code::ALL.len()])
    }

    /// As [`Pace::admit`], for a failure of this code.
    pub fn admit(&self, code: Code, now: Timestamp) -> Option<u64> {
        self.0[code as usize].admit(now)
    }
}

/// One line an interval of whole seconds.
pub struct Pace {
    interval_secs: u64,
    /// The interval of the last line, counted from 1970.
    last: AtomicU64,
    withheld: AtomicU64,
}

impl Pace {
    pub const fn new(interval: Duration) -> Self {
        Self { interval_secs: interval.as_secs(), last: AtomicU64::new(0), withheld: AtomicU64::new(0) }
    }

    /// Whether a line may be logged now: then how many were withheld since the last one.
    pub fn admit(&self, now: Timestamp) -> Option<u64> {
        let interval = now.as_secs() / self.interval_secs;
        if self.last.swap(interval, Ordering::Relaxed) == interval {
            self.withheld.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.withheld.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_and_code() {
        let complaints = Complaints::new();
        let at = |ms: u64| Timestamp::from_millis(5_000_000 + ms);
        assert_eq!(complaints.admit(Code::Internal, at(0)), Some(0));
        assert_eq!(complaints.admit(Code::Internal, at(400)), None);
        assert_eq!(complaints.admit(Code::Internal, at(900)), None);
        assert_eq!(complaints.admit(Code::BadRequest, at(900)), Some(0));
        assert_eq!(complaints.admit(Code::Internal, at(1_000)), Some(2));
    }
}
