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
    let refusal = last_connection_error(error).and_then(|last| of_login(last).or_else(|| of_tls(last)));
    refusal.map_or_else(|| away(error), Error::Refused)
}

fn last_connection_error(error: &NewSessionError) -> Option<&ConnectionError> {
    match error {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error,
            ..
        })) => Some(last_connection_error),
        _ => None,
    }
}

fn of_login(error: &ConnectionError) -> Option<String> {
    use ConnectionSetupRequestErrorKind::{DbError as Answer, MissingAuthentication};
    let ConnectionError::ConnectionSetupRequestError(setup) = error else { return None };
    match setup.error {
        MissingAuthentication => Some("Cassandra asks for a login: configure `user` and a password".into()),
        Answer(DbError::AuthenticationError, _) => {
            Some("Cassandra refuses the login: check the user and the password".into())
        }
        _ => None,
    }
}

/// A node that hangs up in a handshake is none of these: it may just have ended.
fn of_tls(error: &ConnectionError) -> Option<String> {
    let ConnectionError::IoError(error) = error else { return None };
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(problem) => Some(format!(
            "the certificate of Cassandra is not to be trusted: {problem}; check it and our authorities (`ca_file`)"
        )),
        problem => {
            Some(format!("there is no TLS with Cassandra: leave `tls` out, or give the port that has it ({problem})"))
        }
    }
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
