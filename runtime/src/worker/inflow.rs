//! Keeps what a source holds in memory within bounds: above them its fetching is paused, below half of them resumed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chat4all_storage::log::{Consumer, Lease, Record};

use crate::{clock, metrics};

/// Bounds for one source of a partition. What was fetched before a pause took hold comes on top.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub records_max: usize,
    pub bytes_max: usize,
}

/// Counts the records of one source from their arrival until they are finished.
pub struct Inflow {
    consumer: Arc<dyn Consumer>,
    lease: Lease,
    limits: Limits,
    assigned_at: Instant,
    work: metrics::Work,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: usize,
    bytes: usize,
    held: bool,
    paused: bool,
    finished: u64,
    /// How many have to be finished until what waited at the assignment is.
    catch_up_at: Option<u64>,
}

impl Inflow {
    pub fn new(group: &str, consumer: Arc<dyn Consumer>, lease: Lease, limits: Limits) -> Self {
        let work = metrics::Work::of(group, &lease.partition.topic);
        Self { consumer, lease, limits, assigned_at: clock::instant(), work, state: Mutex::default() }
    }

    /// Counts records that are handed to the worker.
    pub fn arrived(&self, records: &[Arc<Record>]) {
        let mut state = self.state();
        state.records += records.len();
        state.bytes += records.iter().map(|record| size_of_record(record)).sum::<usize>();
        self.steer(&mut state);
    }

    /// Gives back `records` finished records of `bytes` in all (as [`size_of_record`] counts).
    pub fn finished(&self, records: usize, bytes: usize) {
        let mut state = self.state();
        state.records = state.records.saturating_sub(records);
        state.bytes = state.bytes.saturating_sub(bytes);
        state.finished += records as u64;
        self.work.record_finished(records);
        self.measure(&mut state);
        self.steer(&mut state);
    }

    /// Measures how long it takes until as many records are finished as waited at the assignment.
    pub fn catching_up(&self, waiting: u64) {
        let mut state = self.state();
        state.catch_up_at = Some(waiting);
        self.measure(&mut state);
    }

    fn measure(&self, state: &mut State) {
        if state.catch_up_at.is_some_and(|count| state.finished >= count) {
            state.catch_up_at = None;
            self.work.record_catch_up(self.assigned_at.elapsed());
        }
    }

    /// Pauses the source whatever is in memory, until called with false.
    pub fn hold(&self, held: bool) {
        let mut state = self.state();
        state.held = held;
        self.steer(&mut state);
    }

    /// The order of pauses and resumes must be that of the decisions, so they are given under the lock; neither blocks.
    fn steer(&self, state: &mut State) {
        let full = state.records >= self.limits.records_max || state.bytes >= self.limits.bytes_max;
        let roomy = state.records <= self.limits.records_max / 2 && state.bytes <= self.limits.bytes_max / 2;
        if !state.paused && (full || state.held) {
            state.paused = true;
            self.consumer.pause(&self.lease);
        } else if state.paused && roomy && !state.held {
            state.paused = false;
            self.consumer.resume(&self.lease);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a record is counted as, in bytes.
pub fn size_of_record(record: &Record) -> usize {
    record.value.len() + record.key.as_str().len() + size_of::<Record>()
}
