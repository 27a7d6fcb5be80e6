//! Shows how far the bench is: a bar on a terminal, a line now and then elsewhere. All of it goes to stderr.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const LINE_INTERVAL: Duration = Duration::from_secs(5);

pub struct Progress {
    messages: u32,
    bar: Option<ProgressBar>,
    last_line: Cell<Instant>,
}

impl Progress {
    pub fn new(messages: u32) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} [{elapsed}, {eta} left]");
            ProgressBar::new(u64::from(messages)).with_style(style.expect("the template is constant and valid"))
        });
        Self { messages, bar, last_line: Cell::new(Instant::now()) }
    }

    pub fn show(&self, accepted: u64, received: u64) {
        self.tell(received, || format!("received, {accepted} accepted"));
    }

    /// Of messages that are only to be accepted.
    pub fn show_waiting(&self, accepted: u64) {
        self.tell(accepted, || "accepted, to wait".to_owned());
    }

    fn tell(&self, done: u64, words: impl Fn() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(words());
        } else if self.last_line.get().elapsed() >= LINE_INTERVAL {
            self.last_line.set(Instant::now());
            eprintln!("{done} of {} {}", self.messages, words());
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
