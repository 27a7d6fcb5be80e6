//! Topics of the log, record keys, and which partition a key belongs to.

use std::fmt;

use crate::ids::{ChannelName, ConversationId, TenantId};

/// Partitions of every stream topic, unless configured otherwise.
pub const PARTITIONS_DEFAULT: u32 = 6;

/// A topic of the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Accepted messages. Key: tenant and conversation.
    Messages,
    /// Copies to be carried by one channel. Key: tenant and conversation, partition by partition as in `Messages`.
    Outbound(ChannelName),
    /// What of `Outbound` waits: lanes that cannot move are diverted here, partition by partition as there.
    Parked(ChannelName),
    /// Status events. Key: tenant and conversation.
    StatusUpdates,
    /// Deliveries that failed for good. Key: tenant and conversation.
    DeadLetters,
    /// Messages that came from the channels' side. Key: tenant and conversation.
    Inbound,
    /// Operators' settings: keyed latest values, one partition, read whole by every process.
    Control,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topic::Messages => f.write_str("messages"),
            Topic::Outbound(channel) => write!(f, "{channel}-outbound"),
            Topic::Parked(channel) => write!(f, "{channel}-parked"),
            Topic::StatusUpdates => f.write_str("status-updates"),
            Topic::DeadLetters => f.write_str("dead-letters"),
            Topic::Inbound => f.write_str("inbound"),
            Topic::Control => f.write_str("control"),
        }
    }
}

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Topic,
    pub partition: u32,
}

impl TopicPartition {
    pub fn new(topic: Topic, partition: u32) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What keeps records together: records of one key share a partition and keep their order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// A tenant id holds no `/`, so no two pairs share a key.
    pub fn of(tenant: &TenantId, conversation: &ConversationId) -> Self {
        Self(format!("{tenant}/{conversation}"))
    }

    /// Keeps the receipts for one message of a provider together. A channel's name holds no `/`, and no tenant's key has
    /// two of them before the conversation.
    pub fn of_receipt(channel: &ChannelName, provider_id: &str) -> Self {
        Self(format!("//{channel}/{provider_id}"))
    }

    /// A key of a keyed latest-value topic, or one read from the log.
    pub fn raw(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition of `partitions` that Kafka's own clients would choose (`murmur2_random` with a key).
    /// Panics if `partitions` is 0.
    pub fn partition(&self, partitions: u32) -> u32 {
        (murmur2(self.0.as_bytes()) & 0x7fff_ffff) % partitions
    }
}

/// MurmurHash 2 as in Kafka's Java client (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).expect("a key is shorter than 4 GiB");
    let mut hash = 0x9747_b28c ^ length;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().expect("chunks_exact gives four bytes"));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_agrees_with_kafka() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(text.as_bytes()), hash as u32, "{text}");
        }
    }

    #[test]
    fn conversations_spread_over_all_partitions() {
        let mut seen = [0u32; 6];
        for n in 0..600 {
            let conversation = format!("order-{n}").parse().unwrap();
            seen[Key::of(&TenantId::default(), &conversation).partition(6) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
    }
}
