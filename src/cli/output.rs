//! How answers and failures reach the user.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::{config, serve};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line or the configuration must change.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
    /// Nobody reads our stdout any more (`chat4all tail | head`): no failure of ours.
    #[error("stdout is closed")]
    NobodyReads,
}

impl Failure {
    pub fn usage(text: impl Display) -> Self {
        Self::Usage(text.to_string())
    }

    pub fn failed(text: impl Display) -> Self {
        Self::Failed(text.to_string())
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::usage(error)
    }
}

impl From<serve::Error> for Failure {
    fn from(error: serve::Error) -> Self {
        match error {
            serve::Error::Channel { .. } => Self::usage(error),
            serve::Error::Port { .. }
            | serve::Error::Engine(_)
            | serve::Error::Tracing(_)
            | serve::Error::Failed(_) => Self::failed(error),
        }
    }
}

/// Ends a command: a failure goes to stderr.
pub(super) fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    let code = match &outcome {
        Ok(()) | Err(Failure::NobodyReads) => return ExitCode::SUCCESS,
        Err(Failure::Failed(_)) => 1,
        Err(Failure::Usage(_)) => 2,
    };
    if let Err(failure) = outcome {
        eprintln!("error: {failure}");
    }
    ExitCode::from(code)
}

/// `1 attempt`, `3 attempts`
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Prints a line of the answer.
pub fn say(line: impl Display) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").map_err(unwritable)
}

/// As `say`, for whoever waits for the line at the other end of a pipe.
pub fn say_at_once(line: impl Display) -> Result<(), Failure> {
    say(line)?;
    io::stdout().flush().map_err(unwritable)
}

fn unwritable(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::failed(format!("stdout cannot be written: {error}")),
    }
}

/// As the API answers it.
pub(super) fn json(body: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(body).expect("the API's bodies have text keys only")
}

/// Columns as wide as their widest cell; the last one is not padded.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}
