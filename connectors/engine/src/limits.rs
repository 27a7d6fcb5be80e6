//! Rates: `governor`'s limiters on a clock that is given to them.

use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

/// One call `every`, and up to `burst` at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Above zero.
    pub every: Duration,
    pub burst: NonZeroU32,
}

impl Rate {
    /// `per_second` above 0, with a burst that makes up for a wake-up that comes 50 ms late.
    pub fn per_second(per_second: f64) -> Self {
        let burst = NonZeroU32::new((per_second / 20.0) as u32).unwrap_or(NonZeroU32::MIN);
        Self { every: Duration::from_secs_f64(1.0 / per_second), burst }
    }

    /// This part of it: above 0, up to 1.
    pub fn share(self, share: f64) -> Self {
        let burst = NonZeroU32::new((f64::from(self.burst.get()) * share) as u32).unwrap_or(NonZeroU32::MIN);
        Self { every: self.every.div_f64(share), burst }
    }

    fn quota(self) -> Quota {
        Quota::with_period(self.every.max(Duration::from_nanos(1))).expect("it is above zero").allow_burst(self.burst)
    }
}

/// The time that a gate was last told. Its limiters share it.
#[derive(Debug, Clone, Default)]
pub struct TimeGiven {
    begin: Option<Instant>,
    since_begin: Arc<AtomicU64>,
}

impl TimeGiven {
    pub fn set(&mut self, now: Instant) {
        let begin = *self.begin.get_or_insert(now);
        let nanos = u64::try_from(now.saturating_duration_since(begin).as_nanos()).unwrap_or(u64::MAX);
        self.since_begin.store(nanos, Ordering::Relaxed);
    }
}

impl Clock for TimeGiven {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.since_begin.load(Ordering::Relaxed).into()
    }
}

type Middleware = NoOpMiddleware<Nanos>;

/// One rate for all.
#[derive(Debug)]
pub struct Limiter {
    limiter: RateLimiter<NotKeyed, InMemoryState, TimeGiven, Middleware>,
    time: TimeGiven,
}

impl Limiter {
    pub fn new(rate: Rate, time: &TimeGiven) -> Self {
        Self { limiter: RateLimiter::direct_with_clock(rate.quota(), time.clone()), time: time.clone() }
    }

    /// Takes one call, or says how long to wait for it.
    pub fn take(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|refused| wait(&refused, &self.time))
    }
}

/// A rate for each key. Keys are kept as hashes: two that collide share their rate.
#[derive(Debug)]
pub struct KeyedLimiter {
    limiter: RateLimiter<u64, HashMapStateStore<u64>, TimeGiven, Middleware>,
    hasher: RandomState,
    time: TimeGiven,
}

impl KeyedLimiter {
    pub fn new(rate: Rate, time: &TimeGiven) -> Self {
        let limiter = RateLimiter::new(rate.quota(), HashMapStateStore::default(), time.clone());
        Self { limiter, hasher: RandomState::new(), time: time.clone() }
    }

    pub fn take(&self, key: &impl Hash) -> Result<(), Duration> {
        self.limiter.check_key(&self.hasher.hash_one(key)).map_err(|refused| wait(&refused, &self.time))
    }

    /// Forgets the keys that have their whole burst again.
    pub fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

fn wait(refused: &NotUntil<Nanos>, time: &TimeGiven) -> Duration {
    refused.earliest_possible().duration_since(time.now()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_over_time_and_its_burst_at_once() {
        let (mut time, begin) = (TimeGiven::default(), Instant::now());
        time.set(begin);
        let rate = Rate { every: Duration::from_secs(6), burst: NonZeroU32::new(3).expect("not zero") };
        let limiter = KeyedLimiter::new(rate, &time);
        let mut taken = 0;
        for second in 0..60 {
            time.set(begin + Duration::from_secs(second));
            while limiter.take(&"ana").is_ok() {
                taken += 1;
            }
        }
        assert_eq!(taken, 3 + 9);
        assert_eq!(limiter.take(&"ana"), Err(Duration::from_secs(1)), "the next one is due at 60 s");
        assert_eq!(limiter.take(&"bob"), Ok(()), "each has its own");
        time.set(begin + Duration::from_secs(600));
        limiter.sweep();
        assert!(limiter.limiter.is_empty(), "who has not called for long is forgotten");
    }

    #[test]
    fn a_share_of_a_rate_is_as_much_less() {
        let rate = Rate::per_second(80.0);
        assert_eq!((rate.every, rate.burst.get()), (Duration::from_micros(12_500), 4));
        let half = rate.share(0.5);
        assert_eq!((half.every, half.burst.get()), (Duration::from_millis(25), 2));
        assert_eq!(Rate::per_second(0.1).share(0.01).burst.get(), 1);
    }
}
