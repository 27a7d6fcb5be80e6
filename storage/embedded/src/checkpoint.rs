//! Moves what a write-ahead log holds into its database, beside the writer: doing it all itself, the writer would stand still for
//! 10 to 45 ms.
//!
//! A thread with a connection of its own copies the bulk while the writer goes on. What was written meanwhile is little: the
//! writer copies that itself, just before a transaction. With nothing left to copy, SQLite begins the write-ahead log anew
//! with that transaction, unless somebody is reading from it at that moment; then it is tried again a little later. Without
//! the writer's part it would only ever grow under steady load.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::hooks::Wal;
use tracing::warn;

use crate::abort::AbortOnPanic;
use crate::sqlite::{self, PAGE_BYTES};

/// With so many pages in the write-ahead log it is time: 16 MiB.
const DUE_PAGES: u32 = 16 * 1_024 * 1_024 / PAGE_BYTES;
/// If it could not be begun anew, this many pages later.
const AGAIN_PAGES: u32 = DUE_PAGES / 8;

/// The writer's side.
pub struct Checkpointer {
    /// In the write-ahead log after our last commit.
    pages: Arc<AtomicU32>,
    /// What `pages` was when it was last tried.
    tried_at: u32,
    /// The thread was told to copy, and its part is not followed by ours yet.
    under_way: bool,
    /// Whether the thread has done its part.
    copied: Arc<AtomicBool>,
    /// Taken when it ends.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// For the file that `connection` writes, which does no checkpoints of its own any more. `name` is the thread's.
    pub fn start(name: &'static str, file: PathBuf, connection: &mut Connection) -> io::Result<Self> {
        let pages = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&pages);
        let hook = move |_: &mut Wal, pages: i32| {
            seen.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        };
        connection.wal_hook(Some(hook)).map_err(io::Error::other)?;
        let copied = Arc::new(AtomicBool::new(false));
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn({
            let copied = Arc::clone(&copied);
            move || {
                let _abort = AbortOnPanic(name);
                copy_when_told(&file, &woken, &copied);
            }
        })?;
        Ok(Self { pages, tried_at: 0, under_way: false, copied, wake: Some(wake), thread: Some(thread) })
    }

    /// Does what is due. To be called before each transaction, when nobody else writes.
    pub fn step(&mut self, connection: &Connection) {
        if self.under_way {
            if self.copied.swap(false, Ordering::SeqCst) {
                self.under_way = false;
                copy(connection);
            }
            return;
        }
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.tried_at {
            // Begun anew since.
            self.tried_at = 0;
        }
        if pages >= DUE_PAGES && pages >= self.tried_at + AGAIN_PAGES {
            self.tried_at = pages;
            // There is room: it has done what it was told before.
            self.under_way = self.wake.as_ref().is_some_and(|wake| wake.try_send(()).is_ok());
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn copy_when_told(file: &Path, woken: &Receiver<()>, copied: &AtomicBool) {
    let mut connection = None;
    while woken.recv().is_ok() {
        match connection.take().map_or_else(|| sqlite::open_reader(file), Ok) {
            Ok(opened) => {
                // The second time there is little left, and less to come.
                copy(&opened);
                copy(&opened);
                connection = Some(opened);
            }
            Err(error) => warn!(file = %file.display(), %error, "no checkpoint: the file cannot be opened"),
        }
        copied.store(true, Ordering::SeqCst);
    }
}

/// Copies as much as can be copied without waiting for anybody. Another process that does the same is none of our business.
fn copy(connection: &Connection) {
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        let file = connection.path().unwrap_or_default();
        warn!(file, %error, "a checkpoint failed: the write-ahead log grows until one succeeds");
    }
}
