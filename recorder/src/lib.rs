//! The recorder: reads `messages` and `status-updates` and writes rows of the status store, a batch at a time. It stands
//! beside the delivery path: while the store is away, its partitions wait and everything else goes on.

mod metrics;
mod partition_recorder;

use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use chat4all_proto::Topic;
use chat4all_runtime::Shutdown;
use chat4all_runtime::supervisor::Handle;
use chat4all_runtime::worker::{self, Consumer, Factory, InOrder, Limits};
use chat4all_storage::{Log, Status};

pub use partition_recorder::PartitionRecorder;

/// The consumer group of all recorders.
pub const GROUP: &str = "recorder";

#[derive(Debug, Clone)]
pub struct Settings {
    /// Of each partition in memory.
    pub limits: Limits,
    pub commit_interval: Duration,
}

/// Starts this process's recorders on the current arbiter.
pub fn start(
    settings: &Settings,
    log: &Arc<dyn Log>,
    status: &Arc<dyn Status>,
    shutdown: &Shutdown,
) -> Handle<Consumer<PartitionRecorder>> {
    let (status, commit_interval) = (Arc::clone(status), settings.commit_interval);
    let factory: Factory<PartitionRecorder> = Arc::new(move |partition| {
        let recorder = partition_recorder::Recorder::new(Arc::clone(&status), &partition.lease.partition.topic);
        InOrder::new(recorder, partition, commit_interval).start()
    });
    let topics = vec![Topic::Messages, Topic::StatusUpdates];
    let consumer = worker::Settings { group: GROUP.to_owned(), topics, limits: settings.limits };
    worker::start(log, consumer, factory, shutdown)
}
