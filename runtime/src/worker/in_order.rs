//! A worker for roles that do one batch after the other: routers and recorders. Each source of a partition is a stream of
//! its own, with its own commit.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use chat4all_storage::crash_point;
use chat4all_storage::log::{AppendError, Commit, Consumer, Lease, Record};
use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::inflow::size_of_record;
use super::{Drain, Enqueue, Partition, Source, Worker};

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

/// What a process needs of the source whose records it is given.
#[derive(Clone)]
pub struct Desk {
    pub lease: Lease,
    pub consumer: Arc<dyn Consumer>,
    /// Where this assignment of the source started.
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

/// Owns one partition's queues of records. Ends when its leases are gone.
pub struct InOrder<P: Process> {
    process: P,
    partition: Partition,
    streams: Vec<Stream>,
    commit_interval: Duration,
    /// The leases are gone, or about to go: nothing is begun any more.
    abandoned: bool,
    draining: bool,
    /// Wakes whoever waits for the drain.
    idle: watch::Sender<bool>,
}

/// What is under way of one source.
struct Stream {
    desk: Desk,
    queue: VecDeque<Arc<Record>>,
    busy: bool,
    /// One past the last finished record, and up to where that is committed.
    finished: u64,
    committed: u64,
    commit_due: bool,
}

impl Stream {
    fn new(source: &Source, consumer: &Arc<dyn Consumer>) -> Self {
        let offset = source.offset;
        Self {
            desk: Desk { lease: source.lease.clone(), consumer: Arc::clone(consumer), started_at: offset },
            queue: VecDeque::new(),
            busy: false,
            finished: offset,
            committed: offset,
            commit_due: false,
        }
    }

    fn is_idle(&self) -> bool {
        !self.busy && self.committed == self.finished
    }
}

impl<P: Process> InOrder<P> {
    pub fn new(process: P, partition: Partition, commit_interval: Duration) -> Self {
        let stream = |source| Stream::new(source, &partition.consumer);
        Self {
            process,
            streams: partition.sources.iter().map(stream).collect(),
            partition,
            commit_interval,
            abandoned: false,
            draining: false,
            idle: watch::Sender::new(false),
        }
    }

    /// `at` is the place of a source, here and below.
    fn go_on(&mut self, at: usize, ctx: &mut Context<Self>) {
        let stream = &mut self.streams[at];
        if stream.busy || self.abandoned {
            return;
        }
        if self.draining || stream.queue.is_empty() {
            return self.commit_later(at, ctx);
        }
        let count = stream.queue.len().min(self.process.batch_max());
        let batch = stream.queue.drain(..count).collect();
        self.work(at, batch, RETRY_FIRST, ctx);
    }

    fn work(&mut self, at: usize, batch: Rc<[Arc<Record>]>, pause: Duration, ctx: &mut Context<Self>) {
        self.streams[at].busy = true;
        let work = self.process.process(Rc::clone(&batch), &self.streams[at].desk);
        ctx.spawn(work.into_actor(self).map(move |result, worker, ctx| {
            let Desk { lease, consumer, .. } = &worker.streams[at].desk;
            match result {
                Ok(done) => worker.done(at, &batch, done, ctx),
                Err(Failure::Fenced) => {
                    debug!(partition = %lease.partition, "fenced");
                    worker.abandon();
                }
                Err(Failure::Restart(reason)) => {
                    warn!(partition = %lease.partition, %reason, "beginning again from the last commit");
                    consumer.restart(lease);
                    worker.abandon();
                }
                Err(Failure::Later(reason)) => {
                    warn!(partition = %lease.partition, %reason, pause_ms = pause.as_millis(), "trying again");
                    ctx.run_later(pause, move |worker, ctx| worker.work(at, batch, (pause * 2).min(RETRY_MAX), ctx));
                }
            }
        }));
    }

    fn abandon(&mut self) {
        self.abandoned = true;
        self.idle.send_replace(true);
    }

    fn done(&mut self, at: usize, batch: &[Arc<Record>], done: Done, ctx: &mut Context<Self>) {
        let stream = &mut self.streams[at];
        stream.busy = false;
        if let Some(last) = batch.last() {
            stream.finished = last.offset + 1;
        }
        if done == Done::Committed {
            stream.committed = stream.finished;
        }
        let bytes = batch.iter().map(|record| size_of_record(record)).sum();
        self.partition.sources[at].inflow.finished(batch.len(), bytes);
        self.go_on(at, ctx);
        self.commit_later(at, ctx);
    }

    /// Commits at the pace of commits; at once when draining.
    fn commit_later(&mut self, at: usize, ctx: &mut Context<Self>) {
        let stream = &mut self.streams[at];
        if stream.commit_due || stream.committed == stream.finished {
            self.tell_if_idle();
            return;
        }
        stream.commit_due = true;
        let wait = if self.draining { Duration::ZERO } else { self.commit_interval };
        ctx.run_later(wait, move |worker, ctx| {
            let Stream { desk: Desk { lease, consumer, .. }, finished, .. } = &worker.streams[at];
            let commit = Commit { lease: lease.clone(), offset: *finished, metadata: String::new() };
            let writing = commit_once(Arc::clone(consumer), commit).into_actor(worker);
            ctx.spawn(writing.map(move |committed, worker, ctx| {
                let stream = &mut worker.streams[at];
                stream.commit_due = false;
                if let Some(offset) = committed {
                    stream.committed = offset;
                }
                worker.commit_later(at, ctx);
            }));
        });
    }

    fn tell_if_idle(&self) {
        if self.draining && self.streams.iter().all(Stream::is_idle) {
            self.idle.send_replace(true);
        }
    }
}

/// The offset committed; `None` when it has to be tried again. Fenced counts as committed: whoever holds the partition
/// now does the rest.
async fn commit_once(consumer: Arc<dyn Consumer>, commit: Commit) -> Option<u64> {
    let offset = commit.offset;
    crash_point("runtime::before-commit");
    let written = consumer.commit(vec![commit]).await;
    crash_point("runtime::after-commit");
    match written {
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

    fn handle(&mut self, Enqueue { source, records }: Enqueue, ctx: &mut Self::Context) {
        self.streams[source].queue.extend(records);
        self.go_on(source, ctx);
    }
}

impl<P: Process> Handler<Drain> for InOrder<P> {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let mut idle = self.idle.subscribe();
        (0..self.streams.len()).for_each(|at| self.go_on(at, ctx));
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
