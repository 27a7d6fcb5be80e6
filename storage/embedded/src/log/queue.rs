//! What waits for the writer: a bounded queue of jobs, each a piece of work inside a transaction and an answer.
//! Filled by every call that writes, emptied by the writer's thread. Knows nothing of what the jobs do.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chat4all_storage::log::{AppendError, Error};

use super::tx::Tx;

/// The most that one transaction takes up.
const TRANSACTION_RECORDS_MAX: usize = 4_096;
const TRANSACTION_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// How long a job that can wait does so for others to share its transaction.
const PATIENCE: Duration = Duration::from_millis(5);

/// When a job shall be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// New work from outside: refused when the queue is full.
    Ingress,
    /// Work that is under way, which its callers bound: always taken, so that the ingress cannot starve it.
    Work,
    /// With the next one that is urgent, but within [`PATIENCE`]: alone it is not worth an fsync.
    Soon,
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

/// A piece of work for the writer.
pub(super) trait Work: Send {
    /// Does its part of a transaction. Called again after a roll-back, and then begins anew.
    fn apply(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// The transaction is durable, or came to nothing.
    fn answer(self: Box<Self>, result: Result<(), Failure>);
}

pub(super) struct Job {
    pub work: Box<dyn Work>,
    pub size: Size,
    urgency: Urgency,
    since: Instant,
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

/// The queue. Full or closed, it refuses at once.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    records_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// How many of them are urgent.
    urgent: usize,
    size: Size,
    /// When the oldest append of the transaction under way was handed over.
    writing_since: Option<Instant>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(records_max: usize, bytes_max: usize) -> Self {
        Self { state: Mutex::default(), filled: Condvar::new(), records_max, bytes_max }
    }

    /// Hands a job over; gives it back with the reason if it cannot be taken.
    pub(super) fn push(
        &self,
        work: Box<dyn Work>,
        size: Size,
        urgency: Urgency,
    ) -> Result<(), (Box<dyn Work>, Failure)> {
        let mut state = self.lock();
        if state.closed {
            return Err((work, Failure::closed()));
        }
        let full =
            state.size.records + size.records > self.records_max || state.size.bytes + size.bytes > self.bytes_max;
        if urgency == Urgency::Ingress && state.size.records > 0 && full {
            return Err((work, Failure::NotWritten("its queue is full".into())));
        }
        state.size.records += size.records;
        state.size.bytes += size.bytes;
        state.urgent += usize::from(urgency != Urgency::Soon);
        // One that can wait only has to start the waiting.
        if urgency != Urgency::Soon || state.jobs.is_empty() {
            self.filled.notify_one();
        }
        state.jobs.push_back(Job { work, size, urgency, since: Instant::now() });
        Ok(())
    }

    /// Waits for jobs and takes as many as one transaction bears. Empty: the queue was closed and is used up.
    pub(super) fn take(&self) -> Vec<Job> {
        let mut state = self.lock();
        while state.urgent == 0 && !state.closed {
            let patience = state.jobs.front().map(|job| PATIENCE.saturating_sub(job.since.elapsed()));
            state = match patience {
                Some(Duration::ZERO) => break,
                Some(left) => self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let mut taken = Vec::new();
        let mut size = Size::default();
        while let Some(job) = state.jobs.front() {
            let fits = size.records + job.size.records <= TRANSACTION_RECORDS_MAX
                && size.bytes + job.size.bytes <= TRANSACTION_BYTES_MAX;
            if !fits && size.records > 0 {
                break;
            }
            size.records += job.size.records;
            size.bytes += job.size.bytes;
            taken.extend(state.jobs.pop_front());
        }
        state.urgent -= taken.iter().filter(|job| job.urgency != Urgency::Soon).count();
        state.writing_since = taken.iter().find(|job| job.size.records > 0).map(|job| job.since);
        taken
    }

    /// The jobs taken last are answered.
    pub(super) fn done(&self, size: Size) {
        let mut state = self.lock();
        state.size.records -= size.records;
        state.size.bytes -= size.bytes;
        state.writing_since = None;
    }

    pub(super) fn oldest_append(&self) -> Option<Duration> {
        let state = self.lock();
        let waiting = || state.jobs.iter().find(|job| job.size.records > 0).map(|job| job.since);
        state.writing_since.or_else(waiting).map(|since| since.elapsed())
    }

    /// Takes nothing more. What is in it is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Takes nothing more and gives up what is in it.
    pub(super) fn abandon(&self) {
        self.close();
        let jobs = std::mem::take(&mut self.lock().jobs);
        for job in jobs {
            job.work.answer(Err(Failure::closed()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Work for Nothing {
        fn apply(&mut self, _: &mut Tx<'_>) -> rusqlite::Result<()> {
            Ok(())
        }

        fn answer(self: Box<Self>, _: Result<(), Failure>) {}
    }

    const ONE: Size = Size { records: 1, bytes: 10 };

    #[test]
    fn the_ingress_is_refused_when_the_queue_is_full_and_work_under_way_is_not() {
        let queue = Queue::new(1, 1_000);
        assert!(queue.push(Box::new(Nothing), ONE, Urgency::Ingress).is_ok());
        assert!(queue.push(Box::new(Nothing), ONE, Urgency::Ingress).is_err());
        assert!(queue.push(Box::new(Nothing), ONE, Urgency::Work).is_ok());
        assert_eq!(queue.take().len(), 2);
    }

    #[test]
    fn what_can_wait_shares_the_next_urgent_transaction_or_goes_alone_soon() {
        let queue = Queue::new(9, 1_000);
        assert!(queue.push(Box::new(Nothing), Size::default(), Urgency::Soon).is_ok());
        assert!(queue.push(Box::new(Nothing), ONE, Urgency::Work).is_ok());
        assert_eq!(queue.take().len(), 2);
        let begin = Instant::now();
        assert!(queue.push(Box::new(Nothing), Size::default(), Urgency::Soon).is_ok());
        assert_eq!(queue.take().len(), 1);
        assert!(begin.elapsed() >= PATIENCE, "it waited for company");
    }
}
