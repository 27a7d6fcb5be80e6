//! The command line: what there is to say, and which module does it. Answers go to stdout, everything else to stderr.
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

mod cancel;
mod channels;
mod client;
mod config;
mod dead_letters;
mod doctor;
mod drain;
mod drill;
mod health;
mod migrate;
mod output;
mod send;
mod serve;
mod show;
mod simulate;
mod status;
mod tail;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use output::{Failure, say, say_at_once};

use crate::bench;

/// Carries messages to webhooks and other channels: accepts them once, delivers them in order, knows what became of each.
#[derive(Debug, Parser)]
#[command(name = "chat4all", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  chat4all serve                                   everything in one process, nothing to configure
  chat4all send webhook:http://127.0.0.1:8090/inbox/ana \"Your parcel is here\" --wait
  chat4all send whatsapp:+5562996991812 \"hi\" --wait
  chat4all show msg_019ab0de-7a3c-7c1e-9a55-3f1b7c0d2e4f
  chat4all tail --status failed                    what fails, as it fails
  chat4all status                                  every process, who works on what, what waits
  chat4all channels pause webhook                  hold what goes there, until it is resumed
  chat4all dead-letters list                       what failed for good, to be sent again by hand
  chat4all doctor                                  whether the engines can be used, and the providers take our credentials
  chat4all drill kill-workers                      kill -9 under load, and every message checked
  chat4all migrate                                 make topics and tables before the first start
  chat4all config --default > chat4all.toml        a commented configuration to start from

`chat4all COMMAND --help` says more about each. Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Send(send::Args),
    Show(show::Args),
    Cancel(cancel::Args),
    Tail(tail::Args),
    Status(status::Args),
    Channels(channels::Args),
    Drain(drain::Args),
    DeadLetters(dead_letters::Args),
    Health(health::Args),
    Doctor(doctor::Args),
    Migrate(migrate::Args),
    Config(config::Args),
    Simulate(simulate::Args),
    Bench(bench::Args),
    Drill(drill::Args),
}

/// Does what the command line asks. Must be called in an actix system.
pub async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(args).await,
        Command::Send(args) => send::run(args).await,
        Command::Show(args) => show::run(args).await,
        Command::Cancel(args) => cancel::run(args).await,
        Command::Tail(args) => tail::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Channels(args) => channels::run(args).await,
        Command::Drain(args) => drain::run(args).await,
        Command::DeadLetters(args) => dead_letters::run(args).await,
        Command::Health(args) => health::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Config(args) => config::run(args),
        Command::Simulate(args) => simulate::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Drill(args) => drill::run(args).await,
    };
    output::exit_code(outcome)
}
