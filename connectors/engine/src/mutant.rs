//! Deliberate defects, one at a time and only where tests ask for them: the simulation must catch every one, else it
//! proves nothing. Without the feature `mutants` nothing of it is compiled in.

/// A defect of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A record counts as finished before the log has its end.
    FinishesEarly,
    /// A lane goes on while its head waits for its retry.
    OvertakesRetry,
    /// A lane goes on past a failed head that no commit covers yet.
    OvertakesFailure,
    /// What waits for its time is not woken.
    ForgetsTimers,
    /// A half-open breaker admits everybody.
    UnboundedProbes,
    /// An abandoned attempt is not given back to its lane.
    KeepsAbandoned,
    /// Whatever fails burns an attempt, also in an outage.
    OutagesBurn,
    /// A takeover does not learn what is parked.
    ForgetsParked,
    /// A parked record counts as finished before its copy is on the log.
    ParksEarly,
    /// New deliveries of a parked lane do not follow it.
    OvertakesParked,
    /// Copies are taken in as they come.
    TakesCopiesUnordered,
    /// A paused channel's deliveries start.
    IgnoresPause,
    /// A delivery is tried after it has expired.
    IgnoresExpiry,
    /// A repeat is not recognised.
    ForgetsIds,
    /// A router that lost its partition is believed.
    IgnoresRouterEpoch,
    /// Starts go on while draining.
    IgnoresDrain,
    /// A cancelled delivery is tried all the same.
    IgnoresCancel,
    /// Nothing is parked, and a dead destination fills the memory.
    NeverParks,
    /// Fetching goes on whatever is in memory.
    NeverHolds,
}

impl Mutant {
    pub const ALL: [Mutant; 19] = [
        Self::FinishesEarly,
        Self::OvertakesRetry,
        Self::OvertakesFailure,
        Self::ForgetsTimers,
        Self::UnboundedProbes,
        Self::KeepsAbandoned,
        Self::OutagesBurn,
        Self::ForgetsParked,
        Self::ParksEarly,
        Self::OvertakesParked,
        Self::TakesCopiesUnordered,
        Self::IgnoresPause,
        Self::IgnoresExpiry,
        Self::ForgetsIds,
        Self::IgnoresRouterEpoch,
        Self::IgnoresDrain,
        Self::IgnoresCancel,
        Self::NeverParks,
        Self::NeverHolds,
    ];
}

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static PRESENT: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Has this thread's engines suffer from it, or from none.
    pub fn set(mutant: Option<Mutant>) {
        PRESENT.set(mutant);
    }

    pub fn is(mutant: Mutant) -> bool {
        PRESENT.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use switch::set;

#[cfg(feature = "mutants")]
pub(crate) use switch::is;

#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}
