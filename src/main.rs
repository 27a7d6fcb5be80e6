//! The binary `chat4all`: its command line, its configuration, and which roles run. The only place that names adapters.

mod bench;
mod cli;
mod config;
mod drill;
mod engines;
mod logging;
mod metrics;
mod otlp;
mod private;
mod serve;

use std::process::ExitCode;

/// Most of what is allocated is freed by another thread: the system's allocator spent a fifth of all CPU on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Reads `FAILPOINTS`; without the feature there is nothing to fail.
    let _faults = fail::FailScenario::setup();
    rustls::crypto::ring::default_provider().install_default().expect("nothing has chosen another one before");
    actix::System::new().block_on(cli::main())
}
