//! Sending dead letters again, one or those that a filter finds. A replay is a record on `messages` with the next
//! generation, under the letter's own id whatever channel it goes to: the router drops a second one as an exact repeat.
//! Through another channel it is the delivery of the same message to the new address.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use chat4all_channels::Outgoing;
use chat4all_proto::envelope::{EXPIRY_MAX, V1};
use chat4all_proto::http::{
    DeliveryView, MESSAGE_BYTES_MAX, MessageView, REPLAY_LIMIT_DEFAULT, REPLAY_LIMIT_MAX, ReplayManyRequest,
    ReplayRequest, Replayed, ReplayedMany, Skipped,
};
use chat4all_proto::{
    Address, ChannelName, DeliveryId, DeliveryStatus, Generation, Message, Outbound, Timestamp, Topic,
};
use chat4all_runtime::clock;
use chat4all_runtime::trace::Operation;
use chat4all_storage::log::{NewRecord, RecordId};
use chat4all_storage::status::{DeadLetterFilter, DeadLetterRow, PageRequest};
use futures_util::future::join_all;
use serde::Deserialize;

use crate::Api;
use crate::body::{self, MediaType};
use crate::draft::{ChannelInfo, unknown_channel};
use crate::error::{Code, Error};
use crate::ingest::{Unwritten, json};
use crate::metrics;
use crate::params::Params;
use crate::parse;
use crate::query::path_id;
use crate::trace::Trace;

/// Letters that are read and appended at a time: what a call holds in memory.
const AT_ONCE: usize = 50;
/// Pages that one call looks at; a store may give short ones.
const PAGES_MAX: usize = 40;

/// What replaying a letter comes to.
struct Replay {
    answer: Replayed,
    /// `None`: it was replayed before.
    record: Option<(Message, RecordId)>,
}

impl Api {
    /// `POST /v1/dead-letters/{delivery_id}/replay`. A letter that is on its way again is not sent once more: the answer
    /// is the same.
    pub(crate) async fn replay(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
    ) -> Result<HttpResponse, Error> {
        Trace::around(Operation::Replay, request, async |trace| self.replay_one(request, payload, trace).await).await
    }

