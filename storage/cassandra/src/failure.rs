//! What the driver's errors mean to callers of the port. Never says what a statement carried.

use chat4all_storage::status::Error;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError,
    NewSessionError, PrepareError, RequestAttemptError,
};

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

pub(crate) fn of_connecting(error: &NewSessionError) -> Error {
    if is_about_credentials(error) {
        return Error::Refused("Cassandra does not let us in: check the user and the password".into());
    }
    away(error)
}

fn is_about_credentials(error: &NewSessionError) -> bool {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error: ConnectionError::ConnectionSetupRequestError(setup),
        ..
    })) = error
    else {
        return false;
    };
    use ConnectionSetupRequestErrorKind::{DbError as Answer, MissingAuthentication};
    matches!(setup.error, MissingAuthentication | Answer(DbError::AuthenticationError, _))
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
