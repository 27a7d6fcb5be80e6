//! Everything that decides what happens to a delivery: events in, commands out. One [`Engine`] works one partition of a
//! channel's outbound topic under one lease. It has no I/O, no clock and no randomness: time and jitter are arguments.
//! The connector actors feed it and carry its commands out; nothing else may decide.

pub mod breaker;
mod engine;
mod event;
pub mod gate;
mod lanes;
pub mod limits;
pub mod mutant;
pub mod retry;

pub use engine::{Engine, Policy, UNACKNOWLEDGED_MAX, WINDOW};
pub use event::{Arrival, At, Attempt, Begin, Carried, Command, Commits, Event, Finished, Load, Now, Passed, Source};
pub use gate::Gate;
