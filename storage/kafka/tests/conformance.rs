//! The log on Kafka does what the port promises, on the real broker that `CHAT4ALL_TEST_KAFKA` names (`host:port`).

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use chat4all_kafka::{KafkaLog, Options};
use chat4all_storage::Log;
use chat4all_storage::log::conformance::{self, Store};

/// Topics and groups of their own.
struct Topics(Options);

#[async_trait]
impl Store for Topics {
    async fn open(&self) -> Arc<dyn Log> {
        KafkaLog::open(self.0.clone()).unwrap()
    }
}

/// One test for each promise.
macro_rules! promises {
    ($($function:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $function() {
            if let Some(options) = support::options() {
                conformance::$function(&Topics(options)).await;
            }
        }
    )*};
}

chat4all_storage::log_promises!(promises);
