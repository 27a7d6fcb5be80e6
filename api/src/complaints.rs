//! Lets one line a second into the log for each kind of failure, and counts the others.

use std::sync::atomic::{AtomicU64, Ordering};

use chat4all_proto::Timestamp;

use crate::error::Code;

/// By code, which is the index.
pub struct Complaints {
    /// The second of the last line.
    last: [AtomicU64; Code::ALL.len()],
    withheld: [AtomicU64; Code::ALL.len()],
}

impl Complaints {
    pub const fn new() -> Self {
        Self {
            last: [const { AtomicU64::new(0) }; Code::ALL.len()],
            withheld: [const { AtomicU64::new(0) }; Code::ALL.len()],
        }
    }

    /// Whether a failure of this code may be logged now: then how many were withheld since the last line.
    pub fn admit(&self, code: Code, now: Timestamp) -> Option<u64> {
        let index = code as usize;
        if self.last[index].swap(now.as_secs(), Ordering::Relaxed) == now.as_secs() {
            self.withheld[index].fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.withheld[index].swap(0, Ordering::Relaxed))
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
