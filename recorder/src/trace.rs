//! The recorder's spans: an end that was written, and a receipt that was joined with its delivery.

use std::sync::Arc;

use chat4all_proto::envelope::Reason;
use chat4all_proto::{DeliveryStatus, StatusEvent, Timestamp};
use chat4all_runtime::clock;
use chat4all_runtime::trace::{self, Open, Operation, Parent, Value};
use chat4all_storage::log::Record;
use chat4all_storage::status::Write;

/// Of one batch: they end when it is written.
pub(crate) struct Spans {
    began_at_ns: Option<u64>,
    open: Vec<(Open, Arc<StatusEvent>)>,
}

impl Spans {
    pub fn begin() -> Self {
        Self { began_at_ns: trace::tracer().map(|_| clock::unix_nanos()), open: Vec::new() }
    }

    /// Ends of deliveries have one, those that a receipt told too.
    pub fn of(&mut self, write: &Write, record: &Record) {
        let (Some(began_at_ns), Write::Event(event)) = (self.began_at_ns, write) else { return };
        if !event.status.is_end() {
            return;
        }
        let parent = trace::parent(record.traceparent.as_deref(), event.message_id);
        if parent.is_sampled() || failure(event).is_some() {
            self.open.push((Open::begun_at(Operation::Record, parent, began_at_ns), Arc::clone(event)));
        }
    }

    pub fn end(self) {
        self.open.into_iter().for_each(|(span, event)| end(span, &event));
    }
}

/// The span of a receipt that was put on the log at `appended_at` and told this. `None`: tracing is off.
pub(crate) fn receipt(event: &StatusEvent, appended_at: Timestamp) -> Option<Open> {
    trace::tracer()?;
    let parent = event.traceparent.map_or_else(|| Parent::unsampled(event.message_id), Parent::Span);
    Some(Open::begun_at(Operation::Receipt, parent, appended_at.as_millis() * 1_000_000))
}

/// What the status that a receipt told carries: the span of the receipt, if its delivery carried any.
pub(crate) fn carried(event: &StatusEvent, span: &Open) -> Option<Arc<str>> {
    event.traceparent.map(|_| span.context().to_string().into())
}

pub(crate) fn end(span: Open, event: &StatusEvent) {
    span.end(failure(event), || {
        let mut attributes = vec![
            ("messaging.message.id", Value::Text(event.message_id.to_string())),
            ("chat4all.delivery_id", event.delivery_id.to_string().into()),
            ("chat4all.generation", event.generation.0.into()),
            ("chat4all.channel", event.address.channel.as_str().into()),
            ("chat4all.status", event.status.as_str().into()),
        ];
        attributes.extend(event.reason.map(|reason| ("chat4all.reason", Value::from(reason.as_str()))));
        attributes
    });
}

/// In a word, how a delivery ended that did not arrive.
fn failure(event: &StatusEvent) -> Option<&'static str> {
    match event.status {
        DeliveryStatus::Failed => Some(event.reason.map_or("failed", Reason::as_str)),
        DeliveryStatus::Expired | DeliveryStatus::Unknown => Some(event.status.as_str()),
        DeliveryStatus::Queued
        | DeliveryStatus::Sending
        | DeliveryStatus::Retrying
        | DeliveryStatus::Sent
        | DeliveryStatus::Cancelled
        | DeliveryStatus::Delivered
        | DeliveryStatus::Read => None,
    }
}
