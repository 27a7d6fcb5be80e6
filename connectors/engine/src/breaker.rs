//! The circuit breaker of one provider or destination: it stops calls that would fail anyway, and tries carefully whether
//! they would again succeed. `failsafe` counts the failures; the states are ours, since its own read a clock and admit
//! every caller while half-open.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use failsafe::failure_policy::{ConsecutiveFailures, FailurePolicy, consecutive_failures};

use crate::mutant::{self, Mutant};
use crate::retry::Unit;

/// After closing, calls grow from a tenth of the slots to all of them.
const RAMP: Duration = Duration::from_secs(30);
const RAMP_START: f64 = 0.1;
/// Probes that nobody answered for so long are given up: longer than any attempt.
const PROBE_MAX: Duration = Duration::from_secs(30);
/// Most that jitter takes off the time of being open.
const JITTER_SHARE: f64 = 0.2;

/// When it opens and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Share of failures among the last `window` calls. From above 0 to 1.
    pub failure_rate: f64,
    /// At least 1.
    pub window: usize,
    /// Failures in a row without a success between. At least 1.
    pub consecutive: u32,
    /// A call that takes longer counts as a failure among the last `window`.
    pub slow_call: Duration,
    /// The first time; doubles with each failed probe.
    pub open_for: Duration,
    pub open_for_max: Duration,
    /// Most calls at a time while half-open; as many successes close it. At least 1.
    pub probes: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            failure_rate: 0.5,
            window: 10,
            consecutive: 3,
            slow_call: Duration::from_secs(5),
            open_for: Duration::from_secs(10),
            open_for_max: Duration::from_secs(30),
            probes: 3,
        }
    }
}

/// What a call says about whether further ones would succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was answered, whatever was said about the one message.
    Success,
    /// It failed, and somebody was there to say so.
    Failure,
    /// As in an outage: no connection, no answer, a gateway's error.
    Outage,
    /// Every further call would be refused alike: opens at once.
    Hopeless,
    /// It says nothing.
    Neutral,
}

/// Leave for one call. Give it back with what came of the call, or abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it counts as under way until it is given back"]
pub struct Permit {
    /// Of the state that gave it: what comes later says nothing about a newer one.
    generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// That it opens is what counts; for how long is decided here.
type Trip = failsafe::backoff::Constant;

const TRIPPED: Duration = Duration::ZERO;

/// The share of failures among the last calls.
#[derive(Debug)]
struct Window {
    /// Whether each of the last calls failed, oldest first.
    calls: VecDeque<bool>,
    len: usize,
    failure_rate: f64,
}

impl Window {
    fn push(&mut self, failed: bool) {
        if self.calls.len() == self.len {
            self.calls.pop_front();
        }
        self.calls.push_back(failed);
    }
}

impl FailurePolicy for Window {
    fn record_success(&mut self) {
        self.push(false);
    }

    fn mark_dead_on_failure(&mut self) -> Option<Duration> {
        self.push(true);
        let failed = self.calls.iter().filter(|failed| **failed).count() as f64;
        let too_many = self.calls.len() == self.len && failed >= self.failure_rate * self.len as f64;
        too_many.then_some(TRIPPED)
    }

    fn revived(&mut self) {
        self.calls.clear();
    }
}

#[derive(Debug)]
enum Phase {
    Closed {
        last_calls: Window,
        /// Like an outage, with no success between.
        in_a_row: ConsecutiveFailures<Trip>,
        /// When it closed after an outage.
        ramp_from: Option<Instant>,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        since: Instant,
        under_way: usize,
        succeeded: usize,
    },
}

/// Pure: time and chance come with each call.
#[derive(Debug)]
pub struct Breaker {
    policy: Policy,
    phase: Phase,
    generation: u64,
    /// Calls since the state began.
    under_way: usize,
    /// Times it opened since it last closed.
    opened: u32,
    last_success: Option<Instant>,
    /// States entered and not told yet.
    changes: Vec<State>,
}

impl Breaker {
    pub fn new(policy: Policy) -> Self {
        let phase = closed(&policy, None);
        Self { policy, phase, generation: 0, under_way: 0, opened: 0, last_success: None, changes: Vec::new() }
    }

    /// How many calls may start now, of at most `slots` at a time.
    pub fn room(&mut self, slots: usize, now: Instant) -> usize {
        self.pass_time(now);
        match &self.phase {
            Phase::Open { .. } => 0,
            Phase::HalfOpen { .. } if mutant::is(Mutant::UnboundedProbes) => slots,
            Phase::HalfOpen { under_way, succeeded, .. } => self.policy.probes.saturating_sub(under_way + succeeded),
            Phase::Closed { ramp_from, .. } => {
                let passed = |from: &Instant| now.saturating_duration_since(*from).as_secs_f64() / RAMP.as_secs_f64();
                let share =
                    ramp_from.as_ref().map_or(1.0, |from| RAMP_START + (1.0 - RAMP_START) * passed(from).min(1.0));
                ((slots as f64 * share).ceil() as usize).saturating_sub(self.under_way)
            }
        }
    }

