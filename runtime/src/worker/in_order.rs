//! A worker for roles that do one batch after the other: routers and recorders.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use chat4all_storage::log::{AppendError, Commit, Consumer, Lease, Record};
use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::inflow::size_of_record;
use super::{Drain, Enqueue, Partition, Worker};

const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What a role does with a batch of one partition's records.
pub trait Process: Unpin + 'static {
    const NAME: &'static str;

    /// Most records of one batch.
    fn batch_max(&self) -> usize;

    /// Does all that `batch` asks for, durably. It is called again with the same batch after `Later`.
    fn process(&self, batch: Rc<[Arc<Record>]>, desk: &Desk) -> LocalBoxFuture<'static, Result<Done, Failure>>;
}

/// What a process needs of its partition.
#[derive(Clone)]
pub struct Desk {
    pub lease: Lease,
    pub consumer: Arc<dyn Consumer>,
    /// Where this assignment of the partition started.
    pub started_at: u64,
}

/// A batch is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// And its commit is written.
    Committed,
    /// Its commit may follow at the pace of commits.
    Uncommitted,
}

/// A batch is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was done, or doing it again is harmless: try again after a pause.
    Later(String),
    /// What was done is not known: begin again from the last commit.
    Restart(String),
    /// The partition is not ours any more.
    Fenced,
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Unavailable(_) | AppendError::Refused(_) => Failure::Later(error.to_string()),
            AppendError::Unknown(_) => Failure::Restart(error.to_string()),
            AppendError::Fenced => Failure::Fenced,
        }
    }
}

/// Owns one partition's queue of records. Ends when its lease is gone.
pub struct InOrder<P: Process> {
    process: P,
    partition: Partition,
    desk: Desk,
    commit_interval: Duration,
    queue: VecDeque<Arc<Record>>,
    busy: bool,
    draining: bool,
    /// One past the last finished record, and up to where that is committed.
    finished: u64,
    committed: u64,
    commit_due: bool,
    /// Wakes whoever waits for the drain.
    idle: watch::Sender<bool>,
}

impl<P: Process> InOrder<P> {
    pub fn new(process: P, partition: Partition, commit_interval: Duration) -> Self {
        let desk = Desk {
            lease: partition.lease.clone(),
            consumer: Arc::clone(&partition.consumer),
            started_at: partition.offset,
        };
        let offset = partition.offset;
        Self {
            process,
            partition,
            desk,
            commit_interval,
            queue: VecDeque::new(),
            busy: false,
            draining: false,
            finished: offset,
            committed: offset,
            commit_due: false,
            idle: watch::Sender::new(false),
        }
    }

    fn go_on(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            return;
        }
        if self.draining || self.queue.is_empty() {
            return self.commit_later(ctx);
        }
        let count = self.queue.len().min(self.process.batch_max());
        let batch = self.queue.drain(..count).collect();
        self.work(batch, RETRY_FIRST, ctx);
    }

    fn work(&mut self, batch: Rc<[Arc<Record>]>, pause: Duration, ctx: &mut Context<Self>) {
        self.busy = true;
        let work = self.process.process(Rc::clone(&batch), &self.desk);
        ctx.spawn(work.into_actor(self).map(move |result, worker, ctx| match result {
            Ok(done) => worker.done(&batch, done, ctx),
            Err(Failure::Fenced) => {
                debug!(partition = %worker.desk.lease.partition, "fenced");
                worker.abandon();
            }
            Err(Failure::Restart(reason)) => {
                warn!(partition = %worker.desk.lease.partition, %reason, "beginning again from the last commit");
                worker.desk.consumer.restart(&worker.desk.lease);
                worker.abandon();
            }
            Err(Failure::Later(reason)) => {
                warn!(partition = %worker.desk.lease.partition, %reason, pause_ms = pause.as_millis(), "trying again");
                ctx.run_later(pause, move |worker, ctx| worker.work(batch, (pause * 2).min(RETRY_MAX), ctx));
            }
        }));
    }

    /// Does nothing more: the lease is gone, or about to go. Stays busy so that nothing is begun.
    fn abandon(&mut self) {
        self.idle.send_replace(true);
    }

    fn done(&mut self, batch: &[Arc<Record>], done: Done, ctx: &mut Context<Self>) {
        self.busy = false;
        if let Some(last) = batch.last() {
            self.finished = last.offset + 1;
        }
        if done == Done::Committed {
            self.committed = self.finished;
        }
        self.partition.inflow.finished(batch.len(), batch.iter().map(|record| size_of_record(record)).sum());
        self.go_on(ctx);
        self.commit_later(ctx);
    }

    /// Commits at the pace of commits; at once when draining.
    fn commit_later(&mut self, ctx: &mut Context<Self>) {
        if self.commit_due || self.committed == self.finished {
            self.tell_if_idle();
            return;
        }
        self.commit_due = true;
        let wait = if self.draining { Duration::ZERO } else { self.commit_interval };
        ctx.run_later(wait, |worker, ctx| {
            let commit = Commit { lease: worker.desk.lease.clone(), offset: worker.finished, metadata: String::new() };
            let consumer = Arc::clone(&worker.desk.consumer);
            let writing = commit_once(consumer, commit).into_actor(worker);
            ctx.spawn(writing.map(|committed, worker, ctx| {
                worker.commit_due = false;
                if let Some(offset) = committed {
                    worker.committed = offset;
                }
                worker.commit_later(ctx);
            }));
        });
    }

    fn tell_if_idle(&self) {
        if self.draining && !self.busy && self.committed == self.finished {
            self.idle.send_replace(true);
        }
    }
}

/// The offset committed; `None` when it has to be tried again. Fenced counts as committed: whoever holds the partition
/// now does the rest.
async fn commit_once(consumer: Arc<dyn Consumer>, commit: Commit) -> Option<u64> {
    let offset = commit.offset;
    match consumer.commit(vec![commit]).await {
        Ok(_) => Some(offset),
        Err(error) => {
            warn!(%error, "a commit failed and is tried again");
            tokio::time::sleep(RETRY_FIRST).await;
            None
        }
    }
}

impl<P: Process> Actor for InOrder<P> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        stop_when_gone(self.partition.gone.clone(), ctx);
    }
}

impl<P: Process> Worker for InOrder<P> {
    const NAME: &'static str = P::NAME;
}

impl<P: Process> Handler<Enqueue> for InOrder<P> {
    type Result = ();

    fn handle(&mut self, Enqueue { records }: Enqueue, ctx: &mut Self::Context) {
        self.queue.extend(records);
        self.go_on(ctx);
    }
}

impl<P: Process> Handler<Drain> for InOrder<P> {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let mut idle = self.idle.subscribe();
        self.go_on(ctx);
        Box::pin(async move {
            // An error means that the worker is gone: nothing is left to wait for.
            let _ = idle.wait_for(|idle| *idle).await;
        })
    }
}

/// Stops a worker when its lease is gone.
pub fn stop_when_gone<W: Actor<Context = Context<W>>>(gone: CancellationToken, ctx: &mut Context<W>) {
    let gone = async move { gone.cancelled().await };
    ctx.spawn(actix::fut::wrap_future::<_, W>(gone).map(|(), _, ctx| ctx.stop()));
}
