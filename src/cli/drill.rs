//! `chat4all drill`

use std::time::Duration;

use crate::drill::{self, Engines, Options, Scenario, Switch};

use super::Failure;

/// Shows what faults do: starts a private stack on this machine, loads it, breaks something, and checks every message.
///
/// Draws a timeline while it goes on, and says at the end which promise held. By default everything is embedded, in a
/// temporary folder, on free ports of 127.0.0.1; nothing is left behind. It exits with 1 if a promise did not hold.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to play: one, several, or `all`
    #[arg(required = true, value_name = "SCENARIO", value_enum)]
    scenarios: Vec<Choice>,
    /// Messages a second
    #[arg(long, value_name = "PER_SECOND", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    rate: u32,
    /// How long to send
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// How many messages to send, instead of how long
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    messages: Option<u32>,
    /// How long a provider, the store or the log is away. Half of the run, 15s at most, unless given
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    outage: Option<Duration>,
    /// Conversations that the messages belong to
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    conversations: u32,
    /// Replays the chance of an earlier drill
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A Kafka to use as the log, instead of an embedded one. Topics get a prefix of this run, and stay
    #[arg(long, value_name = "URL", value_parser = |url: &str| on(url, "kafka:"))]
    log: Option<String>,
    /// A Cassandra to use as the status store, instead of an embedded one
    #[arg(long, value_name = "URL", value_parser = |url: &str| on(url, "cassandra:"))]
    status: Option<String>,
    /// For log-away with --log: the shell command that takes it away
    #[arg(long, value_name = "COMMAND", requires_all = ["log", "resume_log_with"])]
    pause_log_with: Option<String>,
    /// The shell command that brings it back
    #[arg(long, value_name = "COMMAND", requires = "pause_log_with")]
    resume_log_with: Option<String>,
    /// For store-away with --status: the shell command that takes it away
    #[arg(long, value_name = "COMMAND", requires_all = ["status", "resume_store_with"])]
    pause_store_with: Option<String>,
    /// The shell command that brings it back
    #[arg(long, value_name = "COMMAND", requires = "pause_store_with")]
    resume_store_with: Option<String>,
    /// One JSON object a line for each scenario, and one for all
    #[arg(long)]
    json: bool,
    /// Leave the folder with data and logs
    #[arg(long)]
    keep: bool,
}

const EXAMPLES: &str = "\
Examples:
  chat4all drill kill-workers
  chat4all drill provider-outage --outage 30s --seconds 60
  chat4all drill all --json
  chat4all drill store-away --log kafka://127.0.0.1:9092 --status cassandra://127.0.0.1:9042/drill \\
    --pause-store-with 'dev/services kill cassandra' --resume-store-with 'dev/services start cassandra'";

/// Before and after an outage there is a little calm, so that there is something to compare with.
const CALM_MIN: Duration = Duration::from_secs(2);
/// Shorter ones are hardly seen.
const OUTAGE_MIN: Duration = Duration::from_secs(2);
const OUTAGE_MAX_UNASKED: Duration = Duration::from_secs(15);

/// A scenario, or all of them.
#[derive(Debug, Clone, Copy)]
enum Choice {
    All,
    One(Scenario),
}

impl clap::ValueEnum for Choice {
    fn value_variants<'a>() -> &'a [Self] {
        const {
            &[
                Self::One(Scenario::KillWorkers),
                Self::One(Scenario::ProviderOutage),
                Self::One(Scenario::SlowProvider),
                Self::One(Scenario::StoreAway),
                Self::One(Scenario::LogAway),
                Self::All,
            ]
        }
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        match self {
            Self::All => Some(clap::builder::PossibleValue::new("all").help("One after the other")),
            Self::One(scenario) => scenario.to_possible_value(),
        }
    }
}

/// Embedded engines are the drill's own: a folder of the user's must not be broken.
fn on(url: &str, scheme: &str) -> Result<String, String> {
    if url.starts_with(scheme) {
        Ok(url.to_owned())
    } else {
        Err(format!("must begin with `{scheme}//`; embedded engines are in a folder of the drill's own"))
    }
}

pub async fn run(args: Args) -> Result<(), Failure> {
    drill::run(args.options()?).await
}

impl Args {
    fn options(self) -> Result<Options, Failure> {
        let mut scenarios = Vec::new();
        for choice in self.scenarios {
            match choice {
                Choice::All => scenarios.extend(Scenario::ALL),
                Choice::One(scenario) => scenarios.push(scenario),
            }
        }
        let run = match self.messages {
            Some(messages) => Duration::from_secs_f64(f64::from(messages) / f64::from(self.rate)),
            None => Duration::from_secs(self.seconds.into()),
        };
        let outage = self.outage.unwrap_or_else(|| OUTAGE_MAX_UNASKED.min(run / 2));
        let has_outage = scenarios.iter().any(|scenario| scenario.has_outage());
        if has_outage && (outage < OUTAGE_MIN || outage + 2 * CALM_MIN > run) {
            return Err(Failure::usage(format!(
                "`--outage {}` does not fit into a run of {:.1} s: it must last {} s at least, and leave {} s \
                 before and after it; `--seconds` or `--messages` makes the run longer",
                humantime::format_duration(outage),
                run.as_secs_f64(),
                OUTAGE_MIN.as_secs(),
                CALM_MIN.as_secs()
            )));
        }
        let switch = |pause: Option<String>, resume| pause.zip(resume).map(|(pause, resume)| Switch { pause, resume });
        let options = Options {
            engines: Engines { log: self.log, status: self.status },
            per_second: self.rate,
            messages: self.messages.unwrap_or(self.rate * self.seconds),
            outage,
            conversations: self.conversations,
            seed: self.seed.unwrap_or_else(chance),
            json: self.json,
            keep: self.keep,
            log_switch: switch(self.pause_log_with, self.resume_log_with),
            store_switch: switch(self.pause_store_with, self.resume_store_with),
            scenarios,
        };
        match options.scenarios[..] {
            // Among others it is skipped; alone there is nothing left to do.
            [only] => match options.obstacle(only) {
                Some(obstacle) => Err(Failure::usage(format!("`{}`: {obstacle}", only.as_str()))),
                None => Ok(options),
            },
            _ => Ok(options),
        }
    }
}

/// A seed short enough to be typed again.
fn chance() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos()) % 100_000
}
