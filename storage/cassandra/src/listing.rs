//! Where listings lie: the name, the buckets and the places of each. Knows no query.
//!
//! A listing of deliveries or dead letters is a *run*: (status, channel) or (reason, channel). A filter names some runs,
//! and the newest of all these make a page, so that each status of a delivery costs one place only. A place is never
//! moved: a delivery that went on leaves its place under the former status, and the reader skips it.

use chat4all_proto::envelope::Reason;
use chat4all_proto::{ChannelName, ConversationId, DeliveryStatus};
use chat4all_storage::status::rows::{Listing, Position};
use chat4all_storage::status::{DeadLetterFilter, Filter};

/// The name of a listing within its tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(pub(crate) String);

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

const ALL: &str = "all";
const CONVERSATION: &str = "conversation/";
const DELIVERIES: &str = "deliveries/";
const DEAD_LETTERS: &str = "dead-letters/";

impl Name {
    /// Of all messages.
    pub(crate) fn all() -> Self {
        Self(ALL.into())
    }

    pub(crate) fn conversation(id: &ConversationId) -> Self {
        Self(format!("{CONVERSATION}{id}"))
    }

    pub(crate) fn deliveries(status: DeliveryStatus, channel: &ChannelName) -> Self {
        Self(format!("{DELIVERIES}{status}/{channel}"))
    }

    /// `reason` as `Reason::as_str`.
    pub(crate) fn dead_letters(reason: &str, channel: &ChannelName) -> Self {
        Self(format!("{DEAD_LETTERS}{reason}/{channel}"))
    }

    /// Whether its places are of deliveries rather than of messages.
    pub(crate) fn is_of_dead_letters(&self) -> bool {
        self.0.starts_with(DEAD_LETTERS)
    }

    /// The partition of a place. Newer places are never in an earlier bucket.
    pub(crate) fn bucket(&self, at_ms: i64) -> i64 {
        at_ms.div_euclid(self.bucket_ms())
    }

    pub(crate) fn bucket_start_ms(&self, bucket: i64) -> i64 {
        bucket.saturating_mul(self.bucket_ms())
    }

    fn bucket_ms(&self) -> i64 {
        if self.0.starts_with(CONVERSATION) { DAY_MS } else { HOUR_MS }
    }
}

/// Where the places of a listing are.
pub(crate) enum Source {
    Names(Vec<Name>),
    /// In all runs of the tenant whose names begin with this.
    Prefix(String),
}

impl Source {
    pub(crate) fn of(listing: Listing<'_>) -> Self {
        match listing {
            Listing::Conversation(_, id) => Self::Names(vec![Name::conversation(id)]),
            Listing::Messages(_, filter) => Self::of_messages(filter),
            Listing::DeadLetters(_, filter) => Self::of_dead_letters(filter),
        }
    }

    fn of_messages(filter: &Filter) -> Self {
        match (filter.status, &filter.channel) {
            (None, None) => Self::Names(vec![Name::all()]),
            (Some(status), Some(channel)) => Self::Names(vec![Name::deliveries(status, channel)]),
            (None, Some(channel)) => {
                Self::Names(DeliveryStatus::ALL.iter().map(|status| Name::deliveries(*status, channel)).collect())
            }
            (Some(status), None) => Self::Prefix(format!("{DELIVERIES}{status}/")),
        }
    }

    fn of_dead_letters(filter: &DeadLetterFilter) -> Self {
        match (filter.reason, &filter.channel) {
            (None, None) => Self::Prefix(DEAD_LETTERS.into()),
            (Some(reason), Some(channel)) => Self::Names(vec![Name::dead_letters(reason.as_str(), channel)]),
            (None, Some(channel)) => {
                Self::Names(Reason::ALL.iter().map(|reason| Name::dead_letters(reason.as_str(), channel)).collect())
            }
            (Some(reason), None) => Self::Prefix(format!("{DEAD_LETTERS}{}/", reason.as_str())),
        }
    }
}

/// Of some runs' next places those that no unread place of any run can precede, newest first. A run that gave `asked`
/// places may have more, all after its last one.
pub(crate) fn in_order(runs: Vec<Vec<Position>>, asked: usize) -> Vec<Position> {
    let horizon = runs.iter().filter(|run| run.len() >= asked).filter_map(|run| run.last().copied()).max();
    let mut places: Vec<Position> = runs.into_iter().flatten().collect();
    Position::newest_first(&mut places);
    places.retain(|place| horizon.is_none_or(|horizon| *place >= horizon));
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn check(runs: &[&[i64]], asked: usize, expected: &[i64]) {
        let place = |at_ms: &i64| Position { at_ms: *at_ms, id: Uuid::nil() };
        let runs = runs.iter().map(|run| run.iter().map(place).collect()).collect();
        let expected: Vec<Position> = expected.iter().map(place).collect();
        assert_eq!(in_order(runs, asked), expected);
    }

    #[test]
    fn runs_are_merged_as_far_as_nothing_unread_can_come_between() {
        check(&[], 2, &[]);
        check(&[&[5, 1], &[]], 3, &[5, 1]);
        check(&[&[9, 8], &[7]], 2, &[9, 8]);
        check(&[&[9, 5], &[7, 6]], 2, &[9, 7, 6]);
        check(&[&[9, 5], &[9, 6]], 3, &[9, 6, 5]);
    }

    #[test]
    fn a_bucket_is_an_hour_or_a_conversations_day() {
        let conversation = Name::conversation(&"all".parse().unwrap());
        for (at_ms, hour, day) in [(0, 0, 0), (HOUR_MS - 1, 0, 0), (HOUR_MS, 1, 0), (DAY_MS, 24, 1), (-1, -1, -1)] {
            assert_eq!((Name::all().bucket(at_ms), conversation.bucket(at_ms)), (hour, day), "at {at_ms}");
        }
    }
}
