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
    match connection(error) {
        Some(ConnectionError::ConnectionSetupRequestError(setup)) if is_about_credentials(&setup.error) => {
            Error::Refused("Cassandra does not let us in: check the user and the password".into())
        }
        Some(ConnectionError::IoError(error)) if is_untrusted(error) => Error::Refused(
            "the certificate of Cassandra is not trusted: name the authority that signed it with `ca_file`, and the \
             nodes as the certificate does"
                .into(),
        ),
        _ => away(error),
    }
}

/// What became of the last connection that was tried.
fn connection(error: &NewSessionError) -> Option<&ConnectionError> {
    match error {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error,
            ..
        })) => Some(last_connection_error),
        _ => None,
    }
}

fn is_about_credentials(error: &ConnectionSetupRequestErrorKind) -> bool {
    use ConnectionSetupRequestErrorKind::{DbError as Answer, MissingAuthentication};
    matches!(error, MissingAuthentication | Answer(DbError::AuthenticationError, _))
}

fn is_untrusted(error: &std::io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
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
        RequestAttemptError::DbError(DbError::Unauthorized, text) => Error::Refused(format!(
            "our user lacks a right in Cassandra ({text}); docs/ENGINES.md lists the rights needed"
        )),
        RequestAttemptError::DbError(DbError::SyntaxError | DbError::Invalid | DbError::ConfigError, text) => {
            Error::Refused(format!("Cassandra refused a statement: {text}"))
        }
        other => away(other),
    }
}

fn away(error: &impl std::fmt::Display) -> Error {
    Error::Unavailable(format!("Cassandra: {error}"))
}
