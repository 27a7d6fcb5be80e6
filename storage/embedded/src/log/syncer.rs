//! The thread that waits for the disk: what the writer has written is answered when it is fsynced. Meanwhile the writer goes on,
//! and what it writes shares the next fsync.
//!
//! The write-ahead log is one file, written from front to back. So one fsync makes everything before it durable, and a power cut
//! takes the latest transactions, never one from between.

use std::fs::File;
use std::sync::Arc;

use chat4all_storage::crash_point;
use tracing::error;

use super::job::{Failure, Size};
use super::shared::Shared;
use crate::abort::AbortOnPanic;

pub(super) struct Syncer {
    pub shared: Arc<Shared>,
    /// The write-ahead log. It stays the same file for as long as any connection is open.
    pub wal: File,
}

impl Syncer {
    /// Syncs until the writer has ended.
    pub(super) fn run(self) {
        let _abort = AbortOnPanic("log-syncer");
        loop {
            let jobs = self.shared.queue.take_unsynced();
            if jobs.is_empty() {
                return;
            }
            let result = self.sync();
            self.shared.queue.synced(Size::of(&jobs));
            for job in jobs {
                job.work.answer(result.clone());
            }
        }
    }

    fn sync(&self) -> Result<(), Failure> {
        crash_point("embedded-log::before-sync");
        self.wal.sync_data().map_err(|error| {
            error!(%error, "the disk does not say that it has what was written");
            Failure::Unknown(error.to_string())
        })
    }
}
