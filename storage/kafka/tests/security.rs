//! TLS and logins, on the real brokers that `dev/services up --secure` starts and `dev/services env` names.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::time::{Duration, Instant};

use chat4all_kafka::{KafkaLog, Mechanism, Options, Sasl, Tls};
use chat4all_proto::Topic;
use chat4all_storage::Log as _;
use chat4all_storage::log::{AppendError, Error, Event};
use chat4all_testkit::{Logs, Server};
use support::{PATIENCE, record, specs};
use uuid::Uuid;

/// A call that is refused says so within this.
const REFUSAL_MAX: Duration = Duration::from_secs(20);

/// A wrong password, to be found nowhere.
const CANARY: &str = "canary-2f6c81d0";

/// As `env` prints it, with topics and groups of their own.
fn options(variable: &str) -> Option<Options> {
    let server = Server::in_env(variable)?;
    let tls = server.ca_file().map(|file| Tls { ca_file: Some(file), ..Tls::default() });
    let mechanism = if tls.is_some() { Mechanism::ScramSha512 } else { Mechanism::Plain };
    let sasl = Some(Sasl { mechanism, user: server.user(), password: server.password().into() });
    let prefix = format!("t{}.", Uuid::new_v4().simple());
    let options = Options::new(server.hosts.join(","));
    Some(Options { tls, sasl, topic_prefix: prefix.clone(), group_prefix: prefix, replication: Some(1), ..options })
}

#[tokio::test]
async fn a_login_with_scram_over_tls_appends_and_reads() {
    if let Some(options) = options("SERVICES_LOG_TLS") {
        append_and_read(options).await;
    }
}

#[tokio::test]
async fn a_login_with_plain_appends_and_reads() {
    if let Some(options) = options("SERVICES_LOG_PLAIN") {
        append_and_read(options).await;
    }
}

async fn append_and_read(options: Options) {
    let log = KafkaLog::open(options).unwrap();
    log.ensure_topics(&specs()).await.unwrap();
    log.append(vec![record(Topic::Messages, "k", "here")]).await.unwrap();
    let mut subscription = log.subscribe("readers", &[Topic::Messages]).await.unwrap();
    let reading = async {
        loop {
            match subscription.events.recv().await.unwrap() {
                Event::Records { records, .. } => break records[0].value.clone(),
                Event::Assigned(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, reading).await.unwrap(), "here");
    subscription.consumer.leave().await;
    log.close().await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_in_time_and_stands_nowhere() {
    let logs = Logs::of_process();
    for variable in ["SERVICES_LOG_TLS", "SERVICES_LOG_PLAIN"] {
        let Some(mut options) = options(variable) else { return };
        options.sasl.as_mut().unwrap().password = CANARY.into();
        let told =
            all_is_refused(options, "the brokers refuse the login: check `user`, its password, and `sasl`").await;
        assert!(!told.contains(CANARY), "{told}");
    }
    assert!(!logs.lines_with("invalid credentials").is_empty());
    assert_eq!(logs.lines_with(CANARY), [""; 0]);
}

#[tokio::test]
async fn brokers_whose_authority_is_unknown_are_refused_in_time() {
    let Some(mut options) = options("SERVICES_LOG_TLS") else { return };
    options.tls = Some(Tls::default());
    let expected = "the brokers' certificate is not trusted: name the authority that signed it with `ca_file`, and the \
                    brokers as the certificate does";
    all_is_refused(options, expected).await;
}

/// Each time, not only the first.
async fn all_is_refused(options: Options, expected: &str) -> String {
    let log = KafkaLog::open(options).unwrap();
    let mut told = String::new();
    for _ in 0..2 {
        let begun = Instant::now();
        let refused = log.ensure_topics(&specs()).await;
        assert_eq!(refused, Err(Error::Refused(expected.into())));
        assert!(begun.elapsed() < REFUSAL_MAX, "{:?}", begun.elapsed());
        let begun = Instant::now();
        let append = log.append(vec![record(Topic::Messages, "k", "1")]).await;
        assert_eq!(append, Err(AppendError::Refused(expected.into())));
        assert!(begun.elapsed() < REFUSAL_MAX, "{:?}", begun.elapsed());
        told.push_str(&format!("{refused:?} {append:?}"));
    }
    told
}

#[tokio::test]
async fn a_missing_right_is_refused_and_named() {
    let Some(options) = options("SERVICES_LOG_TLS_GUEST") else { return };
    let topic = format!("{}messages", options.topic_prefix);
    let log = KafkaLog::open(options).unwrap();
    let refused = log.ensure_topics(&specs()).await;
    let Err(Error::Refused(text)) = &refused else { panic!("{refused:?}") };
    assert!(text.contains(&topic) && text.contains("the right `Describe` is missing"), "{text}");
}
