//! `POST /v1/messages/{id}/cancel`: what was not sent yet shall not be. The id goes to the topic `control`; connectors end
//! what they have of the message, and the status tells what came of it.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use chat4all_proto::control::{Cancelled, OUTLIVES_MESSAGE_BY};
use chat4all_proto::envelope::V1;
use chat4all_proto::http::{CancelRequested, MessageView};
use chat4all_proto::{ControlKey, DeliveryStatus, MessageId, Timestamp};
use chat4all_runtime::clock;

use crate::Api;
use crate::body;
use crate::error::{Code, Error};
use crate::ingest::json;
use crate::params::Params;
use crate::query::path_id;

/// Most cancelled ids at a time: every process holds them all.
const CANCELLED_MAX: usize = 100_000;

impl Api {
    pub(crate) async fn cancel(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
    ) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        body::expect_none(request, payload, self.options.body_timeout).await?;
        let id: MessageId = path_id(request).await?;
        let view = self.found(id).await?;
        if !self.is_cancelled(id) && !ended_cancelled(&view)? {
            if self.control.borrow().cancelled.len() >= CANCELLED_MAX {
                let detail = format!("{CANCELLED_MAX} messages are cancelled and not expired yet; no more are taken");
                return Err(Error::new(Code::Overloaded, detail));
            }
            let now = clock::now();
            let value = Cancelled { v: V1, at: now, until: until(&view, now) };
            self.put_control(&ControlKey::Cancelled(id), Some(&value)).await?;
            self.knows(|control| control.cancelled.contains(&id)).await;
        }
        let mut response = HttpResponse::Accepted();
        response.insert_header((LOCATION, format!("/v1/messages/{id}")));
        json(response, &CancelRequested { message_id: id, status: view.status })
    }

    /// Whether what is under way of the message is about to end as `cancelled`.
    pub(crate) fn is_cancelled(&self, id: MessageId) -> bool {
        self.control.borrow().cancelled.contains(&id)
    }
}

/// Whether a former cancellation has ended it. An error if nothing is left to be cancelled, and nothing was.
fn ended_cancelled(view: &MessageView) -> Result<bool, Error> {
    if view.from.is_some() {
        return Err(too_late("it came from the other side: there is nothing to be cancelled", view));
    }
    let all_ended = view.deliveries.len() >= view.to.len() && view.deliveries.iter().all(|one| one.status.is_end());
    if !all_ended {
        return Ok(false);
    }
    if view.deliveries.iter().any(|one| one.status == DeliveryStatus::Cancelled) {
        return Ok(true);
    }
    Err(too_late("every delivery of it was sent or has ended", view))
}

fn too_late(detail: &str, view: &MessageView) -> Error {
    Error::new(Code::TooLate, detail).about(view.message_id)
}

/// A delivery that was replayed lives as long again as the message did, from the replay on.
fn until(view: &MessageView, now: Timestamp) -> Timestamp {
    let expires_at = view.expires_at.unwrap_or(now);
    let of_replay = now.saturating_add(expires_at.saturating_since(view.accepted_at));
    expires_at.max(of_replay).saturating_add(OUTLIVES_MESSAGE_BY)
}
