//! `chat4all dead-letters`

mod pace;
mod purge;
mod replay;

use chat4all_proto::envelope::Reason;
use chat4all_proto::http::{DeadLetterPage, DeadLetterView};
use chat4all_proto::{ChannelName, DeliveryId, Timestamp};

use super::client::{Api, ApiArgs};
use super::output::{count, table};
use super::show::{content, parsed};
use super::{Failure, say};

/// Letters of one answer of the API.
const PAGE_MAX: usize = 200;

/// Shows what failed for good, sends it again, and deletes it.
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
  chat4all dead-letters replay dlv_5c1f0e9a-8d7b-5c3e-9a55-3f1b7c0d2e4f
  chat4all dead-letters replay --channel whatsapp --dry-run
  chat4all dead-letters replay --channel whatsapp --reason attempts_exhausted --rate 20/s
  chat4all dead-letters purge --channel whatsapp --before 2026-11-01T00:00:00Z --yes";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists dead letters that were not sent again yet, the newest first
    List {
        #[command(flatten)]
        chosen: Chosen,
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
        /// The delivery, as `list` names it
        #[arg(value_name = "DELIVERY_ID", value_parser = parsed::<DeliveryId>)]
        id: DeliveryId,
        /// As the API answers it
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        api: ApiArgs,
    },
    Replay(replay::Args),
    Purge(purge::Args),
}

/// Which letters are meant. All that is given must apply.
#[derive(Debug, clap::Args)]
#[group(id = "chosen", multiple = true)]
struct Chosen {
    /// Only those of this channel
    #[arg(long, value_parser = parsed::<ChannelName>)]
    channel: Option<ChannelName>,
    /// Only those that failed for this reason
    #[arg(long)]
    reason: Option<Reason>,
    /// Only those that failed at this time or later, like 2026-11-21T22:33:44Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// Only those that failed earlier than this
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<Timestamp>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| "is not a time like 2026-11-21T22:33:44Z".to_owned())
}

impl Chosen {
    /// As query parameters of the API.
    fn parameters(&self) -> [(&'static str, Option<String>); 4] {
        [
            ("channel", self.channel.as_ref().map(ToString::to_string)),
            ("reason", self.reason.map(|reason| reason.as_str().to_owned())),
            ("from", self.from.map(|at| at.to_string())),
            ("before", self.before.map(|at| at.to_string())),
        ]
    }
}

pub async fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::List { chosen, limit, json, api } => {
            let letters = newest(&api.connect()?, &chosen, limit).await?;
            if json { letters.iter().try_for_each(|letter| say(text(letter))) } else { list(&letters) }
        }
        Command::Show { id, json, api } => {
            let letter: DeadLetterView = api.connect()?.get(&["v1", "dead-letters", &id.to_string()], &[]).await?;
            say(if json { text(&letter) } else { describe(&letter) })
        }
        Command::Replay(args) => replay::run(args).await,
        Command::Purge(args) => purge::run(args).await,
    }
}

/// Follows the pages until there are enough.
async fn newest(api: &Api, chosen: &Chosen, limit: usize) -> Result<Vec<DeadLetterView>, Failure> {
    let chosen = chosen.parameters();
    let mut letters: Vec<DeadLetterView> = Vec::new();
    let mut cursor: Option<String> = None;
    while letters.len() < limit {
        let page_limit = (limit - letters.len()).min(PAGE_MAX).to_string();
        let mut parameters: Vec<_> = chosen.iter().map(|(name, value)| (*name, value.as_deref())).collect();
        parameters.extend([("limit", Some(page_limit.as_str())), ("cursor", cursor.as_deref())]);
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
