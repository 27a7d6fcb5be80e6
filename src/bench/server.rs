//! The server that is measured: a private one, started here and ended here, or one that runs already.

use std::env;
use std::fs;
use std::path::Path;

use reqwest::Url;
use secrecy::SecretString;
use tempfile::TempDir;

use super::http::Endpoint;
use super::{CHANNEL, WAITING_CHANNEL, verify};
use crate::cli::Failure;
use crate::private::{ANY_PORTS, Process};

pub struct Server {
    endpoint: Endpoint,
    channel: String,
    pids: Vec<u32>,
    private: Option<Private>,
}

struct Private {
    process: Process,
    /// Data, configuration and log; deleted at the end.
    _folder: TempDir,
}

impl Server {
    /// Starts every role in one process of this program, with its data below `data` or in a temporary folder.
    pub async fn start(data: Option<&Path>) -> Result<Self, Failure> {
        let mut private = Private::start(data)?;
        let url = private.process.url("api").await?;
        let pids = vec![private.process.pid()];
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
        match self.private {
            Some(private) => private.process.end().await,
            None => Ok(()),
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
        let process = Process::start(&file, &[], &folder.path().join("stderr"))?;
        Ok(Self { process, _folder: folder })
    }
}

fn configuration(folder: &Path) -> String {
    let data = toml::Value::String(format!("embedded:{}", folder.join("data").display()));
    let channel = "kind = \"webhook\"\nallow_private_targets = true";
    format!(
        "log = {data}\nstatus = {data}\nlog_level = \"warn\"\n{ANY_PORTS}\
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
