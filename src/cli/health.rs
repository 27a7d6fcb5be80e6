//! `chat4all health`

use super::client::ApiArgs;
use super::{Failure, say};

/// Asks one process whether it may be given work, and prints what it says of each of its parts: for probes.
///
/// Any process answers, whatever its roles, and needs no API key for it. Exit code 1 unless it is ready.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  chat4all health\n  chat4all health --url http://127.0.0.1:8081")]
pub struct Args {
    /// As the process answers it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let readiness = args.api.connect()?.readiness().await?;
    if args.json {
        say(super::output::json(&readiness))?;
    } else {
        for part in &readiness.parts {
            match (&part.detail, part.ready) {
                (_, true) => say(format!("{}: ready", part.name))?,
                (Some(detail), false) => say(format!("{}: not ready: {detail}", part.name))?,
                (None, false) => say(format!("{}: not ready", part.name))?,
            }
        }
    }
    if readiness.ready { Ok(()) } else { Err(Failure::failed("the process is not ready")) }
}
