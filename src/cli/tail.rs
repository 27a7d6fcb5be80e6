//! `chat4all tail`

use std::collections::HashMap;
use std::time::Duration;

use chat4all_proto::http::{MessagePage, MessageView};
use chat4all_proto::{ChannelName, DeliveryStatus, MessageId};
use tokio::time::{MissedTickBehavior, interval};

use super::client::{Api, ApiArgs, Refusal};
use super::show::{parsed, summary};
use super::{Failure, say_at_once};

/// Messages looked at in one round: a page, and further ones while all of a page is new.
const PAGE: &str = "100";
const PAGES_MAX: usize = 10;

/// Prints messages as they come and change, the newest last. Ends with Ctrl-C.
///
/// Looks at the newest messages that match, once an interval; a status that came and went in between is not seen.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  chat4all tail\n  chat4all tail --status retrying --channel hook\n  chat4all tail --json | jq .status"
)]
pub struct Args {
    /// Only messages with a delivery of this status
    #[arg(long)]
    status: Option<DeliveryStatus>,
    /// Only messages with a delivery through this channel
    #[arg(long, value_parser = parsed::<ChannelName>)]
    channel: Option<ChannelName>,
    /// How many earlier messages to print first
    #[arg(long, value_name = "N", default_value_t = 10)]
    lines: usize,
    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// One JSON object a line, as the API answers it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let api = args.api.connect()?;
    let mut ticks = interval(args.interval.max(Duration::from_millis(50)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    let mut first = true;
    let mut away = false;
    loop {
        ticks.tick().await;
        let messages = match newest(&api, &args, &seen).await {
            Ok(messages) => messages,
            // It was there: whoever tails through a restart wants to go on.
            Err(refusal) if !first && refusal.is_passing() => {
                if !std::mem::replace(&mut away, true) {
                    eprintln!("waiting: {}", Failure::from(refusal));
                }
                continue;
            }
            Err(refusal) => return Err(refusal.into()),
        };
        away = false;
        let changed = seen.changed(messages);
        let skipped = if first { changed.len().saturating_sub(args.lines) } else { 0 };
        for message in changed.iter().skip(skipped) {
            print(message, args.json)?;
        }
        first = false;
    }
}

/// The newest matching messages, newest first, back to the first page that holds one we know.
async fn newest(api: &Api, args: &Args, seen: &Seen) -> Result<Vec<MessageView>, Refusal> {
    let status = args.status.map(|status| status.to_string());
    let mut messages = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let parameters = [
            ("status", status.as_deref()),
            ("channel", args.channel.as_ref().map(ChannelName::as_str)),
            ("limit", Some(PAGE)),
            ("cursor", cursor.as_deref()),
        ];
        let page: MessagePage = api.get(&["v1", "messages"], &parameters).await?;
        let reached_known = seen.is_empty() || page.messages.iter().any(|message| seen.knows(message));
        messages.extend(page.messages);
        cursor = page.next_cursor;
        if reached_known || cursor.is_none() {
            break;
        }
    }
    Ok(messages)
}

/// What was printed of the messages that are still in sight.
#[derive(Default)]
struct Seen(HashMap<MessageId, String>);

impl Seen {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn knows(&self, message: &MessageView) -> bool {
        self.0.contains_key(&message.message_id)
    }

    /// Those that are new or changed, oldest first. Forgets what is out of sight.
    fn changed(&mut self, newest_first: Vec<MessageView>) -> Vec<MessageView> {
        let before = std::mem::take(&mut self.0);
        let mut changed = Vec::new();
        for message in newest_first.into_iter().rev() {
            let state = deliveries(&message);
            let is_new = before.get(&message.message_id) != Some(&state);
            if self.0.insert(message.message_id, state).is_none() && is_new {
                changed.push(message);
            }
        }
        changed
    }
}

fn print(message: &MessageView, json: bool) -> Result<(), Failure> {
    if json {
        return say_at_once(serde_json::to_string(message).expect("the API's bodies have text keys only"));
    }
    let deliveries = deliveries(message);
    say_at_once(format!("{}  {}  {}{deliveries}", message.accepted_at, message.message_id, message.status))
}

fn deliveries(message: &MessageView) -> String {
    if let Some(from) = &message.from {
        return format!("  from {from}");
    }
    message.deliveries.iter().map(|delivery| format!("  {} {}", delivery.to, summary(delivery))).collect()
}
