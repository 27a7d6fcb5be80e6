//! Everything that decides what happens to a delivery: events in, commands out. One [`Engine`] works one partition of a
//! channel's outbound topic under one lease. It has no I/O, no clock and no randomness: time and jitter are arguments.
//! The connector actors feed it and carry its commands out; nothing else may decide.

pub mod breaker;
mod engine;
mod lanes;
pub mod retry;

pub use engine::{Arrival, Attempt, Command, Engine, Event, Finished, Now, Passed, Policy, UNACKNOWLEDGED_MAX, WINDOW};
