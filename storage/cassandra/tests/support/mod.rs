//! A real server for the tests, named by `CHAT4ALL_TEST_CASSANDRA`, and a door to it that can be shut.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chat4all_cassandra::{CassandraStatus, Options};
use futures_util::FutureExt;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// For whatever a server does at last: builds beside it slow it down tenfold.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `test` on a keyspace of its own, which is dropped afterwards. Without a server it says so and does nothing.
pub async fn on_a_server(test: impl AsyncFnOnce(Options)) {
    let Ok(server) = std::env::var("CHAT4ALL_TEST_CASSANDRA") else {
        println!("SKIPPED cassandra: CHAT4ALL_TEST_CASSANDRA names no server (`127.0.0.1:9042`)");
        return;
    };
    let keyspace = format!("test_{}", uuid::Uuid::new_v4().simple());
    let mut options = Options::new(vec![server.clone()], &keyspace);
    options.request_timeout = Duration::from_secs(20); // for a busy machine
    let ended = AssertUnwindSafe(test(options)).catch_unwind().await;
    let session = SessionBuilder::new().known_node(&server).build().await.unwrap();
    drop_keyspace(&session, &keyspace).await;
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

pub async fn connected(options: &Options) -> Arc<CassandraStatus> {
    let status = CassandraStatus::connect(options.clone()).unwrap();
    tokio::time::timeout(PATIENCE, status.connected()).await.expect("the server answers");
    status
}

pub async fn drop_keyspace(session: &Session, keyspace: &str) {
    let mut statement = scylla::statement::Statement::new(format!("DROP KEYSPACE IF EXISTS {keyspace}"));
    statement.set_request_timeout(Some(PATIENCE));
    session.query_unpaged(statement, ()).await.unwrap();
}

/// Hands connections on to a server while it is open.
pub struct Door {
    pub address: SocketAddr,
    server: String,
    open: Option<JoinSet<()>>,
}

impl Door {
    /// Shut, on a port that is free now.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), server: server.to_owned(), open: None }
    }

    pub async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let server = self.server.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass_on(client, server.clone()));
            }
        });
        self.open = Some(tasks);
    }

    /// Breaks all connections.
    pub async fn shut(&mut self) {
        if let Some(mut tasks) = self.open.take() {
            tasks.shutdown().await;
        }
    }
}

async fn pass_on(mut client: TcpStream, server: String) {
    if let Ok(mut server) = TcpStream::connect(server).await {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await; // either end may break it
    }
}
