//! The budget of retries.

use std::time::{Duration, Instant};

/// Retries that may always start, each second.
const RETRIES_PER_SECOND: f64 = 10.0;
/// And as many for each first attempt.
const RETRIES_PER_FIRST: f64 = 0.2;
/// Most retries that are saved up.
const RETRIES_SAVED_MAX: f64 = 20.0;

/// How many retries may start: a provider in trouble must not be called several times as often because of it.
#[derive(Debug)]
pub struct Retries {
    saved: f64,
    earned_until: Option<Instant>,
}

impl Default for Retries {
    fn default() -> Self {
        Self { saved: RETRIES_SAVED_MAX, earned_until: None }
    }
}

impl Retries {
    /// A first attempt was made.
    pub fn earn(&mut self) {
        self.saved = (self.saved + RETRIES_PER_FIRST).min(RETRIES_SAVED_MAX);
    }

    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = self.earned_until.map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
        self.earned_until = Some(now);
        self.saved = (self.saved + passed.as_secs_f64() * RETRIES_PER_SECOND).min(RETRIES_SAVED_MAX);
        if self.saved < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.saved) / RETRIES_PER_SECOND));
        }
        self.saved -= 1.0;
        Ok(())
    }
}
