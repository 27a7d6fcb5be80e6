//! Events on their way from an adapter's poll thread to whoever consumes: a bounded channel, and what waits for room in
//! it. The poll thread never waits for the consumer; it stops fetching while something waits. For adapters.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Event, Lease, Record};

/// Events that a subscription's channel holds. Their bytes are bounded too.
pub const EVENTS_MAX: usize = 8;
/// The most records that one `Records` event holds.
pub const RECORDS_MAX: usize = 200;
/// Bytes of values after which a `Records` event takes no further record.
pub const RECORDS_BYTES_MAX: usize = 1_024 * 1_024;
/// Bytes of values that are in the channel, apart from the event that crosses this.
const WAITING_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// The sending half of a subscription's events, in their order.
pub struct Outgoing {
    channel: mpsc::Sender<Event>,
    waiting: VecDeque<Event>,
    /// Bytes of the events in the channel, oldest first, and their sum.
    untaken: (VecDeque<usize>, usize),
}

impl Outgoing {
    pub fn new(channel: mpsc::Sender<Event>) -> Self {
        Self { channel, waiting: VecDeque::new(), untaken: (VecDeque::new(), 0) }
    }

    /// Nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// Whether everything has found room.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn push(&mut self, event: Event) {
        self.waiting.push_back(event);
    }

    /// Adds a record to the last event if that is of its lease and not full, or begins another.
    pub fn push_record(&mut self, lease: &Lease, record: Record) {
        if let Some(last @ Event::Records { .. }) = self.waiting.back_mut()
            && bytes(last) < RECORDS_BYTES_MAX
            && let Event::Records { lease: last, records } = last
            && last == lease
            && records.len() < RECORDS_MAX
        {
            return records.push(Arc::new(record));
        }
        self.waiting.push_back(Event::Records { lease: lease.clone(), records: vec![Arc::new(record)] });
    }

    /// Takes back the records under `leases` that found no room yet.
    pub fn forget(&mut self, leases: &[Lease]) {
        self.waiting.retain(|event| !matches!(event, Event::Records { lease, .. } if leases.contains(lease)));
    }

    /// Hands on what there is room for. False if something still waits: the consumer is behind, or gone.
    pub fn flush(&mut self) -> bool {
        while let Some(event) = self.waiting.pop_front() {
            let bytes = bytes(&event);
            let unsent = if self.has_room() { self.channel.try_send(event) } else { Err(TrySendError::Full(event)) };
            match unsent {
                Ok(()) => {
                    self.untaken.0.push_back(bytes);
                    self.untaken.1 += bytes;
                }
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    return false;
                }
            }
        }
        true
    }

    fn has_room(&mut self) -> bool {
        let (sizes, sum) = &mut self.untaken;
        let untaken = self.channel.max_capacity() - self.channel.capacity();
        while sizes.len() > untaken {
            *sum -= sizes.pop_front().unwrap_or(0);
        }
        *sum < WAITING_BYTES_MAX
    }
}

fn bytes(event: &Event) -> usize {
    match event {
        Event::Records { records, .. } => records.iter().map(|record| record.value.len()).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::log::RecordId;
    use chat4all_proto::{Generation, Key, Timestamp, Topic, TopicPartition};

    use super::*;

    fn lease(epoch: u64) -> Lease {
        Lease { partition: TopicPartition::new(Topic::Messages, 0), epoch }
    }

    fn record(offset: u64, bytes: usize) -> Record {
        Record {
            offset,
            appended_at: Timestamp::from_millis(0),
            key: Key::raw("k"),
            id: RecordId { uuid: uuid::Uuid::nil(), generation: Generation(0) },
            value: vec![b'x'; bytes].into(),
            traceparent: None,
        }
    }

    fn counts(received: &mut mpsc::Receiver<Event>) -> Vec<usize> {
        let mut counts = Vec::new();
        while let Ok(event) = received.try_recv() {
            counts.push(match event {
                Event::Records { records, .. } => records.len(),
                _ => 0,
            });
        }
        counts
    }

    #[test]
    fn records_of_a_lease_travel_together_within_bounds() {
        let (channel, mut received) = mpsc::channel(EVENTS_MAX);
        let mut events = Outgoing::new(channel);
        (0..250).for_each(|offset| events.push_record(&lease(1), record(offset, 1)));
        events.push_record(&lease(2), record(0, 1_100_000));
        events.push_record(&lease(2), record(1, 1));
        assert!(events.flush());
        assert_eq!(counts(&mut received), [200, 50, 1, 1]);
    }

    #[test]
    fn what_finds_no_room_waits_or_is_forgotten() {
        let (channel, mut received) = mpsc::channel(1);
        let mut events = Outgoing::new(channel);
        events.push(Event::Lost(vec![]));
        events.push_record(&lease(1), record(0, 1));
        events.push_record(&lease(2), record(0, 1));
        assert!(!events.flush());
        events.forget(&[lease(1)]);
        assert_eq!(counts(&mut received), [0]);
        assert!(events.flush());
        assert_eq!(counts(&mut received), [1]);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (channel, mut received) = mpsc::channel(EVENTS_MAX);
        let mut events = Outgoing::new(channel);
        (0..4).for_each(|offset| events.push_record(&lease(offset), record(offset, 5 * 1_024 * 1_024)));
        assert!(!events.flush());
        assert_eq!(counts(&mut received), [1, 1]);
        assert!(events.flush());
    }
}
