//! `chat4all channels`

use chat4all_proto::ChannelName;
use chat4all_proto::http::{BreakerView, ChannelList, ChannelView};

use super::client::{Api, ApiArgs, Refusal};
use super::output::{json, table};
use super::show::parsed;
use super::{Failure, say};

/// Shows the channels, and pauses and resumes them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  chat4all channels list
  chat4all channels pause webhook
  chat4all channels resume webhook";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists every channel: what waits, whether it is paused, where its breakers stand
    List {
        /// As the API answers it
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        api: ApiArgs,
    },
    /// Shows one with all that is known about it
    Show(One),
    /// Holds what goes through it, in every process and over restarts, until it is resumed. What is being sent is sent
    Pause(One),
    /// Sends on what was held
    Resume(One),
}

#[derive(Debug, clap::Args)]
struct One {
    /// The channel, as the configuration names it
    #[arg(value_name = "CHANNEL", value_parser = parsed::<ChannelName>)]
    name: ChannelName,
    /// As the API answers it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let (one, action) = match args.command {
        Command::List { json: as_json, api } => {
            let list: ChannelList = api.connect()?.get(&["v1", "channels"], &[]).await?;
            return say(if as_json { json(&list) } else { rows(&list) });
        }
        Command::Show(one) => (one, None),
        Command::Pause(one) => (one, Some("pause")),
        Command::Resume(one) => (one, Some("resume")),
    };
    let view = call(&one.api.connect()?, &one.name, action).await?;
    say(match (one.json, action) {
        (true, _) => json(&view),
        (false, None) => describe(&view),
        (false, Some(_)) => format!("{} is {}, {}", view.name, state(&view), waiting(&view)),
    })
}

async fn call(api: &Api, name: &ChannelName, action: Option<&str>) -> Result<ChannelView, Refusal> {
    let path = ["v1", "channels", name.as_str()];
    match action {
        None => api.get(&path, &[]).await,
        Some(action) => {
            let [version, channels, name] = path;
            api.post(&[version, channels, name, action], &serde_json::Map::new(), None).await
        }
    }
}

fn rows(list: &ChannelList) -> String {
    let mut rows = vec![["CHANNEL", "KIND", "STATE", "WAITING", "BREAKERS"].map(str::to_owned).to_vec()];
    rows.extend(list.channels.iter().map(|view| {
        let breakers: Vec<_> = view.breakers.iter().map(|breaker| breaker.state.as_str()).collect();
        vec![
            view.name.to_string(),
            view.kind.clone(),
            state(view).to_owned(),
            view.waiting.map_or_else(|| "?".to_owned(), |waiting| waiting.to_string()),
            if breakers.is_empty() { "-".to_owned() } else { breakers.join(",") },
        ]
    }));
    table(&rows)
}

fn describe(view: &ChannelView) -> String {
    let since = view.paused_since.map(|at| format!(" since {at}")).unwrap_or_default();
    let reports = view.highest_status.map_or_else(|| "nothing".to_owned(), |status| status.to_string());
    let mut lines = vec![
        format!("{}  {}{since}, {}", view.name, state(view), waiting(view)),
        format!("  kind          {}", view.kind),
        format!("  in flight     {} at most, in one process", view.in_flight_max),
        format!("  attempts      {} at most", view.attempts_max),
        format!("  reports       {reports} at best"),
    ];
    lines.extend(view.breakers.iter().map(breaker));
    lines.join("\n")
}

fn breaker(breaker: &BreakerView) -> String {
    let until = breaker.until.map(|at| format!(", tried again at {at}")).unwrap_or_default();
    format!("  breaker       {} since {}{until}, in {}", breaker.state.as_str(), breaker.since, breaker.process)
}

const fn state(view: &ChannelView) -> &'static str {
    match view.paused {
        Some(true) => "paused",
        Some(false) => "running",
        None => "unknown",
    }
}

fn waiting(view: &ChannelView) -> String {
    view.waiting.map_or_else(|| "the log does not say what waits".to_owned(), |count| format!("{count} waiting"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat4all_proto::Timestamp;
    use chat4all_proto::control::BreakerState;

    #[test]
    fn a_channel_is_shown_with_all_that_is_known() {
        let at = Timestamp::from_millis(1_795_300_424_123);
        let mut view = ChannelView {
            name: "hook".parse().unwrap(),
            kind: "webhook".into(),
            in_flight_max: 64,
            attempts_max: 5,
            highest_status: None,
            waiting: None,
            paused: None,
            paused_since: None,
            breakers: Vec::new(),
        };
        assert!(describe(&view).starts_with("hook  unknown, the log does not say what waits\n"), "{}", describe(&view));
        (view.waiting, view.paused, view.paused_since) = (Some(3), Some(true), Some(at));
        view.breakers.push(BreakerView {
            process: "3f9a".into(),
            state: BreakerState::Open,
            since: at,
            until: Some(at),
        });
        let shown = describe(&view);
        for line in [
            "hook  paused since 2026-11-21T22:33:44.123Z, 3 waiting",
            "  breaker       open since 2026-11-21T22:33:44.123Z, tried again at 2026-11-21T22:33:44.123Z, in 3f9a",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "`{line}` is missing in\n{shown}");
        }
        let listed = rows(&ChannelList { channels: vec![view] });
        assert_eq!(
            listed.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>(),
            ["hook", "webhook", "paused", "3", "open"]
        );
    }
}
