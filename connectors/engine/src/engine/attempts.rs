//! Attempts: who may start one, and what follows from how it ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_proto::DeliveryStatus;
use chat4all_proto::envelope::{Attempt as AttemptRecord, Reason};
use chat4all_proto::outcome::Outcome;

use super::ends::End;
use super::entry::Next;
use super::{Engine, UNACKNOWLEDGED_MAX};
use crate::event::{At, Attempt, Command, Finished, Now};
use crate::gate::{Answered, Call, Cleared, Gate, On, Pass, Wait};
use crate::lanes::{LaneId, Line};
use crate::mutant::{self, Mutant};

impl Engine {
    pub(super) fn start(&mut self, mut slots: usize, gate: &mut Gate, now: Now, commands: &mut Vec<Command>) {
        while slots > 0 && !self.draining && self.unacknowledged < UNACKNOWLEDGED_MAX && !self.is_shut(now.instant) {
            self.shut_until = None;
            let Some(lane) = self.lanes.next() else { return };
            let at = self.lanes.head(lane);
            if let Some(status) = self.ended_by_itself(at, gate, now) {
                self.lanes.launch(lane);
                self.end(at, End::untried(status), now, commands);
                continue;
            }
            match self.ask(lane, at, gate, now.instant) {
                Ok(pass) => {
                    self.lanes.launch(lane);
                    let entry = self.entries.get_mut(&at).expect("a head has an entry");
                    entry.calls += 1;
                    entry.pass = Some(pass);
                    entry.cleared = Cleared::default();
                    entry.started_at = now.wall;
                    self.slow.push_back((now.instant, at, entry.calls));
                    commands.push(Command::Start(Attempt {
                        at,
                        delivery: Arc::clone(&entry.delivery),
                        number: entry.calls,
                    }));
                    slots -= 1;
                }
                Err((None, until)) => {
                    self.lanes.put_back(lane);
                    self.shut_until = until;
                }
                Err((Some(line), until)) => self.lanes.stand_in_line(lane, line, until),
            }
        }
    }

    /// Leave for the lane's head to call, or the line where it has to wait (none: nobody may call) and until when, unless
    /// others in the line know.
    fn ask(
        &mut self,
        lane: LaneId,
        at: At,
        gate: &mut Gate,
        now: Instant,
    ) -> Result<Pass, (Option<Line>, Option<Instant>)> {
        let entry = self.entries.get_mut(&at).expect("a head has an entry");
        if self.lanes.has_lines() {
            for on in [On::Destination, On::Recipient, On::Tenant, On::Retries] {
                let concerns_it = on != On::Retries || entry.is_retry;
                if concerns_it
                    && !entry.cleared.has(on)
                    && let Some(line) = self.lanes.line(lane, on)
                    && self.lanes.must_stand_behind(lane, &line)
                {
                    return Err((Some(line), None));
                }
            }
        }
        let kept = self.lanes.lane(lane);
        let call = Call {
            destination: kept.destination.as_ref(),
            recipient: &kept.key.address.target,
            tenant: &kept.key.tenant,
            is_retry: entry.is_retry,
        };
        gate.ask(call, &mut entry.cleared, now).map_err(|Wait { on, until }| (self.lanes.line(lane, on), Some(until)))
    }

    pub(super) fn finished(&mut self, finished: Finished, gate: &mut Gate, now: Now, commands: &mut Vec<Command>) {
        let Finished { at, report, took, jitter } = finished;
        let Some(entry) = self.entries.get_mut(&at) else { return };
        let Some(pass) = entry.pass.take() else { return };
        let lane = self.lanes.lane(entry.lane);
        let answered = Answered { report: &report, took, jitter, failed_before: entry.has_failed };
        gate.settle(pass, &lane.key.address.target, answered, now.instant);
        let answered_with_error = matches!(report.outcome, Outcome::Transient { .. } | Outcome::Ambiguous);
        entry.has_failed |= answered_with_error && !report.outage_like;
        // Others have succeeded since it was last tried: so it is not the provider that is away.
        let others_succeed =
            gate.last_success(lane.destination.as_ref()).is_some_and(|success| success > entry.tried_at)
                || mutant::is(Mutant::OutagesBurn);
        entry.tried_at = now.instant;
        self.shut_until = None;
        if let Some(destination) = &lane.destination
            && self.lanes.has_lines()
        {
            let line = Line::Destination(Arc::clone(destination));
            self.lanes.wake_line(&line);
        }
        let attempt = AttemptRecord {
            number: entry.calls,
            started_at: entry.started_at,
            duration_ms: took.as_millis().try_into().unwrap_or(u64::MAX),
            outcome: report.outcome.kind(),
            code: report.code,
            detail: report.detail,
        };
        let retry = &self.policy.retry;
        entry.is_retry = !matches!(report.outcome, Outcome::Throttled { .. });
        let next = match report.outcome {
            Outcome::Accepted { provider_id } => Next::End(self.policy.accepted, None, provider_id),
            Outcome::RecipientGone => Next::fail(Reason::RecipientGone),
            Outcome::MessageRejected => Next::fail(Reason::MessageRejected),
            Outcome::Ambiguous if !self.policy.resend_ambiguous => Next::End(DeliveryStatus::Unknown, None, None),
            Outcome::Throttled { after, .. } => Next::Retry(retry.hold(entry.spare(), after, jitter)),
            Outcome::AccountProblem => Next::Retry(retry.outage(entry.spare(), None, jitter)),
            Outcome::Transient { after, .. } if report.outage_like && !others_succeed => {
                Next::Retry(retry.outage(entry.spare(), after, jitter))
            }
            Outcome::Ambiguous if report.outage_like && !others_succeed => {
                Next::Retry(retry.outage(entry.spare(), None, jitter))
            }
            Outcome::Transient { after, attempts_max } => entry.burn(retry, attempts_max, after, jitter),
            Outcome::Ambiguous => entry.burn(retry, None, None, jitter),
        };
        match next {
            Next::Retry(delay) => self.retry(at, delay, attempt, now, commands),
            Next::End(status, reason, provider_id) => {
                self.end(at, End { status, reason, attempt: Some(attempt), provider_id }, now, commands);
            }
        }
    }

    fn retry(&mut self, at: At, delay: Duration, attempt: AttemptRecord, now: Now, commands: &mut Vec<Command>) {
        let entry = &self.entries[&at];
        let left = entry.delivery.expires_at.saturating_since(now.wall);
        let mut event = entry.delivery.event(DeliveryStatus::Retrying, now.wall);
        event.attempt = Some(attempt);
        event.retry_at = Some(now.wall.saturating_add(delay));
        // Woken at its expiry if that comes first: it ends then.
        self.lanes.wait(entry.lane, now.instant + delay.min(left));
        if mutant::is(Mutant::OvertakesRetry) {
            self.lanes.overtake(entry.lane);
        }
        commands.push(Command::Publish { at, event: Box::new(event), dead_letter: None, ends: false });
    }

    /// The attempt's maker died: nobody knows whether it was sent. It is sent again, as after a crash, without being
    /// counted.
    pub(super) fn abandoned(&mut self, at: At, gate: &mut Gate, now: Now) {
        let Some(entry) = self.entries.get_mut(&at) else { return };
        if mutant::is(Mutant::KeepsAbandoned) {
            return;
        }
        let Some(pass) = entry.pass.take() else { return };
        gate.abandon(pass);
        let lane = entry.lane;
        self.lanes.wait(lane, now.instant + Duration::from_millis(100));
    }
}
