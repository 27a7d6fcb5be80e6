//! `GET` and `POST /v1/callbacks/{channel}`: what providers call us with. A call is verified by its raw bytes, read by the
//! channel, and answered 2xx only after the log has it: until then the provider repeats it. What it says is joined with
//! the delivery elsewhere (`recorder`), so that it counts whatever process it reached, and whenever.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use chat4all_channels::{Callbacks, Event, InboundMessage, ReceiptOf, Unverified};
use chat4all_proto::envelope::{OutcomeKind, V1};
use chat4all_proto::{Address, ChannelName, ConversationId, Inbound, MessageId, Receipt, Timestamp, Topic};
use chat4all_runtime::clock;
use chat4all_storage::log::{Fingerprint, NewRecord, RecordId};
use chat4all_storage::status;
use http::HeaderMap;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::timeout_at;
use tracing::{debug, error, warn};
use url::form_urlencoded;
use uuid::Uuid;

use crate::Api;
use crate::body;
use crate::complaints::Pace;
use crate::draft::ChannelInfo;
use crate::error::{Code, Error};
use crate::ingest::Unwritten;
use crate::metrics;
use crate::query::path_id;

/// Longest call. Providers put many events into one after an outage.
const CALLBACK_BYTES_MAX: usize = 4 << 20;
/// Most bytes of calls under way at a time.
pub const BYTES_IN_FLIGHT_MAX: usize = 64 << 20;
/// Longest wait of one call for the status store to say which conversations its messages belong to: the provider waits
/// for us.
const LOOK_UP_MAX: Duration = Duration::from_secs(2);

/// A verified call on its way to the log.
struct Call<'a> {
    called: &'a ChannelInfo,
    headers: HeaderMap,
    body: Bytes,
    now: Timestamp,
    look_up_until: Instant,
    /// Which other channels' secrets fit this call too, once they were asked.
    vouched: HashMap<ChannelName, bool>,
}

impl Api {
    /// The handshake with which a provider makes sure that the address is ours.
    pub(crate) async fn handshake(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        let (info, callbacks) = self.called(request).await?;
        let query: Vec<_> = form_urlencoded::parse(request.query_string().as_bytes()).collect();
        match callbacks.handshake(&query) {
            Some(answer) => Ok(HttpResponse::Ok().content_type("text/plain").body(answer)),
            None => {
                metrics::record_callback(&info.name, "handshake_refused");
                let detail = "this is no handshake with the channel's `verify_token`";
                Err(Error::new(Code::HandshakeRefused, detail))
            }
        }
    }

    pub(crate) async fn callback(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
    ) -> Result<HttpResponse, Error> {
        let (called, callbacks) = self.called(request).await?;
        let headers = headers(request);
        callbacks.admit(&headers).map_err(|unverified| refused(called, unverified))?;
        let time_max = self.options.body_timeout;
        let (body, _room) = body::read_into(payload, CALLBACK_BYTES_MAX, time_max, &self.callback_slots).await?;
        let look_up_until = clock::instant() + LOOK_UP_MAX;
        let mut call = Call { called, headers, body, now: clock::now(), look_up_until, vouched: HashMap::new() };
        callbacks.verify(&call.headers, &call.body).map_err(|unverified| refused(called, unverified))?;
        let events = callbacks.read(&call.body, call.now).map_err(|malformed| {
            metrics::record_callback(&called.name, "malformed");
            Error::new(Code::BadRequest, malformed.to_string())
        })?;
        let records = self.records(&mut call, events).await;
        if !records.is_empty() {
            self.hand_over(&Topic::StatusUpdates, records).await.map_err(|unwritten| match unwritten {
                Unwritten::Never(error) => error,
                // Repeating a call is harmless, and the provider does.
                Unwritten::Perhaps(cause) => {
                    Error::new(Code::LogUnavailable, "the log did not answer; repeat the call").because(cause)
                }
            })?;
        }
        Ok(HttpResponse::Ok().finish())
    }

    async fn called(&self, request: &HttpRequest) -> Result<(&ChannelInfo, &dyn Callbacks), Error> {
        let name: String = path_id(request).await?;
        let info = self.directory.values().find(|info| info.name.as_str() == name);
        let found = info.and_then(|info| Some((info, info.channel.callbacks()?)));
        found.ok_or_else(|| Error::new(Code::NotFound, "there is no channel of this name that takes callbacks"))
    }

