//! Randomness from a seed, what the routers write, and what will go wrong.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chat4all_proto::envelope::V1;
use chat4all_proto::{
    ChannelName, Content, DeliveryId, Generation, Key, Message, MessageId, Outbound, Timestamp, Topic,
};
use chat4all_router::fan_out::{Circumstances, fan_out};
use chat4all_storage::log::{Record, RecordId};
use uuid::Uuid;

use super::FAULTS_END_MS;

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

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A record of the outbound topic.
#[derive(Debug)]
pub struct Written {
    pub offset: u64,
    /// Its delivery's place in the order accepted, over all partitions.
    pub index: usize,
    pub delivery: Arc<Outbound>,
}

impl Written {
    pub fn id(&self) -> (Uuid, Generation) {
        (self.delivery.delivery_id.as_uuid(), self.delivery.generation)
    }
}

/// What becomes of a delivery that reaches a provider that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Taken,
    /// Answered with a 500 each time.
    Poison,
    /// Answered with a 500 mostly.
    Moody,
    Rejected,
    Gone,
}

/// How many destinations there are where there are many. The last one is dead for long.
pub const HOSTS: usize = 4;

/// What the routers write on one partition: several hundred messages of 20 conversations to one or two addresses. A router
/// crashes now and then before its commit and writes its last records again, under a new epoch. Or it only hung: then it
/// still writes what it had on its way, between those of the new one. Offsets have gaps.
pub fn write(
    random: &mut Random,
    begin: Timestamp,
    partition: u64,
    hosts: bool,
    fates: &mut Vec<Fate>,
) -> Vec<Written> {
    let count = 200 + random.below(250);
    let messages: Vec<Message> = (0..count).map(|number| message(number, partition, hosts, random, begin)).collect();
    let mut indices: HashMap<DeliveryId, usize> = HashMap::new();
    let (mut log, mut offset, mut epoch, mut committed, mut next) = (Vec::new(), 0, 1, 0, 0);
    // What a hung router still has on its way.
    let mut late = 0..0;
    while next < messages.len() {
        let woken = if random.one_in(3) { late.next() } else { None };
        let (number, router_epoch) = woken.map_or((next, epoch), |number| (number, epoch - 1));
        for delivery in route(&messages[number], router_epoch, begin) {
            offset += 1 + u64::from(random.one_in(10));
            let index = *indices.entry(delivery.delivery_id).or_insert_with(|| {
                fates.push(match random.below(100) {
                    0..2 => Fate::Poison,
                    2..4 => Fate::Moody,
                    4..6 => Fate::Rejected,
                    6 => Fate::Gone,
                    _ => Fate::Taken,
                });
                fates.len() - 1
            });
            log.push(Written { offset, index, delivery: Arc::new(delivery) });
        }
        if router_epoch < epoch {
            continue;
        }
        next += 1;
        if random.one_in(40) {
            committed = next;
        }
        if random.one_in(70) {
            late = next..(next + random.below(20) as usize).min(messages.len());
            (epoch, next) = (epoch + 1, committed);
        }
    }
    log
}

/// The real router's copies of a message.
fn route(message: &Message, router_epoch: u64, now: Timestamp) -> Vec<Outbound> {
    let channels: BTreeSet<ChannelName> = BTreeSet::from(["hook".parse().expect("a name")]);
    let record = Record {
        offset: 0,
        appended_at: now,
        key: Key::of(&message.tenant, &message.conversation_id),
        id: RecordId { uuid: message.message_id.as_uuid(), generation: Generation(0) },
        value: Default::default(),
        traceparent: None,
    };
    let mut records = Vec::new();
    let around = Circumstances { channels: &channels, router_epoch, partition: 0, now, traceparent: None };
    fan_out(message, &record, around, &mut records);
    let copies = records.iter().filter(|record| matches!(record.topic, Topic::Outbound(_)));
    copies.map(|record| serde_json::from_slice(&record.value).expect("the router wrote it")).collect()
}

fn message(number: u64, partition: u64, hosts: bool, random: &mut Random, begin: Timestamp) -> Message {
    let lifetime = if random.one_in(25) { 1 + random.below(40) } else { 86_400 };
    let conversation = random.below(20);
    // A conversation has its own one or two addresses.
    let first = conversation as usize % HOSTS;
    let targets = [first, (first + 1) % HOSTS];
    let address = |target: usize| {
        let text =
            if hosts { format!("hook:http://host-{target}/") } else { format!("hook:someone-{conversation}-{target}") };
        text.parse().expect("an address")
    };
    let count = if random.one_in(3) { 2 } else { 1 };
    Message {
        v: V1,
        tenant: Default::default(),
        message_id: MessageId::from_uuid(Uuid::from_u128(u128::from(partition * 1_000_000 + number) + 1)),
        conversation_id: format!("{partition}/{conversation}").parse().expect("a conversation"),
        to: targets.into_iter().take(count).map(address).collect(),
        content: Content::Text { text: "hi".into() },
        reply_to: None,
        metadata: Default::default(),
        accepted_at: begin,
        expires_at: begin.saturating_add(Duration::from_secs(lifetime)),
        generation: Generation(0),
        instead_of: None,
    }
}

/// Something that goes wrong, or that an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A process dies, and its partitions go on elsewhere.
    Crash {
        process: usize,
    },
    /// A partition is drained and goes to the other process.
    HandOver {
        partition: usize,
    },
    /// A partition is lost to the other process; the former holder still tries to write.
    Lost {
        partition: usize,
    },
    /// Whoever makes the calls dies.
    CallersDie {
        process: usize,
    },
    Pause {
        for_ms: u64,
    },
    Cancel {
        index: usize,
    },
    /// The wall clock is set forward or back.
    ClockJump {
        by_ms: i64,
    },
}

/// At least 50 of them, in order of time.
pub fn faults(random: &mut Random, deliveries: usize) -> Vec<(u64, Fault)> {
    let mut faults: Vec<(u64, Fault)> = (0..50 + random.below(20))
        .map(|_| {
            let (process, partition) = (random.below(2) as usize, random.below(2) as usize);
            let fault = match random.below(100) {
                0..12 => Fault::Crash { process },
                12..20 => Fault::HandOver { partition },
                20..28 => Fault::Lost { partition },
                28..36 => Fault::CallersDie { process },
                36..40 => Fault::Pause { for_ms: 1_000 + random.below(8_000) },
                40..90 => Fault::Cancel { index: random.below(deliveries as u64) as usize },
                _ => Fault::ClockJump { by_ms: random.below(10_000) as i64 - 5_000 },
            };
            (random.below(FAULTS_END_MS), fault)
        })
        .collect();
    faults.sort_unstable();
    faults
}
