//! TLS, logins and rights, on the real node that `dev/services up --secure` starts and `dev/services env` names.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::time::{Duration, Instant};

use chat4all_cassandra::{CassandraStatus, Credentials, Options, Tls, migrate};
use chat4all_storage::Status as _;
use chat4all_storage::status::Error;
use chat4all_storage::status::conformance::Sample;
use chat4all_testkit::{Logs, Server};
use scylla::client::session_builder::SessionBuilder;
use support::connected;

/// A call that is refused says so within this.
const REFUSAL_MAX: Duration = Duration::from_secs(20);

/// A wrong password, to be found nowhere.
const CANARY: &str = "canary-9b04e7aa";

/// As `env` prints it, with a keyspace of its own.
fn options(variable: &str) -> Option<Options> {
    let server = Server::in_env(variable)?;
    let keyspace = format!("test_{}", uuid::Uuid::new_v4().simple());
    Some(Options {
        tls: server.ca_file().map(|file| Tls { ca_file: Some(file) }),
        credentials: Some(Credentials { user: server.user(), password: server.password().into() }),
        request_timeout: Duration::from_secs(20), // for a busy machine
        ..Options::new(server.hosts, &keyspace)
    })
}

#[tokio::test]
async fn a_login_over_tls_writes_and_reads() {
    if let Some(options) = options("SERVICES_STATUS_TLS") {
        write_and_read(options).await;
    }
}

#[tokio::test]
async fn a_login_without_tls_writes_and_reads() {
    if let Some(options) = options("SERVICES_STATUS_PLAIN") {
        write_and_read(options).await;
    }
}

async fn write_and_read(options: Options) {
    let status = connected(&options).await;
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["ana"]);
    assert_eq!(status.write(vec![row]).await, Ok(()));
    let seen = status.message(&sample.tenant, message.message_id, sample.now()).await.unwrap();
    assert_eq!(seen.map(|seen| seen.message_id), Some(message.message_id));
    drop_keyspace(&options.keyspace).await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_in_time_and_stands_nowhere() {
    let logs = Logs::of_process();
    let Some(mut options) = options("SERVICES_STATUS_TLS") else { return };
    options.credentials.as_mut().unwrap().password = CANARY.into();
    let told = refusal(&options).await;
    assert_eq!(told, "Cassandra refuses the login: check the user and the password");
    assert!(!logs.lines_with(&told).is_empty());
    assert_eq!(logs.lines_with(CANARY), [""; 0]);
}

#[tokio::test]
async fn a_node_that_asks_for_a_login_is_told_apart() {
    let Some(mut options) = options("SERVICES_STATUS_TLS") else { return };
    options.credentials = None;
    assert_eq!(refusal(&options).await, "Cassandra asks for a login: configure `user` and a password");
}

#[tokio::test]
async fn a_node_whose_authority_is_unknown_is_refused_in_time() {
    let Some(mut options) = options("SERVICES_STATUS_TLS") else { return };
    options.tls = Some(Tls::default());
    let told = refusal(&options).await;
    assert!(told.starts_with("the certificate of Cassandra is not to be trusted: "), "{told}");
    assert!(told.contains("`ca_file`"), "{told}");
}

#[tokio::test]
async fn a_node_that_speaks_no_tls_is_refused_in_time() {
    let (Some(mut options), Some(plain)) = (options("SERVICES_STATUS_TLS"), options("SERVICES_STATUS_PLAIN")) else {
        return;
    };
    options.nodes = plain.nodes;
    let told = refusal(&options).await;
    assert!(told.starts_with("there is no TLS with Cassandra: leave `tls` out"), "{told}");
}

#[tokio::test]
async fn a_missing_right_is_refused_and_named() {
    let (Some(mut guest), Some(owner)) = (options("SERVICES_STATUS_TLS_GUEST"), options("SERVICES_STATUS_TLS")) else {
        return;
    };
    let told = refusal(&guest).await;
    assert!(told.contains("no CREATE permission on <all keyspaces>"), "{told}");
    assert_eq!(migrate(&owner).await, Ok(()));
    guest.keyspace = owner.keyspace;
    let told = refusal(&guest).await;
    assert!(told.contains("no SELECT permission"), "{told}");
    drop_keyspace(&guest.keyspace).await;
}

/// Why neither a migration nor a store gets in: both say the same.
async fn refusal(options: &Options) -> String {
    let begun = Instant::now();
    let refused = migrate(options).await;
    let Err(Error::Refused(text)) = &refused else { panic!("{refused:?}") };
    let status = CassandraStatus::connect(options.clone()).unwrap();
    let asking = async {
        loop {
            match status.check().await {
                Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(50)).await, // it tries
                answered => break answered,
            }
        }
    };
    assert_eq!(tokio::time::timeout(REFUSAL_MAX, asking).await.expect("it is refused in time"), refused);
    assert!(begun.elapsed() < 2 * REFUSAL_MAX, "{:?}", begun.elapsed());
    text.clone()
}

async fn drop_keyspace(keyspace: &str) {
    let server = Server::in_env("SERVICES_STATUS_PLAIN").expect("printed together with the others");
    let session = SessionBuilder::new().known_nodes(&server.hosts).user(server.user(), server.password());
    support::drop_keyspace(&session.build().await.unwrap(), keyspace).await;
}
