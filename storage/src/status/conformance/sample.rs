//! Messages and events to check stores with, apart from those of every other check.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chat4all_proto::envelope::{Attempt, OutcomeKind, Reason, Source, V1};
use chat4all_proto::{
    Address, ChannelName, Content, ConversationId, DeadLetter, DeliveryId, DeliveryStatus, Generation, Inbound,
    Message, MessageId, Outbound, Receipt, StatusEvent, TenantId, Timestamp,
};
use serde_json::Map;
use uuid::Uuid;

use crate::status::{PageRequest, Write};

/// 2026-11-21, when the first sample message is accepted.
const START: Timestamp = Timestamp::from_millis(1_795_300_000_000);

/// One check's world: a tenant, a channel and times that no other check has.
#[derive(Debug)]
pub struct Sample {
    pub tenant: TenantId,
    pub channel: ChannelName,
    pub conversation: ConversationId,
    start: Timestamp,
    messages: AtomicU64,
}

impl Sample {
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        Self::starting(START)
    }

    /// With messages accepted from `start` on, one a millisecond.
    pub fn starting(start: Timestamp) -> Self {
        let name = Uuid::new_v4().simple();
        Self {
            tenant: format!("t{name}").parse().expect("hex is a tenant id"),
            channel: format!("c{name}").parse().expect("hex is a channel name"),
            conversation: "order-42".parse().expect("a plain word is a conversation id"),
            start,
            messages: AtomicU64::new(0),
        }
    }

    /// A time at which no sample message is expired.
    pub fn now(&self) -> Timestamp {
        self.start.saturating_add(Duration::from_secs(60))
    }

    pub fn page(&self, limit: usize) -> PageRequest {
        PageRequest { limit, cursor: None }
    }

    pub fn address(&self, target: &str) -> Address {
        Address { channel: self.channel.clone(), target: target.into() }
    }

    /// The next message, to these targets of the sample's channel.
    pub fn message_to(&self, targets: &[&str]) -> (Write, Arc<Message>) {
        let message = Arc::new(self.message(targets.iter().map(|target| self.address(target)).collect()));
        (Write::Message(Arc::clone(&message)), message)
    }

    /// The next message, for checks that change it before they write it.
    pub fn message(&self, to: Vec<Address>) -> Message {
        let number = self.messages.fetch_add(1, Ordering::Relaxed);
        let accepted_at = self.start.saturating_add(Duration::from_millis(number));
        Message {
            v: V1,
            tenant: self.tenant.clone(),
            message_id: MessageId::from_uuid(Uuid::now_v7()),
            conversation_id: self.conversation.clone(),
            to,
            content: Content::Text { text: format!("sample {number}") },
            reply_to: None,
            metadata: Map::new(),
            accepted_at,
            expires_at: accepted_at.saturating_add(Duration::from_secs(3_600)),
            generation: Generation(0),
            instead_of: None,
        }
    }

    /// An event about the delivery of `message` to its address number `index`.
    pub fn event(message: &Message, index: usize, status: DeliveryStatus) -> StatusEvent {
        let at = message.accepted_at.saturating_add(Duration::from_millis(5));
        Sample::outbound(message, index).event(status, at)
    }

    /// The copy of `message` for its address number `index`.
    pub fn outbound(message: &Message, index: usize) -> Outbound {
        let to = message.to[index].clone();
        Outbound {
            v: V1,
            tenant: message.tenant.clone(),
            delivery_id: DeliveryId::of(message.message_id, &to),
            generation: message.generation,
            router_epoch: 1,
            message_id: message.message_id,
            conversation_id: message.conversation_id.clone(),
            to,
            content: message.content.clone(),
            reply_to: message.reply_to.clone(),
            metadata: message.metadata.clone(),
            accepted_at: message.accepted_at,
            expires_at: message.expires_at,
        }
    }

    /// The delivery of `message` to its address number `index` has failed for good.
    pub fn dead_letter(message: &Message, index: usize, reason: Reason) -> DeadLetter {
        DeadLetter {
            v: V1,
            reason,
            attempts: 5,
            code: Some("131026".into()),
            failed_at: message.accepted_at.saturating_add(Duration::from_millis(9)),
            source: Source { topic: "sms-outbound".into(), partition: 3, offset: 8 },
            delivery: Sample::outbound(message, index),
        }
    }

    /// A receipt of the sample's channel.
    pub fn receipt(&self, provider_id: &str, status: DeliveryStatus) -> Receipt {
        Receipt {
            v: V1,
            channel: self.channel.clone(),
            provider_id: provider_id.into(),
            delivery_id: None,
            generation: Generation(0),
            status,
            at: self.now(),
            failure: None,
        }
    }

    /// The next message from the other side, received when a message of ours would have been accepted.
    pub fn inbound(&self, from: &str) -> Inbound {
        let like = self.message(Vec::new());
        Inbound {
            v: V1,
            tenant: like.tenant,
            message_id: like.message_id,
            conversation_id: like.conversation_id,
            from: self.address(from),
            provider_id: format!("in-{}", like.message_id),
            reply_to: Some("wamid.1".into()),
            content: like.content,
            sent_at: self.start,
            received_at: like.accepted_at,
        }
    }

    pub fn attempt(message: &Message, number: u32, outcome: OutcomeKind) -> Attempt {
        Attempt {
            number,
            started_at: message.accepted_at.saturating_add(Duration::from_millis(u64::from(number))),
            duration_ms: 3,
            outcome,
            code: Some("500".into()),
            detail: None,
        }
    }
}

/// As a write.
pub fn of(event: StatusEvent) -> Write {
    Write::Event(Arc::new(event))
}

/// SplitMix64. Its seed belongs in the text of every assertion that it decides about.
#[derive(Debug, Clone)]
pub struct Random {
    pub seed: u64,
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// Another seed in every run.
    pub fn unpredictable() -> Self {
        Self::new(Uuid::new_v4().as_u64_pair().0)
    }

    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound as u64).expect("less than a usize")
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
