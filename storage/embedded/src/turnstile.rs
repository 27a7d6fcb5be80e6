//! The turnstile before a shared SQLite file: writers of all processes pass one by one, in turn. SQLite's own lock has
//! no queue; beside one busy writer another would wait for seconds.
//!
//! Two lock files: take `next`, take `writer`, let `next` go, write, let `writer` go. Each holds the pid of whoever
//! locked it last, so that a waiter can name the process that holds everybody up.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;

/// A writer that waits longer is worth a warning, and another after each such time again.
const PATIENCE: Duration = Duration::from_secs(1);

/// One process's place at the turnstile of one file.
pub struct Turnstile {
    /// Two threads of one process would both hold a file lock.
    turn: Mutex<()>,
    watched: Arc<Watched>,
}

/// The right to write, until dropped.
pub struct Pass<'a> {
    writer: &'a File,
    _turn: MutexGuard<'a, ()>,
}

impl Turnstile {
    /// The lock files are `<name>.next` and `<name>.writer` in `folder`, which exists.
    pub fn open(folder: &Path, name: &str) -> io::Result<Self> {
        let open = |lock: &str| open_lock(&folder.join(format!("{name}.{lock}")));
        let watched = Arc::new(Watched {
            name: name.to_owned(),
            next: open("next")?,
            writer: open("writer")?,
            waiting_since: Mutex::new(None),
        });
        watched.clone().start()?;
        Ok(Self { turn: Mutex::new(()), watched })
    }

    /// Waits for our turn, however long that takes; warns while it takes long. Errors are those of the locks.
    pub fn pass(&self) -> io::Result<Pass<'_>> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.watched.set_waiting(Some(Instant::now()));
        let passed = self.watched.take();
        self.watched.set_waiting(None);
        passed.map(|()| Pass { writer: &self.watched.writer, _turn: turn })
    }

    /// How long our writer has been waiting for its turn.
    pub fn waiting(&self) -> Option<Duration> {
        self.watched.waiting()
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.writer.unlock() {
            warn!(%error, "the writer's lock could not be let go");
        }
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Waits for the exclusive lock.
fn lock(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            locked => return locked,
        }
    }
}

/// Leaves our pid in a lock file, in ten digits. Mostly it stands there already. It only serves the waiters' warnings:
/// a full disk must not keep us from writing what makes room.
fn sign(file: &File) {
    let pid = std::process::id();
    if signature(file) != Some(pid) {
        let _ = file.write_all_at(format!("{pid:010}").as_bytes(), 0);
    }
}

fn signature(file: &File) -> Option<u32> {
    let mut digits = [0; 10];
    file.read_exact_at(&mut digits, 0).ok()?;
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

/// The locks, and what the watching thread sees: a blocked writer cannot say anything itself.
struct Watched {
    name: String,
    next: File,
    writer: File,
    waiting_since: Mutex<Option<Instant>>,
}

impl Watched {
    fn take(&self) -> io::Result<()> {
        lock(&self.next)?;
        sign(&self.next);
        let taken = lock(&self.writer);
        self.next.unlock()?;
        taken.map(|()| sign(&self.writer))
    }

    fn set_waiting(&self, since: Option<Instant>) {
        *self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn waiting(&self) -> Option<Duration> {
        self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }

    fn start(self: Arc<Self>) -> io::Result<()> {
        let watched = Arc::downgrade(&self);
        let watch = move || {
            while let Some(watched) = watched.upgrade() {
                watched.warn_if_stuck();
                drop(watched);
                thread::park_timeout(PATIENCE);
            }
        };
        thread::Builder::new().name("turnstile".into()).spawn(watch).map(drop)
    }

    fn warn_if_stuck(&self) {
        let Some(waiting) = self.waiting().filter(|waiting| *waiting >= PATIENCE) else { return };
        let (holder_pid, next_pid) = (signature(&self.writer).unwrap_or(0), signature(&self.next).unwrap_or(0));
        warn!(
            file = self.name,
            holder_pid,
            next_pid,
            waited_ms = waiting.as_millis() as u64,
            "waiting to write: another process holds the folder; if it hangs, end it"
        );
    }
}
