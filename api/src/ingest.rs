//! `POST /v1/messages` and `/batch`: read, check, hand to the log, answer. 202 only after the log has acknowledged;
//! each other answer says whether anything may have been written.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use chat4all_proto::http::{
    Accepted, BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, BatchRequest, BatchResponse, BatchResult, IDEMPOTENCY_KEY_BYTES_MAX,
    MESSAGE_BYTES_MAX, SendRequest,
};
use chat4all_proto::{ConversationId, MessageId, MessageStatus, Timestamp, Topic};
use chat4all_runtime::clock;
use chat4all_runtime::trace::Operation;
use chat4all_storage::crash_point;
use chat4all_storage::log::{AppendError, Appended, NewRecord};
use tracing::warn;

use crate::Api;
use crate::body::{self, MediaType};
use crate::draft::{Draft, Sender};
use crate::error::{Code, Error};
use crate::metrics;
use crate::params::Params;
use crate::parse;
use crate::trace::Trace;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Messages of a batch that are checked before other connections get their turn.
const BATCH_TURN: usize = 64;

/// What is still known of a message once its record is handed over.
struct Pending {
    message_id: MessageId,
    conversation_id: ConversationId,
    accepted_at: Timestamp,
    chosen_by: Option<&'static str>,
}

impl Pending {
    fn of(draft: Draft) -> Self {
        Self {
            message_id: draft.message.message_id,
            conversation_id: draft.message.conversation_id,
            accepted_at: draft.message.accepted_at,
            chosen_by: draft.chosen_by,
        }
    }

    fn settle(self, appended: Appended) -> Result<Accepted, Error> {
        let accepted_at = match appended {
            Appended::At { .. } => self.accepted_at,
            Appended::Repeated { first_at } => first_at,
            Appended::Conflict => {
                let detail = format!("`{}` was accepted with other contents before", self.message_id);
                return Err(Error::new(Code::IdempotencyConflict, detail).at(self.chosen_by.unwrap_or("message_id")));
            }
        };
        metrics::record_accepted();
        Ok(Accepted {
            message_id: self.message_id,
            conversation_id: self.conversation_id,
            status: MessageStatus::Accepted,
            accepted_at,
        })
    }
}

/// Why records are not known to be on the log.
pub(crate) enum Unwritten {
    /// Nothing was written and nothing will be.
    Never(Error),
    /// They may have been written. For our log.
    Perhaps(String),
}

impl Api {
    pub(crate) async fn send(&self, request: &HttpRequest, payload: &mut web::Payload) -> Result<HttpResponse, Error> {
        Trace::around(Operation::Send, request, async |trace| self.accept(request, payload, trace).await).await
    }

