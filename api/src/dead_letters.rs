//! `/v1/dead-letters`: what failed for good, listed, shown and deleted. `replay` sends it again.

use actix_web::{HttpRequest, HttpResponse};
use chat4all_proto::DeliveryId;
use chat4all_proto::http::{DeadLetterView, Deleted};
use chat4all_storage::status::{DeadLetterFilter, DeadLetterRow, PageRequest};

use crate::Api;
use crate::error::{Code, Error};
use crate::ingest::json;
use crate::metrics;
use crate::params::Params;
use crate::query::path_id;

/// Letters that are deleted at a time, and how often in one call.
const AT_ONCE: usize = 200;
const ROUNDS: usize = 5;

impl Api {
    /// `GET /v1/dead-letters`
    pub(crate) async fn dead_letters(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        let known = ["channel", "reason", "from", "before", "limit", "cursor"];
        let params = Params::read(request.query_string(), &known)?;
        let page = params.page()?;
        let filter = filter(&params)?;
        let found = self.ask_status(self.status.dead_letters(&self.tenant, &filter, &page)).await?;
        json(HttpResponse::Ok(), &found)
    }

    /// `GET /v1/dead-letters/{delivery_id}`
    pub(crate) async fn dead_letter(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        let found = self.letter(path_id(request).await?).await?;
        json(HttpResponse::Ok(), &DeadLetterView::from(found))
    }

    /// `DELETE /v1/dead-letters/{delivery_id}`
    pub(crate) async fn discard(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        let delivery = self.letter(path_id(request).await?).await?.letter.delivery;
        let letters = [(delivery.delivery_id, delivery.generation)];
        let deleted = self.ask_status(self.status.discard(&self.tenant, &letters)).await?;
        metrics::record_deleted(deleted);
        json(HttpResponse::Ok(), &Deleted { deleted, more: false })
    }

    /// `DELETE /v1/dead-letters`: those that a filter finds, some a call.
    pub(crate) async fn discard_many(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        let params = Params::read(request.query_string(), &["channel", "reason", "from", "before", "all"])?;
        let filter = filter(&params)?;
        let all = match params.get("all") {
            None => false,
            Some("true") => true,
            Some(_) => return Err(Error::parameter("all", "can only be `true`")),
        };
        if all == (filter != DeadLetterFilter::default()) {
            let detail =
                "give `channel`, `reason`, `from` or `before`, or else `all=true`, which deletes every dead letter";
            return Err(Error::parameter("all", detail));
        }
        let mut page = PageRequest { limit: AT_ONCE, cursor: None };
        let mut deleted = 0;
        for _ in 0..ROUNDS {
            let listed = self.ask_status(self.status.dead_letters(&self.tenant, &filter, &page)).await?;
            let letters: Vec<_> =
                listed.dead_letters.iter().map(|letter| (letter.delivery_id, letter.generation)).collect();
            let count = self.ask_status(self.status.discard(&self.tenant, &letters)).await?;
            metrics::record_deleted(count);
            deleted += count;
            page.cursor = listed.next_cursor;
            if page.cursor.is_none() {
                break;
            }
        }
        json(HttpResponse::Ok(), &Deleted { deleted, more: page.cursor.is_some() })
    }

    pub(crate) async fn letter(&self, id: DeliveryId) -> Result<DeadLetterRow, Error> {
        let found = self.ask_status(self.status.dead_letter(&self.tenant, id)).await?;
        found.ok_or_else(|| Error::new(Code::DeadLetterNotFound, format!("there is no dead letter `{id}`")))
    }
}

fn filter(params: &Params<'_>) -> Result<DeadLetterFilter, Error> {
    let (from, before) = (params.time("from")?, params.time("before")?);
    if from.zip(before).is_some_and(|(from, before)| from >= before) {
        return Err(Error::parameter("before", "must be later than `from`"));
    }
    Ok(DeadLetterFilter { channel: params.parsed("channel")?, reason: params.parsed("reason")?, from, before })
}
