//! Members in real processes, which can be killed and frozen: the test binary, started again to run its function `child`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::PATIENCE;

/// Names the topics of a child process.
pub const CHILD: &str = "CHAT4ALL_TEST_KAFKA_CHILD";

/// This test binary in a process of its own, as `child`.
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: mpsc::UnboundedReceiver<String>,
    pub heard: Vec<String>,
}

impl Process {
    pub fn start(prefix: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(CHILD, prefix)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), lines(child.stdout.take().unwrap()));
        Self { child, input, output, heard: Vec::new() }
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    pub async fn until(&mut self, line: &str) {
        self.until_one_of(&[line]).await;
    }

    pub async fn until_one_of(&mut self, lines: &[&str]) {
        while self.heard.last().is_none_or(|last| !lines.contains(&&**last)) {
            let next = timeout(PATIENCE, self.output.recv()).await;
            self.heard.push(next.unwrap_or_else(|_| panic!("none of {lines:?} after {:?}", self.heard)).unwrap());
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of `source`, read by a thread of their own.
pub fn lines(source: impl std::io::Read + Send + 'static) -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}
