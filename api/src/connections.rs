//! Cuts off connections that hold a place without a request. The HTTP library times the head of a connection's first
//! request and the pause between two requests, but not a later head that is begun and never finished; a connection
//! that is idle for longer than pause and head together can only be that.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use chat4all_runtime::clock;
use tracing::debug;

/// In place of a time: a request is under way, or the first one has not come yet.
const NOT_IDLE: u64 = u64::MAX;

/// The open connections of one server.
pub struct Connections {
    started: Instant,
    idle_max: Duration,
    open: Mutex<Vec<Weak<Connection>>>,
}

struct Connection {
    /// A second handle to the socket, for ending it from outside. Closed with the connection.
    socket: TcpStream,
    server: Arc<Connections>,
    /// Milliseconds after the server's start, or `NOT_IDLE`.
    idle_since_ms: AtomicU64,
}

impl Connections {
    pub fn new(idle_max: Duration) -> Self {
        Self { started: clock::instant(), idle_max, open: Mutex::default() }
    }

    /// Notes a connection that was accepted.
    pub fn opened(self: &Arc<Self>, io: &dyn Any, extensions: &mut Extensions) {
        let stream = io.downcast_ref::<actix_web::rt::net::TcpStream>();
        let Some(Ok(socket)) = stream.map(|stream| stream.as_fd().try_clone_to_owned()) else { return };
        let connection = Arc::new(Connection {
            socket: socket.into(),
            server: Arc::clone(self),
            idle_since_ms: AtomicU64::new(NOT_IDLE),
        });
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
        extensions.insert(connection);
    }

    /// Cuts off what is idle for too long, for ever. To be aborted.
    pub async fn run(&self) {
        let pause = (self.idle_max / 4).clamp(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            tokio::time::sleep(pause).await;
            self.sweep();
        }
    }

    fn sweep(&self) {
        let Some(latest) = clock::instant().duration_since(self.started).checked_sub(self.idle_max) else { return };
        let latest_ms = latest.as_millis() as u64;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            let expired = connection.idle_since_ms.load(Ordering::Relaxed) < latest_ms;
            if expired {
                debug!("a connection was cut off that held its place without a request");
                // An error means that the client was faster.
                drop(connection.socket.shutdown(Shutdown::Both));
            }
            !expired
        });
    }

    fn age_ms(&self) -> u64 {
        clock::instant().duration_since(self.started).as_millis() as u64
    }
}

/// Marks the connection of `request` as busy until the answer is dropped.
pub fn busy(request: &HttpRequest) -> Busy<'_> {
    let connection = request.conn_data::<Arc<Connection>>();
    if let Some(connection) = connection {
        connection.idle_since_ms.store(NOT_IDLE, Ordering::Relaxed);
    }
    Busy(connection)
}

pub struct Busy<'a>(Option<&'a Arc<Connection>>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0 {
            connection.idle_since_ms.store(connection.server.age_ms(), Ordering::Relaxed);
        }
    }
}
