//! The recorder: reads what the log says about messages and writes rows of the status store, a batch at a time; where a
//! receipt and the delivery it is about have both come, it puts the delivery's status on the log. It stands beside the
//! delivery path: while the store is away, its partitions wait and everything else goes on.

mod joined;
mod joiner;
pub mod metrics;
mod partition_recorder;
#[cfg(test)]
mod tests;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ArbiterHandle};
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

/// Starts this process's recorders, their partitions on `arbiter`, with a membership for each topic: Kafka shares out the
/// partitions of a membership's topics as one heap, so that one process could get all the busy ones.
pub fn start(
    settings: &Settings,
    log: &Arc<dyn Log>,
    status: &Arc<dyn Status>,
    arbiter: &ArbiterHandle,
    shutdown: &Shutdown,
) -> Vec<Handle<Consumer<PartitionRecorder>>> {
    let topics = [Topic::Messages, Topic::StatusUpdates, Topic::DeadLetters, Topic::Inbound];
    topics.into_iter().map(|topic| start_on(topic, settings, log, status, arbiter, shutdown)).collect()
}

fn start_on(
    topic: Topic,
    settings: &Settings,
    log: &Arc<dyn Log>,
    status: &Arc<dyn Status>,
    arbiter: &ArbiterHandle,
    shutdown: &Shutdown,
) -> Handle<Consumer<PartitionRecorder>> {
    let (for_joins, status, commit_interval) = (Arc::clone(log), Arc::clone(status), settings.commit_interval);
    let arbiter = arbiter.clone();
    let factory: Factory<PartitionRecorder> = Arc::new(move |partition| {
        let (for_joins, status) = (Arc::clone(&for_joins), Arc::clone(&status));
        InOrder::start_in_arbiter(&arbiter, move |_| {
            let topic = &partition.lead().lease.partition.topic;
            let recorder = partition_recorder::Recorder::new(for_joins, status, topic);
            InOrder::new(recorder, partition, commit_interval)
        })
    });
    let consumer = worker::Settings { group: GROUP.to_owned(), topics: vec![topic], limits: settings.limits };
    worker::start(log, consumer, factory, shutdown)
}
