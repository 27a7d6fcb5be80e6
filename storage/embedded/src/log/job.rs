//! A piece of work for the writer, how urgent it is, and what comes of it.

use std::ops::{Add, Sub};
use std::time::Instant;

use chat4all_storage::log::{AppendError, Error};

use super::tx::Tx;

/// When a job shall be done, and whether a power cut may undo it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// New work from outside: refused when the queue is full. Everything else is work that is under way, which its callers
    /// bound: always taken, so that the ingress cannot starve it.
    Ingress,
    /// Memberships, values: at once.
    Admin,
    /// Work is handed on, and somebody waits for it. Not synced: what it was made of is not finished on the disk.
    HandOn,
    /// What became of work. With the next one, but soon. Not synced, for the same reason.
    Tell,
    /// Work is finished, and all that was written before it is as durable. With the next one that is synced, but
    /// soon.
    Finish,
}

impl Urgency {
    /// Whether it can wait for company.
    pub(super) fn waits(self) -> bool {
        matches!(self, Self::Tell | Self::Finish)
    }

    /// Whether the disk must have it before it is answered.
    pub(super) fn is_synced(self) -> bool {
        matches!(self, Self::Ingress | Self::Admin | Self::Finish)
    }
}

/// Why a job came to nothing.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Nothing was written and nothing will be.
    NotWritten(String),
    /// It may have been written.
    Unknown(String),
}

impl Failure {
    pub(super) fn closed() -> Self {
        Self::NotWritten("it was closed".into())
    }
}

impl From<Failure> for AppendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotWritten(reason) => AppendError::Unavailable(reason),
            Failure::Unknown(reason) => AppendError::Unknown(reason),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotWritten(reason) | Failure::Unknown(reason) => Error::Unavailable(reason),
        }
    }
}

/// How much a job holds. Jobs of no records (commits, memberships) are few and small: the bounds are not for them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    pub records: usize,
    pub bytes: usize,
}

impl Size {
    pub(super) fn of<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Self {
        jobs.into_iter().fold(Self::default(), |sum, job| sum + job.size)
    }
}

impl Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { records: self.records + other.records, bytes: self.bytes + other.bytes }
    }
}

impl Sub for Size {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { records: self.records - other.records, bytes: self.bytes - other.bytes }
    }
}

/// A piece of work for the writer.
pub(super) trait Work: Send {
    /// Does its part of a transaction. Called again after a roll-back, and then begins anew.
    fn apply(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// The transaction is committed, or came to nothing.
    fn answer(self: Box<Self>, result: Result<(), Failure>);
}

pub(super) struct Job {
    pub work: Box<dyn Work>,
    pub size: Size,
    pub urgency: Urgency,
    /// When it was handed over.
    pub since: Instant,
}

/// A closure as [`Work`], and a closure that takes what it returned.
pub(super) struct Call<F, T, R> {
    pub run: F,
    pub outcome: Option<T>,
    pub reply: R,
}

impl<F, T, R> Work for Call<F, T, R>
where
    F: FnMut(&mut Tx<'_>) -> rusqlite::Result<T> + Send,
    T: Send,
    R: FnOnce(Result<T, Failure>) + Send,
{
    fn apply(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.outcome = None;
        self.outcome = Some((self.run)(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, result: Result<(), Failure>) {
        let Self { outcome, reply, .. } = *self;
        reply(result.map(|()| outcome.expect("a committed job was applied")));
    }
}
