//! The ordered partition worker. A role says which actor works a partition off; [`Consumer`] joins the group, starts one
//! such actor for each partition it is given, hands it the records in order, drains it when the partition goes to
//! somebody else, and restarts it from the last commit when it panics.
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

/// Starts a worker for a partition, on whatever arbiter suits the role.
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

/// One partition under one lease, as its worker gets it.
pub struct Partition {
    pub lease: Lease,
    /// Where work starts: everything below is finished.
    pub offset: u64,
    /// What above `offset` is finished too.
    pub finished: FinishedSet,
    /// For appends and commits under `lease`.
    pub consumer: Arc<dyn LogConsumer>,
    /// Told of everything finished, it keeps the records in memory bounded.
    pub inflow: Arc<Inflow>,
    /// Cancelled when the lease is gone: abort everything, finish nothing more.
    pub gone: CancellationToken,
    pub alive: Alive,
}
