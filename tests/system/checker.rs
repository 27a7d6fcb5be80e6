//! Judges a run by what was answered 202, what the receiver answered 2xx, where each delivery stands on the log, and what
//! every takeover knew. A pure function: `tests` holds it against a wrong log of each kind.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::harness::receiver::Received;

/// A message answered 202. Those of one conversation stand in the order of their 202s.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub message_id: String,
    pub conversation: String,
}

/// A request that the receiver answered 2xx. They stand in the order of the answers.
#[derive(Debug, Clone)]
pub struct Taken {
    pub at: SystemTime,
    pub message_id: String,
    pub delivery_id: String,
}

impl Taken {
    pub fn of(request: &Received) -> Self {
        Self {
            at: request.at,
            message_id: request.data("message_id").to_owned(),
            delivery_id: request.webhook_id.clone(),
        }
    }
}

/// A partition begun anew, as its worker logged it.
#[derive(Debug, Clone)]
pub struct Takeover {
    pub at: SystemTime,
    pub partition: u32,
    pub epoch: u64,
    pub watermark: u64,
    pub finished: BTreeSet<u64>,
}

/// Where a delivery's (first) outbound record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub partition: u32,
    pub offset: u64,
}

#[derive(Debug, Default)]
pub struct Evidence {
    pub accepted: Vec<Accepted>,
    pub taken: Vec<Taken>,
    pub takeovers: Vec<Takeover>,
    pub positions: HashMap<String, Position>,
    pub parked: Parked,
}

/// What was parked is sent again because a copy of it was unfinished. There may be several.
#[derive(Debug, Default)]
pub struct Parked {
    /// Of the parked topic.
    pub takeovers: Vec<Takeover>,
    pub copies: HashMap<String, Vec<Position>>,
}

/// What is wrong, and how many duplicates there were.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Ids answered 202 and never answered 2xx.
    pub lost: Vec<String>,
    /// Pairs of ids of one conversation: the first was accepted earlier and arrived later.
    pub reordered: Vec<(String, String)>,
    /// Second and further 2xx.
    pub duplicates: usize,
    /// Delivery ids of duplicates that no takeover had to send again.
    pub unexplained: Vec<String>,
}

/// Between a request's arrival and our note of it, and between two processes' stamps.
const CLOCKS_APART: Duration = Duration::from_millis(250);

impl Verdict {
    /// Panics unless nothing was lost or reordered and every duplicate has its reason.
    pub fn must_be_clean(&self) {
        assert!(self.lost.is_empty(), "{} lost: {:?}", self.lost.len(), first(&self.lost));
        assert!(self.reordered.is_empty(), "{} reordered: {:?}", self.reordered.len(), first(&self.reordered));
        let unexplained = &self.unexplained;
        assert!(unexplained.is_empty(), "{} duplicates unexplained: {:?}", unexplained.len(), first(unexplained));
    }
}

fn first<T>(list: &[T]) -> &[T] {
    &list[..list.len().min(5)]
}

pub fn judge(evidence: &Evidence) -> Verdict {
    let mut first_taken: HashMap<&str, usize> = HashMap::new();
    let mut times: HashMap<&str, Vec<SystemTime>> = HashMap::new();
    for (place, taken) in evidence.taken.iter().enumerate() {
        first_taken.entry(&taken.message_id).or_insert(place);
        times.entry(&taken.delivery_id).or_default().push(taken.at);
    }
    let mut verdict = Verdict::default();
    let mut latest: HashMap<&str, (usize, &str)> = HashMap::new();
    for Accepted { message_id, conversation } in &evidence.accepted {
        let Some(&place) = first_taken.get(message_id.as_str()) else {
            verdict.lost.push(message_id.clone());
            continue;
        };
        match latest.get(conversation.as_str()) {
            Some(&(earlier, other)) if earlier > place => {
                verdict.reordered.push((other.to_owned(), message_id.clone()));
            }
            _ => {
                latest.insert(conversation, (place, message_id));
            }
        }
    }
    for (delivery, times) in times {
        for pair in times.windows(2) {
            verdict.duplicates += 1;
            if !explained(evidence, delivery, pair[0], pair[1]) {
                verdict.unexplained.push(delivery.to_owned());
            }
        }
    }
    verdict
}

