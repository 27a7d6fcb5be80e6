//! `chat4all dead-letters purge`: deletes one, or all that are chosen, call by call.

use chat4all_proto::DeliveryId;
use chat4all_proto::http::Deleted;

use super::pace::{Progress, insist};
use super::{Chosen, text};
use crate::cli::client::{Api, ApiArgs};
use crate::cli::output::count;
use crate::cli::show::parsed;
use crate::cli::{Failure, say};

/// Deletes one, or all that are chosen, with what they hold. They cannot be sent again then
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One delivery, as `list` names it
    #[arg(value_name = "DELIVERY_ID", value_parser = parsed::<DeliveryId>)]
    #[arg(required_unless_present_any = ["chosen", "all"], conflicts_with_all = ["chosen", "all"])]
    id: Option<DeliveryId>,
    #[command(flatten)]
    chosen: Chosen,
    /// All there are
    #[arg(long, conflicts_with = "chosen")]
    all: bool,
    /// Yes, delete them: it cannot be undone
    #[arg(long)]
    yes: bool,
    /// As the API answers it, one JSON object for each call
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    if !args.yes {
        return Err(Failure::usage("this deletes dead letters for ever: say so with `--yes`"));
    }
    let api = args.api.connect()?;
    let progress = Progress::new();
    let mut total = 0;
    loop {
        let answer = delete(&api, &args).await?;
        if args.json {
            say(text(&answer))?;
        }
        total += answer.deleted;
        progress.show(|| format!("{total} deleted"));
        if !answer.more {
            break;
        }
    }
    drop(progress);
    let letters = count(usize::try_from(total).unwrap_or(usize::MAX), "dead letter");
    if args.json { Ok(()) } else { say(format!("{letters} deleted")) }
}

async fn delete(api: &Api, args: &Args) -> Result<Deleted, Failure> {
    let Some(id) = args.id else {
        let chosen = args.chosen.parameters();
        let mut parameters: Vec<_> = chosen.iter().map(|(name, value)| (*name, value.as_deref())).collect();
        parameters.push(("all", args.all.then_some("true")));
        return insist(async || api.delete(&["v1", "dead-letters"], &parameters).await).await;
    };
    Ok(api.delete(&["v1", "dead-letters", &id.to_string()], &[]).await?)
}
