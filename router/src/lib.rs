//! The router: reads `messages` and writes a record on `<channel>-outbound` for each address, with its `queued` status,
//! in one step with the commit. `fan_out` decides, [`PartitionRouter`] carries out.

pub mod fan_out;
pub mod metrics;
mod partition_router;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use chat4all_proto::{ChannelName, Topic};
use chat4all_runtime::Shutdown;
use chat4all_runtime::supervisor::Handle;
use chat4all_runtime::worker::{self, Consumer, Factory, InOrder, Limits};
use chat4all_storage::Log;

pub use partition_router::PartitionRouter;

/// The consumer group of all routers.
pub const GROUP: &str = "router";

#[derive(Debug, Clone)]
pub struct Settings {
    /// The channels there are; a message for another one fails with `channel_removed`.
    pub channels: Arc<BTreeSet<ChannelName>>,
    /// Of each partition in memory.
    pub limits: Limits,
    pub commit_interval: Duration,
    /// How long a message's id is known as routed, at most: less than an idempotency key is kept.
    pub repeats_kept: Duration,
}

/// Starts this process's routers on the current arbiter.
pub fn start(settings: &Settings, log: &Arc<dyn Log>, shutdown: &Shutdown) -> Handle<Consumer<PartitionRouter>> {
    let (channels, commit_interval) = (Arc::clone(&settings.channels), settings.commit_interval);
    let repeats_kept = settings.repeats_kept;
    let factory: Factory<PartitionRouter> = Arc::new(move |partition| {
        InOrder::new(partition_router::Router::new(Arc::clone(&channels), repeats_kept), partition, commit_interval)
            .start()
    });
    let consumer = worker::Settings { group: GROUP.to_owned(), topics: vec![Topic::Messages], limits: settings.limits };
    worker::start(log, consumer, factory, shutdown)
}
