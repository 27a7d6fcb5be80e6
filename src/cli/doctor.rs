//! `chat4all doctor`

use chat4all_channels::{Answer, Channel};
use chat4all_connectors::http::{Client, Options};
use chat4all_proto::ChannelName;
use chat4all_proto::envelope::OutcomeKind;
use chat4all_proto::outcome::Report;
use chat4all_runtime::clock;
use chat4all_storage::diagnosis::{Finding, Severity};

use super::serve::EngineArgs;
use super::show::parsed;
use super::{Failure, say_at_once};
use crate::{config, engines};

/// Checks the log, the status store and the channels: whether they can be reached, let us in, and are as configured.
///
/// Reads the configuration as `serve` would. Nothing is sent to anybody and nothing is made: topics and tables that are
/// missing are made by the first `serve`, or by `migrate`. A line for each thing found; the exit code is 1 if something has
/// to be done before messages can flow.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Check this channel only. Without it: log, status store and all channels
    #[arg(long, value_name = "NAME", value_parser = parsed::<ChannelName>)]
    channel: Option<ChannelName>,
    #[command(flatten)]
    engines: EngineArgs,
}

const EXAMPLES: &str = "\
Examples:
  chat4all doctor
  chat4all doctor --channel whatsapp --config /etc/chat4all.toml
  chat4all doctor --log kafka://127.0.0.1:9092 --status cassandra://127.0.0.1:9042/chat4all";

pub async fn run(args: Args) -> Result<(), Failure> {
    let config = args.engines.load()?;
    let mut problems = 0;
    if args.channel.is_none() {
        problems += tell(&format!("log ({})", config.log), &engines::examine_log(&config).await)?;
        problems += tell(&format!("status ({})", config.status), &engines::examine_status(&config).await)?;
    }
    let wanted = |name: &ChannelName| args.channel.as_ref().is_none_or(|channel| channel == name);
    let channels: Vec<_> = config.channels.iter().filter(|(name, _)| wanted(name)).collect();
    if channels.is_empty() {
        let names: Vec<_> = config.channels.keys().map(ChannelName::as_str).collect();
        return Err(Failure::usage(format!("no such channel is configured; there are {}", names.join(", "))));
    }
    for (name, channel) in channels {
        let finding = examine(channel, config.channels_by_default).await?;
        problems += tell(&format!("{name} ({})", channel.kind.as_str()), &[finding])?;
    }
    match problems {
        0 => Ok(()),
        1 => Err(Failure::failed("one thing needs a hand")),
        problems => Err(Failure::failed(format!("{problems} things need a hand"))),
    }
}

/// A line for each finding; how many are problems.
fn tell(what: &str, findings: &[Finding]) -> Result<usize, Failure> {
    for Finding { severity, text } in findings {
        let mark = if *severity == Severity::Note { "note: " } else { "" };
        say_at_once(format!("{what}: {mark}{text}"))?;
    }
    Ok(findings.iter().filter(|finding| finding.severity == Severity::Problem).count())
}

/// `by_default`: its provider is the simulator, which may not run.
async fn examine(config: &config::Channel, by_default: bool) -> Result<Finding, Failure> {
    let channel =
        config.connector().map_err(|invalid| Failure::usage(format!("`{}` {}", invalid.key, invalid.problem)))?;
    let Some(request) = channel.probe() else {
        return Ok(Finding::good("the configuration is good; there is nobody to ask before there is a target"));
    };
    let options =
        Options { allow_private_targets: channel.may_dial_private(), attempt_timeout: config.attempt_timeout() };
    let answer = Client::new(options).map_err(Failure::failed)?.call(request).await;
    if by_default && matches!(answer, Answer::Silence(_)) {
        return Ok(Finding::note("no channel is configured: its provider is the simulator, which runs within `serve`"));
    }
    Ok(diagnose(&answer, &*channel))
}

fn diagnose(answer: &Answer, channel: &dyn Channel) -> Finding {
    let Report { outcome, code, detail, .. } = channel.report(answer, clock::now());
    if outcome.kind() == OutcomeKind::Accepted {
        return Finding::good("reached, and the credentials are good".to_owned() + callbacks(channel));
    }
    let said = detail.unwrap_or_else(|| "no more is known".to_owned());
    let code = code.map(|code| format!(" (code {code})")).unwrap_or_default();
    let what = match (answer, outcome.kind()) {
        (Answer::Silence(_), _) => "not reached",
        (_, OutcomeKind::AccountProblem) => "reached, and the credentials are refused",
        (_, OutcomeKind::Ambiguous) => "something answers that is not the provider: is `base_url` right?",
        _ => "reached, and not well",
    };
    Finding::problem(format!("{what}: {said}{code}"))
}

/// What else a channel with callbacks needs.
fn callbacks(channel: &dyn Channel) -> &'static str {
    use chat4all_channels::Unverified;
    let admitted = channel.callbacks().map(|callbacks| callbacks.admit(&reqwest::header::HeaderMap::new()));
    match admitted {
        Some(Err(Unverified::NoSecret { .. })) => {
            "; callbacks are refused until the channel has the secret they are signed with"
        }
        _ => "",
    }
}
