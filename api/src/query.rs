//! The calls that read messages from the status store, which may be behind the log; only [`Api::found`] waits for it.

use std::time::Duration;

use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use chat4all_proto::http::MessageView;
use chat4all_proto::{ConversationId, MessageId};
use chat4all_runtime::clock;
use chat4all_storage::status::{self, Filter};
use tokio::time::{sleep, timeout};

use crate::Api;
use crate::error::{Code, Error};
use crate::ingest::json;
use crate::params::Params;

/// Pause before a missing row is looked for again, while the wait for the recorder goes on. Doubles.
const REREAD: Duration = Duration::from_millis(5);

impl Api {
    /// `GET /v1/messages/{id}`
    pub(crate) async fn message(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        let id: MessageId = path_id(request).await?;
        json(HttpResponse::Ok(), &self.found(id).await?)
    }

    /// The message, waited for if it was accepted and is not there yet.
    pub(crate) async fn found(&self, id: MessageId) -> Result<MessageView, Error> {
        match self.row(id).await? {
            Some(found) => Ok(found),
            None => self.late_row(id).await,
        }
    }

    /// A row that is not there yet: found, known to be absent, or neither within the time.
    async fn late_row(&self, id: MessageId) -> Result<MessageView, Error> {
        let passed = self.catch_up.passed(clock::instant());
        match timeout(self.options.catch_up_timeout, self.first_of(id, passed)).await {
            Ok(found) => found,
            Err(_) => {
                let detail = "the status store is behind the log; whether there is such a message is not known yet";
                Err(Error::new(Code::StatusBehind, detail).about(id))
            }
        }
    }

    /// Reads again until the row is there, for the last time once everything up to now must be.
    async fn first_of(&self, id: MessageId, passed: impl Future<Output = ()>) -> Result<MessageView, Error> {
        let mut passed = std::pin::pin!(passed);
        let mut pause = REREAD;
        loop {
            let is_last = tokio::select! {
                () = &mut passed => true,
                () = sleep(pause) => false,
            };
            if let Some(found) = self.row(id).await? {
                return Ok(found);
            }
            if is_last {
                return Err(Error::new(Code::MessageNotFound, format!("there is no message `{id}`")));
            }
            pause *= 2;
        }
    }

    async fn row(&self, id: MessageId) -> Result<Option<MessageView>, Error> {
        self.ask_status(self.status.message(&self.tenant, id, clock::now())).await
    }

    /// `GET /v1/conversations/{id}/messages`
    pub(crate) async fn conversation(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        let page = Params::read(request.query_string(), &["limit", "cursor"])?.page()?;
        let id: ConversationId = path_id(request).await?;
        let found = self.ask_status(self.status.conversation(&self.tenant, &id, &page, clock::now())).await?;
        json(HttpResponse::Ok(), &found)
    }

    /// `GET /v1/messages`
    pub(crate) async fn messages(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        let params = Params::read(request.query_string(), &["status", "channel", "limit", "cursor"])?;
        let page = params.page()?;
        let filter = Filter { status: params.parsed("status")?, channel: params.parsed("channel")? };
        let found = self.ask_status(self.status.messages(&self.tenant, &filter, &page, clock::now())).await?;
        json(HttpResponse::Ok(), &found)
    }

    pub(crate) async fn ask_status<T>(&self, call: impl Future<Output = Result<T, status::Error>>) -> Result<T, Error> {
        let away = |cause: String| Error::new(Code::StatusUnavailable, "the status store is away").because(cause);
        match timeout(self.options.status_timeout, call).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error @ status::Error::Unavailable(_))) => Err(away(error.to_string())),
            Ok(Err(error @ status::Error::BadCursor)) => Err(Error::parameter("cursor", error.to_string())),
            Ok(Err(error @ status::Error::Refused(_))) => Err(Error::internal(error.to_string())),
            Err(_) => Err(away("no answer in time".into())),
        }
    }
}

/// `{id}` of the path, decoded.
pub(crate) async fn path_id<T>(request: &HttpRequest) -> Result<T, Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let id = web::Path::<String>::extract(request).await.map_err(|error| Error::parameter("id", error.to_string()))?;
    id.parse().map_err(|error: T::Err| Error::parameter("id", error.to_string()))
}
