//! The one place that reads the clocks. Everything else takes time as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use chat4all_proto::Timestamp;

/// Wall-clock time, for what people see and for expiry. May jump.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since.as_millis().try_into().unwrap_or(u64::MAX))
}

/// Wall-clock time in nanoseconds since 1970, for spans. May jump.
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Monotonic time, for waits and ages.
pub fn instant() -> Instant {
    Instant::now()
}
