//! `chat4all doctor`

use chat4all_channels::{Answer, Channel};
use chat4all_connectors::http::{Client, Options};
use chat4all_proto::ChannelName;
use chat4all_proto::envelope::OutcomeKind;
use chat4all_proto::outcome::Report;
use chat4all_runtime::clock;

use super::serve::ConfigArgs;
use super::show::parsed;
use super::{Failure, say};
use crate::config;

/// Checks a channel's credentials and whether its provider can be reached. Sends nothing to anybody.
///
/// Reads the configuration as `serve` would, and asks the provider who we are. The exit code is 1 if something has to be
/// done before messages can go out.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  chat4all doctor\n  chat4all doctor --channel whatsapp --config /etc/chat4all.toml"
)]
pub struct Args {
    /// The channel to check. Without it, all of them
    #[arg(long, value_name = "NAME", value_parser = parsed::<ChannelName>)]
    channel: Option<ChannelName>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let config = args.config.load()?;
    let wanted = |name: &ChannelName| args.channel.as_ref().is_none_or(|channel| channel == name);
    let channels: Vec<_> = config.channels.iter().filter(|(name, _)| wanted(name)).collect();
    if channels.is_empty() {
        let names: Vec<_> = config.channels.keys().map(ChannelName::as_str).collect();
        return Err(Failure::usage(format!("no such channel is configured; there are {}", names.join(", "))));
    }
    let mut ill = 0;
    for (name, channel) in channels {
        let finding = examine(channel).await?;
        say(format!("{name} ({}): {}", channel.kind.as_str(), finding.text))?;
        ill += usize::from(!finding.is_well);
    }
    match ill {
        0 => Ok(()),
        1 => Err(Failure::failed("one channel needs a hand")),
        ill => Err(Failure::failed(format!("{ill} channels need a hand"))),
    }
}

struct Finding {
    is_well: bool,
    text: String,
}

async fn examine(config: &config::Channel) -> Result<Finding, Failure> {
    let channel =
        config.connector().map_err(|invalid| Failure::usage(format!("`{}` {}", invalid.key, invalid.problem)))?;
    let Some(request) = channel.probe() else {
        let text = "the configuration is good; there is nobody to ask before there is a target".to_owned();
        return Ok(Finding { is_well: true, text });
    };
    let options =
        Options { allow_private_targets: channel.may_dial_private(), attempt_timeout: config.attempt_timeout() };
    let answer = Client::new(options).map_err(Failure::failed)?.call(request).await;
    Ok(diagnose(&answer, &*channel))
}

fn diagnose(answer: &Answer, channel: &dyn Channel) -> Finding {
    let Report { outcome, code, detail, .. } = channel.report(answer, clock::now());
    if outcome.kind() == OutcomeKind::Accepted {
        let text = "reached, and the credentials are good".to_owned() + callbacks(channel);
        return Finding { is_well: true, text };
    }
    let said = detail.unwrap_or_else(|| "no more is known".to_owned());
    let code = code.map(|code| format!(" (code {code})")).unwrap_or_default();
    let what = match (answer, outcome.kind()) {
        (Answer::Silence(_), _) => "not reached",
        (_, OutcomeKind::AccountProblem) => "reached, and the credentials are refused",
        (_, OutcomeKind::Ambiguous) => "something answers that is not the provider: is `base_url` right?",
        _ => "reached, and not well",
    };
    Finding { is_well: false, text: format!("{what}: {said}{code}") }
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
