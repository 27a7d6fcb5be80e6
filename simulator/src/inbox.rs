//! What arrived, bounded on every side: the newest deliveries of each inbox, so many inboxes, so many bytes in all.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use chat4all_proto::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::wire;

const PER_INBOX_MAX: usize = 1_000;
const INBOXES_MAX: usize = 10_000;
const BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// What a delivery costs beside its bytes, roughly.
const OVERHEAD_BYTES: usize = 128;

/// A delivery as it came and what was answered.
#[derive(Debug)]
pub struct Delivery {
    pub received_at: Timestamp,
    /// `None` when the sender got no status.
    pub status: Option<u16>,
    pub fault: Option<&'static str>,
    /// Head and body, without credentials.
    pub raw: Box<[u8]>,
    pub body: Range<usize>,
}

#[derive(Debug, Default)]
struct Inbox {
    /// Since it was last emptied, forgotten ones included.
    received: u64,
    /// Keys of `deliveries`, rising.
    kept: VecDeque<u64>,
}

/// Every inbox. One that holds nothing is forgotten.
#[derive(Debug, Default)]
pub struct Inboxes {
    by_name: BTreeMap<Arc<str>, Inbox>,
    /// In the order of arrival over all inboxes.
    deliveries: BTreeMap<u64, (Arc<str>, Delivery)>,
    bytes: usize,
    next: u64,
}

/// A delivery for people to read.
#[derive(Debug, Serialize)]
struct View<'a> {
    received_at: String,
    /// Only of calls to a provider's paths: inboxes have theirs in the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    webhook_id: Option<String>,
    headers: Map<String, Value>,
    body: Body<'a>,
}

/// The bytes as they came if they are JSON, else as text.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

impl Inboxes {
    /// Keeps a delivery; the oldest make room.
    pub fn keep(&mut self, name: &str, delivery: Delivery) {
        if !self.by_name.contains_key(name) {
            self.make_room_for_an_inbox();
            self.by_name.insert(name.into(), Inbox::default());
        }
        let (name, _) = self.by_name.get_key_value(name).expect("it was just inserted");
        let name = name.clone();
        let inbox = self.by_name.get_mut(&name).expect("it was just found");
        inbox.received += 1;
        inbox.kept.push_back(self.next);
        let outgrown = (inbox.kept.len() > PER_INBOX_MAX).then(|| inbox.kept.front().copied()).flatten();
        self.bytes += size(&delivery);
        self.deliveries.insert(self.next, (name, delivery));
        self.next += 1;
        if let Some(number) = outgrown {
            self.forget(number);
        }
        while self.bytes > BYTES_MAX
            && let Some((&oldest, _)) = self.deliveries.first_key_value()
        {
            self.forget(oldest);
        }
    }

    /// Gives up the inbox that has waited longest.
    fn make_room_for_an_inbox(&mut self) {
        if self.by_name.len() >= INBOXES_MAX
            && let Some((_, (name, _))) = self.deliveries.first_key_value()
        {
            let name = name.clone();
            self.clear(&name);
        }
    }

    /// Drops the oldest delivery of its inbox, which `number` must be.
    fn forget(&mut self, number: u64) {
        let Some((name, delivery)) = self.deliveries.remove(&number) else {
            return;
        };
        self.bytes -= size(&delivery);
        if let Some(inbox) = self.by_name.get_mut(&name) {
            inbox.kept.pop_front();
            if inbox.kept.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }

    /// Empties one inbox. Says how many deliveries it held.
    pub fn clear(&mut self, name: &str) -> usize {
        let Some(inbox) = self.by_name.remove(name) else {
            return 0;
        };
        for number in &inbox.kept {
            if let Some((_, delivery)) = self.deliveries.remove(number) {
                self.bytes -= size(&delivery);
            }
        }
        inbox.kept.len()
    }

    /// Empties all. Says how many deliveries they held.
    pub fn clear_all(&mut self) -> usize {
        let count = self.deliveries.len();
        *self = Self { next: self.next, ..Self::default() };
        count
    }

    /// `{"messages": […]}`: the newest `limit` of an inbox, the newest last. An unknown inbox is empty.
    pub fn show(&self, name: &str, limit: usize) -> Vec<u8> {
        #[derive(Serialize)]
        struct List<'a> {
            messages: Vec<View<'a>>,
        }
        let kept = self.by_name.get(name).map(|inbox| &inbox.kept);
        let numbers = kept.into_iter().flat_map(|kept| kept.range(kept.len().saturating_sub(limit)..));
        let messages = numbers.filter_map(|number| self.deliveries.get(number)).map(|(_, one)| view(one)).collect();
        let mut json = serde_json::to_vec(&List { messages }).expect("every key is text");
        json.push(b'\n');
        json
    }