    async fn records<'a>(&'a self, call: &mut Call<'a>, events: Vec<Event>) -> Vec<NewRecord> {
        let mut records = Vec::with_capacity(events.len());
        for event in events {
            let (info, record) = match event {
                Event::Receipt(receipt) => match self.recipient(call, receipt.account.as_deref()) {
                    Some(info) => (info, Some(receipt_record(info, receipt))),
                    None => (call.called, None),
                },
                Event::Inbound(message) => match self.recipient(call, message.account.as_deref()) {
                    Some(info) => (info, self.inbound_record(info, message, call).await),
                    None => (call.called, None),
                },
                Event::Ignored(what) => {
                    debug!(channel = %call.called.name, what, "a callback's event is of no concern");
                    metrics::record_callback(&call.called.name, "ignored");
                    continue;
                }
            };
            if record.is_none() {
                metrics::record_callback(&info.name, "foreign");
            }
            records.extend(record);
        }
        records
    }

    /// The channel that an event is for: the one called, or another of its kind whose account the event names. The
    /// other's own secret must vouch for the call too: whoever knows one channel's secret speaks for no other's account.
    fn recipient<'a>(&'a self, call: &mut Call<'a>, account: Option<&str>) -> Option<&'a ChannelInfo> {
        if has_account(call.called, account) {
            return Some(call.called);
        }
        let mut others = self.directory.values().filter(|info| info.channel.kind() == call.called.channel.kind());
        others.find(|info| has_account(info, account) && call.is_vouched_for_by(info))
    }

    /// `None` if the sender makes no address.
    async fn inbound_record(&self, info: &ChannelInfo, message: InboundMessage, call: &Call<'_>) -> Option<NewRecord> {
        let from: Address = format!("{}:{}", info.name, message.from).parse().ok()?;
        let message_id = MessageId::of_inbound(&self.tenant, &info.name, &message.provider_id);
        let conversation_id = self.conversation_of(info, &message, &from, message_id, call.look_up_until).await;
        metrics::record_callback(&info.name, "inbound");
        let inbound = Inbound {
            v: V1,
            tenant: self.tenant.clone(),
            message_id,
            conversation_id,
            from,
            reply_to: message.reply_to,
            content: message.content,
            sent_at: message.sent_at,
            received_at: call.now,
            provider_id: message.provider_id,
        };
        // A repeat may differ in what we make of it; the provider's id alone says that it is one.
        let once: Fingerprint = Sha256::digest(inbound.provider_id.as_bytes()).into();
        let id = RecordId { uuid: message_id.as_uuid(), generation: Default::default() };
        Some(NewRecord { once: Some(once), ..record(Topic::Inbound, inbound.key(), id, &inbound) })
    }

    /// Where the message belongs: with the one it answers, else with the latest we sent to its sender.
    async fn conversation_of(
        &self,
        info: &ChannelInfo,
        message: &InboundMessage,
        from: &Address,
        id: MessageId,
        until: Instant,
    ) -> ConversationId {
        match timeout_at(until.into(), self.known_conversation(info, message, from)).await {
            Ok(Ok(Some(conversation))) => return conversation,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => warn!(%error, "a received message goes into its sender's own conversation"),
            Err(_) => warn!("the status store is slow: a received message goes into its sender's own conversation"),
        }
        ConversationId::of_sender(from, id)
    }

    async fn known_conversation(
        &self,
        info: &ChannelInfo,
        message: &InboundMessage,
        from: &Address,
    ) -> Result<Option<ConversationId>, status::Error> {
        if let Some(answered) = &message.reply_to
            && let Some((message, _)) = self.status.by_provider_id(&info.name, answered).await?
            && let Some(message) = self.status.accepted(&self.tenant, message).await?
        {
            return Ok(Some(message.conversation_id));
        }
        self.status.conversation_with(&self.tenant, from).await
    }
}

/// Where either side names no account, the address that was called decides.
fn has_account(info: &ChannelInfo, account: Option<&str>) -> bool {
    let own = info.channel.callbacks().and_then(Callbacks::account);
    account.is_none() || own.is_none() || account == own
}

impl Call<'_> {
    /// Asked once for each channel: it may take hashing the whole body.
    fn is_vouched_for_by(&mut self, info: &ChannelInfo) -> bool {
        let Self { headers, body, vouched, .. } = self;
        *vouched.entry(info.name.clone()).or_insert_with(|| {
            info.channel.callbacks().is_some_and(|callbacks| callbacks.verify(headers, body).is_ok())
        })
    }
}

fn refused(called: &ChannelInfo, unverified: Unverified) -> Error {
    metrics::record_callback(&called.name, "unverified");
    let error = Error::new(Code::UnverifiedCallback, unverified.to_string());
    match unverified {
        Unverified::NoSecret { .. } => error,
        Unverified::Missing { header } | Unverified::Wrong { header } => error.at(header),
    }
}

fn receipt_record(info: &ChannelInfo, receipt: ReceiptOf) -> NewRecord {
    metrics::record_callback(&info.name, receipt.status.as_str());
    complain(info, &receipt);
    let ReceiptOf { provider_id, delivery_id, generation, status, at, failure, .. } = receipt;
    let channel = info.name.clone();
    let receipt = Receipt { v: V1, channel, provider_id, delivery_id, generation, status, at, failure };
    let id = RecordId { uuid: Uuid::now_v7(), generation: Default::default() };
    record(Topic::StatusUpdates, receipt.key(), id, &receipt)
}

/// What a receipt says about us rather than about one message, a line a minute each.
fn complain(info: &ChannelInfo, receipt: &ReceiptOf) {
    static ACCOUNT: Pace = Pace::new(Duration::from_secs(60));
    static UNKNOWN_CODE: Pace = Pace::new(Duration::from_secs(60));
    let code = receipt.failure.as_ref().and_then(|failure| failure.code.as_deref());
    if receipt.code_is_unknown {
        metrics::record_callback(&info.name, "unknown_code");
        if let Some(withheld) = UNKNOWN_CODE.admit(clock::now()) {
            warn!(channel = %info.name, code, withheld, "a receipt has a code that this version does not know");
        }
    }
    if receipt.failure.as_ref().is_some_and(|failure| failure.outcome == OutcomeKind::AccountProblem)
        && let Some(withheld) = ACCOUNT.admit(clock::now())
    {
        let channel = &info.name;
        error!(
            %channel, code, withheld,
            "the provider reports a problem with our account: messages fail until somebody mends it"
        );
    }
}

fn record(topic: Topic, key: chat4all_proto::Key, id: RecordId, envelope: &impl Serialize) -> NewRecord {
    let value = Bytes::from(serde_json::to_vec(envelope).expect("an envelope has text keys only"));
    NewRecord { topic, key, id, value, traceparent: None, once: None }
}

/// In the types that the channels know. What is not text there is no signature of anybody's.
fn headers(request: &HttpRequest) -> HeaderMap {
    let pairs = request.headers().iter().filter_map(|(name, value)| {
        let name = http::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        Some((name, http::HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    pairs.collect()
}
