//! How a record of the port is written in Kafka: the value as it is, the key as text, and CloudEvents 1.0 headers
//! (binary mode), so that any Kafka tool can read it.

use std::sync::Arc;

use bytes::Bytes;
use chat4all_proto::{Generation, Key, Timestamp, Topic};
use chat4all_storage::log::{NewRecord, Recent, Record, RecordId};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header, Headers as _, OwnedHeaders};
use uuid::Uuid;

const ID: &str = "ce_id";
const EPOCH: &str = "ce_epoch";
const TRACEPARENT: &str = "traceparent";
/// What headers, frames and names take, at most, apart from the trace.
const OVERHEAD_BYTES: usize = 400;

/// Bytes that `record` takes, a little more than less.
pub(crate) fn size_bytes(record: &NewRecord) -> usize {
    let trace = record.traceparent.as_ref().map_or(0, |trace| trace.len());
    record.value.len() + record.key.as_str().len() + trace + OVERHEAD_BYTES
}

/// `epoch` is that of the lease under which it is appended.
pub(crate) fn headers(record: &NewRecord, epoch: Option<u64>) -> OwnedHeaders {
    let (id, epoch) = (format_id(record.id), epoch.map(|epoch| epoch.to_string()));
    let mut headers = OwnedHeaders::new_with_capacity(7);
    let event = [
        ("ce_specversion", "1.0"),
        (ID, &id),
        ("ce_type", event_type(&record.topic)),
        ("ce_source", "/chat4all"),
        ("content-type", "application/json"),
    ];
    let epoch = epoch.as_deref().map(|epoch| (EPOCH, epoch));
    let trace = record.traceparent.as_deref().map(|trace| (TRACEPARENT, trace));
    for (key, value) in event.into_iter().chain(epoch).chain(trace) {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    headers
}

fn event_type(topic: &Topic) -> &'static str {
    match topic {
        Topic::Messages => "chat4all.message",
        Topic::Outbound(_) => "chat4all.delivery",
        Topic::Parked(_) => "chat4all.parked",
        Topic::StatusUpdates => "chat4all.status",
        Topic::DeadLetters => "chat4all.dead-letter",
        Topic::Inbound => "chat4all.inbound",
        Topic::Control => "chat4all.control",
    }
}

/// `UUID/GENERATION`: another generation of the same message is another event.
fn format_id(id: RecordId) -> String {
    format!("{}/{}", id.uuid, id.generation.0)
}

fn parse_id(text: &str) -> Option<RecordId> {
    let (uuid, generation) = text.split_once('/')?;
    Some(RecordId { uuid: uuid.parse().ok()?, generation: Generation(generation.parse().ok()?) })
}

pub(crate) fn read(message: &BorrowedMessage<'_>) -> Record {
    Record {
        offset: offset(message),
        appended_at: appended_at(message),
        key: Key::raw(String::from_utf8_lossy(message.key().unwrap_or_default())),
        id: id(message),
        value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        traceparent: header(message, TRACEPARENT).map(Arc::from),
    }
}

pub(crate) fn recent(message: &BorrowedMessage<'_>) -> Recent {
    Recent { id: id(message), appended_at: appended_at(message), epoch: epoch(message) }
}

pub(crate) fn offset(message: &BorrowedMessage<'_>) -> u64 {
    u64::try_from(message.offset()).unwrap_or(0)
}

pub(crate) fn appended_at(message: &BorrowedMessage<'_>) -> Timestamp {
    let millis = message.timestamp().to_millis().and_then(|millis| u64::try_from(millis).ok());
    Timestamp::from_millis(millis.unwrap_or(0))
}

/// The record's own id. Whoever writes to our topics with another tool gives none: then its place is its id.
fn id(message: &BorrowedMessage<'_>) -> RecordId {
    header(message, ID).and_then(parse_id).unwrap_or_else(|| {
        let place = format!("{}/{}/{}", message.topic(), message.partition(), message.offset());
        RecordId { uuid: Uuid::new_v5(&Uuid::NAMESPACE_OID, place.as_bytes()), generation: Generation(0) }
    })
}

/// Of the lease under which the record was appended.
fn epoch(message: &BorrowedMessage<'_>) -> Option<u64> {
    header(message, EPOCH)?.parse().ok()
}

fn header<'a>(message: &'a BorrowedMessage<'_>, key: &str) -> Option<&'a str> {
    let found = message.headers()?.iter().find(|header| header.key == key)?;
    std::str::from_utf8(found.value?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> NewRecord {
        NewRecord {
            topic: Topic::Messages,
            key: Key::raw("default/c"),
            id: RecordId { uuid: Uuid::from_u128(7), generation: Generation(3) },
            value: "{}".into(),
            traceparent: Some("00-4bf92f-00f067-01".into()),
            once: None,
        }
    }

    #[test]
    fn an_id_comes_back() {
        let id = sample().id;
        assert_eq!(parse_id(&format_id(id)), Some(id));
        for other in ["", "/", "7", "00000000-0000-0000-0000-000000000007/x"] {
            assert_eq!(parse_id(other), None, "{other}");
        }
    }

    #[test]
    fn headers_are_a_cloud_event() {
        let headers = headers(&sample(), Some(5));
        let read: Vec<(&str, &str)> =
            headers.iter().map(|header| (header.key, std::str::from_utf8(header.value.unwrap()).unwrap())).collect();
        let expected = [
            ("ce_specversion", "1.0"),
            ("ce_id", "00000000-0000-0000-0000-000000000007/3"),
            ("ce_type", "chat4all.message"),
            ("ce_source", "/chat4all"),
            ("content-type", "application/json"),
            ("ce_epoch", "5"),
            ("traceparent", "00-4bf92f-00f067-01"),
        ];
        assert_eq!(read, expected);
    }
}
