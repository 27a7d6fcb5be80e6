//! The gate of one channel in one process: whether a call may start now. All partitions of the channel ask the same gate,
//! so that an outage, a limit or a pause is known to all at once.

mod retries;
mod side;
mod throttle;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_proto::outcome::{Outcome, Report, Scope};
use chat4all_proto::{MessageId, TenantId};

use self::retries::Retries;
use self::side::Side;
use crate::breaker::{self, Permit, State, Verdict};
use crate::limits::{KeyedLimiter, Rate, TimeGiven};
use crate::mutant::{self, Mutant};
use crate::retry::{ASKED_WAIT_MAX, Unit};

/// How often whoever waits for a gate looks at it again at the latest: another partition may have changed it.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Policy {
    pub breaker: breaker::Policy,
    pub limits: Limits,
    /// Most calls at a time in this process.
    pub slots: usize,
    /// Of the channel's topic, in the whole cluster.
    pub partitions: u32,
}

/// None: no limit. They are for the whole cluster: a process takes the share of the partitions it holds, but for
/// `recipient`, whose conversation one process holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    pub channel: Option<Rate>,
    pub destination: Option<Rate>,
    pub recipient: Option<Rate>,
    pub tenant: Option<Rate>,
}

/// A call that somebody wants to make.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Where the channel has many: the host.
    pub destination: Option<&'a Arc<str>>,
    pub recipient: &'a str,
    pub tenant: &'a TenantId,
    pub is_retry: bool,
}

/// What a call need not be asked for again: it has taken its turn there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cleared {
    destination: bool,
    recipient: bool,
    tenant: bool,
    retries: bool,
}

impl Cleared {
    pub fn has(self, on: On) -> bool {
        match on {
            On::Channel => false,
            On::Destination => self.destination,
            On::Recipient => self.recipient,
            On::Tenant => self.tenant,
            On::Retries => self.retries,
        }
    }
}

/// What a refused call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Nobody may call.
    Channel,
    Destination,
    Recipient,
    Tenant,
    /// The budget of retries.
    Retries,
}

/// Not before `until`, and then ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub on: On,
    pub until: Instant,
}

/// A breaker has entered a state: the channel's, or that of one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub destination: Option<Arc<str>>,
    pub state: State,
}

/// Leave for one call. Give it back: settled or abandoned.
#[derive(Debug)]
#[must_use = "it counts as under way until it is given back"]
pub struct Pass {
    permit: Permit,
    destination: Option<Arc<str>>,
}

/// Pure: time and chance come with each call.
#[derive(Debug)]
pub struct Gate {
    policy: Policy,
    time: TimeGiven,
    paused: bool,
    cancelled: Arc<HashSet<MessageId>>,
    account: Side,
    destinations: HashMap<Arc<str>, Side>,
    recipients: Option<KeyedLimiter>,
    tenants: Option<KeyedLimiter>,
    /// Recipients whose provider asked us to wait, by hash.
    recipients_held: HashMap<u64, Instant>,
    /// Who was throttled last without being told whether all are, and until when.
    unsaid: Option<(u64, Instant)>,
    hasher: RandomState,
    retries: Retries,
    partitions_held: u32,
    /// Calls that had to wait for a rate.
    limited: u64,
    changes: Vec<Change>,
    swept_at: Option<Instant>,
}

impl Gate {
    pub fn new(policy: Policy) -> Self {
        let time = TimeGiven::default();
        Self {
            account: Side::new(policy.breaker.clone(), policy.limits.channel, &time),
            destinations: HashMap::new(),
            recipients: policy.limits.recipient.map(|rate| KeyedLimiter::new(rate, &time)),
            tenants: policy.limits.tenant.map(|rate| KeyedLimiter::new(rate, &time)),
            recipients_held: HashMap::new(),
            unsaid: None,
            hasher: RandomState::new(),
            retries: Retries::default(),
            policy,
            time,
            paused: false,
            cancelled: Arc::default(),
            partitions_held: 0,
            limited: 0,
            changes: Vec::new(),
            swept_at: None,
        }
    }

    /// Another partition is worked on in this process.
    pub fn join(&mut self) {
        self.partitions_held += 1;
        self.share_out();
    }

    /// A partition is not worked on here any more.
    pub fn leave(&mut self) {
        self.partitions_held = self.partitions_held.saturating_sub(1);
        self.share_out();
    }

    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub fn set_cancelled(&mut self, cancelled: Arc<HashSet<MessageId>>) {
        self.cancelled = cancelled;
    }

