//! Statuses and the one order they have, which makes the order of arrival unimportant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::Generation;

/// Where one delivery stands, lowest rank first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// Routed; waits in its lane.
    Queued,
    /// An attempt has been under way for a while.
    Sending,
    /// The last attempt failed; another will follow.
    Retrying,
    /// The answer was lost, and the channel cannot tell a repeat.
    Unknown,
    /// The provider took it.
    Sent,
    Cancelled,
    Expired,
    /// In the dead letters, with a reason.
    Failed,
    Delivered,
    Read,
}

impl DeliveryStatus {
    pub const ALL: [DeliveryStatus; 10] = [
        Self::Queued,
        Self::Sending,
        Self::Retrying,
        Self::Unknown,
        Self::Sent,
        Self::Cancelled,
        Self::Expired,
        Self::Failed,
        Self::Delivered,
        Self::Read,
    ];

    /// Its place in the order, from 0.
    pub const fn rank(self) -> u8 {
        self as u8
    }

    pub fn from_rank(rank: u8) -> Option<Self> {
        Self::ALL.get(usize::from(rank)).copied()
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Retrying => "retrying",
            Self::Unknown => "unknown",
            Self::Sent => "sent",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }

    /// Whether we do nothing more for the delivery. `Sent` is an end for us, though a receipt may still raise it.
    pub const fn is_end(self) -> bool {
        match self {
            Self::Queued | Self::Sending | Self::Retrying => false,
            Self::Unknown
            | Self::Sent
            | Self::Cancelled
            | Self::Expired
            | Self::Failed
            | Self::Delivered
            | Self::Read => true,
        }
    }
}

impl fmt::Display for DeliveryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeliveryStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|status| status.as_str()).collect();
            format!("is not a delivery status; it is one of {}", known.join(", "))
        })
    }
}

/// Decides between two reports about one delivery: the greater one wins, whichever came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Precedence {
    pub generation: Generation,
    pub status: DeliveryStatus,
    /// 0 while no attempt was made.
    pub attempt: u32,
}

/// Where a message stands, seen over all its deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageStatus {
    /// On the log, not yet routed.
    Accepted,
    Queued,
    Sending,
    Retrying,
    Unknown,
    Sent,
    Cancelled,
    Expired,
    Failed,
    Delivered,
    Read,
    /// All deliveries have ended, not all alike.
    Partial,
    /// It came from the other side.
    Received,
}

impl MessageStatus {
    /// Sums up the deliveries of a message with `addresses` addresses, each with whether it has ended: the lowest status
    /// while one is on its way, then the common end or `Partial`. A delivery nobody has reported yet counts as queued once
    /// another one is known.
    pub fn of(deliveries: impl IntoIterator<Item = (DeliveryStatus, bool)>, addresses: usize) -> Self {
        let mut known = 0;
        let mut lowest: Option<DeliveryStatus> = None;
        let mut lowest_moving: Option<DeliveryStatus> = None;
        let mut alike = true;
        for (status, has_ended) in deliveries {
            known += 1;
            alike &= lowest.is_none_or(|other| other == status);
            lowest = Some(lowest.map_or(status, |other| other.min(status)));
            if !has_ended {
                lowest_moving = Some(lowest_moving.map_or(status, |other| other.min(status)));
            }
        }
        match (lowest, lowest_moving) {
            (None, _) => Self::Accepted,
            (Some(_), _) if known < addresses => Self::Queued,
            (Some(_), Some(moving)) => moving.into(),
            (Some(end), None) if alike => end.into(),
            (Some(_), None) => Self::Partial,
        }
    }

    /// Whether nothing more is on its way.
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Accepted | Self::Queued | Self::Sending | Self::Retrying)
    }
}

impl From<DeliveryStatus> for MessageStatus {
    fn from(status: DeliveryStatus) -> Self {
        match status {
            DeliveryStatus::Queued => Self::Queued,
            DeliveryStatus::Sending => Self::Sending,
            DeliveryStatus::Retrying => Self::Retrying,
            DeliveryStatus::Unknown => Self::Unknown,
            DeliveryStatus::Sent => Self::Sent,
            DeliveryStatus::Cancelled => Self::Cancelled,
            DeliveryStatus::Expired => Self::Expired,
            DeliveryStatus::Failed => Self::Failed,
            DeliveryStatus::Delivered => Self::Delivered,
            DeliveryStatus::Read => Self::Read,
        }
    }
}

impl fmt::Display for MessageStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::DeliveryStatus::*;
    use super::*;

    #[test]
    fn ranks_follow_the_documented_order_and_read_back() {
        for (rank, status) in DeliveryStatus::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(status.rank()), rank);
            assert_eq!(DeliveryStatus::from_rank(status.rank()), Some(status));
            assert_eq!(status.as_str().parse(), Ok(status));
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
        assert_eq!(DeliveryStatus::from_rank(10), None);
    }

    #[test]
    fn a_message_sums_up_its_deliveries() {
        let check = |deliveries: &[DeliveryStatus], addresses, expected| {
            let deliveries = deliveries.iter().map(|status| (*status, status.is_end()));
            assert_eq!(MessageStatus::of(deliveries.clone(), addresses), expected, "{deliveries:?}");
        };
        check(&[], 2, MessageStatus::Accepted);
        check(&[Delivered], 2, MessageStatus::Queued);
        check(&[Delivered, Retrying], 2, MessageStatus::Retrying);
        check(&[Failed, Queued, Retrying], 3, MessageStatus::Queued);
        check(&[Delivered, Delivered], 2, MessageStatus::Delivered);
        check(&[Delivered, Failed], 2, MessageStatus::Partial);
        check(&[Delivered, Sent], 2, MessageStatus::Partial);
        let awaits_receipt = [(Delivered, true), (Sent, false)];
        assert_eq!(MessageStatus::of(awaits_receipt, 2), MessageStatus::Sent, "until its provider says more");
    }

    #[test]
    fn a_generation_outweighs_a_rank_and_a_rank_an_attempt() {
        let at = |generation, status, attempt| Precedence { generation: Generation(generation), status, attempt };
        assert!(at(1, Queued, 0) > at(0, Read, 9));
        assert!(at(0, Retrying, 1) > at(0, Queued, 5));
        assert!(at(0, Retrying, 2) > at(0, Retrying, 1));
    }
}
