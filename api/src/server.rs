//! An HTTP server with its limits, and its orderly end. Knows nothing of what it serves.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use tokio::task::{AbortHandle, JoinHandle};
use tracing::warn;

use crate::call::Door;
use crate::connections::Connections;

/// What clients may take of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Threads that serve. Default: 1, which leaves the second of two cores to the other roles.
    pub workers: usize,
    /// Open connections for each worker, two file descriptors each. Default: 1,024.
    pub connections_max: usize,
    /// Time for the whole head of a request (a connection's later requests: and for the pause before it). Default: 10 s.
    pub head_timeout: Duration,
    /// How long an idle connection is kept. Default: 75 s.
    pub keep_alive: Duration,
    /// How long [`Server::stop`] waits for requests under way. Default: 10 s.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 1,
            connections_max: 1_024,
            head_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// A server that listens. Dropping it does not end it: [`Server::stop`] does.
pub struct Server {
    addr: SocketAddr,
    door: Arc<Door>,
    drain_timeout: Duration,
    handle: ServerHandle,
    task: JoinHandle<io::Result<()>>,
    /// Tasks that end with the server.
    background: Vec<AbortHandle>,
}

/// Opens `listen` and serves what `configure` mounts. Panics outside a tokio runtime.
pub(crate) fn start<C>(listen: SocketAddr, limits: &Limits, door: Arc<Door>, configure: C) -> io::Result<Server>
where
    C: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
{
    let connections = Arc::new(Connections::new(limits.keep_alive + limits.head_timeout));
    let opened = Arc::clone(&connections);
    let server = HttpServer::new(move || App::new().configure(configure.clone()))
        .on_connect(move |io, extensions| opened.opened(io, extensions))
        .workers(limits.workers.max(1))
        .max_connections(limits.connections_max)
        .client_request_timeout(limits.head_timeout)
        .keep_alive(limits.keep_alive)
        .tcp_nodelay(true)
        .shutdown_timeout(limits.drain_timeout.as_secs().max(1))
        .disable_signals()
        .bind(listen)?;
    let addr = *server.addrs().first().expect("one address was bound");
    let server = server.run();
    Ok(Server {
        addr,
        door,
        drain_timeout: limits.drain_timeout,
        handle: server.handle(),
        task: tokio::spawn(server),
        background: vec![tokio::spawn(async move { connections.run().await }).abort_handle()],
    })
}

impl Server {
    /// The address it listens on, with the port that the system chose where 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn with_background(mut self, task: AbortHandle) -> Self {
        self.background.push(task);
        self
    }

    /// Refuses new requests with 503, answers those under way (at most the drain time-out), then closes everything.
    /// Takes up to 1 s longer where clients keep connections open.
    pub async fn stop(self) {
        self.door.drain(self.drain_timeout).await;
        self.handle.stop(true).await;
        self.background.iter().for_each(AbortHandle::abort);
        match self.task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the HTTP server ended with an error"),
            Err(error) => warn!(%error, "the HTTP server's task ended with an error"),
        }
    }
}
