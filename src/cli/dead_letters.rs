//! `chat4all dead-letters`

use chat4all_proto::envelope::Reason;
use chat4all_proto::http::{DeadLetterPage, DeadLetterView, Replayed};
use chat4all_proto::{ChannelName, DeliveryId};

use super::client::{Api, ApiArgs};
use super::output::{count, table};
use super::show::{content, parsed};
use super::{Failure, say};

/// Letters of one answer of the API.
const PAGE_MAX: usize = 200;

/// Shows what failed for good, and sends it again.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  chat4all dead-letters list --channel whatsapp --reason message_rejected
  chat4all dead-letters show dlv_5c1f0e9a-8d7b-5c3e-9a55-3f1b7c0d2e4f
  chat4all dead-letters replay dlv_5c1f0e9a-8d7b-5c3e-9a55-3f1b7c0d2e4f";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists dead letters that were not sent again yet, the newest first
    List {
        /// Only those of this channel
        #[arg(long, value_parser = parsed::<ChannelName>)]
        channel: Option<ChannelName>,
        /// Only those that failed for this reason
        #[arg(long)]
        reason: Option<Reason>,
        /// How many at most
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// One JSON object a line, as the API answers it
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Shows one with all that is known about it
    Show {
        #[command(flatten)]
        which: Which,
        /// As the API answers it
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Sends one again. The delivery keeps its id; replaying the same letter twice sends it once
    Replay {
        #[command(flatten)]
        which: Which,
        /// As the API answers it
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        api: ApiArgs,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The delivery, as `list` names it
    #[arg(value_name = "DELIVERY_ID", value_parser = parsed::<DeliveryId>)]
    id: DeliveryId,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::List { channel, reason, limit, json, api } => {
            let letters = newest(&api.connect()?, channel.as_ref(), reason, limit).await?;
            if json { letters.iter().try_for_each(|letter| say(text(letter))) } else { list(&letters) }
        }
        Command::Show { which, json, api } => {
            let letter: DeadLetterView =
                api.connect()?.get(&["v1", "dead-letters", &which.id.to_string()], &[]).await?;
            say(if json { text(&letter) } else { describe(&letter) })
        }
        Command::Replay { which, json, api } => {
            let path = ["v1", "dead-letters", &which.id.to_string(), "replay"];
            let replayed: Replayed = api.connect()?.post(&path, &serde_json::Map::new(), None).await?;
            let line = || match replayed.status {
                None => {
                    format!("{} is on its way again: `chat4all show {}`", replayed.delivery_id, replayed.message_id)
                }
                Some(status) => format!(
                    "{} was replayed before and is `{status}`: `chat4all show {}`",
                    replayed.delivery_id, replayed.message_id
                ),
            };
            say(if json { text(&replayed) } else { line() })
        }
    }
}

/// Follows the pages until there are enough.
async fn newest(
    api: &Api,
    channel: Option<&ChannelName>,
    reason: Option<Reason>,
    limit: usize,
) -> Result<Vec<DeadLetterView>, Failure> {
    let mut letters: Vec<DeadLetterView> = Vec::new();
    let mut cursor: Option<String> = None;
    while letters.len() < limit {
        let page_limit = (limit - letters.len()).min(PAGE_MAX).to_string();
        let parameters = [
            ("channel", channel.map(ChannelName::as_str)),
            ("reason", reason.map(Reason::as_str)),
            ("limit", Some(page_limit.as_str())),
            ("cursor", cursor.as_deref()),
        ];
        let page: DeadLetterPage = api.get(&["v1", "dead-letters"], &parameters).await?;
        letters.extend(page.dead_letters);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(letters)
}

fn list(letters: &[DeadLetterView]) -> Result<(), Failure> {
    if letters.is_empty() {
        return say("no dead letters");
    }
    let mut rows = vec![["FAILED", "DELIVERY", "TO", "REASON", "CODE", "ATTEMPTS"].map(str::to_owned).to_vec()];
    rows.extend(letters.iter().map(|letter| {
        vec![
            letter.failed_at.to_string(),
            letter.delivery_id.to_string(),
            letter.to.to_string(),
            letter.reason.as_str().to_owned(),
            letter.code.clone().unwrap_or_else(|| "-".to_owned()),
            letter.attempts.to_string(),
        ]
    }));
    say(table(&rows))
}

fn describe(letter: &DeadLetterView) -> String {
    let code = letter.code.as_ref().map(|code| format!(", code {code}")).unwrap_or_default();
    let mut lines = vec![
        format!("{}  {}", letter.delivery_id, if letter.replayed { "replayed" } else { "waits for a hand" }),
        format!("  to            {}", letter.to),
        format!("  message       {}", letter.message_id),
        format!("  conversation  {}", letter.conversation_id),
        format!("  accepted      {}", letter.accepted_at),
        format!("  failed        {}", letter.failed_at),
        format!("  reason        {}{code}, {}", letter.reason.as_str(), count(letter.attempts as usize, "attempt")),
        format!("  replays       {}", letter.generation.0),
        format!("  content       {}", content(&letter.content)),
    ];
    lines.extend(letter.metadata.iter().map(|(name, value)| format!("  metadata      {name} = {value}")));
    lines.join("\n")
}

fn text(body: &impl serde::Serialize) -> String {
    serde_json::to_string(body).expect("the API's bodies have text keys only")
}
