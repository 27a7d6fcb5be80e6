//! The file that each process holds locked while it lives: the kernel lets the lock go when the process dies, however
//! it dies. Made at opening, probed by the coordinators of the others.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;
use uuid::Uuid;

pub(super) const FOLDER: &str = "members";
/// Before a name: not locked yet.
const UNFINISHED: char = '.';
/// An unfinished file of this age was left by a process that died just then.
const UNFINISHED_MAX: Duration = Duration::from_secs(60);

/// Our own file, locked. Removed when dropped.
pub(super) struct OwnFile {
    path: PathBuf,
    _locked: File,
}

impl OwnFile {
    /// Makes a file of a new name. It is locked before anybody can find it under that name.
    pub(super) fn create(folder: &Path) -> io::Result<(Self, Arc<str>)> {
        let name = Uuid::new_v4().simple().to_string();
        let unfinished = folder.join(format!("{UNFINISHED}{name}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&unfinished)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => io::Error::other("a new file is locked already"),
        })?;
        let path = folder.join(&name);
        std::fs::rename(&unfinished, &path)?;
        Ok((Self { path, _locked: file }, name.into()))
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The file of a dead process, locked (shared) by us.
pub(super) struct Dead {
    pub process: String,
    path: PathBuf,
    _locked: File,
}

impl Dead {
    /// Its rows are gone: so may be its file.
    pub(super) fn remove_file(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Probes every file but that of `own`. The dead, and how many others live.
pub(super) fn find_dead(folder: &Path, own: &str) -> io::Result<(Vec<Dead>, usize)> {
    let (mut dead, mut alive) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(process) = entry.file_name().into_string() else { continue };
        if process.starts_with(UNFINISHED) {
            remove_if_old(&entry);
        } else if process != own {
            let path = entry.path();
            match probe(&path) {
                Ok(Some(locked)) => dead.push(Dead { process, path, _locked: locked }),
                Ok(None) => alive += 1,
                // One that cannot be probed now must not hide the others.
                Err(error) => {
                    warn!(%error, process, "cannot tell whether a process lives");
                    alive += 1;
                }
            }
        }
    }
    Ok((dead, alive))
}

/// Whether the process of this name lives. Ours does.
pub(super) fn is_alive(folder: &Path, process: &str) -> bool {
    let path = folder.join(process);
    path.exists() && matches!(probe(&path), Ok(None))
}

/// The lock, if nobody holds it. A shared one: two who probe do not take each other for the living.
fn probe(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn remove_if_old(entry: &std::fs::DirEntry) {
    let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|modified| modified.elapsed());
    if matches!(age, Ok(Ok(age)) if age > UNFINISHED_MAX) {
        let _ = std::fs::remove_file(entry.path());
    }
}
