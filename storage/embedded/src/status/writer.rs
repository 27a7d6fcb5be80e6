//! The thread that writes. It takes everything queued into one transaction, so that the cost of a commit is shared by
//! all who wait for it, and sleeps while nothing is queued.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chat4all_storage::status::rows::Rows;
use chat4all_storage::status::{Error, Write};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{Options, failure, upsert};
use crate::abort::AbortOnPanic;
use crate::checkpoint::Checkpointer;
use crate::turnstile::Turnstile;

/// Most writes of one transaction, apart from a single call that brings more.
const WRITES_MAX: usize = 4_000;

/// The queue to the thread. The thread ends with it.
#[derive(Debug)]
pub(super) struct Writer {
    commands: mpsc::Sender<Command>,
}

enum Command {
    Write {
        writes: Vec<Write>,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Has a transaction of its own, and answers by itself.
    Transaction(Box<dyn FnOnce(&mut WriterThread) + Send>),
    Close {
        done: oneshot::Sender<()>,
    },
    #[cfg(test)]
    Run(Box<dyn FnOnce(&mut Connection) + Send>),
}

impl Writer {
    pub(super) fn start(
        mut connection: Connection,
        turnstile: Turnstile,
        file: PathBuf,
        options: Options,
    ) -> io::Result<Self> {
        let (commands, queue) = mpsc::channel(options.queued_calls_max.max(1));
        let pace = Pace { interval: options.commit_interval_min, last: None };
        let checkpointer = Checkpointer::start("status-checkpt", file.clone(), &mut connection)?;
        let thread = WriterThread { connection, turnstile, checkpointer, file, queue, pace };
        std::thread::Builder::new().name("status-writer".into()).spawn(move || thread.run())?;
        Ok(Self { commands })
    }

    pub(super) async fn write(&self, writes: Vec<Write>) -> Result<(), Error> {
        self.ask(|reply| Command::Write { writes, reply }).await?
    }

    /// All of `work` or nothing, in a transaction that it shares with nobody. It runs to its end even if the caller stops
    /// waiting.
    pub(super) async fn in_transaction<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.ask(|reply| {
            Command::Transaction(Box::new(move |thread| {
                let _ = reply.send(thread.in_transaction(work));
            }))
        })
        .await?
    }

    /// Returns when what was queued is written and the file is closed.
    pub(super) async fn close(&self) {
        let _ = self.ask(|done| Command::Close { done }).await; // an error: it was closed before
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| failure::closed())?;
        answer.await.map_err(|_| failure::closed())
    }

    /// Calls that wait for the thread.
    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.commands.max_capacity() - self.commands.capacity()
    }

    /// Runs `action` between two transactions.
    #[cfg(test)]
    pub(super) async fn run<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.ask(|reply| {
            Command::Run(Box::new(move |connection| {
                let _ = reply.send(action(connection));
            }))
        })
        .await
    }
}

/// Waits for the end of a write.
struct Waiter(oneshot::Sender<Result<(), Error>>);

struct WriterThread {
    connection: Connection,
    turnstile: Turnstile,
    checkpointer: Checkpointer,
    file: PathBuf,
    queue: mpsc::Receiver<Command>,
    pace: Pace,
}

/// Keeps transactions apart while there are many: what comes meanwhile shares the next one. The first one after a
/// pause does not wait.
struct Pace {
    interval: Duration,
    last: Option<Instant>,
}

impl Pace {
    fn wait(&mut self) {
        if let Some(last) = self.last {
            std::thread::sleep(self.interval.saturating_sub(last.elapsed()));
        }
        self.last = Some(Instant::now());
    }
}

impl WriterThread {
    fn run(mut self) {
        let _abort = AbortOnPanic("status-writer");
        while let Some(command) = self.queue.blocking_recv() {
            let mut next = Some(command);
            while let Some(command) = next.take() {
                match command {
                    Command::Write { writes, reply } => {
                        self.pace.wait();
                        next = self.write_with_queued(writes, Waiter(reply));
                    }
                    Command::Transaction(work) => work(&mut self),
                    Command::Close { done } => return self.close(done),
                    #[cfg(test)]
                    Command::Run(action) => action(&mut self.connection),
                }
            }
        }
    }

    /// Writes `writes` and all that is queued behind in one transaction. The answer is a command that came after and
    /// is none of these.
    fn write_with_queued(&mut self, mut writes: Vec<Write>, waiter: Waiter) -> Option<Command> {
        let mut waiters = vec![waiter];
        let mut next = None;
        while writes.len() < WRITES_MAX && next.is_none() {
            match self.queue.try_recv() {
                Ok(Command::Write { writes: more, reply }) => {
                    writes.extend(more);
                    waiters.push(Waiter(reply));
                }
                Ok(other) => next = Some(other),
                Err(_) => break,
            }
        }
        // Before our turn comes: other processes wait while it lasts.
        let rows = Rows::of(&writes);
        let result = self.in_transaction(|transaction| upsert::upsert(transaction, &rows));
        for Waiter(reply) in waiters {
            let _ = reply.send(result.clone()); // who stopped waiting does not mind
        }
        next
    }

    /// All of `work` or nothing, when the processes before us are done.
    fn in_transaction<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, Error> {
        let locked = self.turnstile.pass();
        let _pass = locked.map_err(|error| Error::Unavailable(format!("its lock files cannot be locked: {error}")))?;
        self.checkpointer.step(&self.connection);
        let result =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
                let done = work(&transaction)?;
                transaction.commit()?;
                Ok(done)
            });
        result.map_err(|error| failure::error(&self.file, &error))
    }

    fn close(mut self, done: oneshot::Sender<()>) {
        drop(self.checkpointer);
        self.queue.close(); // calls that are queued behind get no answer: `closed`
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "the status store did not close in order");
        }
        let _ = done.send(());
    }
}