    /// `{"inboxes": [{name, received, kept}]}` by name.
    pub fn list(&self) -> Value {
        let inbox = |(name, inbox): (&Arc<str>, &Inbox)| serde_json::json!({ "name": **name, "received": inbox.received, "kept": inbox.kept.len() });
        serde_json::json!({ "inboxes": self.by_name.iter().map(inbox).collect::<Vec<_>>() })
    }
}

fn size(delivery: &Delivery) -> usize {
    delivery.raw.len() + OVERHEAD_BYTES
}

fn view(delivery: &Delivery) -> View<'_> {
    let (path, headers) = wire::head_of(&delivery.raw[..delivery.body.start]);
    let body = &delivery.raw[delivery.body.clone()];
    View {
        received_at: delivery.received_at.to_string(),
        path: (!path.starts_with("/inbox/")).then_some(path),
        status: delivery.status,
        fault: delivery.fault,
        webhook_id: headers.iter().find(|(name, _)| name == "webhook-id").map(|(_, value)| value.clone()),
        headers: headers.into_iter().map(|(name, value)| (name, Value::from(value))).collect(),
        body: serde_json::from_slice(body).map_or_else(|_| Body::Text(String::from_utf8_lossy(body)), Body::Json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(body: &str) -> Delivery {
        let head = "POST /inbox/ana HTTP/1.1\r\nWebhook-Id: dlv_1\r\n\r\n";
        let raw: Box<[u8]> = format!("{head}{body}").into_bytes().into();
        Delivery {
            received_at: Timestamp::from_millis(1_795_300_424_123),
            status: Some(200),
            fault: None,
            body: head.len()..raw.len(),
            raw,
        }
    }

    fn bodies(inboxes: &Inboxes, name: &str, limit: usize) -> Vec<Value> {
        let list: Value = serde_json::from_slice(&inboxes.show(name, limit)).unwrap();
        list["messages"].as_array().unwrap().iter().map(|message| message["body"].clone()).collect()
    }

    #[test]
    fn a_delivery_is_shown_as_it_came() {
        let mut inboxes = Inboxes::default();
        inboxes.keep("ana", delivery(r#"{"b": 1.10}"#));
        inboxes.keep("ana", delivery("not JSON"));
        let text = String::from_utf8(inboxes.show("ana", 10)).unwrap();
        assert_eq!(
            text,
            r#"{"messages":[{"received_at":"2026-11-21T22:33:44.123Z","status":200,"webhook_id":"dlv_1","headers":{"webhook-id":"dlv_1"},"body":{"b": 1.10}},{"received_at":"2026-11-21T22:33:44.123Z","status":200,"webhook_id":"dlv_1","headers":{"webhook-id":"dlv_1"},"body":"not JSON"}]}"#.to_owned() + "\n"
        );
    }

    #[test]
    fn an_inbox_keeps_the_newest_thousand() {
        let mut inboxes = Inboxes::default();
        for number in 0..1_005 {
            inboxes.keep("ana", delivery(&number.to_string()));
        }
        let kept = bodies(&inboxes, "ana", usize::MAX);
        assert_eq!((kept.len(), &kept[0], &kept[999]), (1_000, &Value::from(5), &Value::from(1_004)));
        assert_eq!(bodies(&inboxes, "ana", 2), [1_003, 1_004]);
        assert_eq!(inboxes.list()["inboxes"][0]["received"], 1_005);
    }

    #[test]
    fn inboxes_and_bytes_are_bounded_and_the_oldest_go_first() {
        let mut inboxes = Inboxes::default();
        for number in 0..=INBOXES_MAX {
            inboxes.keep(&number.to_string(), delivery("1"));
        }
        assert_eq!(inboxes.by_name.len(), INBOXES_MAX);
        assert!(bodies(&inboxes, "0", 1).is_empty() && bodies(&inboxes, "1", 1).len() == 1);
        let large = "x".repeat(1_024 * 1_024);
        for _ in 0..70 {
            inboxes.keep("large", delivery(&large));
        }
        assert!(inboxes.bytes <= BYTES_MAX);
        assert_eq!(inboxes.by_name.len(), 1, "the small ones were older");
        assert!((60..=64).contains(&bodies(&inboxes, "large", 100).len()));
        inboxes.clear_all();
        assert_eq!((inboxes.bytes, inboxes.deliveries.len()), (0, 0));
    }

    #[test]
    fn an_emptied_inbox_gives_its_bytes_back() {
        let mut inboxes = Inboxes::default();
        inboxes.keep("ana", delivery("1"));
        inboxes.keep("bob", delivery("2"));
        assert_eq!(inboxes.clear("ana"), 1);
        assert_eq!(inboxes.clear("ana"), 0);
        assert_eq!(inboxes.bytes, size(&delivery("2")));
        assert_eq!(bodies(&inboxes, "bob", 9), [2]);
    }
}
