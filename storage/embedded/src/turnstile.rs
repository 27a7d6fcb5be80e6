//! The turnstile before a shared SQLite file: writers of all processes pass one by one, in turn. SQLite's own lock has
//! no queue; beside one busy writer another would wait for seconds.
//!
//! Two lock files: take `next`, take `writer`, let `next` go, write, let `writer` go. `next` only keeps the order: who
//! cannot get it for a while does without, so that a process stopped in the line stops nobody else.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::warn;

/// A writer that waits longer is worth a warning, and another after each such time again.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a writer stands in line. Then whoever is next in line is probably stopped: past it, to the writer's lock.
const TURN_MAX: Duration = Duration::from_millis(500);

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

/// Waits for the exclusive lock, but not longer than `max`. False: somebody else still has it.
fn lock_within(file: &File, max: Duration) -> io::Result<bool> {
    let (begin, mut pause) = (Instant::now(), Duration::from_micros(50));
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if begin.elapsed() >= max => return Ok(false),
            // The system's locks know no deadline.
            Err(TryLockError::WouldBlock) => thread::sleep(pause),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        pause = (pause * 2).min(Duration::from_millis(1));
    }
}

/// The process that holds the file's lock, as Linux tells it. A name in the file itself could be that of the process before:
/// one may stop between the lock and its signature, and an operator would end the wrong one.
fn holder(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        // As in `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234567 0 EOF`; who waits has an arrow before the kind.
        let mut fields = line.split_whitespace().skip(1);
        let (kind, pid, place) = (fields.next()?, fields.nth(2)?, fields.next()?);
        (kind == "FLOCK" && place.rsplit(':').next() == Some(&inode)).then(|| pid.parse().ok())?
    })
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
        let in_turn = lock_within(&self.next, TURN_MAX)?;
        let taken = lock(&self.writer);
        if in_turn {
            self.next.unlock()?;
        }
        taken
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
        let holder_pid = holder(&self.writer);
        warn!(
            file = self.name,
            holder_pid,
            waited_ms = waiting.as_millis() as u64,
            "waiting to write: another process holds the folder; if it hangs, end it"
        );
    }
}
