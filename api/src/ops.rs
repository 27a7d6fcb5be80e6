//! Probes and metrics: three routes that every process answers. The api serves them beside its own calls, the other
//! roles through [`bind`].

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, guard, web};
use async_trait::async_trait;
use chat4all_metrics::prometheus::{self, Encoder, TextEncoder};
use chat4all_proto::http;
use secrecy::SecretString;

use crate::call::{Door, Route, answer};
use crate::error::{Code, Error};
use crate::ingest::json;
use crate::server::{self, Limits, Server};

/// Says whether a process can do its work.
#[async_trait]
pub trait Readiness: Send + Sync + 'static {
    /// Every part it needs, and whether it may be given work: a part that is missing need not make it unready.
    /// Answers within about 2 s.
    async fn readiness(&self) -> http::Readiness;
}

/// Serves `/health/live`, `/health/ready` and `/metrics` alone, at once. With `api_key`, `/metrics` needs it.
/// Call it inside a tokio runtime. Errors are those of opening `listen`.
pub fn bind(listen: SocketAddr, api_key: Option<&SecretString>, readiness: Arc<dyn Readiness>) -> io::Result<Server> {
    let door = Arc::new(Door::new(api_key));
    let limits = Limits { connections_max: 256, ..Limits::default() };
    let state = Ops { door: Arc::clone(&door), readiness };
    server::start(listen, &limits, door, move |config| {
        routes(config, &state);
        nothing_else(config, &state.door);
    })
}

/// What the three routes need.
#[derive(Clone)]
pub(crate) struct Ops {
    pub door: Arc<Door>,
    pub readiness: Arc<dyn Readiness>,
}

/// Mounts the three routes.
pub(crate) fn routes(config: &mut web::ServiceConfig, ops: &Ops) {
    get(config, "/health/live", Route::Live, ops, async |_| {
        Ok(HttpResponse::Ok().content_type("text/plain").body("live\n"))
    });
    get(config, "/health/ready", Route::Ready, ops, ready);
    get(config, "/metrics", Route::Metrics, ops, async |_| metrics());
}

/// Refuses every path that is not mounted: below `/v1` as not built, elsewhere as not found.
pub(crate) fn nothing_else(config: &mut web::ServiceConfig, door: &Arc<Door>) {
    let door = Arc::clone(door);
    config.default_service(web::to(move |request: HttpRequest, payload: web::Payload| {
        let door = Arc::clone(&door);
        async move {
            answer(&door, Route::Other, &request, payload, async |_, _| {
                let path = request.path();
                let code = if path.starts_with("/v1/") { Code::CallNotSupported } else { Code::NotFound };
                Err(Error::new(code, format!("there is no call `{} {path}`", request.method())))
            })
            .await
        }
    }));
}

/// Answers the methods that a resource does not take.
pub(crate) fn other_methods(
    resource: actix_web::Resource,
    door: &Arc<Door>,
    allow: &'static str,
) -> actix_web::Resource {
    let door = Arc::clone(door);
    resource.default_service(web::to(move |request: HttpRequest, payload: web::Payload| {
        let door = Arc::clone(&door);
        async move {
            answer(&door, Route::Other, &request, payload, async |_, _| {
                let detail = format!("`{}` takes {allow}", request.path());
                Err(Error::new(Code::MethodNotAllowed, detail).allowing(allow))
            })
            .await
        }
    }))
}

/// A route for GET and HEAD.
pub(crate) fn get_or_head() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn get<W>(config: &mut web::ServiceConfig, path: &str, route: Route, ops: &Ops, work: W)
where
    W: AsyncFn(&Ops) -> Result<HttpResponse, Error> + Copy + 'static,
{
    let handler = {
        let ops = ops.clone();
        get_or_head().to(move |request: HttpRequest, payload: web::Payload| {
            let ops = ops.clone();
            async move { answer(&ops.door, route, &request, payload, async |_, _| work(&ops).await).await }
        })
    };
    config.service(other_methods(web::resource(path).route(handler), &ops.door, "GET, HEAD"));
}

async fn ready(ops: &Ops) -> Result<HttpResponse, Error> {
    let mut readiness = ops.readiness.readiness().await;
    if ops.door.is_draining() {
        readiness.ready = false;
        let detail = Some("the process is ending".to_owned());
        readiness.parts.push(http::Part { name: "process".into(), ready: false, detail });
    }
    let response = if readiness.ready { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    json(response, &readiness)
}

fn metrics() -> Result<HttpResponse, Error> {
    let (encoder, mut text) = (TextEncoder::new(), Vec::new());
    encoder.encode(&prometheus::gather(), &mut text).map_err(|error| Error::internal(error.to_string()))?;
    Ok(HttpResponse::Ok().content_type(encoder.format_type()).body(text))
}
