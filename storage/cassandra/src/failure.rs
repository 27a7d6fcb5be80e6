//! What the driver's errors mean to callers of the port. Never says what a statement carried.

use chat4all_storage::status::Error;
use scylla::errors::{DbError, ExecutionError, NewSessionError, PrepareError, RequestAttemptError};

pub(crate) fn of_statement(error: &ExecutionError) -> Error {
    match error {
        ExecutionError::LastAttemptError(attempt) => of_attempt(attempt),
        ExecutionError::PrepareError(error) => of_preparing(error),
        other => away(other),
    }
}

pub(crate) fn of_preparing(error: &PrepareError) -> Error {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(first_attempt),
        other => away(other),
    }
}

/// A wrong password too may be mended while we try again.
pub(crate) fn of_connecting(error: &NewSessionError) -> Error {
    away(error)
}

/// Another version's row, or a damaged one.
pub(crate) fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Refused(format!("a row in Cassandra cannot be read: {error}"))
}

/// What calls after the end get.
pub(crate) fn closed() -> Error {
    Error::Unavailable("it is closed".into())
}

fn of_attempt(error: &RequestAttemptError) -> Error {
    match error {
        RequestAttemptError::DbError(
            DbError::Unauthorized | DbError::SyntaxError | DbError::Invalid | DbError::ConfigError,
            text,
        ) => Error::Refused(format!("Cassandra refused a statement: {text}")),
        other => away(other),
    }
}

fn away(error: &impl std::fmt::Display) -> Error {
    Error::Unavailable(format!("Cassandra: {error}"))
}
