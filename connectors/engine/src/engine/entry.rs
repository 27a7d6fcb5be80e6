//! A delivery in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_proto::envelope::Reason;
use chat4all_proto::{DeliveryStatus, Outbound, Timestamp};

use crate::gate::{Cleared, Pass};
use crate::lanes::LaneId;
use crate::retry::{self, Unit};

#[derive(Debug)]
pub struct Entry {
    pub delivery: Arc<Outbound>,
    pub lane: LaneId,
    /// Its place in the lane: the offset of its record on the outbound topic.
    pub position: u64,
    pub bytes: usize,
    /// Calls made, as far as we know.
    pub calls: u32,
    /// Calls that count against `attempts_max`.
    pub burnt: u32,
    /// Answers in a row that burnt nothing.
    pub held: u32,
    /// Whether the provider has answered it with an error.
    pub has_failed: bool,
    /// Whether the next call is one that the budget of retries is for.
    pub is_retry: bool,
    /// When it was last tried, or came: an outage burns nothing unless somebody else succeeded since.
    pub tried_at: Instant,
    pub started_at: Timestamp,
    pub cleared: Cleared,
    /// There while a call is in flight.
    pub pass: Option<Pass>,
}

impl Entry {
    pub fn new(delivery: Arc<Outbound>, lane: LaneId, position: u64, bytes: usize, now: Instant) -> Self {
        Self {
            delivery,
            lane,
            position,
            bytes,
            calls: 0,
            burnt: 0,
            held: 0,
            has_failed: false,
            is_retry: false,
            tried_at: now,
            started_at: Timestamp::default(),
            cleared: Cleared::default(),
            pass: None,
        }
    }

    /// Counts an answer that burns no attempt.
    pub fn spare(&mut self) -> u32 {
        self.held += 1;
        self.held
    }

    /// Counts an attempt that failed in a way that bears `attempts_max` attempts, or as many as the channel allows.
    pub fn burn(
        &mut self,
        policy: &retry::Policy,
        attempts_max: Option<u32>,
        asked: Option<Duration>,
        jitter: Unit,
    ) -> Next {
        self.burnt += 1;
        self.held = 0;
        if self.burnt >= attempts_max.unwrap_or(u32::MAX).min(policy.attempts_max) {
            return Next::fail(Reason::AttemptsExhausted);
        }
        Next::Retry(policy.delay(self.burnt, asked, jitter))
    }
}

/// What follows from a finished attempt.
pub enum Next {
    Retry(Duration),
    /// With the provider's id, if it gave one.
    End(DeliveryStatus, Option<Reason>, Option<String>),
}

impl Next {
    pub fn fail(reason: Reason) -> Self {
        Next::End(DeliveryStatus::Failed, Some(reason), None)
    }
}
