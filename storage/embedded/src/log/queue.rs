//! What waits for the writer, and then for the disk: bounded queues of jobs. Filled by every call that writes, emptied by the
//! writer's thread and the syncer's. Knows nothing of what the jobs do.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::job::{Failure, Job, Size, Urgency, Work};

/// The most that one transaction takes up.
const TRANSACTION_RECORDS_MAX: usize = 4_096;
const TRANSACTION_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// How long a job that can wait does so for others to share its transaction.
const PATIENCE: Duration = Duration::from_millis(5);

/// The queues. Full or closed, they refuse at once.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Something is due for the writer.
    filled: Condvar,
    /// Something is due for the syncer.
    written: Condvar,
    records_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    at_once: VecDeque<Job>,
    ingress: VecDeque<Job>,
    /// Those that can wait, oldest first.
    soon: VecDeque<Job>,
    /// Written, and to be answered when the disk has them.
    unsynced: Vec<Job>,
    /// Of all that is not answered.
    size: Size,
    syncing: bool,
    /// When the oldest append of the transaction under way was handed over.
    writing_since: Option<Instant>,
    /// When the oldest append that is being synced was handed over.
    syncing_since: Option<Instant>,
    closed: bool,
    /// Nothing more will be written.
    ended: bool,
}

impl State {
    /// While the disk is busy nothing that comes in can be answered: it gathers for one transaction. So there are as many of
    /// them as the disk bears, and work under way is not kept waiting by more.
    fn holds_ingress_back(&self) -> bool {
        self.syncing && !self.closed
    }

    /// How long until something is to be written; none while there is nothing to wait for.
    fn due_in(&self) -> Option<Duration> {
        if self.closed || !self.at_once.is_empty() || !(self.ingress.is_empty() || self.holds_ingress_back()) {
            return Some(Duration::ZERO);
        }
        self.soon.front().map(|job| PATIENCE.saturating_sub(job.since.elapsed()))
    }

    /// The jobs of the next transaction.
    fn take(&mut self) -> Vec<Job> {
        let hold_back = self.holds_ingress_back();
        let is_due = |job: &Job| job.urgency.is_synced() && job.since.elapsed() >= PATIENCE;
        let synced = self.closed
            || !(self.ingress.is_empty() || hold_back)
            || self.at_once.iter().any(|job| job.urgency.is_synced())
            || self.soon.iter().any(is_due);
        let mut transaction = Transaction::default();
        transaction.take(&mut self.at_once, |_| true);
        transaction.take(&mut self.ingress, |_| !hold_back);
        transaction.take(&mut self.soon, |job| synced || !job.urgency.is_synced());
        transaction.jobs
    }
}

/// As many jobs as one transaction bears, or a single one that is larger.
#[derive(Default)]
struct Transaction {
    jobs: Vec<Job>,
    size: Size,
}

impl Transaction {
    fn take(&mut self, queue: &mut VecDeque<Job>, wanted: impl Fn(&Job) -> bool) {
        let mut place = 0;
        while let Some(job) = queue.get(place) {
            if !wanted(job) {
                place += 1;
                continue;
            }
            let size = self.size + job.size;
            let fits = size.records <= TRANSACTION_RECORDS_MAX && size.bytes <= TRANSACTION_BYTES_MAX;
            if !fits && self.size.records > 0 {
                return;
            }
            self.size = size;
            self.jobs.extend(queue.remove(place));
        }
    }
}

