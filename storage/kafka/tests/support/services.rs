//! Servers of a test's own, run by `dev/services`: they may be killed without harm to others.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A set of servers. They end, and their data goes, when it is dropped.
pub struct Services {
    program: PathBuf,
    data: TempDir,
}

impl Services {
    /// Starts servers and waits until they answer: `up kafka --brokers 3`, for example. `None`, after saying so for
    /// `test`, if `CHAT4ALL_TEST_KAFKA` does not say that servers may be used. Blocks for 5 to 60 s.
    pub fn up(test: &str, words: &[&str]) -> Option<Self> {
        if std::env::var_os("CHAT4ALL_TEST_KAFKA").is_none() {
            println!("SKIPPED {test}: `CHAT4ALL_TEST_KAFKA` is not set, so no servers are started");
            return None;
        }
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let program = folders.map(|folder| folder.join("dev/services")).find(|program| program.exists());
        let services = Self { program: program.expect("it is in the repository"), data: tempfile::tempdir().unwrap() };
        services.run(&[&["up"], words].concat());
        Some(services)
    }

    /// `host:port` of every Kafka broker, separated by commas.
    pub fn brokers(&self) -> String {
        let said = self.run(&["env"]);
        let log = said.lines().find_map(|line| line.strip_prefix("export CHAT4ALL_LOG=kafka://"));
        log.expect("there are brokers").to_owned()
    }

    /// SIGKILL; back when the process is gone.
    pub fn kill(&self, name: &str) {
        self.run(&["kill", name]);
    }

    /// With its data and ports; back when it answers.
    pub fn start(&self, name: &str) {
        self.run(&["start", name]);
    }

    fn run(&self, words: &[&str]) -> String {
        let run = self.command(words).output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "dev/services {words:?}: {said}{}", String::from_utf8_lossy(&run.stderr));
        said
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).env("CHAT4ALL_SERVICES_DIR", self.data.path().join("set"));
        command
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // Not `run`: a test that fails already must not panic again.
        if !self.command(&["down"]).output().is_ok_and(|run| run.status.success()) {
            println!("the servers in `{}` could not be taken down", self.data.path().display());
        }
    }
}
