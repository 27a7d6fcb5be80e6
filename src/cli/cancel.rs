//! `chat4all cancel`

use chat4all_proto::MessageId;
use chat4all_proto::http::CancelRequested;

use super::client::ApiArgs;
use super::output::json;
use super::show::parsed;
use super::{Failure, say};

/// Cancels what was not sent yet of a message. `show` tells what came of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  chat4all cancel msg_019ab0de-7a3c-7c1e-9a55-3f1b7c0d2e4f")]
pub struct Args {
    /// The message, as `send` and the API name it
    #[arg(value_name = "MESSAGE_ID", value_parser = parsed::<MessageId>)]
    id: MessageId,
    /// As the API answers it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let path = ["v1", "messages", &args.id.to_string(), "cancel"];
    let requested: CancelRequested = args.api.connect()?.post(&path, &serde_json::Map::new(), None).await?;
    if args.json {
        return say(json(&requested));
    }
    let CancelRequested { message_id, status } = requested;
    say(format!("{message_id} was `{status}` and is being cancelled: `chat4all show {message_id}`"))
}
