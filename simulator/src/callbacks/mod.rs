//! Calling back: where to, what waits, and what became of it. `routes` hands callbacks in and changes the settings,
//! `sender` posts what is due.

mod queue;
mod sender;
mod settings;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::fault::Invalid;
use crate::providers::Callback;
use queue::{Queue, Waiting};
pub use sender::run;
pub use settings::Settings;

/// Shared by everybody who hands in or posts. No lock is held across a wait.
pub struct Callbacks {
    inner: Mutex<Inner>,
    /// Something may be due earlier than the sender thinks.
    changed: Notify,
}

struct Inner {
    settings: Settings,
    queue: Queue,
}

impl Callbacks {
    pub fn new(settings: Settings) -> Self {
        Self { inner: Mutex::new(Inner { settings, queue: Queue::default() }), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn receipt_delay(&self) -> Duration {
        self.lock().settings.receipt_delay
    }

    pub fn set_base(&self, base: &str) {
        self.lock().settings.set_base(base);
    }

    /// Changes what a JSON object names; all of it or, if it is wrong, nothing.
    pub fn set(&self, json: &[u8]) -> Result<(), Invalid> {
        let mut inner = self.lock();
        inner.settings = inner.settings.changed_by(json)?;
        Ok(())
    }

    /// The settings and what became of the callbacks so far.
    pub fn show(&self) -> Value {
        let inner = self.lock();
        let queue = &inner.queue;
        let mut shown = inner.settings.to_json();
        for (name, count) in [
            ("waiting", queue.waiting() as u64),
            ("delivered", queue.delivered),
            ("given_up", queue.given_up),
            ("dropped", queue.dropped),
        ] {
            shown[name] = json!(count);
        }
        shown
    }

    /// Posts the reports on one message, each at its time from `start`, their first attempts one after the other. Forgets
    /// them if nobody is to be called back.
    pub fn report(&self, reports: Vec<(Duration, Callback)>, start: Instant) {
        self.add(reports.into_iter().map(|(after, callback)| (start + after, callback)).collect(), None);
    }

    /// Posts one callback now. What is returned shows its latest answer. `None`: nobody is to be called back.
    pub fn inbound(&self, callback: Callback, now: Instant) -> Option<watch::Receiver<Option<u16>>> {
        let (status, answered) = watch::channel(None);
        self.add(vec![(now, callback)], Some(status)).then_some(answered)
    }

    fn add(&self, chain: Vec<(Instant, Callback)>, status: Option<watch::Sender<Option<u16>>>) -> bool {
        let mut inner = self.lock();
        let wanted = inner.settings.base.is_some();
        if wanted && !chain.is_empty() {
            inner.queue.add(chain.into(), status);
            self.changed.notify_one();
        }
        wanted
    }

    /// The next callback that is due, with its URL. Waits for it.
    async fn due(&self) -> (Waiting, String) {
        loop {
            let changed = self.changed.notified();
            let next = match self.take(Instant::now()) {
                Ok(due) => return due,
                Err(next) => next,
            };
            match next {
                Some(at) => drop(tokio::time::timeout_at(at.into(), changed).await),
                None => changed.await,
            }
        }
    }

    /// Else when to ask again; `None`: when something changed.
    fn take(&self, now: Instant) -> Result<(Waiting, String), Option<Instant>> {
        let mut inner = self.lock();
        let waiting = inner.queue.due(now)?;
        let url = inner.settings.url(waiting.callback.provider);
        Ok((waiting, url))
    }

    /// An attempt ended with this status, or without one.
    fn ended(&self, waiting: Waiting, status: Option<u16>) {
        self.lock().queue.ended(waiting, status, Instant::now());
        self.changed.notify_one();
    }
}