    async fn replay_one(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
        trace: &mut Trace,
    ) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        let body = body::read(request, payload, MESSAGE_BYTES_MAX, self.options.body_timeout).await?;
        let asked: ReplayRequest = optional(request, &body)?;
        let elsewhere = self.other_channel(asked.to_channel.as_ref())?;
        let found = self.letter(path_id(request).await?).await?;
        let replay = self.prepare(&found, elsewhere).await?;
        let message_id = replay.answer.message_id;
        let record = replay.record.map(|(message, id)| record(trace.carried_by(message_id), message, id));
        self.append_replays(record.into_iter().collect()).await.map_err(|error| error.about(message_id))?;
        json(HttpResponse::Accepted(), &replay.answer)
    }

    /// `POST /v1/dead-letters/replay`: those that a filter finds, some a call. The client goes on from the cursor.
    pub(crate) async fn replay_many(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
    ) -> Result<HttpResponse, Error> {
        Trace::around(Operation::Replay, request, async |trace| self.replay_found(request, payload, trace).await).await
    }

    async fn replay_found(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
        trace: &mut Trace,
    ) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        let body = body::read(request, payload, MESSAGE_BYTES_MAX, self.options.body_timeout).await?;
        let asked: ReplayManyRequest = optional(request, &body)?;
        let elsewhere = self.other_channel(asked.to_channel.as_ref())?;
        let limit = limit(asked.limit)?;
        let filter = filter(&asked)?;
        let mut page = PageRequest { limit, cursor: asked.cursor };
        let mut done = ReplayedMany::default();
        for _ in 0..PAGES_MAX {
            page.limit = (limit - done.matched).min(AT_ONCE);
            let listed = self.ask_status(self.status.dead_letters(&self.tenant, &filter, &page)).await;
            let listed = listed.map_err(of_body)?;
            page.cursor = listed.next_cursor;
            let ids = listed.dead_letters.iter().map(|letter| letter.delivery_id);
            let prepared = join_all(ids.map(|id| self.prepare_listed(id, elsewhere))).await;
            let (mut records, mut count) = (Vec::new(), 0);
            for (letter, prepared) in listed.dead_letters.iter().zip(prepared) {
                done.matched += 1;
                match prepared {
                    Ok(Replay { record: Some((message, id)), .. }) => {
                        count += 1;
                        if !asked.dry_run {
                            records.push(record(trace.carried_by(message.message_id), message, id));
                        }
                    }
                    Ok(Replay { record: None, .. }) => done.already_replayed += 1,
                    Err(error) if is_of_the_letter(error.code) => {
                        done.skipped.push(skipped(letter.delivery_id, &error))
                    }
                    Err(error) => return Err(after(&done, error)),
                }
            }
            self.append_replays(records).await.map_err(|error| after(&done, error))?;
            done.replayed += count;
            if page.cursor.is_none() || done.matched >= limit {
                break;
            }
        }
        done.next_cursor = page.cursor;
        json(HttpResponse::Ok(), &done)
    }

    fn other_channel(&self, name: Option<&ChannelName>) -> Result<Option<&ChannelInfo>, Error> {
        let Some(name) = name else { return Ok(None) };
        match self.directory.get(name) {
            Some(info) => Ok(Some(info)),
            None => Err(unknown_channel(name, &self.directory).at("to_channel")),
        }
    }

    async fn prepare_listed(&self, id: DeliveryId, elsewhere: Option<&ChannelInfo>) -> Result<Replay, Error> {
        self.prepare(&self.letter(id).await?, elsewhere).await
    }

    /// Writes nothing.
    async fn prepare(&self, found: &DeadLetterRow, elsewhere: Option<&ChannelInfo>) -> Result<Replay, Error> {
        let delivery = &found.letter.delivery;
        self.must_not_be_cancelled(delivery)?;
        let to = self.way(delivery, elsewhere)?;
        let message = self.ask_status(self.status.message(&self.tenant, delivery.message_id, clock::now())).await?;
        let deliveries = message.as_ref().map_or(&[][..], |message| &message.deliveries);
        must_not_have_arrived(deliveries, delivery)?;
        let again = again(delivery, to, life(message.as_ref(), delivery), clock::now());
        let before = carried(message.as_ref(), &again, found);
        if before.is_none() && again.instead_of.is_some() {
            must_not_go_there_anyway(message.as_ref(), &again)?;
        }
        let to = before.map_or(&again.to[0], |before| &before.to);
        let answer = Replayed {
            delivery_id: DeliveryId::of(again.message_id, to),
            message_id: again.message_id,
            generation: again.generation,
            status: before.map(|before| before.status),
            to: (*to != delivery.to).then(|| to.clone()),
        };
        // Whatever channel it goes to: of one letter only one replay is routed. Not the message's: two of its deliveries
        // may be replayed.
        let id = RecordId { uuid: delivery.delivery_id.as_uuid(), generation: again.generation };
        let is_new = before.is_none() && !found.is_replayed();
        Ok(Replay { answer, record: is_new.then_some((again, id)) })
    }

    /// Where it goes: to its own address, or to the same target through another channel, which must be able to carry it.
    fn way(&self, delivery: &Outbound, elsewhere: Option<&ChannelInfo>) -> Result<Address, Error> {
        let Address { channel, target } = &delivery.to;
        let Some(info) = elsewhere.filter(|info| info.name != *channel) else {
            return match self.directory.contains_key(channel) {
                true => Ok(delivery.to.clone()),
                false => Err(unknown_channel(channel, &self.directory)),
            };
        };
        let outgoing = Outgoing { target, content: &delivery.content, reply_to: None };
        info.channel
            .check(&outgoing)
            .map_err(|unfit| Error::field("to_channel", format!("channel `{}`: {}", info.name, unfit.detail)))?;
        Ok(Address { channel: info.name.clone(), target: target.clone() })
    }

    /// It would end as `cancelled` at once.
    fn must_not_be_cancelled(&self, delivery: &Outbound) -> Result<(), Error> {
        if self.is_cancelled(delivery.message_id) {
            let detail = "its message was cancelled: what is sent of it again would end at once";
            return Err(Error::new(Code::MessageCancelled, detail).about(delivery.message_id));
        }
        Ok(())
    }

    async fn append_replays(&self, records: Vec<(ChannelName, NewRecord)>) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let (channels, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
        self.hand_over(&Topic::Messages, records).await.map_err(|unwritten| match unwritten {
            Unwritten::Never(error) => error,
            Unwritten::Perhaps(cause) => {
                let detail = "the log did not answer in time; repeat it: a second replay does nothing more";
                Error::new(Code::OutcomeUnknown, detail).because(cause)
            }
        })?;
        channels.iter().for_each(metrics::record_replay);
        Ok(())
    }
}

/// A body that may be left out.
fn optional<'de, T: Deserialize<'de> + Default>(request: &HttpRequest, body: &'de [u8]) -> Result<T, Error> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    body::media_type(request, &[MediaType::Json])?;
    parse::json(body)
}

fn limit(asked: Option<u32>) -> Result<usize, Error> {
    let limit = asked.map_or(REPLAY_LIMIT_DEFAULT, |limit| limit as usize);
    if (1..=REPLAY_LIMIT_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::field("limit", format!("must be a number from 1 to {REPLAY_LIMIT_MAX}")))
}

fn filter(asked: &ReplayManyRequest) -> Result<DeadLetterFilter, Error> {
    let ReplayManyRequest { channel, reason, from, before, .. } = asked;
    if from.zip(*before).is_some_and(|(from, before)| from >= before) {
        return Err(Error::field("before", "must be later than `from`"));
    }
    Ok(DeadLetterFilter { channel: channel.clone(), reason: *reason, from: *from, before: *before })
}

