//! `chat4all doctor` and `chat4all migrate`, as somebody sees them who sets Chat4All up: one clear line for each thing that
//! is wrong. Real servers are named by `CHAT4ALL_TEST_KAFKA` and `CHAT4ALL_TEST_CASSANDRA` (`host:port`), a listener of
//! Kafka's with SASL PLAIN by the URL `SERVICES_LOG_PLAIN`, as `dev/services env` prints it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use scylla::client::session_builder::SessionBuilder;
use uuid::Uuid;

use crate::harness::cluster::{Cluster, config};
use crate::harness::simulated::WhatsApp;
use crate::harness::{run, turn};

/// A command that examines or makes something ends within this time, on a machine that is busy otherwise.
const LIMIT: Duration = Duration::from_secs(60);

struct Said {
    code: Option<i32>,
    text: String,
}

impl Said {
    fn by(cluster: &Cluster, args: &[&str]) -> Self {
        let begin = Instant::now();
        let output = cluster.command(args).output().expect("the binary runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        println!("chat4all {}\n{text}", args.join(" "));
        assert!(begin.elapsed() < LIMIT, "it took {:?}", begin.elapsed());
        assert!(!text.contains("panicked"), "{text}");
        Self { code: output.status.code(), text }
    }

    /// One line has all of `words`.
    fn has_line(&self, words: &[&str]) -> &Self {
        let found = self.text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "no line with {words:?} in\n{}", self.text);
        self
    }

    fn ended_with(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}", self.text);
        self
    }
}

/// Examines the engines; the others are embedded, on a new folder.
fn doctor(args: &[&str]) -> Said {
    Said::by(&Cluster::new(), &[&["doctor"], args].concat())
}

/// The server named by an environment variable; without it `test` is skipped.
fn server(variable: &str, test: &str) -> Option<String> {
    let server = std::env::var(variable).ok();
    if server.is_none() {
        println!("SKIPPED {test}: {variable} is not set");
    }
    server
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it is bound")
}

fn kafka(server: &str) -> String {
    format!("kafka://{server}?prefix=doctor-{}-", Uuid::new_v4().simple())
}

#[test]
fn an_address_without_a_server_is_named_with_what_to_do() {
    let _turn = turn::beside_others();
    let free = free_address();
    for (flag, scheme, rest) in [("--log", "kafka", ""), ("--status", "cassandra", "/chat4all")] {
        let what = flag.trim_start_matches("--");
        let nowhere = doctor(&[flag, &format!("{scheme}://nowhere.invalid{rest}")]);
        nowhere.ended_with(1).has_line(&[what, "`nowhere.invalid:", "cannot be resolved", "correct it"]);
        let nobody = doctor(&[flag, &format!("{scheme}://{free}{rest}")]);
        nobody.ended_with(1).has_line(&[what, "nobody listens", &free.to_string(), "start"]);
        assert!(nobody.text.contains("one thing needs a hand"), "{}", nobody.text);
    }
}

#[test]
fn what_listens_there_instead_is_named() {
    let _turn = turn::beside_others();
    run(async {
        let simulator = WhatsApp::start(Duration::from_millis(100));
        let http = simulator.http.url("").trim_start_matches("http://").to_owned();
        let tls = alert_sender();
        for (flag, scheme, rest) in [("--log", "kafka", ""), ("--status", "cassandra", "/chat4all")] {
            let said = doctor(&[flag, &format!("{scheme}://{http}{rest}")]);
            said.ended_with(1).has_line(&["an HTTP server listens", &http]);
            let said = doctor(&[flag, &format!("{scheme}://{tls}{rest}")]);
            said.ended_with(1).has_line(&["speaks TLS", "add `tls=true`"]);
        }
    });
}

/// Answers everything as a TLS server does that was not greeted as it should.
fn alert_sender() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut greeting = [0; 64];
            let read = stream.read(&mut greeting).unwrap_or(0);
            if read > 0 {
                // The client may have gone.
                let _ = stream.write_all(b"\x15\x03\x03\x00\x02\x02\x28");
            }
        }
    });
    address
}

