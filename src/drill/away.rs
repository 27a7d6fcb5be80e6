//! Takes an engine away and brings it back: an embedded one by stopping a process inside a write to it, another one by
//! commands of the user's.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::stack::{Id, Stack};
use crate::cli::Failure;

/// Longest time that a command may take: a server starts meanwhile.
const COMMAND_MAX: Duration = Duration::from_secs(240);

/// Shell commands that end a server of the user's and start it again.
#[derive(Debug, Clone)]
pub struct Switch {
    pub pause: String,
    pub resume: String,
}

/// An engine that is away. Comes back when this is dropped.
pub enum Away<'a> {
    Stopped(&'a Stack, Id),
    /// The command that brings it back; none once that has run.
    Commanded(Option<&'a str>),
}

/// Takes `engine`, `log` or `status`, away; `id` writes to it.
pub async fn take<'a>(stack: &'a Stack, id: Id, engine: &str, switch: Option<&'a Switch>) -> Result<Away<'a>, Failure> {
    let Some(switch) = switch else {
        stack.stop_inside_a_write(id, engine).await?;
        return Ok(Away::Stopped(stack, id));
    };
    // Made first: a command that failed half way needs the other one too.
    let away = Away::Commanded(Some(&switch.resume));
    run(&switch.pause).await?;
    Ok(away)
}

impl Away<'_> {
    /// In words, for the timeline.
    pub fn how(&self, what: &str) -> String {
        match self {
            Away::Stopped(stack, id) => format!("{what} is away: {} stands still inside a write", stack.name(*id)),
            Away::Commanded(_) => format!("{what} is away"),
        }
    }

    pub async fn bring_back(mut self) -> Result<(), Failure> {
        match &mut self {
            Away::Stopped(stack, id) => stack.go_on(*id),
            Away::Commanded(resume) => {
                if let Some(command) = *resume {
                    run(command).await?;
                    *resume = None;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        // A stopped process dies with its stack.
        if let Away::Commanded(Some(command)) = self {
            let ended = std::process::Command::new("sh").args(["-c", command]).stdout(Stdio::null()).status();
            if !ended.is_ok_and(|status| status.success()) {
                eprintln!("`{command}` failed: the server may still be away");
            }
        }
    }
}

async fn run(command: &str) -> Result<(), Failure> {
    let running = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).kill_on_drop(true).output();
    match timeout(COMMAND_MAX, running).await {
        Ok(Ok(ended)) if ended.status.success() => Ok(()),
        Ok(Ok(ended)) => {
            let said = String::from_utf8_lossy(&ended.stderr);
            Err(Failure::failed(format!("`{command}` ended with {}: {}", ended.status, said.trim())))
        }
        Ok(Err(error)) => Err(Failure::failed(format!("`{command}` cannot be run: {error}"))),
        Err(_) => Err(Failure::failed(format!("`{command}` took longer than {} s", COMMAND_MAX.as_secs()))),
    }
}
