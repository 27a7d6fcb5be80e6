//! What `chat4all doctor` wants to know of a folder of ours. Called by `log` and `status`, each for its own file; makes
//! nothing.

use std::io;
use std::path::{Path, PathBuf};

use chat4all_storage::diagnosis::Finding;
use rusqlite::Connection;
use rustix::fs::{Access, AtFlags, CWD, accessat, statfs, statvfs};

use crate::sqlite::{self, OpenError, Schema};

/// Less free space than this is worth knowing.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// File systems of other machines, by what `statfs` calls them: locks on them hold too little or too much.
const REMOTE: [(u32, &str); 5] =
    [(0x6969, "NFS"), (0x517b, "SMB"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB2"), (0x00c3_6400, "Ceph")];
/// `statfs` calls memory so.
const TMPFS: u32 = 0x0102_1994;

/// Looks at `folder` and at `file` in it. `look` says in some words what it finds in the file, and what is wrong there.
pub(crate) fn examine(
    folder: &Path,
    file: &str,
    schema: &Schema,
    look: impl FnOnce(&Connection) -> rusqlite::Result<(String, Option<Finding>)>,
) -> Vec<Finding> {
    let existing = existing(folder);
    if let Err(error) = may_write(&existing) {
        return vec![Finding::problem(OpenError::NotWritable { folder: existing, source: error })];
    }
    let mut findings = Vec::new();
    if existing != folder {
        findings.push(Finding::good("the folder will be made at the first start"));
    } else {
        match look_into(&folder.join(file), schema, look) {
            Ok(Some((words, problem))) => {
                findings.push(Finding::good(format!("`{file}` is ours, {words}")));
                findings.extend(problem);
            }
            Ok(None) => findings.push(Finding::good(format!("`{file}` will be made at the first start"))),
            Err(error) => findings.push(Finding::problem(error)),
        }
    }
    findings.extend(look_at_disk(&existing));
    findings
}

fn look_into<T>(
    file: &Path,
    schema: &Schema,
    look: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<Option<T>, OpenError> {
    let failed = |error: rusqlite::Error| OpenError::Database { file: file.into(), reason: error.to_string() };
    let connection = sqlite::open_to_look(file, schema)?;
    connection.map(|connection| look(&connection).map_err(failed)).transpose()
}

/// The folder, or the nearest above it that is there.
fn existing(folder: &Path) -> PathBuf {
    let here = Path::new(".");
    let mut above = folder.ancestors().map(|above| if above.as_os_str().is_empty() { here } else { above });
    above.find(|above| above.exists()).unwrap_or(here).to_owned()
}

fn may_write(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let rights = Access::WRITE_OK | Access::EXEC_OK | Access::READ_OK;
    Ok(accessat(CWD, folder, rights, AtFlags::EACCESS)?)
}

fn look_at_disk(folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Ok(space) = statvfs(folder) {
        let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
        if free_bytes < FREE_BYTES_MIN {
            let free_mib = free_bytes >> 20;
            findings.push(Finding::note(format!(
                "{free_mib} MiB are free on its disk: when none is left, sends are answered with 503"
            )));
        }
    }
    let kind = statfs(folder).map(|system| system.f_type as u32).unwrap_or_default();
    if let Some((_, name)) = REMOTE.iter().find(|(remote, _)| *remote == kind) {
        findings.push(Finding::problem(format!(
            "the folder `{}` is on {name}, whose locks cannot be relied on: choose one on a local disk",
            folder.display()
        )));
    }
    if kind == TMPFS {
        findings.push(Finding::note("the folder is in memory (tmpfs): a restart of the machine empties it"));
    }
    findings
}
