//! The one thread of this process that writes: it drains the queue into one transaction after another. Knows nothing of what
//! the jobs do. It does not wait for the disk: that is the syncer's part.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode};
use tracing::warn;

use super::job::{Failure, Job, Size};
use super::schema::now;
use super::shared::Shared;
use super::tx::{Effects, Tx};
use crate::abort::AbortOnPanic;
use crate::checkpoint::Checkpointer;
use crate::turnstile::Turnstile;

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    /// Ends before the connection does.
    pub checkpointer: Checkpointer,
    pub connection: Connection,
    pub turnstile: Turnstile,
}

/// Where a transaction failed.
enum Broken {
    /// Before anything was tried.
    Begin(String),
    /// In one of the jobs.
    Job(rusqlite::Error),
    Commit(rusqlite::Error),
}

impl Writer {
    /// Writes until the queue is closed and used up.
    pub(super) fn run(mut self) {
        let _abort = AbortOnPanic("log-writer");
        let _end = AbandonOnDrop(self.shared.clone());
        loop {
            let jobs = self.shared.queue.take();
            if jobs.is_empty() {
                return;
            }
            let waits_for_disk = |(job, result): &(Job, Result<_, _>)| result.is_ok() && job.urgency.is_synced();
            let (unsynced, done): (Vec<_>, Vec<_>) = self.write(jobs).into_iter().partition(waits_for_disk);
            let done_size = Size::of(done.iter().map(|(job, _)| job));
            self.shared.queue.written(done_size, unsynced.into_iter().map(|(job, _)| job).collect());
            for (job, result) in done {
                job.work.answer(result);
            }
        }
    }

    fn write(&mut self, mut jobs: Vec<Job>) -> Vec<(Job, Result<(), Failure>)> {
        let Err(broken) = self.transact(&mut jobs) else {
            return jobs.into_iter().map(|job| (job, Ok(()))).collect();
        };
        match broken {
            Broken::Job(error) if jobs.len() > 1 => {
                warn!(%error, jobs = jobs.len(), "a transaction failed, trying its parts one by one");
                self.write_singly(jobs, is_out_of_space(&error))
            }
            broken => {
                let failure = broken.failure();
                warn!(?failure, jobs = jobs.len(), "a transaction failed");
                jobs.into_iter().map(|job| (job, Err(failure.clone()))).collect()
            }
        }
    }

    /// One job's fault must not be the others'. Without space only those are tried that append nothing.
    fn write_singly(&mut self, jobs: Vec<Job>, out_of_space: bool) -> Vec<(Job, Result<(), Failure>)> {
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            if out_of_space && job.size.records > 0 {
                answers.push((job, Err(Failure::NotWritten("there is no space left".into()))));
                continue;
            }
            let mut alone = vec![job];
            let result = self.transact(&mut alone).map_err(Broken::failure);
            answers.extend(alone.pop().map(|job| (job, result)));
        }
        answers
    }

    fn transact(&mut self, jobs: &mut [Job]) -> Result<(), Broken> {
        let pass = self.turnstile.pass().map_err(|error| Broken::Begin(error.to_string()))?;
        self.checkpointer.step(&self.connection);
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| Broken::Begin(error.to_string()))?;
        let done = self.apply(jobs).and_then(|effects| self.commit().map(|()| effects));
        if done.is_err() && !self.connection.is_autocommit() {
            // Some errors have rolled back by themselves.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        drop(pass);
        self.shared.publish(done?);
        Ok(())
    }

    fn apply(&self, jobs: &mut [Job]) -> Result<Effects, Broken> {
        let mut tx = Tx::new(&self.connection, &self.shared.tail, now(), self.shared.options.once_kept);
        for job in jobs {
            job.work.apply(&mut tx).map_err(Broken::Job)?;
        }
        tx.finish().map_err(Broken::Job)
    }

    fn commit(&self) -> Result<(), Broken> {
        fail::fail_point!("embedded-log::before-commit");
        self.connection.execute_batch("COMMIT").map_err(Broken::Commit)?;
        fail::fail_point!("embedded-log::after-commit");
        Ok(())
    }
}

impl Broken {
    fn failure(self) -> Failure {
        match self {
            Broken::Begin(reason) => Failure::NotWritten(reason),
            Broken::Job(error) if is_out_of_space(&error) => Failure::NotWritten("there is no space left".into()),
            Broken::Job(error) => Failure::NotWritten(error.to_string()),
            // The commit's last page was not written, so that a recovery would not find it either.
            Broken::Commit(error) if is_out_of_space(&error) => Failure::NotWritten("there is no space left".into()),
            // Written but perhaps not on the disk: a crash now may keep it or lose it.
            Broken::Commit(error) => Failure::Unknown(error.to_string()),
        }
    }
}

fn is_out_of_space(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

struct AbandonOnDrop(Arc<Shared>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.queue.abandon();
    }
}
