//! What a gate knows of one side: the provider, or one destination.

use std::time::{Duration, Instant};

use super::throttle::Throttle;
use super::{LOOK_AGAIN, SWEEP_EVERY};
use crate::breaker::{self, Breaker};
use crate::limits::{Limiter, Rate, TimeGiven};

/// What is known of the provider, or of one destination.
#[derive(Debug)]
pub struct Side {
    pub breaker: Breaker,
    /// As configured, for the whole cluster.
    rate: Option<Rate>,
    share: f64,
    limiter: Option<Limiter>,
    pub throttle: Throttle,
    pub hold_until: Option<Instant>,
    pub used_at: Option<Instant>,
}

impl Side {
    pub fn new(breaker: breaker::Policy, rate: Option<Rate>, time: &TimeGiven) -> Self {
        let limiter = rate.map(|rate| Limiter::new(rate, time));
        Self {
            breaker: Breaker::new(breaker),
            rate,
            share: 1.0,
            limiter,
            throttle: Throttle::default(),
            hold_until: None,
            used_at: None,
        }
    }

    pub fn share_out(&mut self, share: f64, time: &TimeGiven) {
        self.share = share;
        self.limit(time);
    }

    pub fn limit(&mut self, time: &TimeGiven) {
        let configured = self.rate.map(|rate| rate.share(self.share));
        let rate = match (configured, self.throttle.cap().map(Rate::per_second)) {
            (Some(configured), Some(cap)) if cap.every > configured.every => Some(cap),
            (None, Some(cap)) => Some(cap),
            (configured, _) => configured,
        };
        self.limiter = rate.map(|rate| Limiter::new(rate, time));
    }

    /// Follows the throttle, which time or an answer may have changed.
    pub fn adapt(&mut self, time: &TimeGiven) {
        if self.throttle.take_change() {
            self.limit(time);
        }
    }

    /// When its breaker's state changes by itself, if that is soon.
    pub fn look_again(&self, now: Instant) -> Option<Instant> {
        self.breaker.next_change().filter(|change| (now..now + LOOK_AGAIN).contains(change))
    }

    pub fn held_until(&self, now: Instant) -> Option<Instant> {
        self.hold_until.filter(|until| *until > now)
    }

    pub fn take(&mut self, now: Instant, time: &TimeGiven) -> Result<(), Duration> {
        self.throttle.pass_time(now);
        self.adapt(time);
        if let Some(limiter) = &self.limiter {
            limiter.take()?;
        }
        self.throttle.count();
        Ok(())
    }

    pub fn is_forgettable(&self, now: Instant) -> bool {
        let idle = self.used_at.is_none_or(|used| used + SWEEP_EVERY < now);
        idle && self.breaker.is_forgettable() && self.throttle.cap().is_none() && self.held_until(now).is_none()
    }
}
