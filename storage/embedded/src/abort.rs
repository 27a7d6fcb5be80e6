//! What happens when a thread dies that nothing can work without.

use tracing::error;

/// Held by such a thread: if it panics, the process ends. Alive and unable to write, it would keep its partitions from
/// those who could work; dead, it is taken over.
pub(crate) struct AbortOnPanic(pub &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!(thread = self.0, "a thread died that nothing can work without; this process ends");
            std::process::abort();
        }
    }
}
