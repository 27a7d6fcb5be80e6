//! How a process ends: the first signal drains, the second ends at once, and a fault that no restart mends ends it with
//! a failure.

use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Exit code after a second signal, as shells give it for SIGINT.
const INTERRUPTED: i32 = 130;

/// The one wish to end that all parts of a process share.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    failure: Arc<OnceLock<String>>,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every part to drain and end.
    pub fn request(&self) {
        self.requested.cancel();
    }

    /// As `request`, and the process shall end with a failure. The first reason stays.
    pub fn fail(&self, reason: String) {
        error!(%reason, "this process cannot go on and ends");
        // A later failure while ending adds nothing.
        let _ = self.failure.set(reason);
        self.requested.cancel();
    }

    pub fn is_requested(&self) -> bool {
        self.requested.is_cancelled()
    }

    pub async fn requested(&self) {
        self.requested.cancelled().await;
    }

    /// Why the process must end with a failure, if it must.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Takes over SIGINT and SIGTERM: the first requests, a second ends the process at once.
    /// Must be called within a tokio runtime; fails only if the signal handlers cannot be installed.
    pub fn listen(&self) -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            for first in [true, false] {
                let name = tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                };
                if first {
                    info!(signal = name, "draining; a second signal ends at once");
                    shutdown.request();
                } else {
                    warn!(
                        signal = name,
                        "ending at once; what is in flight will be sent again by whoever takes over, or at the next start"
                    );
                    std::process::exit(INTERRUPTED);
                }
            }
        });
        Ok(())
    }
}