#[test]
fn an_embedded_folder_is_examined_and_left_as_it_is() {
    let _turn = turn::beside_others();
    run(async {
        let mut cluster = Cluster::new();
        let said = Said::by(&cluster, &["doctor"]);
        said.ended_with(0).has_line(&["log (embedded:./data)", "folder will be made"]);
        assert!(!cluster.data().exists(), "nothing is made");

        cluster.start(&[]).await;
        let said = Said::by(&cluster, &["doctor"]);
        said.ended_with(0).has_line(&["log (embedded:./data)", "`log.db` is ours", "7 of 7 topics"]);
        said.has_line(&["status (embedded:./data)", "`status.db` is ours"]);
        let said = Said::by(&cluster, &["doctor", "--set", "partitions=4"]);
        said.ended_with(1).has_line(&["`messages`", "of 6 partitions", "of 4"]);
        cluster.terminate_all().await;

        let database = rusqlite::Connection::open(cluster.data().join("status.db")).expect("the file");
        database.pragma_update(None, "user_version", 4_711).expect("it can be written");
        drop(database);
        fs::write(cluster.data().join("log.db"), "somebody's file\n".repeat(100)).expect("our folder");
        let said = Said::by(&cluster, &["doctor"]);
        said.ended_with(1).has_line(&["status (", "4711", "another version"]);
        said.has_line(&["log (", "not a database of chat4all"]);
        said.has_line(&["2 things need a hand"]);
        let file = cluster.folder().join("chat4all.toml");
        let said = Said::by(&cluster, &["doctor", "--log", &format!("embedded:{}", file.display())]);
        said.ended_with(1).has_line(&["log (", "cannot be written", "chat4all.toml"]);
    });
}

#[test]
fn migrating_embedded_twice_changes_nothing() {
    let _turn = turn::beside_others();
    let cluster = Cluster::new();
    let said = Said::by(&cluster, &["migrate"]);
    said.ended_with(0).has_line(&["log: embedded:./data"]).has_line(&["status: embedded:./data"]);
    said.has_line(&["log.db", "made"]).has_line(&["topic `messages`", "made"]).has_line(&["status.db", "made"]);
    let said = Said::by(&cluster, &["migrate"]);
    said.ended_with(0);
    assert!(!said.text.contains(": made") && said.text.matches("was there").count() == 8, "{}", said.text);
    Said::by(&cluster, &["migrate", "--set", "partitions=4"]).ended_with(1).has_line(&["log:", "of 6 partitions"]);
}

#[test]
fn a_kafka_that_is_as_it_should_be_is_migrated_and_found_good() {
    let _turn = turn::beside_others();
    let Some(server) = server("CHAT4ALL_TEST_KAFKA", "a_kafka_that_is_as_it_should_be") else { return };
    let (cluster, log) = (Cluster::new(), kafka(&server));
    let said = Said::by(&cluster, &["doctor", "--log", &log]);
    said.ended_with(0).has_line(&["reached", "8 topics will be made at the first start"]);
    let said = Said::by(&cluster, &["doctor", "--log", &log]);
    said.has_line(&["8 topics will be made"]); // the first one has made nothing

    let said = Said::by(&cluster, &["migrate", "--log", &log]);
    said.ended_with(0).has_line(&["topic `messages`", "made"]).has_line(&["topic `cluster`", "made"]);
    let said = Said::by(&cluster, &["migrate", "--log", &log]);
    said.ended_with(0).has_line(&["topic `messages`", "was there"]);
    assert!(!said.text.lines().any(|line| line.contains("topic") && line.ends_with(": made")), "{}", said.text);
    let said = Said::by(&cluster, &["doctor", "--log", &log]);
    said.ended_with(0).has_line(&["log (kafka://", "reached", "8 topics of 6 partitions", "clock", "ms"]);
}

#[test]
fn a_kafka_that_is_not_as_configured_is_told_of() {
    let _turn = turn::beside_others();
    let Some(server) = server("CHAT4ALL_TEST_KAFKA", "a_kafka_that_is_not_as_configured") else { return };
    let (cluster, log) = (Cluster::new(), kafka(&server));
    Said::by(&cluster, &["migrate", "--log", &log]).ended_with(0);
    for command in ["doctor", "migrate"] {
        let said = Said::by(&cluster, &[command, "--log", &log, "--set", "partitions=4"]);
        said.ended_with(1).has_line(&["`messages`", "6 partitions, configured are 4", "configure 6"]);
        assert_eq!(said.text.matches("configured are 4").count(), 1, "{}", said.text);
    }
    // No broker has room for so many copies.
    let many = kafka(&server) + "&replication=9";
    Said::by(&cluster, &["doctor", "--log", &many]).ended_with(1).has_line(&["cannot be made", "replication factor"]);
    Said::by(&cluster, &["doctor", "--log", &format!("kafka://{server}?tls=true")]).ended_with(1).has_line(&[
        "Kafka listens",
        "without TLS",
        "leave `tls=true` out",
    ]);
}