    /// Leave for one call, where [`room`](Self::room) is.
    pub fn start(&mut self) -> Permit {
        self.under_way += 1;
        if let Phase::HalfOpen { under_way, .. } = &mut self.phase {
            *under_way += 1;
        }
        Permit { generation: self.generation }
    }

    /// The call was never made, or nobody knows what came of it.
    pub fn abandon(&mut self, permit: Permit) {
        if permit.generation == self.generation {
            self.land();
        }
    }

    /// What came of a call that took `took`. `jitter` shortens the time of being open.
    pub fn record(&mut self, permit: Permit, verdict: Verdict, took: Duration, now: Instant, jitter: Unit) {
        if permit.generation != self.generation {
            return;
        }
        self.land();
        if verdict == Verdict::Success {
            self.last_success = Some(now);
        }
        match (&mut self.phase, verdict) {
            (_, Verdict::Neutral) | (Phase::Open { .. }, _) => {}
            (_, Verdict::Hopeless) | (Phase::HalfOpen { .. }, Verdict::Failure | Verdict::Outage) => {
                self.open(now, jitter)
            }
            (Phase::HalfOpen { succeeded, .. }, Verdict::Success) => {
                *succeeded += 1;
                if *succeeded >= self.policy.probes {
                    self.opened = 0;
                    self.enter(closed(&self.policy, Some(now)));
                }
            }
            (Phase::Closed { last_calls, in_a_row, .. }, _) => {
                let dead_in_a_row = match verdict {
                    Verdict::Outage => in_a_row.mark_dead_on_failure(),
                    Verdict::Success => {
                        in_a_row.record_success();
                        None
                    }
                    _ => None,
                };
                let failed = verdict != Verdict::Success || took > self.policy.slow_call;
                let dead = if failed {
                    last_calls.mark_dead_on_failure()
                } else {
                    last_calls.record_success();
                    None
                };
                if dead_in_a_row.or(dead).is_some() {
                    self.open(now, jitter);
                }
            }
        }
    }

    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::Open { .. } => State::Open,
        }
    }

    /// When [`room`](Self::room) may say more without a call having ended.
    pub fn next_change(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open { until } => Some(*until),
            Phase::HalfOpen { since, .. } => Some(*since + PROBE_MAX),
            Phase::Closed { .. } => None,
        }
    }

    /// Whether forgetting it changes nothing: closed, without failures to remember.
    pub fn is_forgettable(&self) -> bool {
        let Phase::Closed { last_calls, ramp_from: None, .. } = &self.phase else { return false };
        self.under_way == 0 && !last_calls.calls.contains(&true)
    }

    /// The states entered since this was last asked.
    pub fn take_changes(&mut self) -> Vec<State> {
        std::mem::take(&mut self.changes)
    }

    /// When a call last succeeded.
    pub fn last_success(&self) -> Option<Instant> {
        self.last_success
    }

    fn land(&mut self) {
        self.under_way -= 1;
        if let Phase::HalfOpen { under_way, .. } = &mut self.phase {
            *under_way -= 1;
        }
    }

    /// Half-opens when the time has come.
    pub fn pass_time(&mut self, now: Instant) {
        match &self.phase {
            Phase::Open { until } if *until <= now => self.half_open(now),
            Phase::HalfOpen { since, .. } if *since + PROBE_MAX <= now => self.half_open(now),
            Phase::Closed { ramp_from: Some(from), .. } if *from + RAMP <= now => {
                if let Phase::Closed { ramp_from, .. } = &mut self.phase {
                    *ramp_from = None;
                }
            }
            _ => {}
        }
    }

    fn half_open(&mut self, now: Instant) {
        self.enter(Phase::HalfOpen { since: now, under_way: 0, succeeded: 0 });
    }

    fn open(&mut self, now: Instant, jitter: Unit) {
        let step = self.policy.open_for.saturating_mul(1 << self.opened.min(16)).min(self.policy.open_for_max);
        self.opened += 1;
        self.enter(Phase::Open { until: now + step - jitter.of(step.mul_f64(JITTER_SHARE)) });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
        self.under_way = 0;
        self.changes.push(self.state());
    }
}

