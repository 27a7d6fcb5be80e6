//! The server that is measured: a private one, started here and ended here, or one that runs already.

use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Url;
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::http::Endpoint;
use super::{CHANNEL, WAITING_CHANNEL, verify};
use crate::cli::Failure;

const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(30);

pub struct Server {
    endpoint: Endpoint,
    channel: String,
    pids: Vec<u32>,
    private: Option<Private>,
}

struct Private {
    child: Child,
    /// Kept open: the server writes to it.
    stdout: Lines<BufReader<ChildStdout>>,
    /// Data, configuration and log; deleted at the end.
    folder: TempDir,
}

impl Server {
    /// Starts every role in one process of this program, with its data below `data` or in a temporary folder.
    pub async fn start(data: Option<&Path>) -> Result<Self, Failure> {
        let mut private = Private::start(data)?;
        let url = match timeout(START_MAX, private.api_url()).await {
            Ok(Some(url)) => url,
            Ok(None) => return Err(private.told("the server ended before it opened its API")),
            Err(_) => return Err(private.told("the server did not open its API within 30 s")),
        };
        let pids = private.child.id().into_iter().collect();
        let endpoint = Endpoint::new(&url, None)?;
        Ok(Self { endpoint, channel: CHANNEL.to_owned(), pids, private: Some(private) })
    }

    /// One that somebody else has started, on this machine.
    pub async fn running(url: &Url, channel: String) -> Result<Self, Failure> {
        let key = env::var("CHAT4ALL_API_KEY").ok().filter(|key| !key.is_empty()).map(SecretString::from);
        let endpoint = Endpoint::new(url, key)?;
        let pids = verify::pids(&endpoint).await?;
        Ok(Self { endpoint, channel, pids, private: None })
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The channel to send through.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Ends a private server and deletes its data.
    pub async fn stop(self) -> Result<(), Failure> {
        let Some(mut private) = self.private else { return Ok(()) };
        let pid = private.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself; waiting tells.
            let _ = kill_process(pid, Signal::TERM);
        }
        match timeout(STOP_MAX, private.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(private.told(&format!("the server ended with {status}"))),
            Ok(Err(error)) => Err(Failure::failed(format!("the server cannot be waited for: {error}"))),
            Err(_) => Err(private.told("the server did not end within 30 s after SIGTERM and is killed")),
        }
    }
}

impl Private {
    fn start(data: Option<&Path>) -> Result<Self, Failure> {
        let failed = |what: &str, error: std::io::Error| Failure::failed(format!("{what}: {error}"));
        let mut builder = tempfile::Builder::new();
        builder.prefix("chat4all-bench-");
        let folder = match data {
            Some(data) => fs::create_dir_all(data).and_then(|()| builder.tempdir_in(data)),
            None => builder.tempdir(),
        };
        let folder = folder.map_err(|error| failed("no folder for the data", error))?;
        let file = folder.path().join("chat4all.toml");
        fs::write(&file, configuration(folder.path())).map_err(|error| failed("no configuration file", error))?;
        let log = File::create(folder.path().join("stderr")).map_err(|error| failed("no log file", error))?;
        let program = env::current_exe().map_err(|error| failed("this program cannot be found", error))?;
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(&file);
        // A group of its own: Ctrl-C reaches only the bench, which ends the server in order.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHAT4ALL_")) {
            command.env_remove(name);
        }
        let mut child = command.spawn().map_err(|error| failed("the server cannot be started", error))?;
        let stdout = child.stdout.take().expect("it was asked for");
        Ok(Self { child, stdout: BufReader::new(stdout).lines(), folder })
    }

    /// From the line that `serve` prints.
    async fn api_url(&mut self) -> Option<Url> {
        while let Ok(Some(line)) = self.stdout.next_line().await {
            if let Some(url) = line.strip_prefix("api: ") {
                return url.trim().parse().ok();
            }
        }
        None
    }

    /// With the last of what the server said about it.
    fn told(&self, what: &str) -> Failure {
        let log = fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n  ");
        Failure::failed(format!("{what}; its last words:\n  {last}"))
    }
}

fn configuration(folder: &Path) -> String {
    let data = toml::Value::String(format!("embedded:{}", folder.join("data").display()));
    let any = "listen = \"127.0.0.1:0\"";
    let channel = "kind = \"webhook\"\nallow_private_targets = true";
    format!(
        "log = {data}\nstatus = {data}\nlog_level = \"warn\"\n\
         [api]\n{any}\n[router]\n{any}\n[connectors]\n{any}\n[recorder]\n{any}\n[simulator]\n{any}\n\
         [channels.{CHANNEL}]\n{channel}\n[channels.{WAITING_CHANNEL}]\n{channel}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn the_generated_configuration_is_good() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("chat4all.toml"), configuration(folder.path())).unwrap();
        let folder = folder.path().to_owned();
        let sources = Sources { file: None, folder, env: Default::default(), overrides: vec![] };
        assert_eq!(sources.load().unwrap().channels.len(), 2);
    }
}
