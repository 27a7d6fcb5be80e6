//! Which path and method reach which call.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};

use crate::Api;
use crate::call::{Route, answer};
use crate::error::Error;
use crate::ops::{self, Ops, get_or_head};

/// Mounts every call of the API.
pub fn mount(config: &mut web::ServiceConfig, api: &Arc<Api>) {
    resource(config, api, "/v1/messages/batch", "POST", [post(api, Route::Batch)]);
    let messages = [post(api, Route::Send), read(api, Route::Messages, Api::messages)];
    resource(config, api, "/v1/messages", "GET, HEAD, POST", messages);
    resource(config, api, "/v1/messages/{id}", "GET, HEAD", [read(api, Route::Message, Api::message)]);
    resource(config, api, "/v1/messages/{id}/cancel", "POST", [post(api, Route::Cancel)]);
    let conversation = [read(api, Route::Conversation, Api::conversation)];
    resource(config, api, "/v1/conversations/{id}/messages", "GET, HEAD", conversation);
    resource(config, api, "/v1/channels", "GET, HEAD", [read(api, Route::Channels, Api::channels)]);
    resource(config, api, "/v1/channels/{id}", "GET, HEAD", [read(api, Route::Channel, Api::channel)]);
    resource(config, api, "/v1/channels/{id}/pause", "POST", [post(api, Route::Pause)]);
    resource(config, api, "/v1/channels/{id}/resume", "POST", [post(api, Route::Resume)]);
    let dead_letters = [read(api, Route::DeadLetters, Api::dead_letters)];
    resource(config, api, "/v1/dead-letters", "GET, HEAD", dead_letters);
    let dead_letter = [read(api, Route::DeadLetter, Api::dead_letter)];
    resource(config, api, "/v1/dead-letters/{id}", "GET, HEAD", dead_letter);
    resource(config, api, "/v1/dead-letters/{id}/replay", "POST", [post(api, Route::Replay)]);
    let callbacks = [read(api, Route::Handshake, Api::handshake), post(api, Route::Callback)];
    resource(config, api, "/v1/callbacks/{id}", "GET, HEAD, POST", callbacks);
    resource(config, api, "/v1/cluster", "GET, HEAD", [read(api, Route::Cluster, Api::cluster)]);
    resource(config, api, "/v1/processes/{id}/drain", "POST", [post(api, Route::Drain)]);
    let readiness: Arc<dyn ops::Readiness> = Arc::clone(api) as _;
    ops::routes(config, &Ops { door: Arc::clone(&api.door), readiness });
    ops::nothing_else(config, &api.door);
}

fn resource<const N: usize>(
    config: &mut web::ServiceConfig,
    api: &Arc<Api>,
    path: &str,
    allow: &'static str,
    routes: [actix_web::Route; N],
) {
    let resource = routes.into_iter().fold(web::resource(path), actix_web::Resource::route);
    config.service(ops::other_methods(resource, &api.door, allow));
}

fn post(api: &Arc<Api>, route: Route) -> actix_web::Route {
    let api = Arc::clone(api);
    web::post().to(move |request: HttpRequest, payload: web::Payload| {
        let api = Arc::clone(&api);
        async move {
            answer(&api.door, route, &request, payload, async |request_id, payload| match route {
                Route::Batch => api.batch(&request, payload, request_id).await,
                Route::Replay => api.replay(&request, payload).await,
                Route::Cancel => api.cancel(&request, payload).await,
                Route::Pause => api.set_paused(&request, payload, true).await,
                Route::Resume => api.set_paused(&request, payload, false).await,
                Route::Drain => api.drain(&request, payload).await,
                Route::Callback => api.callback(&request, payload).await,
                _ => api.send(&request, payload).await,
            })
            .await
        }
    })
}

fn read<W>(api: &Arc<Api>, route: Route, work: W) -> actix_web::Route
where
    W: AsyncFn(&Api, &HttpRequest) -> Result<HttpResponse, Error> + Copy + 'static,
{
    let api = Arc::clone(api);
    get_or_head().to(move |request: HttpRequest, payload: web::Payload| {
        let api = Arc::clone(&api);
        async move { answer(&api.door, route, &request, payload, async |_, _| work(&api, &request).await).await }
    })
}
