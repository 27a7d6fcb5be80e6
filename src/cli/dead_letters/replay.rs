//! `chat4all dead-letters replay`: one, or all that are chosen, call by call.

use std::time::Instant;

use chat4all_proto::http::{REPLAY_LIMIT_DEFAULT, ReplayManyRequest, ReplayRequest, Replayed, ReplayedMany, Skipped};
use chat4all_proto::{ChannelName, DeliveryId};
use tokio::time::sleep;

use super::pace::{Progress, Rate, insist, rate};
use super::{Chosen, text};
use crate::cli::client::{Api, ApiArgs};
use crate::cli::show::parsed;
use crate::cli::{Failure, say};

/// Skipped letters that are named.
const NAMED_MAX: usize = 20;

/// Sends one again, or all that are chosen. Each keeps its id; replaying a letter twice sends it once
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One delivery, as `list` names it
    #[arg(value_name = "DELIVERY_ID", value_parser = parsed::<DeliveryId>)]
    #[arg(required_unless_present_any = ["chosen", "all"], conflicts_with_all = ["chosen", "all", "rate", "dry_run"])]
    id: Option<DeliveryId>,
    #[command(flatten)]
    chosen: Chosen,
    /// All there are
    #[arg(long, conflicts_with = "chosen")]
    all: bool,
    /// To the same targets through this channel instead
    #[arg(long, value_name = "CHANNEL", value_parser = parsed::<ChannelName>)]
    to_channel: Option<ChannelName>,
    /// How fast at most, like 20/s
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<Rate>,
    /// Only say what would be sent
    #[arg(long)]
    dry_run: bool,
    /// One JSON object for each answer of the API
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let api = args.api.connect()?;
    match args.id {
        Some(id) => one(&api, id, &args).await,
        None => many(&api, &args).await,
    }
}

async fn one(api: &Api, id: DeliveryId, args: &Args) -> Result<(), Failure> {
    let path = ["v1", "dead-letters", &id.to_string(), "replay"];
    let asked = ReplayRequest { to_channel: args.to_channel.clone() };
    let replayed: Replayed = api.post(&path, &asked, None).await?;
    if args.json {
        return say(text(&replayed));
    }
    let Replayed { delivery_id, message_id, status, to, .. } = replayed;
    let to = to.map(|to| format!(" to {to}")).unwrap_or_default();
    say(match status {
        None => format!("{delivery_id} is on its way again{to}: `chat4all show {message_id}`"),
        Some(status) => {
            format!("{delivery_id} was replayed before{to} and is `{status}`: `chat4all show {message_id}`")
        }
    })
}

async fn many(api: &Api, args: &Args) -> Result<(), Failure> {
    let most = u32::try_from(REPLAY_LIMIT_DEFAULT).expect("a hundred");
    let mut asked = ReplayManyRequest {
        channel: args.chosen.channel.clone(),
        reason: args.chosen.reason,
        from: args.chosen.from,
        before: args.chosen.before,
        to_channel: args.to_channel.clone(),
        limit: Some(args.rate.map_or(most, |rate| rate.at_once(most))),
        dry_run: args.dry_run,
        cursor: None,
    };
    let progress = Progress::new();
    let (mut total, mut due) = (Total::default(), Instant::now());
    loop {
        let called_at = Instant::now();
        let answer: ReplayedMany =
            insist(async || api.post(&["v1", "dead-letters", "replay"], &asked, None).await).await?;
        if args.json {
            say(text(&answer))?;
        }
        if let Some(rate) = args.rate.filter(|_| !args.dry_run) {
            due = due.max(called_at) + rate.time_for(answer.replayed);
        }
        asked.cursor = answer.next_cursor.clone();
        total.add(answer);
        progress.show(|| total.words(args.dry_run));
        if asked.cursor.is_none() {
            break;
        }
        sleep(due.saturating_duration_since(Instant::now())).await;
    }
    drop(progress);
    if args.json { Ok(()) } else { say(total.describe(args.dry_run)) }
}

/// Over all answers.
#[derive(Default)]
struct Total {
    replayed: usize,
    already_replayed: usize,
    skipped: usize,
    named: Vec<Skipped>,
}

impl Total {
    fn add(&mut self, answer: ReplayedMany) {
        self.replayed += answer.replayed;
        self.already_replayed += answer.already_replayed;
        self.skipped += answer.skipped.len();
        let room = NAMED_MAX - self.named.len();
        self.named.extend(answer.skipped.into_iter().take(room));
    }

    fn words(&self, dry_run: bool) -> String {
        let done = if dry_run { "would be replayed" } else { "replayed" };
        let Self { replayed, already_replayed, skipped, .. } = self;
        format!("{replayed} {done}, {already_replayed} were on their way already, {skipped} skipped")
    }

    fn describe(&self, dry_run: bool) -> String {
        let mut lines = vec![self.words(dry_run)];
        lines.extend(self.named.iter().map(|one| format!("  {}  {}: {}", one.delivery_id, one.code, one.detail)));
        if self.skipped > self.named.len() {
            lines.push(format!("  and {} more", self.skipped - self.named.len()));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_add_up_and_not_every_skipped_letter_is_named() {
        let delivery_id = "dlv_5c1f0e9a-8d7b-5c3e-9a55-3f1b7c0d2e4f".parse().unwrap();
        let skipped = Skipped { delivery_id, code: "unknown_channel".into(), detail: "no channel `fax`".into() };
        let answer = ReplayedMany { replayed: 3, skipped: vec![skipped; 15], ..ReplayedMany::default() };
        let mut total = Total::default();
        total.add(answer.clone());
        total.add(answer);
        let told = total.describe(false);
        assert!(told.starts_with("6 replayed, 0 were on their way already, 30 skipped\n"), "{told}");
        assert!(told.ends_with("\n  and 10 more") && told.lines().count() == 22, "{told}");
        assert!(total.words(true).starts_with("6 would be replayed"));
    }
}