impl Queue {
    pub(super) fn new(records_max: usize, bytes_max: usize) -> Self {
        let (state, filled, written) = Default::default();
        Self { state, filled, written, records_max, bytes_max }
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
        let sum = state.size + size;
        let full = sum.records > self.records_max || sum.bytes > self.bytes_max;
        if urgency == Urgency::Ingress && state.size.records > 0 && full {
            return Err((work, Failure::NotWritten("its queue is full".into())));
        }
        state.size = sum;
        // One that can wait only has to start the waiting.
        let wakes = !urgency.waits() || state.soon.is_empty();
        let queue = match urgency {
            Urgency::Admin | Urgency::HandOn => &mut state.at_once,
            Urgency::Ingress => &mut state.ingress,
            Urgency::Tell | Urgency::Finish => &mut state.soon,
        };
        queue.push_back(Job { work, size, urgency, since: Instant::now() });
        if wakes {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// For the writer: waits for jobs and takes as many as one transaction bears. Empty: the queue was closed and is used up.
    pub(super) fn take(&self) -> Vec<Job> {
        let mut state = self.lock();
        loop {
            state = match state.due_in() {
                Some(Duration::ZERO) => break,
                Some(left) => self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        let taken = state.take();
        state.writing_since = oldest_append(&taken);
        taken
    }

    /// The jobs taken last are written, and those among them that need not wait for the disk are answered.
    pub(super) fn written(&self, answered: Size, unsynced: Vec<Job>) {
        let mut state = self.lock();
        state.size = state.size - answered;
        state.writing_since = None;
        if !unsynced.is_empty() {
            state.unsynced.extend(unsynced);
            self.written.notify_one();
        }
    }

    /// For the syncer: waits for jobs that are written, and takes them all. Empty: there will be none any more.
    pub(super) fn take_unsynced(&self) -> Vec<Job> {
        let state = self.lock();
        let nothing = |state: &mut State| state.unsynced.is_empty() && !state.ended;
        let mut state = self.written.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::take(&mut state.unsynced);
        state.syncing = true;
        state.syncing_since = oldest_append(&taken);
        taken
    }

    /// The jobs taken last by the syncer are answered.
    pub(super) fn synced(&self, answered: Size) {
        let mut state = self.lock();
        state.size = state.size - answered;
        (state.syncing, state.syncing_since) = (false, None);
        self.filled.notify_one();
    }

    pub(super) fn oldest_append(&self) -> Option<Duration> {
        let state = self.lock();
        let waiting = [&state.at_once, &state.ingress, &state.soon].into_iter().filter_map(oldest_append);
        let written = state.writing_since.into_iter().chain(state.syncing_since).chain(oldest_append(&state.unsynced));
        waiting.chain(written).min().map(|since| since.elapsed())
    }

    /// Takes nothing more. What is in it is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Takes nothing more and gives up what is not written.
    pub(super) fn abandon(&self) {
        self.close();
        let mut state = self.lock();
        state.ended = true;
        let State { at_once, ingress, soon, .. } = &mut *state;
        let given_up: Vec<Job> = at_once.drain(..).chain(ingress.drain(..)).chain(soon.drain(..)).collect();
        self.written.notify_all();
        drop(state);
        for job in given_up {
            job.work.answer(Err(Failure::closed()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the oldest of the appends among `jobs`, which stand in order, was handed over.
fn oldest_append<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Option<Instant> {
    jobs.into_iter().find(|job| job.size.records > 0).map(|job| job.since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tx::Tx;

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
        assert!(queue.push(Box::new(Nothing), ONE, Urgency::HandOn).is_ok());
        assert_eq!(queue.take().len(), 2);
    }

    fn push(queue: &Queue, urgency: Urgency) {
        assert!(queue.push(Box::new(Nothing), ONE, urgency).is_ok());
    }

    fn take(queue: &Queue) -> Vec<Urgency> {
        queue.take().iter().map(|job| job.urgency).collect()
    }

    #[test]
    fn what_can_wait_shares_the_next_transaction_that_is_like_it_or_goes_alone_soon() {
        let queue = Queue::new(9, 1_000);
        push(&queue, Urgency::Tell);
        push(&queue, Urgency::HandOn);
        assert_eq!(take(&queue), [Urgency::HandOn, Urgency::Tell]);
        for waits in [Urgency::Tell, Urgency::Finish] {
            let begin = Instant::now();
            push(&queue, waits);
            assert_eq!(take(&queue), [waits]);
            assert!(begin.elapsed() >= PATIENCE, "it waited for company");
        }
        push(&queue, Urgency::Finish);
        push(&queue, Urgency::HandOn);
        assert_eq!(take(&queue), [Urgency::HandOn], "the disk is not for who does not need it");
        push(&queue, Urgency::Ingress);
        assert_eq!(take(&queue), [Urgency::Ingress, Urgency::Finish]);
    }

    #[test]
    fn while_the_disk_is_busy_the_ingress_gathers_and_work_goes_on() {
        let queue = Queue::new(9, 1_000);
        push(&queue, Urgency::Ingress);
        queue.written(Size::default(), queue.take());
        let syncing = queue.take_unsynced();
        push(&queue, Urgency::Ingress);
        push(&queue, Urgency::Ingress);
        push(&queue, Urgency::HandOn);
        assert_eq!(take(&queue), [Urgency::HandOn]);
        queue.synced(Size::of(&syncing));
        assert_eq!(take(&queue), [Urgency::Ingress; 2]);
    }

    #[test]
    fn an_append_is_old_until_the_disk_has_it() {
        let queue = Queue::new(9, 1_000);
        push(&queue, Urgency::Ingress);
        let jobs = queue.take();
        assert!(queue.oldest_append().is_some());
        queue.written(Size::default(), jobs);
        assert!(queue.oldest_append().is_some());
        let jobs = queue.take_unsynced();
        assert!(queue.oldest_append().is_some());
        queue.synced(Size::of(&jobs));
        assert_eq!(queue.oldest_append(), None);
    }
}