    pub fn is_cancelled(&self, message: &MessageId) -> bool {
        !self.cancelled.is_empty() && self.cancelled.contains(message)
    }

    /// Whether nobody may call, so that the channel's messages wait on the log.
    pub fn is_shut(&mut self, now: Instant) -> bool {
        if self.is_paused() {
            return true;
        }
        self.account.breaker.pass_time(now);
        self.account.breaker.state() == State::Open
    }

    pub fn is_paused(&self) -> bool {
        self.paused && !mutant::is(Mutant::IgnoresPause)
    }

    pub fn state(&self) -> State {
        self.account.breaker.state()
    }

    /// When to look again whether somebody may call, where nobody may now.
    pub fn look_again(&self, now: Instant) -> Instant {
        self.account.look_again(now).filter(|_| !self.paused).unwrap_or(now + LOOK_AGAIN)
    }

    /// When an open breaker lets somebody try again.
    pub fn tried_again(&self) -> Option<Instant> {
        self.account.breaker.next_change().filter(|_| self.state() == State::Open)
    }

    /// Destinations whose breaker is not closed.
    pub fn destinations_away(&self) -> usize {
        self.destinations.values().filter(|side| side.breaker.state() != State::Closed).count()
    }

    /// What breakers did since this was last asked.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.note_changes(None);
        std::mem::take(&mut self.changes)
    }

    /// Calls that had to wait for a rate, so far.
    pub fn limited(&self) -> u64 {
        self.limited
    }

    fn note_changes(&mut self, destination: Option<&Arc<str>>) {
        if let Some(side) = self.side(destination) {
            let states = side.breaker.take_changes();
            self.changes.extend(states.into_iter().map(|state| Change { destination: destination.cloned(), state }));
        }
    }

    /// How many calls may start now, as far as the whole channel goes.
    pub fn room(&mut self, now: Instant) -> usize {
        if self.is_paused() { 0 } else { self.account.breaker.room(self.policy.slots, now) }
    }

    /// Leave for a call now, or what it has to wait for.
    pub fn ask(&mut self, call: Call<'_>, cleared: &mut Cleared, now: Instant) -> Result<Pass, Wait> {
        let answer = self.decide(call, cleared, now);
        if call.destination.is_some() {
            self.note_changes(call.destination);
        }
        answer
    }

    fn decide(&mut self, call: Call<'_>, cleared: &mut Cleared, now: Instant) -> Result<Pass, Wait> {
        self.time.set(now);
        self.sweep(now);
        let wait = |on, until: Instant| Err(Wait { on, until: until.min(now + LOOK_AGAIN) });
        if self.room(now) == 0 {
            return wait(On::Channel, self.look_again(now));
        }
        if let Some(until) = self.account.held_until(now) {
            return wait(On::Channel, until);
        }
        if let Some(destination) = call.destination {
            let side = self.destinations.entry(Arc::clone(destination)).or_insert_with(|| {
                let rate = self.policy.limits.destination;
                let mut side = Side::new(self.policy.breaker.clone(), rate, &self.time);
                side.share_out(share(self.partitions_held, self.policy.partitions), &self.time);
                side
            });
            side.used_at = Some(now);
            if side.breaker.room(self.policy.slots, now) == 0 {
                return wait(On::Destination, side.look_again(now).unwrap_or(now + LOOK_AGAIN));
            }
            if let Some(until) = side.held_until(now) {
                return wait(On::Destination, until);
            }
            if !cleared.destination {
                side.take(now, &self.time).map_err(|after| self.too_fast(On::Destination, now + after))?;
                cleared.destination = true;
            }
        }
        if !self.recipients_held.is_empty()
            && let Some(until) = self.recipients_held.get(&self.hasher.hash_one(call.recipient))
            && *until > now
        {
            return wait(On::Recipient, *until);
        }
        if let Some(recipients) = self.recipients.as_ref().filter(|_| !cleared.recipient) {
            recipients.take(&call.recipient).map_err(|after| self.too_fast(On::Recipient, now + after))?;
            cleared.recipient = true;
        }
        if let Some(tenants) = self.tenants.as_ref().filter(|_| !cleared.tenant) {
            tenants.take(call.tenant).map_err(|after| self.too_fast(On::Tenant, now + after))?;
            cleared.tenant = true;
        }
        if call.is_retry && !cleared.retries {
            self.retries.take(now).map_err(|after| self.too_fast(On::Retries, now + after))?;
            cleared.retries = true;
        }
        self.account.take(now, &self.time).map_err(|after| self.too_fast(On::Channel, now + after))?;
        if !call.is_retry {
            self.retries.earn();
        }
        let side = match call.destination {
            Some(destination) => self.destinations.get_mut(destination).expect("it was asked just now"),
            None => &mut self.account,
        };
        Ok(Pass { permit: side.breaker.start(), destination: call.destination.cloned() })
    }

    fn too_fast(&mut self, on: On, until: Instant) -> Wait {
        self.limited += 1;
        Wait { on, until }
    }

    /// What came of a call to `recipient`.
    pub fn settle(&mut self, pass: Pass, recipient: &str, answered: Answered<'_>, now: Instant) {
        self.time.set(now);
        let Answered { report, took, jitter, .. } = answered;
        if let Outcome::Throttled { after, scope } = report.outcome {
            self.throttled(pass.destination.as_ref(), recipient, after, scope, now);
        }
        let time = self.time.clone();
        if let Some(side) = self.side(pass.destination.as_ref()) {
            side.throttle.pass_time(now);
            side.breaker.record(pass.permit, verdict(answered), took, now, jitter);
            side.adapt(&time);
            self.note_changes(pass.destination.as_ref());
        }
    }

    /// The call was never made, or nobody knows what came of it.
    pub fn abandon(&mut self, pass: Pass) {
        if let Some(side) = self.side(pass.destination.as_ref()) {
            side.breaker.abandon(pass.permit);
        }
    }

    /// When a call last succeeded, to this destination where the channel has many.
    pub fn last_success(&mut self, destination: Option<&Arc<str>>) -> Option<Instant> {
        self.side(destination)?.breaker.last_success()
    }

    fn side(&mut self, destination: Option<&Arc<str>>) -> Option<&mut Side> {
        match destination {
            Some(destination) => self.destinations.get_mut(destination),
            None => Some(&mut self.account),
        }
    }

    fn throttled(
        &mut self,
        destination: Option<&Arc<str>>,
        recipient: &str,
        after: Option<Duration>,
        scope: Scope,
        now: Instant,
    ) {
        let recipient = self.hasher.hash_one(recipient);
        let until = now + after.unwrap_or_default().min(ASKED_WAIT_MAX);
        let all = match scope {
            Scope::Account => true,
            Scope::Recipient => false,
            Scope::Unsaid => {
                let other = self.unsaid.is_some_and(|(other, until)| other != recipient && until > now);
                self.unsaid = Some((recipient, until));
                other
            }
        };
        if all {
            let side = self.side(destination).expect("a call was made to it");
            side.hold_until = side.hold_until.max(Some(until));
            side.throttle.lower(now);
        } else {
            self.recipients_held.insert(recipient, until);
        }
    }

    fn share_out(&mut self) {
        let share = share(self.partitions_held, self.policy.partitions);
        self.account.share_out(share, &self.time);
        for side in self.destinations.values_mut() {
            side.share_out(share, &self.time);
        }
        self.tenants = self.policy.limits.tenant.map(|rate| KeyedLimiter::new(rate.share(share), &self.time));
    }

    /// Forgets what no call has asked for lately.
    fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_some_and(|at| now < at + SWEEP_EVERY) {
            return;
        }
        self.swept_at = Some(now);
        self.recipients_held.retain(|_, until| *until > now);
        self.destinations.retain(|_, side| !side.is_forgettable(now));
        self.destinations.shrink_to_fit();
        [&self.recipients, &self.tenants].into_iter().flatten().for_each(KeyedLimiter::sweep);
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    pub report: &'a Report,
    pub took: Duration,
    pub jitter: Unit,
    /// The same delivery was answered with an error before: that is its own trouble, and says no more about the provider.
    pub failed_before: bool,
}

fn verdict(Answered { report, failed_before, .. }: Answered<'_>) -> Verdict {
    match report.outcome {
        Outcome::Accepted { .. } => Verdict::Success,
        _ if report.outage_like => Verdict::Outage,
        Outcome::Transient { .. } | Outcome::Ambiguous if failed_before => Verdict::Neutral,
        Outcome::Transient { .. } | Outcome::Ambiguous => Verdict::Failure,
        Outcome::AccountProblem => Verdict::Hopeless,
        // About one message, or about our pace.
        Outcome::Throttled { .. } | Outcome::RecipientGone | Outcome::MessageRejected => Verdict::Neutral,
    }
}

/// Of a cluster's rate, for who holds so many of the partitions.
fn share(held: u32, partitions: u32) -> f64 {
    f64::from(held.clamp(1, partitions.max(1))) / f64::from(partitions.max(1))
}

#[cfg(test)]
mod tests;
