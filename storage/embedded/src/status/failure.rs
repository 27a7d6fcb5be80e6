//! What SQLite's errors mean to callers of the port, in words that say what to do.

use std::path::Path;

use chat4all_storage::status::Error;
use rusqlite::ErrorCode;

/// The port's error for a failed access to `file`. Never says more of a row than SQLite does.
pub(super) fn error(file: &Path, error: &rusqlite::Error) -> Error {
    let file = file.display();
    let Some(code) = error.sqlite_error_code() else {
        return Error::Refused(format!("`{file}` holds a row that cannot be read: {error}"));
    };
    match code {
        ErrorCode::DiskFull => Error::Unavailable(format!("no room is left for `{file}`: free some on its disk")),
        ErrorCode::ReadOnly => {
            Error::Unavailable(format!("`{file}` cannot be written: check the rights and the mount of its folder"))
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            Error::Unavailable(format!("another process has held `{file}` for too long; is one stopped or stuck?"))
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Error::Refused(format!(
            "`{file}` is damaged ({error}): stop all processes and restore it from a backup, or move it away"
        )),
        _ => Error::Unavailable(format!("accessing `{file}` failed: {error}")),
    }
}

/// What calls after the end get.
pub(super) fn closed() -> Error {
    Error::Unavailable("it is closed".into())
}
