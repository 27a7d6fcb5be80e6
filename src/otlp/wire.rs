//! Spans as OTLP has them: the messages of `opentelemetry/proto/collector/trace/v1` in protobuf, as far as we fill them in.
//! Their names and numbers are the standard's; fields that we leave empty are left out.

use chat4all_runtime::trace::{self, Operation, Service};
use prost::Message;

/// What is the same in all spans of a process.
pub struct Process {
    /// As `chat4all status` names it.
    pub instance: String,
    pub version: &'static str,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExportTraceServiceResponse {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<ExportTracePartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ExportTracePartialSuccess {
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    #[prost(string, tag = "2")]
    pub error_message: String,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct InstrumentationScope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(enumeration = "SpanKind", tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    /// The lowest byte is that of `traceparent`.
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum SpanKind {
    Unspecified = 0,
    Server = 2,
    Client = 3,
    Consumer = 5,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(enumeration = "StatusCode", tag = "3")]
    code: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum StatusCode {
    Unset = 0,
    Error = 2,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// The request that exports `spans`, a resource for each service among them.
pub fn request(spans: Vec<trace::Span>, process: &Process) -> ExportTraceServiceRequest {
    let mut by_service: Vec<(Service, Vec<Span>)> = Vec::new();
    for ended in spans {
        let service = ended.operation.service();
        let span = span(ended);
        match by_service.iter_mut().find(|(other, _)| *other == service) {
            Some((_, spans)) => spans.push(span),
            None => by_service.push((service, vec![span])),
        }
    }
    let resource_spans = by_service.into_iter().map(|(service, spans)| {
        let scope = InstrumentationScope { name: "chat4all".into(), version: process.version.into() };
        ResourceSpans {
            resource: Some(resource(service, process)),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
        }
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

fn resource(service: Service, process: &Process) -> Resource {
    let attributes = [
        ("service.name", format!("chat4all-{}", service.as_str())),
        ("service.version", process.version.to_owned()),
        ("service.instance.id", process.instance.clone()),
    ];
    Resource { attributes: attributes.map(|(key, text)| pair(key, Value::Text(text))).into() }
}

fn span(ended: trace::Span) -> Span {
    let attributes = ended.attributes.into_iter().map(|(key, value)| {
        let value = match value {
            trace::Value::Text(text) => Value::Text(text),
            trace::Value::Number(number) => Value::Number(number),
        };
        pair(key, value)
    });
    let status = ended.failure.map(|message| Status { message, code: StatusCode::Error.into() });
    Span {
        trace_id: ended.context.trace_id.to_bytes().into(),
        span_id: ended.context.span_id.to_bytes().into(),
        parent_span_id: ended.parent.map(|id| id.to_bytes().into()).unwrap_or_default(),
        name: ended.operation.name().into(),
        kind: kind(ended.operation).into(),
        start_time_unix_nano: ended.started_at_ns,
        end_time_unix_nano: ended.ended_at_ns,
        attributes: attributes.collect(),
        status,
        flags: ended.context.is_sampled.into(),
    }
}

const fn kind(operation: Operation) -> SpanKind {
    match operation {
        Operation::Send | Operation::Batch | Operation::Replay => SpanKind::Server,
        Operation::Deliver => SpanKind::Client,
        Operation::Route | Operation::Record | Operation::Receipt => SpanKind::Consumer,
    }
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }) }
}

#[cfg(test)]
mod tests {
    use chat4all_proto::TraceContext;

    use super::*;

    /// Bytes as the standard has them, put together by hand.
    #[test]
    fn a_span_is_encoded_as_the_standard_says() {
        let parent = TraceContext::parse("00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01").unwrap();
        let span = trace::Span {
            operation: Operation::Deliver,
            context: TraceContext::parse("00-0102030405060708090a0b0c0d0e0f10-2122232425262728-01").unwrap(),
            parent: Some(parent.span_id),
            started_at_ns: 1,
            ended_at_ns: 2,
            attributes: vec![("a", "b".into()), ("n", trace::Value::Number(5))],
            failure: Some("no".into()),
        };
        let mut expected = vec![0x0a, 16];
        expected.extend(1..=16);
        expected.extend([0x12, 8]);
        expected.extend(0x21..=0x28);
        expected.extend([0x22, 8]);
        expected.extend(0x11..=0x18);
        expected.extend(b"\x2a\x07deliver\x30\x03");
        expected.extend(b"\x39\x01\0\0\0\0\0\0\0\x41\x02\0\0\0\0\0\0\0");
        expected.extend(b"\x4a\x08\x0a\x01a\x12\x03\x0a\x01b\x4a\x07\x0a\x01n\x12\x02\x18\x05");
        expected.extend(b"\x7a\x06\x12\x02no\x18\x02");
        expected.extend(b"\x85\x01\x01\0\0\0");
        assert_eq!(super::span(span).encode_to_vec(), expected);
    }

    #[test]
    fn each_service_has_a_resource() {
        let context = TraceContext::parse("00-0102030405060708090a0b0c0d0e0f10-2122232425262728-01").unwrap();
        let span = |operation| trace::Span {
            operation,
            context,
            parent: None,
            started_at_ns: 1,
            ended_at_ns: 1,
            attributes: Vec::new(),
            failure: None,
        };
        let operations = [Operation::Send, Operation::Deliver, Operation::Record, Operation::Batch, Operation::Receipt];
        let process = Process { instance: "i".into(), version: "1" };
        let request = request(operations.map(span).into(), &process);
        let told = request.resource_spans.iter().map(|one| {
            let name = one.resource.as_ref().unwrap().attributes[0].value.as_ref().unwrap().value.clone();
            (name, one.scope_spans[0].spans.len())
        });
        let expected = [("api", 2), ("connectors", 1), ("recorder", 2)]
            .map(|(role, spans)| (Some(Value::Text(format!("chat4all-{role}"))), spans));
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
}
