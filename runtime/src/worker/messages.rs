//! What a partition's worker and the consumer are asked.

use std::sync::Arc;

use actix::Message;
use chat4all_storage::log::Record;

/// Further records of one source of the partition, ascending. Answered as soon as they are queued: how much may be queued
/// is bounded by the source's `Inflow`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Enqueue {
    /// Its place in `Partition::sources`.
    pub source: usize,
    pub records: Vec<Arc<Record>>,
}

/// Start nothing more; answer when what is under way has ended and the last commit is written. Sent to a worker when its
/// partition goes elsewhere, to a consumer when the process ends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;
