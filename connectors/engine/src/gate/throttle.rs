//! The rate that a provider's complaints make us find.

use std::time::{Duration, Instant};

/// A rate that the provider made us find: cut in half whenever it complains, raised slowly while it does not.
#[derive(Debug, Default)]
pub struct Throttle {
    cap: Option<f64>,
    /// When the cap ends: at twice the rate that was too much.
    enough: f64,
    changed_at: Option<Instant>,
    changed: bool,
    /// Calls since `counted_from`, and in the second before it.
    calls: u32,
    calls_before: u32,
    counted_from: Option<Instant>,
}

impl Throttle {
    /// What asks for less says for how long to wait.
    const CAP_MIN: f64 = 1.0;
    const STEP: Duration = Duration::from_secs(1);

    /// Calls a second; none: as fast as configured.
    pub fn cap(&self) -> Option<f64> {
        self.cap
    }

    /// Whether the cap has changed since this was last asked.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Counts a call.
    pub fn count(&mut self) {
        self.calls += 1;
    }

    /// At most once a second: calls that were under way complain together.
    pub fn lower(&mut self, now: Instant) {
        self.pass_time(now);
        if self.cap.is_some() && self.changed_at.is_some_and(|at| now < at + Self::STEP) {
            return;
        }
        let rate = self.cap.unwrap_or_else(|| f64::from(self.calls_before.max(self.calls)));
        self.enough = self.enough.max(rate * 2.0);
        self.set(Some((rate / 2.0).max(Self::CAP_MIN)), now);
    }

    pub fn pass_time(&mut self, now: Instant) {
        let counted_from = *self.counted_from.get_or_insert(now);
        if now >= counted_from + Self::STEP {
            (self.calls_before, self.calls, self.counted_from) = (self.calls, 0, Some(now));
        }
        if let Some(cap) = self.cap
            && self.changed_at.is_some_and(|at| now >= at + Self::STEP)
        {
            let raised = cap * 1.1 + 0.1;
            let over = raised >= self.enough;
            if over {
                self.enough = 0.0;
            }
            self.set((!over).then_some(raised), now);
        }
    }

    fn set(&mut self, cap: Option<f64>, now: Instant) {
        (self.cap, self.changed_at, self.changed) = (cap, Some(now), true);
    }
}
