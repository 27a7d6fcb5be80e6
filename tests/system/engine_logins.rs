//! The servers' passwords are used, and shown nowhere.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::bad_surroundings::refused;
use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, config};
use crate::harness::receiver::Receiver;
use crate::harness::{run, turn};

const CANARY: &str = "canary-5d1e-password";

/// The two URLs of servers with TLS and logins, under topics and a keyspace of this test's own; `None`, after saying so,
/// where there are none.
fn urls() -> Option<[String; 2]> {
    let url = |name| std::env::var(name).ok();
    let (Some(log), Some(status)) = (url("SERVICES_LOG_TLS"), url("SERVICES_STATUS_TLS")) else {
        println!("SKIPPED engine_logins: no servers with TLS and logins (./test starts them)");
        return None;
    };
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    Some([format!("{log}&prefix={name}."), status.replace("/chat4all?", &format!("/{name}?"))])
}

fn password_file(url: &str) -> &str {
    let parameter = url.split(['?', '&']).find_map(|parameter| parameter.strip_prefix("password_file="));
    parameter.expect("the URL names the file of its password")
}

fn top([log, status]: &[String; 2]) -> String {
    format!("log = \"{log}\"\nstatus = \"{status}\"\nlog_level = \"debug\"")
}

/// What a command says that ends by itself, whatever its end.
fn said(mut command: Command) -> String {
    let output = command.output().expect("the binary runs");
    [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
}

#[test]
fn the_passwords_of_kafka_and_cassandra_stand_nowhere() {
    let _turn = turn::beside_others();
    let Some(urls) = urls() else { return };
    let secrets = urls.each_ref().map(|url| fs::read_to_string(password_file(url)).expect("a password"));
    run(async {
        let receiver = Receiver::start().await;
        let mut cluster = Cluster::with(&config(&top(&urls), ""));
        let all = cluster.start(&[]).await;
        let api = Api::new(cluster.url(all, "api"));
        api.ready(Duration::from_secs(60)).await;
        let id = api.accepted(&receiver.target("/inbox"), "c", "hi").await;
        let view = api.ended(&id, Duration::from_secs(60)).await;
        assert_eq!(view["status"], "delivered", "over TLS and with logins: {view}");
        let mut texts = vec![view.to_string()];
        for path in ["/metrics", "/v1/cluster", "/health/ready"] {
            texts.push(api.get(path).await.expect("an answer").text);
        }
        texts.push(said(cluster.command(&["config"])));
        texts.push(said(cluster.command(&["doctor"])));
        assert_eq!(texts.last().expect("the doctor's").matches("reached").count(), 2, "{texts:?}");
        cluster.terminate_all().await;
        texts.push(cluster.logs());
        for text in &texts {
            assert!(secrets.iter().all(|secret| !text.contains(secret.trim())), "a password stands in: {text}");
        }
    });
}

#[test]
fn a_wrong_password_is_told_of_and_not_repeated() {
    let _turn = turn::beside_others();
    let Some(urls) = urls() else { return };
    let wrong = urls.each_ref().map(|url| url.replace(password_file(url), "wrong.password"));
    let cluster = Cluster::with(&config(&top(&wrong), ""));
    fs::write(cluster.folder().join("wrong.password"), CANARY).expect("a file");
    let serve = refused(cluster.command(&["serve"])).1;
    for said in [serve, said(cluster.command(&["doctor"])), said(cluster.command(&["migrate"]))] {
        assert!(said.contains("the brokers refuse the login"), "{said}");
        assert!(!said.contains(CANARY), "{said}");
    }
}
