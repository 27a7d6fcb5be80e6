//! Long work of a client, call by call: at a rate, insisting through short outages, and showing how far it is.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::time::sleep;

use crate::cli::Failure;
use crate::cli::client::Refusal;

/// Between two attempts of a call, and how often it is repeated: every call here may be.
const AGAIN: Duration = Duration::from_secs(1);
const REPEATS_MAX: u32 = 30;
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Letters a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(f64);

/// Reads `20/s`.
pub fn rate(text: &str) -> Result<Rate, String> {
    let number = text.strip_suffix("/s").and_then(|number| number.parse::<f64>().ok());
    let rate = number.filter(|number| number.is_finite() && (0.01..=100_000.0).contains(number)).map(Rate);
    rate.ok_or_else(|| "is not a rate like 20/s, from 0.01/s to 100000/s".to_owned())
}

impl Rate {
    /// Most letters of one call, out of `most`: about those of a second.
    pub fn at_once(self, most: u32) -> u32 {
        // A float out of range becomes the nearest number.
        (self.0.ceil() as u32).clamp(1, most)
    }

    /// How long so many take.
    pub fn time_for(self, letters: usize) -> Duration {
        Duration::from_secs_f64(letters as f64 / self.0)
    }
}

/// Repeats a call while that may help.
pub async fn insist<T>(call: impl AsyncFn() -> Result<T, Refusal>) -> Result<T, Failure> {
    let mut repeats = 0;
    loop {
        match call().await {
            Err(refusal) if refusal.is_passing() && repeats < REPEATS_MAX => {
                if repeats == 0 {
                    eprintln!("waiting: {}", Failure::from(refusal));
                }
                repeats += 1;
                sleep(AGAIN).await;
            }
            answered => return Ok(answered?),
        }
    }
}

/// A line on a terminal, lines now and then elsewhere. All of it goes to stderr.
pub struct Progress {
    bar: Option<ProgressBar>,
    last_line: Cell<Instant>,
}

impl Progress {
    pub fn new() -> Self {
        let bar = io::stderr().is_terminal().then(ProgressBar::new_spinner);
        Self { bar, last_line: Cell::new(Instant::now()) }
    }

    pub fn show(&self, words: impl Fn() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(words());
            bar.tick();
        } else if self.last_line.get().elapsed() >= LINE_INTERVAL {
            self.last_line.set(Instant::now());
            eprintln!("{}", words());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_letters_a_second() {
        assert_eq!(rate("20/s"), Ok(Rate(20.0)));
        assert_eq!(rate("0.5/s").unwrap().time_for(2), Duration::from_secs(4));
        assert_eq!((rate("0.5/s").unwrap().at_once(100), rate("30/s").unwrap().at_once(100)), (1, 30));
        assert_eq!(rate("5000/s").unwrap().at_once(100), 100);
        for text in ["20", "0/s", "-1/s", "NaN/s", "inf/s", "/s", "20/m"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
