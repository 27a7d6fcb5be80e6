//! How deliveries end: by an attempt, by themselves, and what their lanes wait for then.

use std::time::Duration;

use chat4all_proto::envelope::{self, Attempt as AttemptRecord, DeadLetter, Reason, V1};
use chat4all_proto::progress::FinishedSet;
use chat4all_proto::{DeliveryStatus, Outbound};

use super::Engine;
use super::entry::Entry;
use crate::event::{At, Command, Commits, Now};
use crate::gate::Gate;
use crate::mutant::{self, Mutant};

/// How often what waits is looked through for what has expired or was cancelled.
pub const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How a delivery ended.
pub struct End {
    pub status: DeliveryStatus,
    pub reason: Option<Reason>,
    pub attempt: Option<AttemptRecord>,
    pub provider_id: Option<String>,
}

impl End {
    pub fn untried(status: DeliveryStatus) -> Self {
        Self { status, reason: None, attempt: None, provider_id: None }
    }
}

impl Engine {
    /// What a delivery that is not in flight ends as, if it needs no further attempt.
    pub(super) fn ended_by_itself(&self, at: At, gate: &Gate, now: Now) -> Option<DeliveryStatus> {
        let delivery = &self.entries[&at].delivery;
        if gate.is_cancelled(&delivery.message_id) && !mutant::is(Mutant::IgnoresCancel) {
            Some(DeliveryStatus::Cancelled)
        } else {
            let expired = delivery.expires_at <= now.wall && !mutant::is(Mutant::IgnoresExpiry);
            expired.then_some(DeliveryStatus::Expired)
        }
    }

    /// The lane's head, in flight until now, has ended: its record is finished when the log has the end. Its lane goes on
    /// at once if the provider has it or never will. Otherwise a crash before the commit would have it tried again: its
    /// successors wait for the commit, so that it cannot be taken after them.
    pub(super) fn end(&mut self, at: At, end: End, now: Now, commands: &mut Vec<Command>) {
        let entry = self.take_out(at);
        match end.status {
            DeliveryStatus::Failed | DeliveryStatus::Unknown if !mutant::is(Mutant::OvertakesFailure) => {
                self.lanes.close(entry.lane);
                self.closed.insert(at, entry.lane);
            }
            _ => self.lanes.pop(entry.lane),
        }
        self.publish_end(at, &entry, end, now, commands);
    }

    fn publish_end(&mut self, at: At, entry: &Entry, end: End, now: Now, commands: &mut Vec<Command>) {
        self.unacknowledged += 1;
        if mutant::is(Mutant::FinishesEarly) {
            self.progress[at.source as usize].finish(at.offset);
        }
        let End { status, reason, attempt, provider_id } = end;
        let dead_letter = reason.map(|reason| {
            Box::new(DeadLetter {
                v: V1,
                reason,
                attempts: entry.calls,
                code: attempt.as_ref().and_then(|attempt| attempt.code.clone()),
                failed_at: now.wall,
                source: envelope::Source {
                    topic: self.policy.topic.clone(),
                    partition: self.policy.partition,
                    offset: entry.position,
                },
                delivery: Outbound::clone(&entry.delivery),
            })
        });
        let mut event = entry.delivery.event(status, now.wall);
        event.attempt = attempt;
        event.provider_id = provider_id;
        event.reason = reason;
        event.awaits_receipt = self.policy.has_receipts;
        commands.push(Command::Publish { at, event: Box::new(event), dead_letter, ends: true });
    }

    /// Lets the lanes go on whose heads no takeover would try again.
    pub(super) fn committed(&mut self, commits: &Commits) {
        if self.closed.is_empty() {
            return;
        }
        let finished = commits.each_ref().map(|(at, metadata)| FinishedSet::decode(metadata, *at).unwrap_or_default());
        self.closed.retain(|at, &mut lane| {
            let source = at.source as usize;
            let committed = at.offset < commits[source].0 || finished[source].contains(at.offset);
            if committed {
                self.lanes.pop(lane);
            }
            !committed
        });
    }

    /// Ends what has expired or was cancelled, wherever it stands in its lane.
    pub(super) fn sweep(&mut self, gate: &Gate, now: Now, commands: &mut Vec<Command>) {
        if self.draining || self.sweep_at.is_some_and(|at| now.instant < at) {
            return;
        }
        let waits = self.entries.len() > self.lanes.in_flight();
        self.sweep_at = waits.then(|| now.instant + SWEEP_EVERY);
        let waiting = self.entries.iter().filter(|(_, entry)| entry.pass.is_none());
        let mut ended: Vec<(At, DeliveryStatus)> =
            waiting.filter_map(|(at, _)| Some((*at, self.ended_by_itself(*at, gate, now)?))).collect();
        ended.sort_unstable_by_key(|(at, _)| *at);
        for (at, status) in ended {
            let entry = self.take_out(at);
            self.lanes.remove(entry.lane, at);
            self.publish_end(at, &entry, End::untried(status), now, commands);
        }
    }
}
