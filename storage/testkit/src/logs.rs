//! All that this process logs, at every level and from every thread.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::level_filters::LevelFilter;

/// The text of the log so far.
#[derive(Debug, Clone, Default)]
pub struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    /// Listens from the first call on; every call gives the same log. Panics if somebody else listens already.
    pub fn of_process() -> Self {
        static LOGS: OnceLock<Logs> = OnceLock::new();
        LOGS.get_or_init(|| {
            let logs = Self::default();
            let writer = logs.clone();
            let format = tracing_subscriber::fmt().with_ansi(false).with_max_level(LevelFilter::TRACE);
            format.with_writer(move || writer.clone()).init();
            logs
        })
        .clone()
    }

    /// The lines so far that contain `part`.
    pub fn lines_with(&self, part: &str) -> Vec<String> {
        let bytes = self.bytes();
        String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