fn closed(policy: &Policy, ramp_from: Option<Instant>) -> Phase {
    let last_calls = Window { calls: VecDeque::new(), len: policy.window, failure_rate: policy.failure_rate };
    let in_a_row = consecutive_failures(policy.consecutive, failsafe::backoff::constant(TRIPPED));
    Phase::Closed { last_calls, in_a_row, ramp_from }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Failure, Hopeless, Neutral, Outage, Success};
    use super::*;

    const QUICK: Duration = Duration::from_millis(20);
    const SLOTS: usize = 64;

    struct Case {
        breaker: Breaker,
        now: Instant,
    }

    fn case() -> Case {
        Case { breaker: Breaker::new(Policy::default()), now: Instant::now() }
    }

    impl Case {
        /// One call after the other, none of which lacks room.
        fn calls(&mut self, verdicts: &[Verdict]) -> &mut Self {
            for &verdict in verdicts {
                assert!(self.room() > 0, "no room for a call");
                let permit = self.breaker.start();
                self.ends(permit, verdict);
            }
            self
        }

        fn ends(&mut self, permit: Permit, verdict: Verdict) {
            self.breaker.record(permit, verdict, QUICK, self.now, Unit::new(0.0));
        }

        fn room(&mut self) -> usize {
            self.breaker.room(SLOTS, self.now)
        }

        fn pass(&mut self, seconds: u64) -> &mut Self {
            self.now += Duration::from_secs(seconds);
            self
        }

        #[track_caller]
        fn is(&self, state: State) {
            assert_eq!(self.breaker.state(), state);
        }
    }

    #[test]
    fn failures_in_a_row_or_half_of_the_last_calls_open_it() {
        let check = |verdicts: &[Verdict], state| {
            let mut case = case();
            case.calls(verdicts).is(state);
        };
        check(&[Outage, Outage], State::Closed);
        check(&[Outage, Outage, Outage], State::Open);
        check(&[Outage, Outage, Success, Outage, Outage], State::Closed);
        check(&[Outage, Neutral, Outage, Failure, Outage], State::Open);
        check(&[Failure; 9], State::Closed);
        check(&[Failure; 10], State::Open);
        check(&[Success, Failure].repeat(4), State::Closed);
        check(&[Success, Failure].repeat(5), State::Open);
        check(&[Hopeless], State::Open);
        check(&[Neutral; 20], State::Closed);
    }

    #[test]
    fn slow_answers_open_it_too() {
        let mut case = case();
        for _ in 0..10 {
            case.is(State::Closed);
            let permit = case.breaker.start();
            case.breaker.record(permit, Success, Duration::from_secs(6), case.now, Unit::new(0.0));
        }
        case.is(State::Open);
    }

    #[test]
    fn while_open_nobody_calls_and_then_only_the_probes() {
        let mut case = case();
        case.calls(&[Outage; 3]);
        assert_eq!(case.room(), 0);
        assert_eq!(case.breaker.next_change(), Some(case.now + Duration::from_secs(10)));
        assert_eq!(case.pass(9).room(), 0);
        assert_eq!(case.pass(1).room(), 3);
        let probes = [case.breaker.start(), case.breaker.start(), case.breaker.start()];
        assert_eq!(case.room(), 0);
        case.is(State::HalfOpen);
        case.ends(probes[0], Success);
        case.ends(probes[1], Success);
        assert_eq!(case.room(), 0, "the third is under way");
        case.ends(probes[2], Success);
        case.is(State::Closed);
    }

    #[test]
    fn a_failed_probe_opens_it_for_twice_as_long_up_to_the_most() {
        let mut case = case();
        case.calls(&[Outage; 3]);
        for seconds in [10, 20, 30, 30] {
            assert_eq!(case.pass(seconds - 1).room(), 0);
            case.pass(1).calls(&[Outage]).is(State::Open);
        }
        case.pass(30).calls(&[Success; 3]).is(State::Closed);
        case.calls(&[Outage; 3]);
        assert_eq!(case.breaker.next_change(), Some(case.now + Duration::from_secs(10)), "it begins anew");
    }

    #[test]
    fn jitter_only_shortens() {
        let mut case = case();
        let permit = case.breaker.start();
        case.breaker.record(permit, Hopeless, QUICK, case.now, Unit::new(1.0));
        let open = case.breaker.next_change().unwrap() - case.now;
        assert!((Duration::from_millis(7_999)..Duration::from_secs(10)).contains(&open), "{open:?}");
    }

    #[test]
    fn what_comes_late_says_nothing_about_the_next_state() {
        let mut case = case();
        let late = [case.breaker.start(), case.breaker.start(), case.breaker.start()];
        case.calls(&[Outage; 3]).is(State::Open);
        case.ends(late[0], Success);
        case.is(State::Open);
        assert_eq!(case.pass(10).room(), 3);
        case.ends(late[1], Failure);
        case.breaker.abandon(late[2]);
        case.is(State::HalfOpen);
        assert_eq!(case.room(), 3);
    }

    #[test]
    fn a_probe_that_nobody_answers_is_given_up() {
        let mut case = case();
        case.calls(&[Outage; 3]).pass(10);
        for _ in 0..3 {
            assert!(case.room() > 0);
            let _ = case.breaker.start();
        }
        assert_eq!(case.pass(29).room(), 0);
        assert_eq!(case.pass(1).room(), 3);
        let permit = case.breaker.start();
        case.breaker.abandon(permit);
        assert_eq!(case.room(), 3, "one that was never made costs nothing");
    }

    #[test]
    fn after_an_outage_calls_grow_from_a_tenth_to_all() {
        let mut case = case();
        case.calls(&[Outage; 3]).pass(10).calls(&[Success; 3]);
        assert_eq!(case.room(), 7);
        let permit = case.breaker.start();
        assert_eq!(case.room(), 6, "what is under way counts");
        case.ends(permit, Success);
        assert_eq!(case.pass(15).room(), 36);
        assert_eq!(case.pass(15).room(), SLOTS);
    }
}
