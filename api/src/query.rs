//! The calls that read: messages from the status store, channels and processes from the log. The store may be behind
//! the log; only [`Api::message`] waits for it.

use std::time::Duration;

use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use chat4all_proto::http::{ChannelList, ChannelView, MessageView};
use chat4all_proto::{ConversationId, MessageId, Topic};
use chat4all_runtime::clock;
use chat4all_storage::status::{self, Filter};
use tokio::time::{sleep, timeout};

use crate::Api;
use crate::draft::ChannelInfo;
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
        let found = match self.row(id).await? {
            Some(found) => found,
            None => self.late_row(id).await?,
        };
        json(HttpResponse::Ok(), &found)
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

    /// `GET /v1/channels`
    pub(crate) async fn channels(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        let views = self.directory.values().map(|info| self.channel_view(info));
        let channels = futures_util::future::join_all(views).await;
        json(HttpResponse::Ok(), &ChannelList { channels })
    }

    async fn channel_view(&self, info: &ChannelInfo) -> ChannelView {
        ChannelView {
            name: info.name.clone(),
            kind: info.channel.kind().to_owned(),
            in_flight_max: info.in_flight_max,
            attempts_max: info.attempts_max,
            highest_status: Some(info.channel.highest_status()),
            waiting: timeout(self.options.append_timeout, self.waiting(info)).await.ok().flatten(),
        }
    }

    /// Records on the channel's topics that its group has not finished.
    async fn waiting(&self, info: &ChannelInfo) -> Option<u64> {
        let mut waiting = 0;
        for topic in [Topic::Outbound(info.name.clone()), Topic::Parked(info.name.clone())] {
            // In this order the difference is never too small.
            let committed = self.log.committed(&info.group, &topic).await.ok()?;
            let ends = self.log.ends(&topic).await.ok()?;
            let unfinished = ends.iter().zip(&committed).map(|(end, committed)| end.saturating_sub(*committed));
            waiting += unfinished.sum::<u64>();
        }
        Some(waiting)
    }

    /// `GET /v1/cluster`
    pub(crate) async fn cluster(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        let away = |cause: String| {
            Error::new(Code::LogUnavailable, "the log does not say now which processes there are").because(cause)
        };
        match timeout(self.options.append_timeout, self.log.cluster()).await {
            Ok(Ok(view)) => json(HttpResponse::Ok(), &view),
            Ok(Err(error)) => Err(away(error.to_string())),
            Err(_) => Err(away("no answer in time".into())),
        }
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
