//! The recorder: reads what the log says about messages and writes rows of the status store, a batch at a time; where a
//! receipt and the delivery it is about have both come, it puts the delivery's status on the log. It stands beside the
//! delivery path: while the store is away, its partitions wait and everything else goes on.

mod joined;
mod joiner;
mod metrics;
mod partition_recorder;
#[cfg(test)]
mod tests;

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

/// Longest wait for the row of a message whose delivery failed after the provider had taken it: another partition writes
/// it, and without it there is no dead letter.
const MESSAGE_WAIT_MAX: Duration = Duration::from_secs(30);

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
    start_waiting(MESSAGE_WAIT_MAX, settings, log, status, shutdown)
}

fn start_waiting(
    message_wait_max: Duration,
    settings: &Settings,
    log: &Arc<dyn Log>,
    status: &Arc<dyn Status>,
    shutdown: &Shutdown,
) -> Handle<Consumer<PartitionRecorder>> {
    let (status, commit_interval) = (Arc::clone(status), settings.commit_interval);
    let factory: Factory<PartitionRecorder> = Arc::new(move |partition| {
        let topic = &partition.lease.partition.topic;
        let recorder = partition_recorder::Recorder::new(Arc::clone(&status), topic, message_wait_max);
        InOrder::new(recorder, partition, commit_interval).start()
    });
    let topics = vec![Topic::Messages, Topic::StatusUpdates, Topic::DeadLetters, Topic::Inbound];
    let consumer = worker::Settings { group: GROUP.to_owned(), topics, limits: settings.limits };
    worker::start(log, consumer, factory, shutdown)
}
