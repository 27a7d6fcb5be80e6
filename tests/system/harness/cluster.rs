//! Real processes on one folder.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::until;

/// The binary under test: cargo's, unless `CHAT4ALL_BINARY` names another build of it.
pub fn binary() -> PathBuf {
    std::env::var_os("CHAT4ALL_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_chat4all").into(), PathBuf::from)
}

pub const ROLES: [&str; 4] = ["api", "router", "connectors", "recorder"];
/// Signs what the channel `hook` sends.
pub const SIGNING_SECRET: &str = "whsec_c2VjcmV0IG9mIHRoZSB3aG9sZS1zeXN0ZW0gdGVzdHMh";
/// For a channel whose receiver wobbles: many short retries, so that nothing ends in the dead letters.
///
/// A receiver that fails now and then opens the breaker with three failures in a row, and may fail a probe as well: alone
/// for half a minute, a wait within a bound would need luck.
pub const PATIENT: &str = "retry = { attempts = 50, backoff = [\"100ms\", \"200ms\"] }\n\
                           breaker = { open_for = \"2s\", open_for_max = \"2s\" }";
/// Real servers on a busy machine take their time to make topics and tables.
const START_MAX: Duration = Duration::from_secs(60);

/// Processes, their folder and their logs. Kills what still runs when dropped.
pub struct Cluster {
    folder: TempDir,
    processes: Vec<Process>,
    env: Vec<(String, String)>,
}

/// A place for a process: it keeps its roles over restarts.
struct Process {
    name: String,
    roles: Vec<String>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

/// A chat4all.toml with free ports, JSON logs, and the channel `hook` that may call this machine. `top` are keys for the
/// top of the file, `hook` for the channel.
pub fn config(top: &str, hook: &str) -> String {
    format!(
        r#"log_format = "json"
{top}
[api]
listen = "127.0.0.1:0"
[router]
listen = "127.0.0.1:0"
[connectors]
listen = "127.0.0.1:0"
[recorder]
listen = "127.0.0.1:0"
[simulator]
listen = "127.0.0.1:0"
[channels.hook]
kind = "webhook"
allow_private_targets = true
signing_secret = "{SIGNING_SECRET}"
{hook}
"#
    )
}

impl Cluster {
    pub fn new() -> Self {
        Self::with(&config("", ""))
    }

    /// With `text` as its chat4all.toml. Its data is in `data` beside it, unless the text says otherwise.
    pub fn with(text: &str) -> Self {
        Self::at(&std::env::temp_dir(), text)
    }

