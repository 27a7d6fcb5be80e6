//! The ordered partition worker. A role says which actor works a partition off; [`Consumer`] joins the group, starts one
//! such actor for each partition number it is given, hands it the records in order, drains it when the partition goes to
//! somebody else, and restarts it from the last commit when it panics. Where a role subscribes to several topics, the
//! partitions of one number are one partition to its worker, with a source for each topic.
//!
//! Invariant: nothing here knows what a record means.

mod consumer;
pub mod in_order;
mod inflow;
pub mod messages;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler};
use chat4all_proto::progress::FinishedSet;
use chat4all_storage::Log;
use chat4all_storage::log::{Consumer as LogConsumer, Lease};
use tokio_util::sync::CancellationToken;

pub use consumer::{Consumer, Settings};
pub use in_order::InOrder;
pub use inflow::{Inflow, Limits, size_of_record};
pub use messages::{Drain, Enqueue};

use crate::Shutdown;
use crate::supervisor::{self, Alive, Handle};

/// An actor that works one partition off. It must keep the [`Alive`] of its [`Partition`] until it ends, and stop when
/// [`Partition::gone`] is cancelled.
pub trait Worker: Actor<Context = Context<Self>> + Handler<Enqueue> + Handler<Drain> {
    /// Label of `chat4all_actor_restarts_total`.
    const NAME: &'static str;
}

/// Starts a worker for a partition number, on whatever arbiter suits the role.
pub type Factory<W> = Arc<dyn Fn(Partition) -> Addr<W> + Send + Sync>;

/// Starts a supervised consumer on the current arbiter.
pub fn start<W: Worker>(
    log: &Arc<dyn Log>,
    settings: Settings,
    factory: Factory<W>,
    shutdown: &Shutdown,
) -> Handle<Consumer<W>> {
    let (log, for_consumer) = (Arc::clone(log), shutdown.clone());
    supervisor::supervise("consumer", shutdown.clone(), move |alive| {
        let (log, factory) = (Arc::clone(&log), Arc::clone(&factory));
        Consumer::new(log, settings.clone(), factory, for_consumer.clone(), alive).start()
    })
}

/// One partition number under its leases, as its worker gets it.
pub struct Partition {
    /// One for each topic, in the order of [`Settings::topics`]. They come and go together.
    pub sources: Vec<Source>,
    /// For appends and commits under the sources' leases.
    pub consumer: Arc<dyn LogConsumer>,
    /// Cancelled when the leases are gone: abort everything, finish nothing more.
    pub gone: CancellationToken,
    pub alive: Alive,
}

/// What a worker gets of one topic.
#[derive(Clone)]
pub struct Source {
    pub lease: Lease,
    /// Where work starts: everything below is finished.
    pub offset: u64,
    /// What above `offset` is finished too.
    pub finished: FinishedSet,
    /// Told of everything finished, it keeps the records in memory bounded.
    pub inflow: Arc<Inflow>,
}

impl Partition {
    /// The first source; for most roles the only one.
    pub fn lead(&self) -> &Source {
        &self.sources[0]
    }

    pub fn number(&self) -> u32 {
        self.lead().lease.partition.partition
    }
}
