//! `chat4all serve`

use std::path::PathBuf;

#[cfg(target_os = "linux")]
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::config::{Config, Override, Sources};
use crate::serve::{self, Role};
use crate::{logging, metrics};

use super::Failure;

/// Runs Chat4All: every role in this process, or those named by --role.
///
/// Prints a line for each address it opens: `api: http://127.0.0.1:8080`. Without --role and without a configured
/// channel it also runs the simulator, so that there is something to send to. The first SIGINT or SIGTERM stops taking
/// work and finishes what is under way; a second one ends at once.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A role to run; may be repeated. All of them when none is named
    #[arg(long = "role", value_name = "ROLE", value_enum)]
    roles: Vec<Role>,
    /// Is killed when PID, which must have started it, is gone: so that a script leaves nothing behind (Linux)
    #[arg(long, value_name = "PID")]
    die_with: Option<u32>,
    #[command(flatten)]
    config: ConfigArgs,
}

const EXAMPLES: &str = "\
Examples:
  chat4all serve
  chat4all serve --config /etc/chat4all.toml
  chat4all serve --role api --set api.listen=127.0.0.1:9000
  chat4all serve --role router --role recorder --data /var/lib/chat4all";

/// What every command that reads the configuration takes.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file. Without it, chat4all.toml in the current folder, if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the embedded engines: short for --set log=embedded:DIR --set status=embedded:DIR
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Sets one key, above file and environment; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE, like `api.listen=127.0.0.1:9000`")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

impl ConfigArgs {
    /// The whole configuration of this process, checked.
    pub fn load(self) -> Result<Config, Failure> {
        self.load_with(Vec::new())
    }

    /// As `load`, `above` winning over everything else.
    fn load_with(self, above: Vec<Override>) -> Result<Config, Failure> {
        let of_data = self.data.into_iter().flat_map(|folder| {
            ["log", "status"].map(|key| Override {
                flag: "--data",
                key: key.to_owned(),
                value: format!("embedded:{folder}"),
            })
        });
        let of_settings = self.settings.into_iter().map(|(key, value)| Override { flag: "--set", key, value });
        Ok(Sources::of_process(self.config, of_data.chain(of_settings).chain(above).collect()).load()?)
    }
}

/// What commands take that are about the engines.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    /// Where the log is: short for --set log=URL
    #[arg(long, value_name = "URL")]
    log: Option<String>,
    /// Where the status store is: short for --set status=URL
    #[arg(long, value_name = "URL")]
    status: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl EngineArgs {
    /// The whole configuration of this process, checked.
    pub fn load(self) -> Result<Config, Failure> {
        let of_flags = [("--log", "log", self.log), ("--status", "status", self.status)];
        let given = of_flags
            .into_iter()
            .filter_map(|(flag, key, value)| value.map(|value| Override { flag, key: key.to_owned(), value }));
        self.config.load_with(given.collect())
    }
}

pub async fn run(args: Args) -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    if let Some(pid) = args.die_with {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::failed)?;
        // It may have been gone before that.
        if std::os::unix::process::parent_id() != pid {
            return Err(Failure::failed(format!(
                "`--die-with {pid}`: that process did not start this one, or is gone"
            )));
        }
    }
    let config = args.config.load()?;
    logging::start(&config);
    metrics::register();
    Ok(serve::run(config, &args.roles).await?)
}