    /// As `with`, in memory where the machine has such a folder: for measuring beside others who use the disk.
    pub fn in_memory(text: &str) -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::at(memory, text) } else { Self::with(text) }
    }

    fn at(parent: &Path, text: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("chat4all-system-").tempdir_in(parent).expect("a folder");
        fs::write(folder.path().join("chat4all.toml"), text).expect("a configuration");
        Self { folder, processes: Vec::new(), env: Vec::new() }
    }

    /// An environment variable for processes that start from now on.
    pub fn env(&mut self, key: &str, value: &str) {
        self.env.retain(|(name, _)| name != key);
        self.env.push((key.to_owned(), value.to_owned()));
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The command `chat4all` in the cluster's folder, with nothing in the environment that could change it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).current_dir(self.folder.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("CHAT4ALL") || key == "FAILPOINTS") {
            command.env_remove(key);
        }
        command
            .env_remove("RUST_BACKTRACE")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .envs(self.env.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Starts a process with these roles (none: all of them) and waits until its addresses are open.
    pub async fn start(&mut self, roles: &[&str]) -> usize {
        let id = self.processes.len();
        let name = format!("{id}-{}", if roles.is_empty() { "all".to_owned() } else { roles.join("-") });
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        self.processes.push(Process { name, roles, running: None });
        self.start_again(id).await;
        id
    }

    /// Starts a process that has ended, and waits until its addresses are open.
    pub async fn start_again(&mut self, id: usize) {
        self.spawn(id);
        self.opened(id).await;
    }

    /// As `start_again`, without the wait.
    pub fn spawn(&mut self, id: usize) {
        let mut command = self.command(&["serve"]);
        for role in &self.processes[id].roles {
            command.args(["--role", role]);
        }
        let stderr = self.log_file(id);
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the binary runs");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let read = Arc::clone(&lines);
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).for_each(|line| read.lock().expect("no panic").push(line));
        });
        let process = &mut self.processes[id];
        assert!(process.running.is_none(), "{} runs already", process.name);
        process.running = Some(Running { child, lines });
    }

    /// Waits until a process has opened its addresses.
    pub async fn opened(&mut self, id: usize) {
        let roles = self.processes[id].roles.clone();
        let wanted =
            if roles.is_empty() || roles.iter().any(|role| role == "api") { vec!["api".to_owned()] } else { roles };
        let begin = Instant::now();
        loop {
            let opened = self.urls(id);
            if wanted.iter().all(|role| opened.contains_key(role)) {
                return;
            }
            let ended = self.running(id).child.try_wait().expect("our child");
            let name = &self.processes[id].name;
            assert!(ended.is_none(), "{name} ended with {ended:?}:\n{}", self.tail(id));
            assert!(begin.elapsed() < START_MAX, "{name} opened only {opened:?}:\n{}", self.tail(id));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn running(&mut self, id: usize) -> &mut Running {
        let process = &mut self.processes[id];
        process.running.as_mut().unwrap_or_else(|| panic!("{} does not run", process.name))
    }

    fn urls(&self, id: usize) -> HashMap<String, String> {
        let Some(running) = &self.processes[id].running else { return HashMap::new() };
        let lines = running.lines.lock().expect("no panic");
        let pairs = lines.iter().filter_map(|line| line.split_once(": http://"));
        pairs.map(|(what, address)| (what.to_owned(), format!("http://{address}"))).collect()
    }

    /// The address that a process printed for `what`.
    pub fn url(&self, id: usize, what: &str) -> String {
        let urls = self.urls(id);
        urls.get(what).unwrap_or_else(|| panic!("no address of {what} in {urls:?}")).clone()
    }

    pub fn pid(&self, id: usize) -> u32 {
        self.processes[id].running.as_ref().expect("it runs").child.id()
    }

    /// Memory that a process has in use.
    pub fn resident_bytes(&self, id: usize) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid(id))).expect("our child");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has one");
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
        kib << 10
    }

    pub fn runs(&mut self, id: usize) -> bool {
        let Some(running) = &mut self.processes[id].running else { return false };
        running.child.try_wait().expect("our child").is_none()
    }

    fn signal(&self, id: usize, signal: Signal) {
        let pid = Pid::from_raw(self.pid(id).try_into().expect("a pid")).expect("not zero");
        kill_process(pid, signal).expect("our child");
    }

    /// SIGKILL; returns when the process is gone.
    pub fn kill(&mut self, id: usize) {
        let mut running = self.processes[id].running.take().expect("it runs");
        running.child.kill().expect("our child");
        running.child.wait().expect("our child");
    }

    /// SIGSTOP; returns when every thread stands still.
    pub fn stop(&self, id: usize) {
        self.signal(id, Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid(id));
        let begin = Instant::now();
        while !stands_still(Path::new(&tasks)) {
            assert!(begin.elapsed() < Duration::from_secs(10), "{} does not stop", self.processes[id].name);
            std::thread::yield_now();
        }
    }

    pub fn go_on(&self, id: usize) {
        self.signal(id, Signal::CONT);
    }

    /// SIGTERM; how it ended, and after what time.
    pub async fn terminate(&mut self, id: usize, limit: Duration) -> (ExitStatus, Duration) {
        let begin = Instant::now();
        self.signal(id, Signal::TERM);
        (self.ended(id, limit).await, begin.elapsed())
    }

    /// Waits until a process ends.
    pub async fn ended(&mut self, id: usize, limit: Duration) -> ExitStatus {
        let name = self.processes[id].name.clone();
        // It stays ours until it has ended: a process that does not end is killed with the cluster.
        let child = &mut self.running(id).child;
        let status = until(&format!("the end of {name}"), limit, || child.try_wait().expect("our child")).await;
        self.processes[id].running = None;
        status
    }

    /// SIGTERM for all that run, one after the other; each must end well.
    pub async fn terminate_all(&mut self) {
        for id in 0..self.processes.len() {
            if self.processes[id].running.is_some() {
                let (status, _) = self.terminate(id, Duration::from_secs(30)).await;
                assert!(status.success(), "{} ended with {status}:\n{}", self.processes[id].name, self.tail(id));
            }
        }
    }

    fn log_path(&self, id: usize) -> PathBuf {
        self.folder.path().join(format!("{}.log", self.processes[id].name))
    }

    fn log_file(&self, id: usize) -> File {
        OpenOptions::new().create(true).append(true).open(self.log_path(id)).expect("a log file")
    }

    /// What a process has logged, over all its restarts.
    pub fn log(&self, id: usize) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path(id)).unwrap_or_default()).into_owned()
    }

    /// What all processes have logged.
    pub fn logs(&self) -> String {
        (0..self.processes.len()).map(|id| self.log(id)).collect()
    }

    /// The last lines of a log, for a failure's message.
    pub fn tail(&self, id: usize) -> String {
        let log = self.log(id);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Log lines of a level, of all processes.
    pub fn lines_of(&self, level: &str) -> Vec<String> {
        let mark = format!("\"level\":\"{level}\"");
        self.logs().lines().filter(|line| line.contains(&mark)).map(str::to_owned).collect()
    }
}

/// Whether all threads are stopped. One inside a system call finishes it first.
fn stands_still(tasks: &Path) -> bool {
    let Ok(entries) = fs::read_dir(tasks) else { return false };
    entries.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The name before the state may hold anything, but no further `)`.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't']))
    })
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        for id in 0..self.processes.len() {
            if self.processes[id].running.is_some() {
                self.kill(id);
            }
        }
        if failed {
            for level in ["ERROR", "WARN"] {
                let lines = self.lines_of(level);
                lines.iter().take(12).for_each(|line| eprintln!("{line}"));
                eprintln!("({} lines of level {level} in all)", lines.len());
            }
            if std::env::var_os("CHAT4ALL_KEEP").is_some() {
                eprintln!("kept: {}", self.folder.path().display());
                self.folder.disable_cleanup(true);
            }
        }
    }
}
