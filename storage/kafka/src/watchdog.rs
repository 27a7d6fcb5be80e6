//! Notices partitions that have fallen silent though there is more to read, and has them taken anew. A client that stops
//! fetching a partition reports no error: nothing else would tell.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_storage::log::Lease;
use tracing::{debug, warn};

use crate::consumer::{Membership, Phase, Request, State};
use crate::topics::TopicInfo;
use crate::{metrics, read};

const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// Longer than a rebalance takes, and than a broker takes to start again.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// A lease whose partition may flow, and one past the last record read of it.
type Place = (Lease, u64);

/// Until the membership ends.
pub(crate) fn run(me: &Arc<Membership>) {
    let mut silence = Silence::default();
    loop {
        me.wait(LOOK_INTERVAL, |state| state.ended);
        if me.peek(|state| state.ended) {
            return;
        }
        for place in silence.too_long(me.peek(flowing), Instant::now()) {
            look_at(me, place);
        }
    }
}

fn flowing(state: &mut State) -> Vec<Place> {
    let flowing = state.owned.values().filter(|owned| owned.phase == Phase::Held && !owned.paused);
    flowing.map(|owned| (owned.lease.clone(), owned.position)).collect()
}

/// Has the partition taken anew if there is more to read.
fn look_at(me: &Membership, (lease, position): Place) {
    let (name, number) = (me.shared.name(&lease.partition.topic), lease.partition.partition);
    let topic = TopicInfo { name: name.into(), partitions: number + 1 };
    match read::all_bounds(&me.shared, &[&topic]) {
        Ok(bounds) if bounds[0][number as usize].1 > position => {
            let end = bounds[0][number as usize].1;
            warn!(partition = %lease.partition, position, end, "nothing comes though there is more: taking the partition anew");
            metrics::record_silence(&lease.partition.topic);
            me.with(|state| state.requests.push(Request::Retake(lease)));
        }
        Ok(_) => {}
        // Then it has a reason to be silent.
        Err(error) => debug!(partition = %lease.partition, %error, "how far a silent partition goes is not known"),
    }
}

/// Since when each partition stands where it is.
#[derive(Default)]
struct Silence {
    standing: HashMap<Lease, (u64, Instant)>,
}

impl Silence {
    /// Those of `flowing` that have not moved for too long. Each is told of once in that time.
    fn too_long(&mut self, flowing: Vec<Place>, now: Instant) -> Vec<Place> {
        let mut standing = HashMap::with_capacity(flowing.len());
        let mut silent = Vec::new();
        for (lease, position) in flowing {
            let known = self.standing.remove(&lease).filter(|(at, _)| *at == position);
            let mut since = known.map_or(now, |(_, since)| since);
            if now.duration_since(since) >= SILENT_MAX {
                silent.push((lease.clone(), position));
                since = now;
            }
            standing.insert(lease, (position, since));
        }
        self.standing = standing;
        silent
    }
}

#[cfg(test)]
mod tests {
    use chat4all_proto::{Topic, TopicPartition};

    use super::*;

    #[test]
    fn a_partition_is_silent_when_it_has_not_moved_for_a_minute() {
        let lease = |epoch| Lease { partition: TopicPartition::new(Topic::Messages, 0), epoch };
        let begin = Instant::now();
        let mut silence = Silence::default();
        let mut check = |second: u64, epoch: u64, position: u64, expected: bool| {
            let now = begin + Duration::from_secs(second);
            let silent = silence.too_long(vec![(lease(epoch), position)], now);
            assert_eq!(!silent.is_empty(), expected, "at {second} s");
        };
        check(0, 1, 7, false);
        check(59, 1, 7, false);
        check(60, 1, 7, true);
        check(75, 1, 7, false); // told of a moment ago
        check(90, 1, 8, false); // it moves
        check(149, 1, 8, false);
        check(151, 2, 8, false); // another lease begins anew
        check(211, 2, 8, true);
        assert!(silence.too_long(vec![], begin + Duration::from_secs(300)).is_empty(), "paused or gone");
    }
}
