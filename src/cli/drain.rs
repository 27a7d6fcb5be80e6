//! `chat4all drain`

use chat4all_proto::http::ProcessView;

use super::client::ApiArgs;
use super::output::json;
use super::{Failure, say};

/// Ends a process in order, wherever it runs: it finishes what is under way, and others take over the rest.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  chat4all status\n  chat4all drain 0b5f3c1e9a554d2e8f7a6b5c4d3e2f10")]
pub struct Args {
    /// The process, as `status` names it
    #[arg(value_name = "PROCESS")]
    process: String,
    /// As the API answers it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let path = ["v1", "processes", &args.process, "drain"];
    let found: ProcessView = args.api.connect()?.post(&path, &serde_json::Map::new(), None).await?;
    if args.json {
        return say(json(&found));
    }
    say(format!("{} (pid {}, {}) was asked to end", found.process, found.pid, found.roles.join(",")))
}
