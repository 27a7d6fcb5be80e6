//! `chat4all migrate`

use chat4all_storage::diagnosis::Part;

use super::serve::EngineArgs;
use super::{Failure, say};
use crate::engines;

/// Makes the topics of the log and the tables of the status store, where they are missing.
///
/// The first `serve` does it too; this is for whoever gives that right to one user only, and for clusters of several nodes,
/// where one process alone should do it. Doing it again changes nothing. What another version made, or what has other
/// partitions than configured, is refused. An engine that is away is waited for, up to 30 s.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  chat4all migrate\n  chat4all migrate --log kafka://127.0.0.1:9092 \
                        --status cassandra://127.0.0.1:9042/chat4all")]
pub struct Args {
    #[command(flatten)]
    engines: EngineArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let config = args.engines.load()?;
    say(format!("log: {}", config.log))?;
    let topics = engines::migrate_log(&config, |reason| eprintln!("waiting for the log: {reason}")).await;
    tell(topics.map_err(|error| Failure::failed(format!("log: {error}")))?)?;
    say(format!("status: {}", config.status))?;
    let tables = engines::migrate_status(&config, |reason| eprintln!("waiting for the status store: {reason}")).await;
    tell(tables.map_err(|error| Failure::failed(format!("status: {error}")))?)
}

fn tell(parts: Vec<Part>) -> Result<(), Failure> {
    let mut parts = parts.into_iter();
    parts.try_for_each(|Part { name, is_new }| say(format!("  {name}: {}", if is_new { "made" } else { "was there" })))
}
