//! A `serve` of this very program that `bench` and `drill` start for themselves, on free ports of loopback, with a
//! configuration of its own. It is gone with whoever started it.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::Failure;
use crate::serve::Role;

const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// For the configuration: every role listens on any port.
pub const ANY_PORTS: &str = "\
[api]\nlisten = \"127.0.0.1:0\"\n[router]\nlisten = \"127.0.0.1:0\"\n[connectors]\nlisten = \"127.0.0.1:0\"\n\
[recorder]\nlisten = \"127.0.0.1:0\"\n[simulator]\nlisten = \"127.0.0.1:0\"\n";

/// A running process. Killed when dropped.
pub struct Process {
    child: Child,
    /// What it has printed.
    lines: Arc<Mutex<Vec<String>>>,
    log: PathBuf,
}

impl Process {
    /// Starts it with these roles, none meaning all; what it logs is added to the file `log`. Call this on the main
    /// thread: the kernel kills the process when the thread that started it is gone.
    pub fn start(configuration: &Path, roles: &[Role], log: &Path) -> Result<Self, Failure> {
        Self::spawn(configuration, roles, log)
            .map_err(|error| Failure::failed(format!("no server could be started: {error}")))
    }

    fn spawn(configuration: &Path, roles: &[Role], log: &Path) -> io::Result<Self> {
        let stderr = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(env::current_exe()?);
        command.args(["serve", "--die-with", &std::process::id().to_string(), "--config"]).arg(configuration);
        for role in roles {
            command.args(["--role", role.as_str()]);
        }
        // A group of its own: Ctrl-C reaches only us, and we end the process in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHAT4ALL_")) {
            command.env_remove(name);
        }
        command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        let mut child = command.spawn()?;
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (stdout, read) = (child.stdout.take().expect("it was asked for"), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                read.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { child, lines, log: log.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves `what`, as soon as it says so.
    pub async fn url(&mut self, what: &str) -> Result<Url, Failure> {
        let begin = Instant::now();
        loop {
            if let Some(url) = self.printed(what) {
                return Ok(url);
            }
            if let Some(status) = self.ended() {
                return Err(self.told(&format!("the server ended with {status} before it opened its {what}")));
            }
            if begin.elapsed() > START_MAX {
                return Err(self.told(&format!("the server did not open its {what} within 60 s")));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    fn printed(&self, what: &str) -> Option<Url> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().find_map(|line| line.strip_prefix(what)?.strip_prefix(": ")?.trim().parse().ok())
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself; waiting tells.
            let _ = kill_process(pid, signal);
        }
    }

    /// SIGTERM; fails unless it ends well and in time.
    pub async fn end(mut self) -> Result<(), Failure> {
        self.signal(Signal::TERM);
        let begin = Instant::now();
        loop {
            match self.ended() {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.told(&format!("the server ended with {status}"))),
                None if begin.elapsed() > STOP_MAX => {
                    return Err(self.told("the server did not end within 30 s after SIGTERM and is killed"));
                }
                None => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// With the last of what it logged.
    pub fn told(&self, what: &str) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(10)..].join("\n  ");
        Failure::failed(format!("{what}; its last words:\n  {last}"))
    }
}

impl Drop for Process {
    /// Returns when it is gone: its folder may be deleted then.
    fn drop(&mut self) {
        // Nothing to do about one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
