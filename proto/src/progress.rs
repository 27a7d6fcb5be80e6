//! How far a partition is worked off: the watermark below which everything is finished, and the offsets above it that
//! are finished too. The latter travel in the commit's metadata, so that a takeover does not do them again.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

/// Widest distance from the watermark to the highest received offset: a bitmap of it fits the 4,096 bytes that Kafka
/// allows for a commit's metadata.
pub const SPAN_MAX: u64 = 16_384;

/// Received and finished offsets of one partition, from one assignment of it to the next.
///
/// Invariants: the watermark never goes back; it never passes an offset that was received and is not finished.
/// Offsets may have gaps.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Received at or above the watermark, ascending, with whether each is finished.
    received: VecDeque<(u64, bool)>,
    /// One past the highest offset ever received, or where the assignment started.
    next: u64,
    /// Finished by an earlier holder of the partition, ascending.
    inherited: FinishedSet,
}

impl Progress {
    /// Starts from a commit: `offset` is its watermark, `finished` what its metadata said.
    pub fn resume(offset: u64, finished: FinishedSet) -> Self {
        Self { received: VecDeque::new(), next: offset, inherited: finished }
    }

    /// Notes that `offset` came in. False if there is nothing to do for it: it came before, or an earlier holder of
    /// the partition finished it.
    pub fn receive(&mut self, offset: u64) -> bool {
        if offset < self.next {
            return false;
        }
        self.next = offset + 1;
        let done = self.inherited.contains(offset);
        if !(done && self.received.is_empty()) {
            self.received.push_back((offset, done));
        }
        !done
    }

    /// Notes that nothing is left to do for `offset`. Unknown offsets change nothing.
    pub fn finish(&mut self, offset: u64) {
        if let Ok(index) = self.received.binary_search_by_key(&offset, |&(offset, _)| offset) {
            self.received[index].1 = true;
        }
        while let Some((_, true)) = self.received.front() {
            self.received.pop_front();
        }
    }

    /// Everything below is finished: what a commit writes.
    pub fn watermark(&self) -> u64 {
        self.received.front().map_or(self.next, |&(offset, _)| offset)
    }

    /// Distance from the watermark to the highest received offset.
    pub fn span(&self) -> u64 {
        self.next - self.watermark()
    }

    /// Received and not finished.
    pub fn unfinished(&self) -> usize {
        self.received.iter().filter(|(_, done)| !done).count()
    }

    /// The finished offsets above the watermark: what a commit's metadata holds. Those an earlier holder finished and
    /// this one has not received yet are among them.
    pub fn finished_above(&self) -> FinishedSet {
        let received = self.received.iter().filter(|(_, done)| *done).map(|&(offset, _)| offset);
        let inherited = self.inherited.0.iter().copied().filter(|&offset| offset >= self.next);
        FinishedSet(received.chain(inherited).collect())
    }
}

/// Finished offsets above a watermark, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FinishedSet(Vec<u64>);

/// Commit metadata that this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("commit metadata is not a finished set")]
pub struct Unreadable;

impl FinishedSet {
    /// Takes offsets in any order.
    pub fn from_offsets(offsets: impl IntoIterator<Item = u64>) -> Self {
        let mut offsets: Vec<u64> = offsets.into_iter().collect();
        offsets.sort_unstable();
        offsets.dedup();
        Self(offsets)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn contains(&self, offset: u64) -> bool {
        self.0.binary_search(&offset).is_ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
    }

    /// As `1:` + base64 of a bitmap whose bit `i` (lowest bit of the first byte first) stands for `watermark + i`;
    /// empty for the empty set. Offsets further than `SPAN_MAX` above the watermark are left out: they would merely be
    /// done again.
    pub fn encode(&self, watermark: u64) -> String {
        let mut bitmap: Vec<u8> = Vec::new();
        for &offset in &self.0 {
            let Some(bit) = offset.checked_sub(watermark).filter(|&bit| bit < SPAN_MAX) else { continue };
            let (byte, mask) = ((bit / 8) as usize, 1 << (bit % 8));
            if bitmap.len() <= byte {
                bitmap.resize(byte + 1, 0);
            }
            bitmap[byte] |= mask;
        }
        if bitmap.is_empty() { String::new() } else { format!("1:{}", BASE64.encode(bitmap)) }
    }

    /// Reads what `encode` wrote for the same watermark.
    pub fn decode(metadata: &str, watermark: u64) -> Result<Self, Unreadable> {
        if metadata.is_empty() {
            return Ok(Self::default());
        }
        let bitmap = metadata.strip_prefix("1:").and_then(|text| BASE64.decode(text).ok()).ok_or(Unreadable)?;
        let offsets = bitmap.iter().zip(0u64..).flat_map(|(byte, index)| {
            (0..8u64).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| watermark + index * 8 + bit)
        });
        Ok(Self(offsets.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_watermark_waits_for_the_lowest_unfinished_and_jumps_over_gaps() {
        let mut progress = Progress::resume(10, FinishedSet::default());
        assert_eq!(progress.watermark(), 10);
        for offset in [12, 13, 20] {
            assert!(progress.receive(offset));
        }
        assert!(!progress.receive(13), "came before");
        progress.finish(13);
        assert_eq!((progress.watermark(), progress.span()), (12, 9));
        assert_eq!(progress.finished_above(), FinishedSet(vec![13]));
        progress.finish(12);
        assert_eq!(progress.watermark(), 20);
        progress.finish(20);
        assert_eq!((progress.watermark(), progress.span()), (21, 0));
    }

    #[test]
    fn what_an_earlier_holder_finished_is_not_done_again_and_not_forgotten() {
        let mut progress = Progress::resume(5, FinishedSet(vec![6, 8]));
        assert!(progress.receive(5));
        assert!(!progress.receive(6));
        assert_eq!(progress.finished_above(), FinishedSet(vec![6, 8]), "8 was not received yet");
        progress.finish(5);
        assert_eq!(progress.watermark(), 7);
        assert!(progress.receive(7));
        progress.finish(7);
        assert!(!progress.receive(8));
        assert_eq!(progress.watermark(), 9);
    }

    #[test]
    fn a_full_span_fits_the_metadata_that_kafka_allows() {
        let set = FinishedSet((1..SPAN_MAX).collect());
        let metadata = set.encode(0);
        assert!(metadata.len() <= 4_096, "{}", metadata.len());
        assert_eq!(FinishedSet::decode(&metadata, 0), Ok(set));
        assert_eq!(FinishedSet::decode("2:AA", 0), Err(Unreadable));
    }

    proptest! {
        #[test]
        fn a_takeover_finds_exactly_what_was_left(
            gaps in prop::collection::vec(1u64..4, 1..200),
            done in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let mut progress = Progress::resume(100, FinishedSet::default());
            let mut offset = 99;
            let mut open = std::collections::BTreeSet::new();
            for gap in gaps {
                offset += gap;
                progress.receive(offset);
                open.insert(offset);
            }
            let all: Vec<u64> = open.iter().copied().collect();
            for index in done {
                let offset = *index.get(&all);
                progress.finish(offset);
                open.remove(&offset);
            }
            let watermark = progress.watermark();
            let finished = FinishedSet::decode(&progress.finished_above().encode(watermark), watermark).unwrap();
            let mut successor = Progress::resume(watermark, finished);
            let left: Vec<u64> =
                all.iter().copied().filter(|&offset| offset >= watermark && successor.receive(offset)).collect();
            prop_assert_eq!(left, open.into_iter().collect::<Vec<_>>());
        }
    }
}
