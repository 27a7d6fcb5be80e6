//! `chat4all simulate`

use std::net::SocketAddr;

use chat4all_runtime::Shutdown;
use chat4all_simulator::{Options, Simulator};

use super::serve::ConfigArgs;
use super::{Failure, say_at_once};
use crate::logging;

/// Runs a double of the providers, to send to: it takes what is posted and shows it again.
///
/// What was posted to /inbox/NAME is read at the same path: `curl 127.0.0.1:8090/inbox/ana`. It can fail on demand,
/// path by path.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  chat4all simulate\n  chat4all simulate --listen 127.0.0.1:0")]
pub struct Args {
    /// Where to listen, instead of `simulator.listen` of the configuration; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let config = args.config.load()?;
    logging::start(&config);
    let shutdown = Shutdown::new();
    shutdown.listen().map_err(Failure::failed)?;
    let callbacks = config.simulator.callbacks(config.api.listen);
    let options = config.simulator.options(Some(callbacks));
    let listen = args.listen.unwrap_or(options.listen);
    let simulator = Simulator::start(Options { listen, ..options })
        .map_err(|error| Failure::failed(format!("{error}; choose another with `--listen` or `simulator.listen`")))?;
    say_at_once(format!("simulator: http://{}", simulator.addr()))?;
    shutdown.requested().await;
    simulator.stop().await;
    Ok(())
}