    async fn accept(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
        trace: &mut Trace,
    ) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        body::media_type(request, &[MediaType::Json])?;
        let key = idempotency_key(request)?;
        let body = body::read(request, payload, MESSAGE_BYTES_MAX, self.options.body_timeout).await?;
        let now = clock::now();
        let sender = Sender { tenant: &self.tenant, key, now };
        let draft = Draft::of(parse::json(&body)?, &sender, &self.directory)?;
        let record = draft.record(trace.carried_by(draft.message.message_id));
        let pending = Pending::of(draft);
        let message_id = pending.message_id;
        let appended = self.append_once(vec![record], now).await.map_err(|unwritten| match unwritten {
            Unwritten::Never(error) => error,
            Unwritten::Perhaps(cause) => outcome_unknown(message_id, cause),
        })?;
        let appended = *appended.first().ok_or_else(|| Error::internal("the log gave no result for a record"))?;
        accepted(&pending.settle(appended)?)
    }

    pub(crate) async fn batch(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
        request_id: &str,
    ) -> Result<HttpResponse, Error> {
        Trace::around(Operation::Batch, request, async |trace| {
            self.accept_all(request, payload, request_id, trace).await
        })
        .await
    }

    async fn accept_all(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
        request_id: &str,
        trace: &mut Trace,
    ) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        let media_type = body::media_type(request, &[MediaType::Json, MediaType::Ndjson])?;
        if request.headers().contains_key(IDEMPOTENCY_KEY) {
            let detail = "a batch takes no key; give each message a `message_id`";
            return Err(Error::new(Code::FieldNotSupported, detail).at(IDEMPOTENCY_KEY));
        }
        let _room = body::reserve(request, BATCH_BYTES_MAX, &self.batch_slots)?;
        let body = body::read(request, payload, BATCH_BYTES_MAX, self.options.body_timeout).await?;
        let messages = split(&body, media_type)?;
        let now = clock::now();
        let (checked, records) = self.check_all(&messages, trace, now).await;
        let appended = if records.is_empty() { Ok(Vec::new()) } else { self.append_once(records, now).await };
        if let Err(Unwritten::Perhaps(cause)) = &appended {
            warn!(request_id, cause, "the outcome of a batch is unknown");
            trace.failed(Code::OutcomeUnknown.row().code);
        }
        let results = settle_all(checked, appended)?;
        let results = results.into_iter().map(|result| batch_result(result, request_id)).collect();
        json(HttpResponse::Ok(), &BatchResponse { results })
    }

    /// For each message what is wrong with it or what is pending, and the records of those pending, in order.
    async fn check_all(
        &self,
        messages: &[&[u8]],
        trace: &mut Trace,
        now: Timestamp,
    ) -> (Vec<Result<Pending, Error>>, Vec<NewRecord>) {
        let sender = Sender { tenant: &self.tenant, key: None, now };
        let mut checked = Vec::with_capacity(messages.len());
        let mut records = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            if index % BATCH_TURN == BATCH_TURN - 1 {
                tokio::task::yield_now().await;
            }
            checked.push(self.check_one(message, &sender).map(|draft| {
                records.push(draft.record(trace.carried_by(draft.message.message_id)));
                Pending::of(draft)
            }));
        }
        (checked, records)
    }

    fn check_one(&self, message: &[u8], sender: &Sender<'_>) -> Result<Draft, Error> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(body::too_large(MESSAGE_BYTES_MAX));
        }
        Draft::of(parse::json::<SendRequest>(message)?, sender, &self.directory)
    }

    /// One append, counted as of `topic`. Answers within the append time-out; what was handed over by then stays handed over, also when the
    /// client has hung up and this future is dropped.
    pub(crate) async fn hand_over(&self, topic: &Topic, records: Vec<NewRecord>) -> Result<Vec<Appended>, Unwritten> {
        self.check_log_answers()?;
        let timeout = self.options.append_timeout;
        let started = clock::instant();
        crash_point("api::before-append");
        let result = tokio::time::timeout(timeout, self.log.append(records)).await;
        crash_point("api::after-append");
        metrics::record_publish(topic, clock::instant().duration_since(started));
        match result {
            Ok(Ok(appended)) => Ok(appended),
            Err(_) => Err(Unwritten::Perhaps(format!("the append was unanswered after {timeout:?}"))),
            Ok(Err(error @ AppendError::Unknown(_))) => Err(Unwritten::Perhaps(error.to_string())),
            Ok(Err(error @ (AppendError::Unavailable(_) | AppendError::Fenced))) => {
                Err(log_unavailable(error.to_string()))
            }
            Ok(Err(error @ AppendError::Refused(_))) => Err(Unwritten::Never(Error::internal(error.to_string()))),
        }
    }

    /// `Never` while the log is known to be away: nothing more is handed over then.
    pub(crate) fn check_log_answers(&self) -> Result<(), Unwritten> {
        match self.log.oldest_unacknowledged().filter(|age| *age > self.options.append_timeout) {
            Some(age) => Err(log_unavailable(format!("an append is unanswered for {age:?}"))),
            None => Ok(()),
        }
    }
}

