//! Guards the wire: each file in `proto/golden/` is what one type prints, byte for byte, apart from the line's end.
//! A test that fails here says that records and clients of the released version would not be understood any more.
//!
//! To add a file: add a line to `golden_files` below, run `GOLDEN_WRITE=1 cargo test -p chat4all-proto --test golden`,
//! read the new file, and commit it. With `GOLDEN_WRITE` only files that are missing are written. One that is there is
//! never changed: a type that must change gets a new version tag and a second file, and still reads the first.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use std::sync::Arc;

use chat4all_proto::content::{Choice, List, Section};
use chat4all_proto::control::{Breaker, BreakerState, Cancelled, DrainWanted, Paused};
use chat4all_proto::envelope::{Attempt, OutcomeKind, Reason, Source, V1};
use chat4all_proto::http::{
    Accepted, AttemptView, BatchRequest, BatchResponse, BatchResult, BreakerView, CancelRequested, ChannelList,
    ChannelView, ClusterView, DeadLetterPage, DeadLetterView, Deleted, DeliveryView, GroupView, MessagePage,
    MessageView, Part, PartitionView, Problem, ProcessView, Readiness, ReplayManyRequest, ReplayRequest, Replayed,
    ReplayedMany, SendRequest, Skipped,
};
use chat4all_proto::progress::FinishedSet;
use chat4all_proto::receipt::Failure;
use chat4all_proto::{
    Address, Content, ConversationId, DeadLetter, DeliveryId, DeliveryStatus, Generation, Inbound, Message, MessageId,
    MessageStatus, Outbound, Parked, Receipt, StatusEvent, StatusUpdate, TenantId, Timestamp, TraceContext,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use uuid::Uuid;

#[test]
fn todays_types_print_the_golden_files_and_read_them_back() {
    let checked: BTreeSet<String> = golden_files().into_iter().map(|name| format!("{name}.json")).collect();
    let there: BTreeSet<String> =
        std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(checked, there, "every golden file is checked, and no other file is there");
}

/// Checks every file. The answer is their names.
fn golden_files() -> Vec<&'static str> {
    vec![
        check("message-text", &message(text())),
        check("message-media", &message(media())),
        check("message-media-bare", &message(media_bare())),
        check("message-template", &message(template())),
        check("message-raw", &message(raw())),
        check("message-replay", &Message { generation: Generation(2), ..message(text()) }),
        check("message-replay-elsewhere", &replay_elsewhere()),
        check("message-buttons", &message(interactive(vec![choice(None)], None))),
        check("message-list", &message(menu())),
        check("message-reply", &Message { reply_to: Some("wamid.HBgL".into()), ..message(text()) }),
        check("outbound", &outbound()),
        check("outbound-reply", &Outbound { reply_to: Some("wamid.HBgL".into()), ..outbound() }),
        check("parked", &Parked { v: V1, position: 41, attempts: 3, burnt: 2, delivery: Arc::new(outbound()) }),
        check("status-event", &outbound().event(DeliveryStatus::Queued, at(5))),
        check("status-event-full", &full_event()),
        check(
            "status-event-sent",
            &StatusEvent { awaits_receipt: true, ..outbound().event(DeliveryStatus::Sent, at(9)) },
        ),
        check("status-event-traced", &traced_event()),
        check("dead-letter", &dead_letter()),
        check("receipt", &receipt()),
        check("receipt-failed", &failed_receipt()),
        check("receipt-replay", &Receipt { generation: Generation(2), ..failed_receipt() }),
        check("inbound", &inbound()),
        check_text("send-request", &send_request()),
        check_text("send-request-full", &full_send_request()),
        check("accepted", &accepted()),
        check("problem", &Problem { field: None, message_id: None, ..problem() }),
        check("problem-full", &problem()),
        check_text("batch-response", &batch_response()),
        check("message-view", &message_view()),
        check("message-view-accepted", &bare_message_view()),
        check("message-page", &MessagePage { messages: vec![bare_message_view()], next_cursor: Some("AAAB".into()) }),
        check("message-view-received", &received_view()),
        check("dead-letter-view", &dead_letter_view()),
        check("dead-letter-page", &dead_letter_page()),
        check("replayed", &replayed()),
        check("replayed-elsewhere", &Replayed { to: Some("sms-br:+55".parse().unwrap()), ..replayed() }),
        check("replay-request", &ReplayRequest { to_channel: Some("sms-br".parse().unwrap()) }),
        check("replay-many-request", &replay_many()),
        check("replayed-many", &replayed_many()),
        check("deleted", &Deleted { deleted: 3, more: true }),
        check("replayed-before", &Replayed { status: Some(DeliveryStatus::Read), ..replayed() }),
        check("channel-list", &channel_list()),
        check("channel-list-receipts", &channel_list_with_receipts()),
        check("channel-view-paused", &paused_channel()),
        check("cancel-requested", &cancel_requested()),
        check("control-paused", &Paused { v: V1, since: at(5) }),
        check("control-cancelled", &Cancelled { v: V1, at: at(5), until: at(3_600_000) }),
        check("control-drain", &DrainWanted { v: V1, at: at(5) }),
        check("control-breaker", &breaker(None)),
        check("control-breaker-open", &breaker(Some(at(10_005)))),
        check("readiness", &readiness()),
        check("cluster-view", &cluster_view()),
    ]
}

