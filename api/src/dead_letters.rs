//! `/v1/dead-letters`: what failed for good, and sending one of it again. A replay is a record on `messages` with the next
//! generation; the router and the connectors drop a second one as an exact repeat.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use chat4all_proto::envelope::{EXPIRY_MAX, V1};
use chat4all_proto::http::{DeadLetterView, DeliveryView, MessageView, Replayed};
use chat4all_proto::{DeliveryId, DeliveryStatus, Generation, Message, Outbound, Timestamp, Topic};
use chat4all_runtime::clock;
use chat4all_storage::log::{NewRecord, RecordId};
use chat4all_storage::status::{DeadLetterFilter, DeadLetterRow};

use crate::Api;
use crate::body;
use crate::draft::unknown_channel;
use crate::error::{Code, Error};
use crate::ingest::{Unwritten, json, traceparent};
use crate::metrics;
use crate::params::Params;
use crate::query::path_id;

impl Api {
    /// `GET /v1/dead-letters`
    pub(crate) async fn dead_letters(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        let params = Params::read(request.query_string(), &["channel", "reason", "limit", "cursor"])?;
        let page = params.page()?;
        let filter = DeadLetterFilter { channel: params.parsed("channel")?, reason: params.parsed("reason")? };
        let found = self.ask_status(self.status.dead_letters(&self.tenant, &filter, &page)).await?;
        json(HttpResponse::Ok(), &found)
    }

    /// `GET /v1/dead-letters/{delivery_id}`
    pub(crate) async fn dead_letter(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        let found = self.letter(path_id(request).await?).await?;
        json(HttpResponse::Ok(), &DeadLetterView::from(found))
    }

    /// `POST /v1/dead-letters/{delivery_id}/replay`. A letter that is on its way again is not sent once more: the answer
    /// is the same.
    pub(crate) async fn replay(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
    ) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        body::expect_none(request, payload, self.options.body_timeout).await?;
        let found = self.letter(path_id(request).await?).await?;
        let delivery = &found.letter.delivery;
        if !self.directory.contains_key(&delivery.to.channel) {
            return Err(unknown_channel(&delivery.to.channel, &self.directory));
        }
        self.must_not_be_cancelled(delivery)?;
        let message = self.ask_status(self.status.message(&self.tenant, delivery.message_id, clock::now())).await?;
        let view = message.as_ref().and_then(|message| message.deliveries.iter().find(|view| is_of(view, delivery)));
        must_not_have_arrived(view, delivery)?;
        let replay = replay(delivery, life(message.as_ref(), delivery), clock::now());
        let answer = Replayed {
            delivery_id: delivery.delivery_id,
            message_id: delivery.message_id,
            generation: replay.generation,
            status: view.filter(|view| view.generation >= replay.generation).map(|view| view.status),
        };
        if !found.is_replayed() {
            let id = RecordId { uuid: delivery.delivery_id.as_uuid(), generation: replay.generation };
            self.append_replay(request, replay, id).await?;
            metrics::record_replay(&delivery.to.channel);
        }
        json(HttpResponse::Accepted(), &answer)
    }

    async fn append_replay(&self, request: &HttpRequest, replay: Message, id: RecordId) -> Result<(), Error> {
        let record = NewRecord {
            topic: Topic::Messages,
            key: replay.key(),
            // Not the message's: two of its deliveries may be replayed.
            id,
            value: Bytes::from(serde_json::to_vec(&replay).expect("a message has text keys only")),
            traceparent: traceparent(request),
            once: None,
        };
        self.hand_over(&Topic::Messages, vec![record]).await.map(drop).map_err(|unwritten| match unwritten {
            Unwritten::Never(error) => error,
            Unwritten::Perhaps(cause) => {
                let detail = "the log did not answer in time; repeat it: a second replay does nothing more";
                Error::new(Code::OutcomeUnknown, detail).about(replay.message_id).because(cause)
            }
        })
    }

    /// It would end as `cancelled` at once.
    fn must_not_be_cancelled(&self, delivery: &Outbound) -> Result<(), Error> {
        if self.is_cancelled(delivery.message_id) {
            let detail = "its message was cancelled: what is sent of it again would end at once";
            return Err(Error::new(Code::MessageCancelled, detail).about(delivery.message_id));
        }
        Ok(())
    }

    async fn letter(&self, id: DeliveryId) -> Result<DeadLetterRow, Error> {
        let found = self.ask_status(self.status.dead_letter(&self.tenant, id)).await?;
        found.ok_or_else(|| Error::new(Code::DeadLetterNotFound, format!("there is no dead letter `{id}`")))
    }
}

fn is_of(view: &DeliveryView, delivery: &Outbound) -> bool {
    view.delivery_id == delivery.delivery_id
}

/// A provider may report that it delivered what it had reported as failed.
fn must_not_have_arrived(view: Option<&DeliveryView>, delivery: &Outbound) -> Result<(), Error> {
    match view {
        Some(view) if view.generation == delivery.generation && view.status > DeliveryStatus::Failed => {
            let detail = "the provider has reported since that it arrived all the same";
            Err(Error::new(Code::AlreadyDelivered, detail).about(delivery.message_id))
        }
        _ => Ok(()),
    }
}

/// How long the message was given to arrive: a replay's own times are no measure.
fn life(message: Option<&MessageView>, delivery: &Outbound) -> Duration {
    let (accepted_at, expires_at) = match message {
        Some(MessageView { accepted_at, expires_at: Some(expires_at), .. }) => (*accepted_at, *expires_at),
        _ => (delivery.accepted_at, delivery.expires_at),
    };
    expires_at.saturating_since(accepted_at).min(EXPIRY_MAX)
}

/// The delivery's message once more, for this address alone, with so long to live.
fn replay(delivery: &Outbound, life: Duration, now: Timestamp) -> Message {
    Message {
        v: V1,
        tenant: delivery.tenant.clone(),
        message_id: delivery.message_id,
        conversation_id: delivery.conversation_id.clone(),
        to: vec![delivery.to.clone()],
        content: delivery.content.clone(),
        reply_to: delivery.reply_to.clone(),
        metadata: delivery.metadata.clone(),
        accepted_at: delivery.accepted_at,
        expires_at: now.saturating_add(life),
        generation: Generation(delivery.generation.0 + 1),
    }
}
