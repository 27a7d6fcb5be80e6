//! The log on SQLite does what the port promises.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;

use async_trait::async_trait;
use chat4all_embedded::log::{EmbeddedLog, Options};
use chat4all_storage::Log;
use chat4all_storage::log::conformance::{self, Store};
use tempfile::TempDir;

struct Folder(TempDir);

#[async_trait]
impl Store for Folder {
    async fn open(&self) -> Arc<dyn Log> {
        EmbeddedLog::open(self.0.path(), Options::default()).unwrap()
    }
}

#[tokio::test]
async fn the_log_keeps_the_ports_promises() {
    conformance::all(|| Folder(tempfile::tempdir().unwrap())).await;
}