/// `value` prints the file's bytes, and reading them gives `value`.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &'static str, value: &T) -> &'static str {
    check_text(name, value);
    assert_eq!(serde_json::from_str::<T>(&golden(name)).unwrap(), *value, "{name}");
    name
}

/// As `check` for types without equality: reading the file and printing that again gives the same bytes.
fn check_text<T: Serialize + DeserializeOwned>(name: &'static str, value: &T) -> &'static str {
    let printed = serde_json::to_string(value).unwrap();
    let path = folder().join(format!("{name}.json"));
    if !path.exists() && std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(&path, format!("{printed}\n")).unwrap();
    }
    let golden = golden(name);
    assert_eq!(printed, golden, "{name}");
    let read: T = serde_json::from_str(&golden).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(serde_json::to_string(&read).unwrap(), golden, "{name}");
    name
}

fn golden(name: &str) -> String {
    let path = folder().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("proto/golden/{name}.json: {error}; the head of proto/tests/golden.rs says how to add it")
    });
    text.strip_suffix('\n').expect("a golden file is one line").to_owned()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

#[test]
fn another_version_is_refused_whatever_else_is_in_the_record() {
    fn check<T: DeserializeOwned>(name: &str) {
        let golden = golden(name);
        assert!(serde_json::from_str::<T>(&golden).is_ok(), "{name}");
        for other in [r#""v":2"#, r#""v":0"#, r#""v":"1""#, r#""v":null"#, r#""w":1"#] {
            let changed = golden.replace(r#""v":1"#, other);
            assert_ne!(changed, golden, "{name} has a version tag");
            assert!(serde_json::from_str::<T>(&changed).is_err(), "{name} with {other}");
        }
        let later = golden.replace(r#""v":1"#, r#""v":2"#);
        let error = serde_json::from_str::<T>(&later).err().unwrap().to_string();
        assert!(error.contains("version `2` of this record is not known here"), "{name}: {error}");
    }
    check::<Message>("message-text");
    check::<Outbound>("outbound");
    check::<Parked>("parked");
    check::<StatusEvent>("status-event-full");
    check::<DeadLetter>("dead-letter");
    check::<Receipt>("receipt");
    check::<Inbound>("inbound");
    check::<Paused>("control-paused");
    check::<Cancelled>("control-cancelled");
    check::<DrainWanted>("control-drain");
    check::<Breaker>("control-breaker-open");
}

#[test]
fn a_status_update_is_an_event_or_a_receipt() {
    let read = |name: &str| StatusUpdate::read(golden(name).as_bytes());
    assert_eq!(read("status-event-full").unwrap(), StatusUpdate::Event(Box::new(full_event())));
    assert_eq!(read("receipt-failed").unwrap(), StatusUpdate::Receipt(failed_receipt()));
    let error = read("message-text").unwrap_err().to_string();
    assert!(error.contains("missing field"), "{error}");
}

#[test]
fn a_field_that_a_later_version_may_add_does_not_stop_this_one() {
    let golden = golden("status-event");
    let extended = golden.replacen('{', r#"{"added_later":{"a":[1]},"#, 1);
    let read: StatusEvent = serde_json::from_str(&extended).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), golden);
}

#[test]
fn requests_name_the_field_they_do_not_know() {
    let changed = golden("send-request").replacen('{', r#"{"too":1,"#, 1);
    let error = serde_json::from_str::<SendRequest>(&changed).unwrap_err().to_string();
    assert!(error.contains("unknown field `too`"), "{error}");
}

#[test]
fn a_batch_is_read_message_by_message() {
    let (first, second) = (golden("send-request"), golden("send-request-full"));
    let batch = format!(r#"{{"messages":[{first}, {{"to":7}},{second}]}}"#);
    let read: BatchRequest<'_> = serde_json::from_str(&batch).unwrap();
    let texts: Vec<&str> = read.messages.iter().map(|message| message.get()).collect();
    assert_eq!(texts, [&first, r#"{"to":7}"#, &second]);
}

/// These cross process borders and restarts as well, though they are no JSON.
#[test]
fn derived_ids_keys_and_commit_metadata_never_change() {
    let key = MessageId::from_idempotency_key(&TenantId::default(), "order-42");
    assert_eq!(key.to_string(), "msg_959a3cd1-9796-548b-a62d-d9530913685d");
    assert_eq!(DeliveryId::of(message_id(), &addresses()[0]).to_string(), "dlv_b4f914dc-5413-580c-8060-e2f14684363e");
    assert_eq!(ConversationId::of(message_id()).as_str(), "conv_019a6b1e-5c7b-7d3a-9f00-0123456789ab");
    assert_eq!(message(text()).key().as_str(), "default/order-42");
    assert_eq!(receipt().key().as_str(), "//whatsapp/wamid.HBgL");
    assert_eq!(inbound().message_id.to_string(), "msg_71fe3611-7806-5e05-b322-e7d95ad58efa");
    assert_eq!(FinishedSet::from_offsets([105, 101]).encode(100), "1:Ig");
}

proptest! {
    #[test]
    fn every_status_event_is_read_back_as_it_was(event in events()) {
        let printed = serde_json::to_vec(&event).unwrap();
        let read: StatusEvent = serde_json::from_slice(&printed).unwrap();
        prop_assert_eq!(&read, &event);
        prop_assert_eq!(read.precedence(), event.precedence());
        prop_assert_eq!(serde_json::to_vec(&read).unwrap(), printed);
    }
}

fn events() -> impl Strategy<Value = StatusEvent> {
    let status = prop::sample::select(DeliveryStatus::ALL.as_slice());
    let reason = prop::option::of(prop::sample::select(Reason::ALL.as_slice()));
    let times = any::<[u64; 3]>();
    let names = ("[a-z0-9_-]{1,20}", "[^\\p{Cc}]{1,60}", "[a-z0-9][a-z0-9_-]{0,20}", "[!-~é🚚]{1,40}");
    let options =
        (prop::option::of(attempts()), prop::option::of(".*"), reason, prop::option::of(any::<u64>()), any::<bool>());
    let trace_id = prop::option::of(any::<u128>());
    (names, 1u128.., 1u128.., any::<u32>(), status, times, options, trace_id).prop_map(
        |(
            (tenant, conversation, channel, target),
            message,
            delivery,
            generation,
            status,
            [at, accepted, expires],
            options,
            trace_id,
        )| {
            let (attempt, provider_id, reason, retry_at, awaits_receipt) = options;
            StatusEvent {
                v: V1,
                tenant: tenant.parse().unwrap(),
                message_id: MessageId::from_uuid(Uuid::from_u128(message)),
                delivery_id: DeliveryId::from_uuid(Uuid::from_u128(delivery)),
                conversation_id: conversation.parse().unwrap(),
                address: Address { channel: channel.parse().unwrap(), target: target.into() },
                generation: Generation(generation),
                status,
                at: Timestamp::from_millis(at),
                accepted_at: Timestamp::from_millis(accepted),
                expires_at: Timestamp::from_millis(expires),
                attempt,
                provider_id,
                reason,
                retry_at: retry_at.map(Timestamp::from_millis),
                awaits_receipt,
                traceparent: trace_id.and_then(trace_context),
            }
        },
    )
}

fn trace_context(trace_id: u128) -> Option<TraceContext> {
    TraceContext::parse(&format!("00-{trace_id:032x}-00f067aa0ba902b7-01"))
}

fn attempts() -> impl Strategy<Value = Attempt> {
    let outcome = prop::sample::select(OUTCOMES.as_slice());
    let texts = (prop::option::of(".*"), prop::option::of(".*"));
    (any::<u32>(), any::<u64>(), any::<u64>(), outcome, texts).prop_map(
        |(number, started_at, duration_ms, outcome, (code, detail))| Attempt {
            number,
            started_at: Timestamp::from_millis(started_at),
            duration_ms,
            outcome,
            code,
            detail,
        },
    )
}

#[test]
fn the_words_of_reasons_and_outcomes_are_those_on_the_wire() {
    for reason in Reason::ALL {
        assert_eq!(reason.as_str().parse(), Ok(reason));
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
    for outcome in OUTCOMES {
        assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
    }
    let words = Reason::ALL.map(Reason::as_str).join(" ") + " / " + &OUTCOMES.map(OutcomeKind::as_str).join(" ");
    let on_the_wire = "attempts_exhausted message_rejected recipient_gone undelivered channel_removed unreadable / accepted \
                       throttled transient ambiguous recipient_gone message_rejected account_problem";
    assert_eq!(words, on_the_wire);
}

const OUTCOMES: [OutcomeKind; 7] = [
    OutcomeKind::Accepted,
    OutcomeKind::Throttled,
    OutcomeKind::Transient,
    OutcomeKind::Ambiguous,
    OutcomeKind::RecipientGone,
    OutcomeKind::MessageRejected,
    OutcomeKind::AccountProblem,
];

/// `ms` after 2026-11-21T22:33:44.123Z.
fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(1_795_300_424_123 + ms)
}

fn message_id() -> MessageId {
    "msg_019a6b1e-5c7b-7d3a-9f00-0123456789ab".parse().unwrap()
}

fn conversation_id() -> ConversationId {
    "order-42".parse().unwrap()
}

fn addresses() -> Vec<Address> {
    ["webhook:https://example.com/inbox/ana", "whatsapp:+5562996991812"].map(|text| text.parse().unwrap()).into()
}

fn metadata() -> Map<String, Value> {
    Map::from_iter([("order".into(), json!(42)), ("tags".into(), json!(["é", null, 1.5]))])
}

fn text() -> Content {
    Content::Text { text: "Olá \"Ana\" \u{1f69a}\n".into() }
}

fn media() -> Content {
    Content::Media {
        url: "https://example.com/label.pdf".into(),
        caption: Some("Your label".into()),
        mime_type: Some("application/pdf".into()),
    }
}

fn media_bare() -> Content {
    Content::Media { url: "https://example.com/label.pdf".into(), caption: None, mime_type: None }
}

fn template() -> Content {
    let variables = Map::from_iter([("1".into(), json!("Ana")), ("2".into(), json!(42))]);
    Content::Template { name: "parcel_here".into(), language: "pt_BR".into(), variables }
}

fn raw() -> Content {
    Content::Raw { body: RawValue::from_string(r#"{"b": 1.10, "a":[ 1, 1]}"#.into()).unwrap() }
}

fn message(content: Content) -> Message {
    let metadata = if content.kind() == "text" { metadata() } else { Map::new() };
    Message {
        v: V1,
        tenant: TenantId::default(),
        message_id: message_id(),
        conversation_id: conversation_id(),
        to: addresses(),
        content,
        reply_to: None,
        metadata,
        accepted_at: at(0),
        expires_at: at(86_400_000),
        generation: Generation(0),
        instead_of: None,
    }
}

fn outbound() -> Outbound {
    let message = message(text());
    let to = message.to[0].clone();
    Outbound {
        v: V1,
        tenant: message.tenant,
        delivery_id: DeliveryId::of(message.message_id, &to),
        generation: Generation(0),
        router_epoch: 7,
        message_id: message.message_id,
        conversation_id: message.conversation_id,
        to,
        content: message.content,
        reply_to: message.reply_to,
        metadata: message.metadata,
        accepted_at: message.accepted_at,
        expires_at: message.expires_at,
    }
}

fn attempt() -> Attempt {
    Attempt {
        number: 5,
        started_at: at(15_000),
        duration_ms: 37,
        outcome: OutcomeKind::Transient,
        code: Some("503".into()),
        detail: Some("the provider answered 503".into()),
    }
}

fn full_event() -> StatusEvent {
    StatusEvent {
        generation: Generation(1),
        attempt: Some(attempt()),
        provider_id: Some("wamid.HBgL".into()),
        reason: Some(Reason::AttemptsExhausted),
        retry_at: Some(at(17_000)),
        ..outbound().event(DeliveryStatus::Failed, at(15_037))
    }
}

fn traced_event() -> StatusEvent {
    let traceparent = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    StatusEvent { awaits_receipt: true, traceparent, ..outbound().event(DeliveryStatus::Sent, at(9)) }
}

fn dead_letter() -> DeadLetter {
    DeadLetter {
        v: V1,
        reason: Reason::RecipientGone,
        attempts: 1,
        code: Some("410".into()),
        failed_at: at(40),
        source: Source { topic: "webhook-outbound".into(), partition: 3, offset: 1_234 },
        delivery: outbound(),
    }
}

fn send_request() -> SendRequest {
    SendRequest::new(vec!["webhook:https://example.com/inbox/ana".into()], text())
}

fn full_send_request() -> SendRequest {
    SendRequest {
        conversation_id: Some("order-42".into()),
        message_id: Some(message_id().to_string()),
        metadata: metadata(),
        expires_in_seconds: Some(3_600),
        mode: Some(json!("all")),
        from: Some(json!("+551150261212")),
        deliver_at: Some(json!("2026-11-22T08:00:00Z")),
        priority: Some(json!("high")),
        callback_url: Some(json!("https://example.com/status")),
        ..SendRequest::new(addresses().iter().map(Address::to_string).collect(), template())
    }
}

fn accepted() -> Accepted {
    Accepted {
        message_id: message_id(),
        conversation_id: conversation_id(),
        status: MessageStatus::Accepted,
        accepted_at: at(0),
    }
}

fn problem() -> Problem {
    Problem {
        status: 503,
        title: "The outcome is unknown".into(),
        code: "outcome_unknown".into(),
        detail: "the log did not answer within 1 s".into(),
        field: Some("to[1]".into()),
        message_id: Some(message_id()),
        request_id: "req_1".into(),
    }
}

fn batch_response() -> BatchResponse {
    let accepted = BatchResult {
        status: 202,
        message_id: Some(message_id()),
        conversation_id: Some(conversation_id()),
        accepted_at: Some(at(0)),
        error: None,
    };
    let refused =
        BatchResult { status: 503, message_id: None, conversation_id: None, accepted_at: None, error: Some(problem()) };
    BatchResponse { results: vec![accepted, refused] }
}

fn bare_message_view() -> MessageView {
    let message = message(text());
    MessageView {
        message_id: message.message_id,
        conversation_id: message.conversation_id,
        status: MessageStatus::Accepted,
        from: None,
        to: message.to,
        content: message.content,
        provider_id: None,
        reply_to: None,
        metadata: Map::new(),
        accepted_at: message.accepted_at,
        expires_at: Some(message.expires_at),
        deliveries: Vec::new(),
    }
}

fn message_view() -> MessageView {
    let bare = bare_message_view();
    let delivery = |to: &Address, status| DeliveryView {
        delivery_id: DeliveryId::of(bare.message_id, to),
        to: to.clone(),
        status,
        generation: Generation(0),
        updated_at: at(5),
        reason: None,
        provider_id: None,
        retry_at: None,
        awaits_receipt: false,
        attempts: Vec::new(),
    };
    let failed = DeliveryView {
        generation: Generation(1),
        reason: Some(Reason::AttemptsExhausted),
        provider_id: Some("wamid.HBgL".into()),
        retry_at: Some(at(17_000)),
        attempts: vec![
            AttemptView::of(Attempt { code: None, detail: None, ..attempt() }, Generation(0)),
            AttemptView::of(attempt(), Generation(1)),
        ],
        ..delivery(&bare.to[1], DeliveryStatus::Failed)
    };
    let deliveries = vec![delivery(&bare.to[0], DeliveryStatus::Delivered), failed];
    MessageView { status: MessageStatus::Partial, metadata: metadata(), deliveries, ..bare }
}

fn channel_list() -> ChannelList {
    let webhook = ChannelView {
        name: "webhook".parse().unwrap(),
        kind: "webhook".into(),
        in_flight_max: 64,
        attempts_max: 5,
        highest_status: None,
        waiting: Some(12),
        paused: None,
        paused_since: None,
        breakers: Vec::new(),
    };
    let unknown = ChannelView { name: "sms-br".parse().unwrap(), waiting: None, ..webhook.clone() };
    ChannelList { channels: vec![webhook, unknown] }
}

fn channel_list_with_receipts() -> ChannelList {
    let mut list = channel_list();
    list.channels[0].highest_status = Some(DeliveryStatus::Read);
    list
}

fn replay_elsewhere() -> Message {
    let instead_of = Some("whatsapp:+55".parse().unwrap());
    Message { generation: Generation(2), to: vec!["sms-br:+55".parse().unwrap()], instead_of, ..message(text()) }
}

fn replay_many() -> ReplayManyRequest {
    ReplayManyRequest {
        channel: Some("whatsapp".parse().unwrap()),
        reason: Some(Reason::AttemptsExhausted),
        from: Some(at(0)),
        before: Some(at(9)),
        to_channel: Some("sms-br".parse().unwrap()),
        limit: Some(20),
        dry_run: true,
        cursor: Some("AAAB".into()),
    }
}

fn replayed_many() -> ReplayedMany {
    let delivery_id = outbound().delivery_id;
    let skipped = Skipped { delivery_id, code: "already_delivered".into(), detail: "it arrived".into() };
    ReplayedMany {
        matched: 4,
        replayed: 2,
        already_replayed: 1,
        skipped: vec![skipped],
        next_cursor: Some("AAAB".into()),
    }
}

fn paused_channel() -> ChannelView {
    let process = "calm-otter-7".to_owned();
    let open =
        BreakerView { process: process.clone(), state: BreakerState::Open, since: at(5), until: Some(at(10_005)) };
    let half_open = BreakerView { process, state: BreakerState::HalfOpen, since: at(5), until: None };
    let [webhook, _] = channel_list().channels.try_into().unwrap();
    ChannelView { paused: Some(true), paused_since: Some(at(0)), breakers: vec![open, half_open], ..webhook }
}

fn cancel_requested() -> CancelRequested {
    CancelRequested { message_id: outbound().message_id, status: MessageStatus::Queued }
}

fn breaker(until: Option<Timestamp>) -> Breaker {
    let state = if until.is_some() { BreakerState::Open } else { BreakerState::Closed };
    Breaker { v: V1, state, since: at(5), until }
}

fn interactive(buttons: Vec<Choice>, list: Option<List>) -> Content {
    Content::Interactive { text: "Which day?".into(), buttons, list }
}

fn choice(description: Option<&str>) -> Choice {
    Choice { id: "mon".into(), title: "Monday".into(), description: description.map(str::to_owned) }
}

fn menu() -> Content {
    let rows = vec![choice(Some("9 to 12")), choice(None)];
    let sections = vec![Section { title: Some("This week".into()), rows }, Section { title: None, rows: vec![] }];
    interactive(Vec::new(), Some(List { button: "Days".into(), sections }))
}

fn receipt() -> Receipt {
    Receipt {
        v: V1,
        channel: "whatsapp".parse().unwrap(),
        provider_id: "wamid.HBgL".into(),
        delivery_id: None,
        generation: Generation(0),
        status: DeliveryStatus::Delivered,
        at: at(900),
        failure: None,
    }
}

fn failed_receipt() -> Receipt {
    let failure = Failure { outcome: OutcomeKind::RecipientGone, code: Some("131026".into()) };
    Receipt {
        delivery_id: Some(outbound().delivery_id),
        status: DeliveryStatus::Failed,
        failure: Some(failure),
        ..receipt()
    }
}

fn inbound() -> Inbound {
    let tenant = TenantId::default();
    let channel = "whatsapp".parse().unwrap();
    Inbound {
        v: V1,
        message_id: MessageId::of_inbound(&tenant, &channel, "wamid.HBgM"),
        tenant,
        conversation_id: conversation_id(),
        from: addresses()[1].clone(),
        provider_id: "wamid.HBgM".into(),
        reply_to: Some("wamid.HBgL".into()),
        content: text(),
        sent_at: at(60_000),
        received_at: at(60_250),
    }
}

fn received_view() -> MessageView {
    let inbound = inbound();
    MessageView {
        message_id: inbound.message_id,
        status: MessageStatus::Received,
        from: Some(inbound.from),
        to: Vec::new(),
        provider_id: Some(inbound.provider_id),
        reply_to: inbound.reply_to,
        accepted_at: inbound.received_at,
        expires_at: None,
        ..bare_message_view()
    }
}

fn dead_letter_view() -> DeadLetterView {
    let letter = dead_letter();
    DeadLetterView {
        delivery_id: letter.delivery.delivery_id,
        message_id: letter.delivery.message_id,
        conversation_id: letter.delivery.conversation_id,
        to: letter.delivery.to,
        reason: letter.reason,
        code: letter.code,
        attempts: letter.attempts,
        generation: Generation(0),
        accepted_at: letter.delivery.accepted_at,
        failed_at: letter.failed_at,
        replayed: false,
        content: letter.delivery.content,
        reply_to: None,
        metadata: letter.delivery.metadata,
    }
}

fn dead_letter_page() -> DeadLetterPage {
    let bare = DeadLetterView { code: None, metadata: Map::new(), replayed: true, ..dead_letter_view() };
    DeadLetterPage { dead_letters: vec![bare], next_cursor: Some("AAAB".into()) }
}

fn replayed() -> Replayed {
    let delivery = outbound();
    let (delivery_id, message_id) = (delivery.delivery_id, delivery.message_id);
    Replayed { delivery_id, message_id, generation: Generation(1), status: None, to: None }
}

fn readiness() -> Readiness {
    let log = Part { name: "log".into(), ready: true, detail: None };
    let status = Part { name: "status".into(), ready: false, detail: Some("no answer for 3 s".into()) };
    Readiness { ready: false, parts: vec![log, status] }
}

fn cluster_view() -> ClusterView {
    let held = PartitionView {
        topic: "messages".into(),
        partition: 0,
        holder: Some("calm-otter-7".into()),
        epoch: 3,
        committed: 90,
        end: 100,
        lag: 10,
    };
    let free = PartitionView { partition: 1, holder: None, epoch: 0, committed: 0, end: 0, lag: 0, ..held.clone() };
    let process = ProcessView {
        process: "calm-otter-7".into(),
        pid: 4_242,
        roles: vec!["api".into(), "router".into()],
        listens: vec!["127.0.0.1:8080".into()],
        started_at: at(0).saturating_add(Duration::from_secs(1)),
        alive: true,
    };
    ClusterView {
        processes: vec![process],
        groups: vec![GroupView { group: "router".into(), partitions: vec![held, free] }],
    }
}