#[test]
fn a_login_that_kafka_refuses_is_told_of() {
    let _turn = turn::beside_others();
    let test = "a_login_that_kafka_refuses";
    let Some(good) = server("SERVICES_LOG_PLAIN", test) else { return };
    let (address, login) = good.split_once('?').expect("parameters");
    let file = login.rsplit_once("password_file=").expect("the last parameter").1;
    let cluster = Cluster::new();
    if let Some(plain) = server("CHAT4ALL_TEST_KAFKA", test) {
        let needless = format!("kafka://{plain}?{login}");
        Said::by(&cluster, &["doctor", "--log", &needless]).ended_with(1).has_line(&["log (", "want no login there"]);
    }
    Said::by(&cluster, &["doctor", "--log", &good]).ended_with(0).has_line(&["log (", "reached"]);

    fs::write(cluster.folder().join("wrong"), "planted-canary").expect("our folder");
    let wrong = Said::by(&cluster, &["doctor", "--log", &good.replace(file, "wrong")]);
    wrong.ended_with(1).has_line(&["log (", "refuse the login", "`user`"]);
    assert!(!wrong.text.contains("canary"), "{}", wrong.text);
    let other = Said::by(&cluster, &["doctor", "--log", &good.replace("sasl=plain", "sasl=scram-sha-512")]);
    other.ended_with(1).has_line(&["log (", "set `sasl`"]);
    let none = Said::by(&cluster, &["doctor", "--log", address]);
    none.ended_with(1).has_line(&["log (", "does it want a login"]);
}

#[test]
fn a_cassandra_is_migrated_and_another_versions_tables_are_told_of() {
    let _turn = turn::beside_others();
    let Some(server) = server("CHAT4ALL_TEST_CASSANDRA", "a_cassandra_is_migrated") else { return };
    let keyspace = format!("doctor_{}", Uuid::new_v4().simple());
    let (cluster, status) = (Cluster::new(), format!("cassandra://{server}/{keyspace}"));
    for _ in 0..2 {
        let said = Said::by(&cluster, &["doctor", "--status", &status]);
        said.ended_with(0).has_line(&["reached, 1 node", "will be made at the first start", "clock", "ms"]);
    }
    let said = Said::by(&cluster, &["migrate", "--status", &status]);
    said.ended_with(0).has_line(&["keyspace", "made"]).has_line(&["table `messages`", "made"]);
    let said = Said::by(&cluster, &["migrate", "--status", &status]);
    said.ended_with(0).has_line(&["keyspace", "was there"]).has_line(&["table `messages`", "was there"]);
    Said::by(&cluster, &["doctor", "--status", &status]).ended_with(0).has_line(&["tables of version 2", "clock"]);

    cql(&server, &format!("UPDATE {keyspace}.schema_version SET version = 99 WHERE id = 0"));
    for command in ["doctor", "migrate"] {
        let said = Said::by(&cluster, &[command, "--status", &status]);
        said.ended_with(1).has_line(&[&keyspace, "tables of version `99`", "needs `2`"]);
    }
    let said = Said::by(&cluster, &["doctor", "--status", &format!("{status}?tls=true")]);
    said.ended_with(1).has_line(&["there is no TLS with Cassandra", "leave `tls` out"]);
    cql(&server, &format!("DROP KEYSPACE {keyspace}"));
}

fn cql(server: &str, statement: &str) {
    run(async {
        let session = SessionBuilder::new().known_node(server).build().await.expect("the server answers");
        let mut statement = scylla::statement::Statement::new(statement);
        statement.set_request_timeout(Some(LIMIT));
        session.query_unpaged(statement, ()).await.expect("the statement is good");
    });
}

#[test]
fn serve_says_what_it_is_connected_to() {
    let _turn = turn::beside_others();
    let test = "serve_says_what_it_is_connected_to";
    let Some(kafka_at) = server("CHAT4ALL_TEST_KAFKA", test) else { return };
    let Some(cassandra_at) = server("CHAT4ALL_TEST_CASSANDRA", test) else { return };
    let keyspace = format!("doctor_{}", Uuid::new_v4().simple());
    let (log, status) = (kafka(&kafka_at), format!("cassandra://{cassandra_at}/{keyspace}"));
    run(async {
        let mut cluster = Cluster::with(&config(&format!("log = \"{log}\"\nstatus = \"{status}\""), ""));
        // The start makes topics and tables: doing it before keeps it short.
        Said::by(&cluster, &["migrate"]).ended_with(0);
        let process = cluster.start(&["recorder"]).await;
        let told = crate::harness::until("both connections", LIMIT, || {
            let log = cluster.log(process);
            (log.contains("connected to Kafka") && log.contains("connected to Cassandra")).then_some(log)
        });
        let told = told.await;
        let line = |words: &[&str]| told.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(
            line(&["connected to Kafka", &kafka_at, "\"brokers\":", "\"prefix\":\"doctor-", "\"tls\":false"]),
            "{told}"
        );
        assert!(line(&["connected to Cassandra", &cassandra_at, &keyspace, "\"nodes\":1", "\"tls\":false"]), "{told}");
        cluster.terminate_all().await;
    });
    cql(&cassandra_at, &format!("DROP KEYSPACE {keyspace}"));
}
