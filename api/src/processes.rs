//! `GET /v1/cluster`, and `POST /v1/processes/{id}/drain`: the processes there are, and ending one of them in order.

use actix_web::{HttpRequest, HttpResponse, web};
use chat4all_proto::ControlKey;
use chat4all_proto::control::DrainWanted;
use chat4all_proto::envelope::V1;
use chat4all_proto::http::ClusterView;
use chat4all_runtime::clock;
use tokio::time::timeout;

use crate::Api;
use crate::body;
use crate::error::{Code, Error};
use crate::ingest::json;
use crate::params::Params;
use crate::query::path_id;

impl Api {
    /// `GET /v1/cluster`
    pub(crate) async fn cluster(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        json(HttpResponse::Ok(), &self.cluster_view().await?)
    }

    /// `POST /v1/processes/{id}/drain`
    pub(crate) async fn drain(&self, request: &HttpRequest, payload: &mut web::Payload) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        body::expect_none(request, payload, self.options.body_timeout).await?;
        let id: String = path_id(request).await?;
        let processes = self.cluster_view().await?.processes;
        let found = processes.into_iter().find(|process| process.process == id && process.alive);
        let found = found.ok_or_else(|| Error::new(Code::ProcessNotFound, format!("no process `{id}` is alive")))?;
        self.put_control(&ControlKey::Drain(id), Some(&DrainWanted { v: V1, at: clock::now() })).await?;
        json(HttpResponse::Accepted(), &found)
    }

    pub(crate) async fn cluster_view(&self) -> Result<ClusterView, Error> {
        let away = |cause: String| {
            Error::new(Code::LogUnavailable, "the log does not say now which processes there are").because(cause)
        };
        match timeout(self.options.append_timeout, self.log.cluster()).await {
            Ok(Ok(view)) => Ok(view),
            Ok(Err(error)) => Err(away(error.to_string())),
            Err(_) => Err(away("no answer in time".into())),
        }
    }
}