/// A parameter elsewhere, a field here.
fn of_body(error: Error) -> Error {
    match error.code {
        Code::InvalidParameter => Error { code: Code::InvalidField, ..error },
        _ => error,
    }
}

/// Whether the others can be replayed all the same.
const fn is_of_the_letter(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownChannel
            | Code::InvalidField
            | Code::AlreadyDelivered
            | Code::MessageCancelled
            | Code::AddressTaken
            | Code::DeadLetterNotFound
    )
}

fn skipped(delivery_id: DeliveryId, error: &Error) -> Skipped {
    Skipped { delivery_id, code: error.code.row().code.to_owned(), detail: error.detail.clone() }
}

/// An error after some were appended: what it says of the whole request would not be true.
fn after(done: &ReplayedMany, error: Error) -> Error {
    if done.replayed == 0 {
        return error;
    }
    let detail = format!("{} were replayed before this; repeat it: none is sent twice", done.replayed);
    Error { cause: Some(error.cause.unwrap_or(error.detail)), detail, ..error }
}

/// A provider may report that it delivered what it had reported as failed.
fn must_not_have_arrived(deliveries: &[DeliveryView], delivery: &Outbound) -> Result<(), Error> {
    let view = deliveries.iter().find(|view| view.delivery_id == delivery.delivery_id);
    match view {
        Some(view) if view.generation == delivery.generation && view.status > DeliveryStatus::Failed => {
            let detail = "the provider has reported since that it arrived all the same";
            Err(Error::new(Code::AlreadyDelivered, detail).about(delivery.message_id))
        }
        _ => Ok(()),
    }
}

/// The same person would get it twice, unless the message's own way to there has failed.
fn must_not_go_there_anyway(message: Option<&MessageView>, again: &Message) -> Result<(), Error> {
    let to = &again.to[0];
    let Some(message) = message.filter(|message| message.to.contains(to)) else { return Ok(()) };
    let own = message.deliveries.iter().find(|view| view.to == *to);
    if own.is_some_and(|own| own.status == DeliveryStatus::Failed) {
        return Ok(());
    }
    let detail = format!("the message goes to `{to}` by itself");
    Err(Error::new(Code::AddressTaken, detail).about(again.message_id))
}

/// The delivery that carries it since a former replay, as far as the status store knows: to where it goes now, to its own
/// address, or to where it was sent instead.
fn carried<'a>(message: Option<&'a MessageView>, again: &Message, found: &DeadLetterRow) -> Option<&'a DeliveryView> {
    let message = message?;
    let own = &found.letter.delivery.to;
    let later = || message.deliveries.iter().filter(|view| view.generation >= again.generation);
    let at = |to: &Address| later().find(|view| view.to == *to);
    let instead = || later().find(|view| view.to.target == own.target && !message.to.contains(&view.to));
    at(&again.to[0]).or_else(|| at(own)).or_else(|| instead().filter(|_| found.is_replayed()))
}

/// How long the message was given to arrive: a replay's own times are no measure.
fn life(message: Option<&MessageView>, delivery: &Outbound) -> Duration {
    let (accepted_at, expires_at) = match message {
        Some(MessageView { accepted_at, expires_at: Some(expires_at), .. }) => (*accepted_at, *expires_at),
        _ => (delivery.accepted_at, delivery.expires_at),
    };
    expires_at.saturating_since(accepted_at).min(EXPIRY_MAX)
}

/// The delivery's message once more, for this address alone, with so long to live. Another channel knows nothing of what
/// this one answered.
fn again(delivery: &Outbound, to: Address, life: Duration, now: Timestamp) -> Message {
    let is_elsewhere = to != delivery.to;
    Message {
        v: V1,
        tenant: delivery.tenant.clone(),
        message_id: delivery.message_id,
        conversation_id: delivery.conversation_id.clone(),
        to: vec![to],
        content: delivery.content.clone(),
        reply_to: delivery.reply_to.clone().filter(|_| !is_elsewhere),
        metadata: delivery.metadata.clone(),
        accepted_at: delivery.accepted_at,
        expires_at: now.saturating_add(life),
        generation: Generation(delivery.generation.0 + 1),
        instead_of: is_elsewhere.then(|| delivery.to.clone()),
    }
}

/// With the channel that it goes through.
fn record(traceparent: Option<Arc<str>>, message: Message, id: RecordId) -> (ChannelName, NewRecord) {
    let record = NewRecord {
        topic: Topic::Messages,
        key: message.key(),
        id,
        value: Bytes::from(serde_json::to_vec(&message).expect("a message has text keys only")),
        traceparent,
        once: None,
    };
    (message.to[0].channel.clone(), record)
}
