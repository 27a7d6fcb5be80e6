//! A provider double over real HTTP, with inboxes one can read and faults on demand. The binary starts it for
//! `chat4all simulate` and inside a `serve` without configuration; tests start it as the receiver of webhooks and in the
//! place of the providers. It knows nothing of the connectors, so that both sides cannot share a mistake.
//!
//! It speaks HTTP/1.1 itself on tokio's TCP instead of through actix-web, because most faults (a reset, half an answer,
//! a head without an end) are exactly what a web framework will not do.

mod answer;
mod callbacks;
mod connection;
pub mod credentials;
mod fault;
mod faults;
mod inbox;
mod misdeed;
mod providers;
mod routes;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callbacks::{Callbacks, Settings};
use tokio::sync::oneshot;
use tracing::{debug, warn};

/// Where a simulator listens, and whom it calls back.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0: any free one.
    pub listen: SocketAddr,
    /// The URL, `http` only, that a provider's name is appended to for receipts and inbound messages. The process must have
    /// chosen a TLS provider of rustls all the same. None: nobody is called back.
    pub callbacks: Option<String>,
    /// From the acceptance of a message to its first late receipt, and between receipts. Default: 300 ms.
    pub receipt_delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 8090).into(), callbacks: None, receipt_delay: Duration::from_millis(300) }
    }
}

/// A running simulator, on a thread and runtime of its own. Ends when this is dropped.
pub struct Simulator {
    addr: SocketAddr,
    callbacks: Arc<Callbacks>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Simulator {
    /// Listens when this returns. Needs no runtime around it. Fails if the address cannot be had; the text names it.
    pub fn start(options: Options) -> io::Result<Self> {
        let listener = listen(options.listen)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let callbacks = Arc::new(Callbacks::new(Settings::new(options.callbacks.as_deref(), options.receipt_delay)));
        let shared = callbacks.clone();
        std::thread::Builder::new().name("simulator".into()).spawn(move || {
            runtime.block_on(accept(listener, shared, stopped));
            // Cuts all connections.
            drop(runtime);
            let _ = end.send(());
        })?;
        Ok(Self { addr, callbacks, stop, ended })
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on callbacks go to `base`, as in [`Options::callbacks`]. Those that wait go there too.
    pub fn set_callbacks(&self, base: String) {
        self.callbacks.set_base(&base);
    }

    /// Stops listening and cuts every connection. The port is free when this returns.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = self.ended.await;
    }
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addr).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "the port is taken".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("the simulator cannot listen on `{addr}`: {why}"))
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn accept(listener: TcpListener, callbacks: Arc<Callbacks>, mut stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "the simulator cannot use its socket"),
    };
    tokio::spawn(callbacks::run(callbacks.clone()));
    let state = Arc::new(Mutex::new(routes::State::new(callbacks)));
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(connection::serve(stream, state.clone()))),
            Err(error) => {
                debug!(%error, "accept failed");
                // Out of descriptors: they come back when connections end, which nothing here announces.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}
