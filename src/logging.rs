//! Logs go to stderr; stdout is for answers.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, warn};
use tracing_subscriber::filter::FilterExt;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt as lines};

use crate::config::{Config, LogFormat};
use crate::metrics;

/// The web server tells at every start what we tell in better words. Cassandra's driver tells at every connection that it
/// is no ScyllaDB, and at every try what is wrong, which we tell once. A directive of the user's for them wins.
const QUIET: &str = "actix_server=warn,scylla=warn,scylla::cluster::metadata=off";

/// Most warnings and errors of one kind within [`WINDOW`]; the others are counted. What is lost at a takeover, a line for
/// each partition, fits.
const LINES_MAX: u64 = 50;
const WINDOW: Duration = Duration::from_secs(10);

/// Starts logging as configured. Once a process.
pub fn start(config: &Config) {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.log_level)).expect("validation has read it");
    let throttle = Throttle::default();
    let tally = throttle.clone();
    let filter = filter.and(throttle);
    let on_terminal = io::stderr().is_terminal();
    let layer = lines::layer().with_writer(io::stderr);
    let layer = match config.log_format {
        LogFormat::Auto if on_terminal => layer.with_ansi(true).with_filter(filter).boxed(),
        LogFormat::Text => layer.with_ansi(on_terminal).with_filter(filter).boxed(),
        LogFormat::Auto | LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(layer).init();
    // Without it a storm is still withheld, only not told of.
    let _ = thread::Builder::new().name("log-tally".into()).spawn(move || {
        loop {
            thread::sleep(WINDOW);
            tally.tell();
        }
    });
}

/// Lets only so many warnings and errors of one line of our code through, so that a bad night does not fill the disk.
#[derive(Clone, Default)]
struct Throttle {
    kinds: Arc<Mutex<HashMap<Identifier, Kind>>>,
}

/// What came of one line of our code within the window.
#[derive(Default)]
struct Kind {
    written: u64,
    withheld: u64,
    message: String,
}

impl Throttle {
    fn kinds(&self) -> MutexGuard<'_, HashMap<Identifier, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admits(&self, event: &Event<'_>) -> bool {
        if *event.metadata().level() > Level::WARN {
            return true;
        }
        let mut kinds = self.kinds();
        let kind = kinds.entry(event.metadata().callsite()).or_default();
        if kind.written < LINES_MAX {
            kind.written += 1;
            return true;
        }
        if kind.withheld == 0 {
            event.record(&mut Message(&mut kind.message));
        }
        kind.withheld += 1;
        false
    }

    /// Begins a new window, and says what was withheld in the last one.
    fn tell(&self) {
        let kinds = std::mem::take(&mut *self.kinds());
        for Kind { withheld, message, .. } in kinds.into_values().filter(|kind| kind.withheld > 0) {
            warn!(
                withheld,
                of = message,
                seconds = WINDOW.as_secs(),
                "lines of one kind were too many: these were withheld"
            );
        }
    }
}

impl<S: Subscriber> Filter<S> for Throttle {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let admitted = self.admits(event);
        metrics::record_line(*event.metadata().level(), !admitted);
        admitted
    }
}

/// The text of an event.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            *self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_storm_of_one_kind_is_cut_off_and_counted_and_hides_no_other() {
        let (throttle, page) = (Throttle::default(), Page::default());
        let writer = page.clone();
        let layer = lines::layer().with_ansi(false).with_writer(move || writer.clone()).with_filter(throttle.clone());
        let counted = metrics::withheld();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for number in 0..LINES_MAX + 7 {
                warn!(number, "the store is away");
                tracing::info!(number, "partition assigned");
            }
            tracing::error!("something else");
            throttle.tell();
            warn!("the store is away");
        });
        let text = String::from_utf8(page.0.lock().expect("no panic").clone()).expect("text");
        let count = |part: &str| text.lines().filter(|line| line.contains(part)).count() as u64;
        assert_eq!(count("the store is away number="), LINES_MAX, "{text}");
        assert_eq!(
            count("partition assigned"),
            LINES_MAX + 7,
            "what tests and people hold against each other is whole"
        );
        assert_eq!(count("something else"), 1);
        assert_eq!(metrics::withheld() - counted, 7);
        assert_eq!(count("withheld=7 of=\"the store is away\" seconds=10"), 1, "{text}");
        assert_eq!(text.lines().last().map(|line| line.contains("the store is away")), Some(true), "a new window");
    }
}
