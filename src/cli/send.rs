//! `chat4all send`

use std::collections::HashMap;
use std::time::Duration;

use chat4all_proto::http::{Accepted, ChannelList, DeliveryView, MessageView, SendRequest};
use chat4all_proto::{ChannelName, Content, DeliveryId, DeliveryStatus, MessageId, MessageStatus};
use tokio::time::{Instant, sleep, timeout_at};

use super::client::{Api, ApiArgs};
use super::show::summary;
use super::{Failure, say_at_once};

const POLL_FIRST: Duration = Duration::from_millis(20);
const POLL_MAX: Duration = Duration::from_millis(500);

/// Sends one text to one or more addresses.
///
/// An address is CHANNEL:TARGET. Prints the message's id once it is accepted; with --wait also every status of every
/// delivery as it comes, up to the last that its provider reports, and the exit code is 1 unless all were delivered.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, override_usage = "chat4all send [OPTIONS] <ADDRESS>... <TEXT>")]
pub struct Args {
    /// Where to, one address or more (`webhook:https://example.com/inbox`), and last what to say
    #[arg(required = true, value_names = ["ADDRESS... TEXT"])]
    words: Vec<String>,
    /// Wait for the end, and print each status on the way
    #[arg(long)]
    wait: bool,
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", default_value = "60s", requires = "wait", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// The provider's id of the message that this one answers
    #[arg(long, value_name = "PROVIDER_ID")]
    reply_to: Option<String>,
    /// The conversation: its messages arrive in the order accepted. Without it, the message is its own
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// Idempotency key: sending again with the same key delivers once
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Give up when it is not delivered by then. 24 h unless given, 7 days at most
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

const EXAMPLES: &str = "\
Examples:
  chat4all send webhook:http://127.0.0.1:8090/inbox/ana \"Your parcel is here\" --wait
  chat4all send hook:https://a.example/in hook:https://b.example/in \"hi\" --conversation order-42
  chat4all send whatsapp:+5562996991812 \"hi\" --wait
  chat4all send hook:https://a.example/in \"paid\" --key invoice-7 --expires 1h";

pub async fn run(args: Args) -> Result<(), Failure> {
    let mut addresses = args.words;
    let text = addresses.pop().filter(|_| !addresses.is_empty());
    let text =
        text.ok_or_else(|| Failure::usage("`send` wants an address and a text: `chat4all send ADDRESS... TEXT`"))?;
    let api = args.api.connect()?;
    let mut request = SendRequest::new(addresses, Content::Text { text });
    request.conversation_id = args.conversation;
    request.reply_to = args.reply_to;
    request.expires_in_seconds = args.expires.map(|expires| expires.as_secs());
    let accepted: Accepted = api.post(&["v1", "messages"], &request, args.key.as_deref()).await?;
    if args.json {
        say_at_once(json(&accepted))?;
    } else {
        say_at_once(format!("{}  {}", accepted.message_id, accepted.status))?;
    }
    if !args.wait {
        return Ok(());
    }
    let deadline = Instant::now() + args.timeout;
    let highest = highest_statuses(&api).await?;
    let mut watch = Watch { id: accepted.message_id, json: args.json, highest, printed: HashMap::new(), last: None };
    match (timeout_at(deadline, watch.until_the_end(&api)).await, &watch.last) {
        (Ok(end), _) => judge(&end?),
        // Nobody has to read a message, and not every phone is switched on.
        (Err(_), Some(last)) if last.status.is_end() => judge(last),
        (Err(_), _) => Err(watch.gave_up(args.timeout)),
    }
}

/// How far a delivery of each channel can get.
async fn highest_statuses(api: &Api) -> Result<HashMap<ChannelName, DeliveryStatus>, Failure> {
    let list: ChannelList = api.get(&["v1", "channels"], &[]).await?;
    Ok(list.channels.into_iter().filter_map(|channel| Some((channel.name, channel.highest_status?))).collect())
}

/// Follows one message and prints what changes.
struct Watch {
    id: MessageId,
    json: bool,
    highest: HashMap<ChannelName, DeliveryStatus>,
    printed: HashMap<DeliveryId, (DeliveryStatus, usize)>,
    last: Option<MessageView>,
}

impl Watch {
    async fn until_the_end(&mut self, api: &Api) -> Result<MessageView, Failure> {
        let mut pause = POLL_FIRST;
        loop {
            match api.message(self.id).await {
                Ok(view) => {
                    if self.print_changes(&view)? {
                        pause = POLL_FIRST;
                    }
                    if view.status.is_end() && view.deliveries.iter().all(|delivery| self.is_final(delivery)) {
                        return Ok(view);
                    }
                    self.last = Some(view);
                }
                Err(refusal) if refusal.is_passing() => {}
                Err(refusal) => return Err(refusal.into()),
            }
            // The API has no call that waits for a change: asking again is the only way.
            sleep(pause).await;
            pause = (pause * 3 / 2).min(POLL_MAX);
        }
    }

    /// Whether nothing better can follow. A provider that could not deliver may still report that it did; nobody waits
    /// for that.
    fn is_final(&self, delivery: &DeliveryView) -> bool {
        let highest = self.highest.get(&delivery.to.channel);
        let rises = matches!(delivery.status, DeliveryStatus::Sent | DeliveryStatus::Delivered);
        !rises || highest.is_none_or(|&highest| delivery.status >= highest)
    }

    fn print_changes(&mut self, view: &MessageView) -> Result<bool, Failure> {
        let mut changed = false;
        for delivery in &view.deliveries {
            let state = (delivery.status, delivery.attempts.len());
            let before = self.printed.insert(delivery.delivery_id, state);
            if before == Some(state) {
                continue;
            }
            changed = true;
            if !self.json {
                // It was, though too shortly to be seen.
                if before.is_none() && !delivery.attempts.is_empty() {
                    say_at_once(format!("{}  {}", delivery.to, DeliveryStatus::Queued))?;
                }
                say_at_once(line(delivery))?;
            }
        }
        if changed && self.json {
            say_at_once(json(view))?;
        }
        Ok(changed)
    }

    fn gave_up(&self, waited: Duration) -> Failure {
        let last = self.last.as_ref().map_or("without a status".to_owned(), |last| format!("`{}`", last.status));
        let waited = humantime::format_duration(waited);
        Failure::failed(format!("no end after {waited}: it is still {last}; see `chat4all show {}`", self.id))
    }
}

fn line(delivery: &DeliveryView) -> String {
    format!("{}  {}", delivery.to, summary(delivery))
}

fn json(body: &impl serde::Serialize) -> String {
    serde_json::to_string(body).expect("the API's bodies have text keys only")
}

fn judge(end: &MessageView) -> Result<(), Failure> {
    match end.status {
        MessageStatus::Delivered | MessageStatus::Read | MessageStatus::Sent => Ok(()),
        other => {
            Err(Failure::failed(format!("the message ended as `{other}`; see `chat4all show {}`", end.message_id)))
        }
    }
}