fn log_unavailable(cause: String) -> Unwritten {
    let detail = "the log does not take messages now; nothing of this request was accepted";
    Unwritten::Never(Error::new(Code::LogUnavailable, detail).because(cause))
}

fn outcome_unknown(message_id: MessageId, cause: String) -> Error {
    let detail = "the log did not answer in time; repeat it with the same `Idempotency-Key`, or with this `message_id`";
    Error::new(Code::OutcomeUnknown, detail).about(message_id).because(cause)
}

/// The messages of a batch, unread.
fn split(body: &[u8], media_type: MediaType) -> Result<Vec<&[u8]>, Error> {
    let messages: Vec<&[u8]> = match media_type {
        MediaType::Json => {
            parse::json::<BatchRequest>(body)?.messages.into_iter().map(|raw| raw.get().as_bytes()).collect()
        }
        MediaType::Ndjson => {
            body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect()
        }
    };
    match messages.len() {
        1..=BATCH_MESSAGES_MAX => Ok(messages),
        count => {
            let detail = format!("has {count} messages; it must have from 1 to {BATCH_MESSAGES_MAX}");
            Err(Error::field("messages", detail))
        }
    }
}

/// Joins the checks with what became of the records. An error if nothing of the batch was handed over.
fn settle_all(
    checked: Vec<Result<Pending, Error>>,
    appended: Result<Vec<Appended>, Unwritten>,
) -> Result<Vec<Result<Accepted, Error>>, Error> {
    let (mut appended, unknown) = match appended {
        Ok(appended) => (appended.into_iter(), None),
        Err(Unwritten::Never(error)) => return Err(error),
        Err(Unwritten::Perhaps(cause)) => (Vec::new().into_iter(), Some(cause)),
    };
    let mut settle = |pending: Pending| match (&unknown, appended.next()) {
        (Some(cause), _) => Err(outcome_unknown(pending.message_id, cause.clone())),
        (None, Some(appended)) => pending.settle(appended),
        (None, None) => Err(Error::internal("the log gave too few results").about(pending.message_id)),
    };
    Ok(checked.into_iter().map(|checked| checked.and_then(&mut settle)).collect())
}

fn batch_result(result: Result<Accepted, Error>, request_id: &str) -> BatchResult {
    match result {
        Ok(accepted) => BatchResult {
            status: 202,
            message_id: Some(accepted.message_id),
            conversation_id: Some(accepted.conversation_id),
            accepted_at: Some(accepted.accepted_at),
            error: None,
        },
        Err(error) => {
            metrics::record_rejected(error.code);
            let problem = error.problem(request_id);
            BatchResult {
                status: problem.status,
                message_id: problem.message_id,
                conversation_id: None,
                accepted_at: None,
                error: Some(problem),
            }
        }
    }
}

fn accepted(accepted: &Accepted) -> Result<HttpResponse, Error> {
    let mut response = HttpResponse::Accepted();
    response.insert_header((LOCATION, format!("/v1/messages/{}", accepted.message_id)));
    json(response, accepted)
}

pub(crate) fn json(
    mut response: actix_web::HttpResponseBuilder,
    body: &impl serde::Serialize,
) -> Result<HttpResponse, Error> {
    let body = serde_json::to_vec(body).map_err(|error| Error::internal(error.to_string()))?;
    Ok(response.content_type("application/json").body(body))
}

/// The header's value: 1 to 255 visible ASCII characters, once.
fn idempotency_key(request: &HttpRequest) -> Result<Option<&str>, Error> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else { return Ok(None) };
    let refuse = |detail: String| Err(Error::field(IDEMPOTENCY_KEY, detail));
    if values.next().is_some() {
        return refuse("is given twice".into());
    }
    match value.to_str() {
        Ok(key) if (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) => Ok(Some(key)),
        Ok(key) => refuse(format!("is {} bytes long; it must be from 1 to {IDEMPOTENCY_KEY_BYTES_MAX}", key.len())),
        Err(_) => refuse("may hold visible ASCII characters only".into()),
    }
}
