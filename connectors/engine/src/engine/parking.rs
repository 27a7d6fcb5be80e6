//! Lanes that cannot move go to the parked topic, out of the way of the others, and come back in order.

use std::time::Duration;

use chat4all_proto::Parked;
use chat4all_proto::envelope::V1;
use chat4all_proto::progress::SPAN_MAX;

use super::Engine;
use super::entry::Entry;
use crate::event::{At, Command, Load, Now, Source};
use crate::gate::Gate;
use crate::lanes::LaneId;
use crate::mutant::{self, Mutant};

/// A lane that will not move for so long may be parked.
const STUCK: Duration = Duration::from_secs(1);
/// How often lanes are parked that wait on the outbound topic, and on the parked one itself, where they go to its end and
/// come round again.
const PARK_EVERY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

impl Engine {
    /// A copy was read. The lane's next one is taken in, one that stands before its turn goes to the end of the topic, and
    /// one that was taken in or has ended already is a repeat.
    pub(super) fn came_back(&mut self, at: At, bytes: usize, parked: Parked, now: Now, commands: &mut Vec<Command>) {
        let Parked { position, attempts, burnt, delivery, .. } = parked;
        let lane = self.lanes.find(&delivery);
        let Some(lane) = lane.filter(|lane| self.lanes.lane(*lane).away.contains(&position)) else {
            return self.finish(at, commands);
        };
        let entry = Entry { calls: attempts, burnt, ..Entry::new(delivery, lane, position, bytes, now.instant) };
        let away = &mut self.lanes.lane_mut(lane).away;
        if away.first() == Some(&position) || mutant::is(Mutant::TakesCopiesUnordered) {
            away.remove(&position);
            self.take_in(at, entry);
        } else {
            self.park(at, entry, commands);
        }
    }

    pub(super) fn park(&mut self, at: At, entry: Entry, commands: &mut Vec<Command>) {
        self.parking += 1;
        self.parked += 1;
        self.lanes.lane_mut(entry.lane).away.insert(entry.position);
        let Entry { delivery, position, calls, burnt, .. } = entry;
        commands
            .push(Command::Park { at, parked: Box::new(Parked { v: V1, position, attempts: calls, burnt, delivery }) });
        if mutant::is(Mutant::ParksEarly) {
            self.progress[at.source as usize].finish(at.offset);
        }
    }

    /// Parks lanes that cannot move, the oldest first, where they take up the room of those that can.
    pub(super) fn relieve(&mut self, gate: &mut Gate, now: Now, commands: &mut Vec<Command>) {
        if self.draining || gate.is_shut(now.instant) || mutant::is(Mutant::NeverParks) {
            return;
        }
        for source in Source::ALL {
            let number = source as usize;
            if !self.is_crowded(source, self.policy.crowded) || self.park_at[number].is_some_and(|at| now.instant < at)
            {
                continue;
            }
            self.park_at[number] = Some(now.instant + PARK_EVERY[number]);
            let mut stuck: Vec<(At, LaneId)> = self
                .lanes
                .stuck(now.instant + STUCK)
                .filter_map(|lane| Some((self.lanes.queue(lane).find(|at| at.source == source)?, lane)))
                .collect();
            stuck.sort_unstable();
            let Load { records, bytes } = self.policy.crowded;
            let relieved = Load { records: records / 2, bytes: bytes / 2 };
            for (_, lane) in stuck {
                if !self.is_crowded(source, relieved) {
                    break;
                }
                for at in self.lanes.take_all(lane) {
                    let entry = self.take_out(at);
                    self.park(at, entry, commands);
                }
            }
        }
    }

    fn is_crowded(&self, source: Source, limit: Load) -> bool {
        let Load { records, bytes } = self.load[source as usize];
        records >= limit.records || bytes >= limit.bytes || self.progress[source as usize].span() >= SPAN_MAX / 2
    }
}