/// Whether a lease that began between two 2xx of a delivery began with the delivery, or a copy of it, unfinished.
fn explained(evidence: &Evidence, delivery: &str, before: SystemTime, again: SystemTime) -> bool {
    let Evidence { takeovers, positions, parked, .. } = evidence;
    let copies = parked.copies.get(delivery).into_iter().flatten();
    positions.get(delivery).is_some_and(|position| began_unfinished(takeovers, *position, before, again))
        || copies.into_iter().any(|copy| began_unfinished(&parked.takeovers, *copy, before, again))
}

fn began_unfinished(takeovers: &[Takeover], position: Position, before: SystemTime, again: SystemTime) -> bool {
    takeovers.iter().any(|takeover| {
        takeover.partition == position.partition
            && takeover.at + CLOCKS_APART >= before
            && takeover.at <= again + CLOCKS_APART
            && takeover.watermark <= position.offset
            && !takeover.finished.contains(&position.offset)
    })
}

/// What the receiver answered 2xx.
pub fn taken(requests: &[Received]) -> Vec<Taken> {
    requests.iter().filter(|request| request.taken()).map(Taken::of).collect()
}

/// How many ids there are twice: no message may be accepted as two.
pub fn doubled(accepted: &[Accepted]) -> usize {
    let ids: HashSet<_> = accepted.iter().map(|accepted| &accepted.message_id).collect();
    accepted.len() - ids.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_300_000_000 + ms)
    }

    /// Two conversations, a1 a2 a3 and b1 b2; `taken` are (time in ms, message); offsets 10.. in the order of `ORDER`.
    /// The partition was taken over at 10,000 ms at watermark 12, with 13 finished.
    fn check(accepted: &[&str], taken: &[(u64, &str)]) -> Verdict {
        judge(&evidence(accepted, taken))
    }

    fn evidence(accepted: &[&str], taken: &[(u64, &str)]) -> Evidence {
        const ORDER: [&str; 5] = ["a1", "b1", "a2", "b2", "a3"];
        let delivery = |message: &str| format!("dlv-{message}");
        let takeover = |ms, epoch, watermark, finished: &[u64]| Takeover {
            at: at(ms),
            partition: 1,
            epoch,
            watermark,
            finished: finished.iter().copied().collect(),
        };
        Evidence {
            accepted: accepted
                .iter()
                .map(|id| Accepted { message_id: (*id).into(), conversation: id[..1].into() })
                .collect(),
            taken: taken
                .iter()
                .map(|&(ms, id)| Taken { at: at(ms), message_id: id.into(), delivery_id: delivery(id) })
                .collect(),
            takeovers: vec![takeover(0, 1, 0, &[]), takeover(10_000, 2, 12, &[13])],
            positions: (10..)
                .zip(ORDER)
                .map(|(offset, id)| (delivery(id), Position { partition: 1, offset }))
                .collect(),
            ..Evidence::default()
        }
    }

    const ALL: [&str; 5] = ["a1", "b1", "a2", "b2", "a3"];

    #[test]
    fn a_right_log_is_clean() {
        let verdict = check(&ALL, &[(5_000, "b1"), (5_001, "a1"), (5_002, "a2"), (5_003, "b2"), (5_004, "a3")]);
        assert_eq!(verdict, Verdict::default());
        verdict.must_be_clean();
    }

    #[test]
    fn one_lost_is_found() {
        let verdict = check(&ALL, &[(5_000, "a1"), (5_001, "b1"), (5_002, "a2"), (5_003, "a3")]);
        assert_eq!(verdict.lost, ["b2"]);
    }

    #[test]
    fn one_reordered_is_found() {
        let verdict = check(&ALL, &[(5_000, "a1"), (5_001, "b1"), (5_002, "a3"), (5_003, "a2"), (5_004, "b2")]);
        assert_eq!(verdict.reordered, [("a2".to_owned(), "a3".to_owned())]);
    }

    #[test]
    fn the_order_of_two_conversations_is_nobodys_business() {
        let verdict = check(&ALL, &[(5_000, "b1"), (5_001, "b2"), (5_002, "a1"), (5_003, "a2"), (5_004, "a3")]);
        assert_eq!(verdict, Verdict::default());
    }

    #[test]
    fn order_is_judged_by_the_first_2xx() {
        let times = [(5_000, "a1"), (5_001, "a2"), (5_002, "a3"), (5_003, "b1"), (5_004, "b2"), (10_100, "a2")];
        let verdict = check(&ALL, &times);
        assert_eq!((verdict.reordered.len(), verdict.duplicates, verdict.unexplained.len()), (0, 1, 0));
    }

    #[test]
    fn a_duplicate_below_the_watermark_of_its_takeover_is_unexplained() {
        let times = [(5_000, "a1"), (5_001, "a2"), (5_002, "a3"), (5_003, "b1"), (5_004, "b2"), (10_100, "b1")];
        assert_eq!(check(&ALL, &times).unexplained, ["dlv-b1"]);
    }

    #[test]
    fn a_duplicate_below_it_is_explained_by_an_unfinished_copy_alone() {
        let times = [(5_000, "a1"), (5_001, "a2"), (5_002, "a3"), (5_003, "b1"), (5_004, "b2"), (10_100, "b1")];
        let mut evidence = evidence(&ALL, &times);
        let finished = Position { partition: 1, offset: 3 };
        evidence.parked.takeovers = vec![Takeover { watermark: 4, ..evidence.takeovers[1].clone() }];
        evidence.parked.copies = HashMap::from([("dlv-b1".to_owned(), vec![finished])]);
        assert_eq!(judge(&evidence).unexplained, ["dlv-b1"]);
        let unfinished = Position { partition: 1, offset: 4 };
        evidence.parked.copies = HashMap::from([("dlv-b1".to_owned(), vec![finished, unfinished])]);
        assert_eq!(judge(&evidence), Verdict { duplicates: 1, ..Verdict::default() });
    }

    #[test]
    fn a_duplicate_in_the_finished_set_of_its_takeover_is_unexplained() {
        let times = [(5_000, "a1"), (5_001, "a2"), (5_002, "a3"), (5_003, "b1"), (5_004, "b2"), (10_100, "b2")];
        assert_eq!(check(&ALL, &times).unexplained, ["dlv-b2"]);
    }

    #[test]
    fn a_duplicate_without_a_takeover_between_is_unexplained() {
        let times = [(5_000, "a1"), (5_001, "a2"), (5_002, "a3"), (5_003, "b1"), (5_004, "b2"), (6_000, "a2")];
        assert_eq!(check(&ALL, &times).unexplained, ["dlv-a2"]);
        let times = [(11_000, "a1"), (11_001, "a2"), (11_002, "a3"), (11_003, "b1"), (11_004, "b2"), (12_000, "a2")];
        assert_eq!(check(&ALL, &times).unexplained, ["dlv-a2"]);
    }

    #[test]
    fn a_third_2xx_needs_a_takeover_of_its_own() {
        let times = [
            (5_000, "a1"),
            (5_001, "a2"),
            (10_300, "a2"),
            (10_600, "a2"),
            (10_700, "a3"),
            (10_701, "b1"),
            (10_702, "b2"),
        ];
        let verdict = check(&ALL, &times);
        assert_eq!((verdict.duplicates, verdict.unexplained.len()), (2, 1));
    }

    #[test]
    fn a_delivery_that_is_not_on_the_log_is_unexplained() {
        let mut times: Vec<_> = ALL.iter().map(|id| (5_000, *id)).collect();
        times.extend([(5_000, "c1"), (10_100, "c1")]);
        assert_eq!(check(&ALL, &times).unexplained, ["dlv-c1"]);
    }

    #[test]
    fn one_id_for_two_messages_is_found() {
        let accepted = |id: &str| Accepted { message_id: id.into(), conversation: "a".into() };
        assert_eq!(doubled(&[accepted("a1"), accepted("a2"), accepted("a1")]), 1);
    }
}
