//! `/v1/channels`: what each channel is at, and pausing it. A pause holds what is routed and loses nothing; it is kept in
//! the topic `control`, which every process follows.

use actix_web::{HttpRequest, HttpResponse, web};
use chat4all_proto::control::Paused;
use chat4all_proto::envelope::V1;
use chat4all_proto::http::{BreakerView, ChannelList, ChannelView};
use chat4all_proto::{ChannelName, ControlKey, Topic};
use chat4all_runtime::clock;
use tokio::time::timeout;

use crate::Api;
use crate::body;
use crate::draft::{ChannelInfo, unknown_channel};
use crate::error::{Code, Error};
use crate::ingest::json;
use crate::params::Params;
use crate::query::path_id;

impl Api {
    /// `GET /v1/channels`
    pub(crate) async fn channels(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        let alive = self.alive().await;
        let views = self.directory.values().map(|info| self.channel_view(info, &alive));
        let channels = futures_util::future::join_all(views).await;
        json(HttpResponse::Ok(), &ChannelList { channels })
    }

    /// `GET /v1/channels/{name}`
    pub(crate) async fn channel(&self, request: &HttpRequest) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        let info = self.channel_info(request).await?;
        json(HttpResponse::Ok(), &self.channel_view(info, &self.alive().await).await)
    }

    /// `POST /v1/channels/{name}/pause` and `/resume`. What is so already stays so, a pause with its time.
    pub(crate) async fn set_paused(
        &self,
        request: &HttpRequest,
        payload: &mut web::Payload,
        paused: bool,
    ) -> Result<HttpResponse, Error> {
        Params::read(request.query_string(), &[])?;
        body::expect_none(request, payload, self.options.body_timeout).await?;
        let info = self.channel_info(request).await?;
        let known = self.control.borrow().paused.get(&info.name).cloned();
        let value = paused.then(|| known.unwrap_or_else(|| Paused { v: V1, since: clock::now() }));
        // Also what seems to be so already: another api may have changed it just now.
        self.put_control(&ControlKey::Paused(info.name.clone()), value.as_ref()).await?;
        self.knows(|control| control.paused.get(&info.name) == value.as_ref()).await;
        let view = self.channel_view(info, &self.alive().await).await;
        let view = ChannelView { paused: Some(paused), paused_since: value.map(|value| value.since), ..view };
        json(HttpResponse::Ok(), &view)
    }

    async fn channel_info(&self, request: &HttpRequest) -> Result<&ChannelInfo, Error> {
        let name: ChannelName = path_id(request).await.map_err(|error: Error| error.at("name"))?;
        let unknown = || Error { code: Code::ChannelNotFound, ..unknown_channel(&name, &self.directory) };
        self.directory.get(&name).ok_or_else(unknown)
    }

    async fn channel_view(&self, info: &ChannelInfo, alive: &[String]) -> ChannelView {
        let control = self.control.borrow().clone();
        let paused = control.paused.get(&info.name);
        let breakers = control.breakers.get(&info.name).into_iter().flatten();
        ChannelView {
            name: info.name.clone(),
            kind: info.channel.kind().to_owned(),
            in_flight_max: info.in_flight_max,
            attempts_max: info.attempts_max,
            highest_status: Some(info.channel.highest_status()),
            waiting: timeout(self.options.append_timeout, self.waiting(info)).await.ok().flatten(),
            paused: control.is_read.then_some(paused.is_some()),
            paused_since: paused.map(|paused| paused.since),
            breakers: breakers
                .filter(|(process, _)| alive.contains(process))
                .map(|(process, said)| BreakerView {
                    process: process.clone(),
                    state: said.state,
                    since: said.since,
                    until: said.until,
                })
                .collect(),
        }
    }

    /// Records on the channel's outbound topic that its group has not finished.
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

    /// The processes that are known to live, asked only where one has said something about a breaker.
    async fn alive(&self) -> Vec<String> {
        if self.control.borrow().breakers.is_empty() {
            return Vec::new();
        }
        let processes = self.cluster_view().await.map(|view| view.processes).unwrap_or_default();
        processes.into_iter().filter(|process| process.alive).map(|process| process.process).collect()
    }
}
