//! What one message becomes: a pure function.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use chat4all_proto::envelope::{DeadLetter, Reason, Source, V1};
use chat4all_proto::{ChannelName, DeliveryId, DeliveryStatus, Message, Outbound, StatusEvent, Timestamp, Topic};
use chat4all_storage::log::{NewRecord, Record, RecordId};
use serde::Serialize;

/// What routing needs to know besides the message.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    pub channels: &'a BTreeSet<ChannelName>,
    /// Of the assignment under which this router works.
    pub router_epoch: u64,
    /// The partition of `messages` it works on.
    pub partition: u32,
    pub now: Timestamp,
    /// What the records carry.
    pub traceparent: Option<&'a Arc<str>>,
}

/// Adds the records that `message`, read from `record`, becomes: for each address its copy and its `queued` status; or
/// its `expired` status; or, without its channel, a dead letter and its `failed` status.
pub fn fan_out(message: &Message, record: &Record, around: Circumstances<'_>, out: &mut Vec<NewRecord>) {
    let key = message.key();
    for address in &message.to {
        let copy = Outbound {
            v: V1,
            tenant: message.tenant.clone(),
            delivery_id: DeliveryId::of(message.message_id, address),
            generation: message.generation,
            router_epoch: around.router_epoch,
            message_id: message.message_id,
            conversation_id: message.conversation_id.clone(),
            to: address.clone(),
            content: message.content.clone(),
            reply_to: message.reply_to.clone(),
            metadata: message.metadata.clone(),
            accepted_at: message.accepted_at,
            expires_at: message.expires_at,
        };
        let id = RecordId { uuid: copy.delivery_id.as_uuid(), generation: copy.generation };
        let mut put = |topic, envelope: &dyn ToValue| {
            out.push(NewRecord {
                topic,
                key: key.clone(),
                id,
                value: envelope.to_value(),
                traceparent: around.traceparent.cloned(),
                once: None,
            });
        };
        if copy.expires_at <= around.now {
            put(Topic::StatusUpdates, &copy.event(DeliveryStatus::Expired, around.now));
        } else if around.channels.contains(&copy.to.channel) {
            put(Topic::Outbound(copy.to.channel.clone()), &copy);
            put(Topic::StatusUpdates, &copy.event(DeliveryStatus::Queued, around.now));
        } else {
            let mut failed = copy.event(DeliveryStatus::Failed, around.now);
            failed.reason = Some(Reason::ChannelRemoved);
            put(Topic::DeadLetters, &removed(copy, record, around));
            put(Topic::StatusUpdates, &failed);
        }
    }
}

fn removed(delivery: Outbound, record: &Record, around: Circumstances<'_>) -> DeadLetter {
    DeadLetter {
        v: V1,
        reason: Reason::ChannelRemoved,
        attempts: 0,
        code: None,
        failed_at: around.now,
        source: Source { topic: Topic::Messages.to_string(), partition: around.partition, offset: record.offset },
        delivery,
    }
}

/// Envelopes as the bytes of a record.
trait ToValue {
    fn to_value(&self) -> Bytes;
}

macro_rules! to_value {
    ($($envelope:ty),*) => {$(
        impl ToValue for $envelope {
            fn to_value(&self) -> Bytes {
                json(self)
            }
        }
    )*};
}

to_value!(Outbound, StatusEvent, DeadLetter);

fn json(envelope: &impl Serialize) -> Bytes {
    serde_json::to_vec(envelope).expect("an envelope is plain data").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat4all_proto::{Content, Generation, MessageId, TenantId};
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn message(to: &[&str], expires_at: u64) -> Message {
        Message {
            v: V1,
            tenant: TenantId::default(),
            message_id: MessageId::from_uuid(Uuid::from_u128(7)),
            conversation_id: "order-42".parse().unwrap(),
            to: to.iter().map(|address| address.parse().unwrap()).collect(),
            content: Content::Text { text: "hi".into() },
            reply_to: None,
            metadata: Default::default(),
            accepted_at: Timestamp::from_millis(900_000),
            expires_at: Timestamp::from_millis(expires_at),
            generation: Generation(0),
            instead_of: None,
        }
    }

    fn check(message: &Message, expected: &[(&str, &str)]) {
        let channels = BTreeSet::from(["webhook".parse().unwrap()]);
        let record = Record {
            offset: 12,
            appended_at: NOW,
            key: message.key(),
            id: RecordId { uuid: message.message_id.as_uuid(), generation: message.generation },
            value: Bytes::new(),
            traceparent: Some("00-1-2-01".into()),
        };
        let mut out = Vec::new();
        let around = Circumstances {
            channels: &channels,
            router_epoch: 3,
            partition: 1,
            now: NOW,
            traceparent: record.traceparent.as_ref(),
        };
        fan_out(message, &record, around, &mut out);
        let got: Vec<(String, String)> = out
            .iter()
            .map(|record| {
                assert_eq!(record.key, message.key());
                assert_eq!(record.traceparent.as_deref(), Some("00-1-2-01"));
                let value: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
                let says = value.get("status").or(value.get("reason")).or(value.get("to")).unwrap();
                (record.topic.to_string(), says.as_str().unwrap().to_owned())
            })
            .collect();
        let got: Vec<(&str, &str)> = got.iter().map(|(topic, says)| (topic.as_str(), says.as_str())).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn each_address_gets_its_copy_and_is_queued() {
        check(
            &message(&["webhook:http://a/", "webhook:http://b/"], 2_000_000),
            &[
                ("webhook-outbound", "webhook:http://a/"),
                ("status-updates", "queued"),
                ("webhook-outbound", "webhook:http://b/"),
                ("status-updates", "queued"),
            ],
        );
    }

    #[test]
    fn a_message_that_waited_too_long_expires() {
        check(&message(&["webhook:http://a/"], 1_000_000), &[("status-updates", "expired")]);
    }

    #[test]
    fn an_address_whose_channel_is_gone_fails_alone() {
        check(
            &message(&["fax:1", "webhook:http://a/"], 2_000_000),
            &[
                ("dead-letters", "channel_removed"),
                ("status-updates", "failed"),
                ("webhook-outbound", "webhook:http://a/"),
                ("status-updates", "queued"),
            ],
        );
    }
}
