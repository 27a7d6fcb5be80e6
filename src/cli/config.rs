//! `chat4all config`

use crate::config;

use super::serve::ConfigArgs;
use super::{Failure, say};

/// Prints the configuration that is in force, secrets hidden: defaults, file, environment and flags together.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only say whether it can be used: exit code 0 or 2
    #[arg(long, conflicts_with_all = ["json", "default"])]
    check: bool,
    /// As JSON instead of TOML
    #[arg(long, conflicts_with = "default")]
    json: bool,
    /// Print the commented default file: every key and what it means
    #[arg(long)]
    default: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

const EXAMPLES: &str = "\
Examples:
  chat4all config
  chat4all config --default > chat4all.toml
  chat4all config --check --config /etc/chat4all.toml
  CHAT4ALL_PARTITIONS=12 chat4all config --json";

pub fn run(args: Args) -> Result<(), Failure> {
    if args.default {
        return say(config::DEFAULT_FILE.trim_end());
    }
    let config = args.config.load()?;
    match (args.check, args.json) {
        (true, _) => say("the configuration is good"),
        (_, true) => say(config::json(&config)),
        _ => say(config::toml(&config).trim_end()),
    }
}
