//! Pacing of attempts.

use std::time::Duration;

/// Longest wait that we choose ourselves while a provider throttles us or our account has a problem.
pub const OWN_WAIT_MAX: Duration = Duration::from_secs(60);
/// Longest wait of a lane while the provider seems to be away.
const OUTAGE_WAIT_MAX: Duration = Duration::from_secs(8);
/// Longest wait that a provider may ask for.
pub const ASKED_WAIT_MAX: Duration = Duration::from_secs(3_600);

/// A number from 0 up to but not including 1, drawn by the caller.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Unit(f64);

impl Unit {
    /// Values outside the range are brought into it.
    pub fn new(value: f64) -> Self {
        Self(value.clamp(0.0, 1.0 - f64::EPSILON))
    }

    pub(crate) fn of(self, duration: Duration) -> Duration {
        duration.mul_f64(self.0)
    }
}

/// How often and when a delivery is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Counted attempts before a delivery fails, the first included. At least 1.
    pub attempts_max: u32,
    /// Upper bound of the wait before each retry; the last one repeats. Not empty.
    pub backoff: Vec<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { attempts_max: 5, backoff: [1, 2, 4, 8].map(Duration::from_secs).to_vec() }
    }
}

impl Policy {
    /// Wait after `burnt` counted attempts (at least 1) have failed: full jitter, from nothing up to the step's bound.
    /// A provider's own wish is honoured up to [`ASKED_WAIT_MAX`].
    pub fn delay(&self, burnt: u32, asked: Option<Duration>, jitter: Unit) -> Duration {
        let step = self.backoff.get(burnt.saturating_sub(1) as usize).or(self.backoff.last());
        let own = jitter.of(step.copied().unwrap_or_default());
        own.max(asked.unwrap_or_default().min(ASKED_WAIT_MAX))
    }

    /// Wait after the `held`th failure in a row that burns no attempt, since nobody seems to be there. The breaker sets the
    /// pace: a lane must be ready when it wants to try whether somebody is back.
    pub fn outage(&self, held: u32, asked: Option<Duration>, jitter: Unit) -> Duration {
        let step = self.backoff.get(held.saturating_sub(1) as usize).or(self.backoff.last());
        let own = jitter.of(step.copied().unwrap_or_default().min(OUTAGE_WAIT_MAX));
        own.max(asked.unwrap_or_default().min(ASKED_WAIT_MAX))
    }

    /// Wait after the `held`th answer in a row (1 is the first) that burns no attempt. Doubles from the first step, with
    /// half of it jittered, so that a throttled lane never spins.
    pub fn hold(&self, held: u32, asked: Option<Duration>, jitter: Unit) -> Duration {
        let first = self.backoff.first().copied().unwrap_or_default().max(Duration::from_millis(100));
        let step = first.saturating_mul(1 << (held.saturating_sub(1)).min(16)).min(OWN_WAIT_MAX);
        let own = step / 2 + jitter.of(step / 2);
        match asked {
            // What the provider asks for is the least, and it may ask for nothing; jitter on top spreads the lanes.
            Some(asked) => own.max(asked.min(ASKED_WAIT_MAX) + jitter.of(first / 2)),
            None => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_delay_grows_with_each_counted_attempt_and_the_last_step_repeats() {
        let policy = Policy::default();
        let nearly_one = Unit::new(1.0);
        for (burnt, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (90, 8)] {
            let delay = policy.delay(burnt, None, nearly_one);
            assert!(
                delay <= SECOND * seconds && delay > SECOND * seconds - Duration::from_millis(1),
                "{burnt}: {delay:?}"
            );
        }
        assert_eq!(policy.delay(3, None, Unit::new(0.0)), Duration::ZERO);
    }

    #[test]
    fn a_provider_may_ask_for_more_but_not_for_ever() {
        let policy = Policy::default();
        assert_eq!(policy.delay(1, Some(30 * SECOND), Unit::new(0.5)), 30 * SECOND);
        assert_eq!(policy.delay(1, Some(86_400 * SECOND), Unit::new(0.5)), ASKED_WAIT_MAX);
    }

    #[test]
    fn holding_doubles_up_to_a_minute_and_never_spins() {
        let policy = Policy::default();
        assert_eq!(policy.hold(1, None, Unit::new(0.0)), SECOND / 2);
        assert!(policy.hold(40, None, Unit::new(1.0)) <= OWN_WAIT_MAX);
        assert_eq!(policy.hold(1, Some(3 * SECOND), Unit::new(0.0)), 3 * SECOND);
        assert!(policy.hold(9, Some(3 * SECOND), Unit::new(0.0)) >= OWN_WAIT_MAX / 2, "asked for too little");
        let impatient = Policy { attempts_max: 1, backoff: vec![Duration::ZERO] };
        assert!(impatient.hold(1, None, Unit::new(0.0)) >= Duration::from_millis(50));
    }
}
