//! Randomness from a seed, and what the router writes.

use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::envelope::V1;
use chat4all_proto::{Content, DeliveryId, Generation, MessageId, Outbound, Timestamp};
use uuid::Uuid;

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to but not including `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A record of the outbound topic.
pub struct Written {
    pub offset: u64,
    /// Its place in the order accepted.
    pub index: usize,
    pub delivery: Arc<Outbound>,
}

impl Written {
    pub fn id(&self) -> (Uuid, Generation) {
        (self.delivery.delivery_id.as_uuid(), self.delivery.generation)
    }
}

/// 500 to 1,500 deliveries in 40 lanes. The router crashes now and then before its commit and writes its last records
/// again, under a new epoch. Or it only hung: then it still writes what it had on its way, a few records, between those
/// of the new one. Offsets have gaps.
pub fn write(random: &mut Random, begin: Timestamp) -> Vec<Written> {
    let deliveries: Vec<Outbound> =
        (0..500 + random.below(1_000)).map(|index| delivery(index, random, begin)).collect();
    let (mut log, mut offset, mut epoch, mut committed, mut next) = (Vec::new(), 0, 1, 0, 0);
    // What a hung router still has on its way.
    let mut late = 0..0;
    while next < deliveries.len() {
        let woken = if random.below(3) == 0 { late.next() } else { None };
        let (index, router_epoch) = woken.map_or((next, epoch), |index| (index, epoch - 1));
        offset += 1 + u64::from(random.below(10) == 0);
        let delivery = Arc::new(Outbound { router_epoch, ..deliveries[index].clone() });
        log.push(Written { offset, index, delivery });
        if router_epoch < epoch {
            continue;
        }
        next += 1;
        if random.below(60) == 0 {
            committed = next;
        }
        if random.below(100) == 0 {
            late = next..(next + random.below(20) as usize).min(deliveries.len());
            (epoch, next) = (epoch + 1, committed);
        }
    }
    log
}

fn delivery(index: u64, random: &mut Random, begin: Timestamp) -> Outbound {
    let lifetime =
        if random.below(15) == 0 { Duration::from_secs(random.below(30)) } else { Duration::from_secs(86_400) };
    Outbound {
        v: V1,
        tenant: Default::default(),
        delivery_id: DeliveryId::from_uuid(Uuid::from_u128(u128::from(index) + 1)),
        generation: Generation(0),
        router_epoch: 0,
        message_id: MessageId::from_uuid(Uuid::from_u128(u128::from(index) + 1)),
        conversation_id: format!("conversation {}", random.below(40)).parse().expect("a conversation"),
        to: "hook:http://x.test/".parse().expect("an address"),
        content: Content::Text { text: "hi".into() },
        reply_to: None,
        metadata: Default::default(),
        accepted_at: begin,
        expires_at: begin.saturating_add(lifetime),
    }
}
