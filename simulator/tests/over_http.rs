//! The simulator as its users meet it: over real HTTP.

#![allow(clippy::unwrap_used)] // clippy knows only `#[test]` functions as tests, not their helpers

use std::time::{Duration, Instant};

use chat4all_simulator::{Options, Simulator};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    simulator: Simulator,
    client: Client,
}

impl Bench {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let simulator = Simulator::start(Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() }).unwrap();
        let client = Client::builder().no_proxy().timeout(PATIENCE).retry(reqwest::retry::never()).build().unwrap();
        Self { simulator, client }
    }

    async fn send(&self, method: Method, path: &str, body: &str) -> reqwest::Result<Response> {
        let url = format!("http://{}{path}", self.simulator.addr());
        self.client.request(method, url).header("webhook-id", "dlv_1").body(body.to_owned()).send().await
    }

    async fn json(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
        let response = self.send(method, path, body).await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }

    async fn fault(&self, name: &str, fault: Value) {
        let (status, answer) = self.json(Method::PUT, &format!("/faults/{name}"), &fault.to_string()).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn post(&self, path: &str) -> reqwest::Result<u16> {
        Ok(self.send(Method::POST, path, r#"{"n":1}"#).await?.status().as_u16())
    }

    /// Statuses answered, as many as expected.
    async fn check(&self, path: &str, expected: &[u16]) {
        for (number, expected) in expected.iter().enumerate() {
            assert_eq!(self.post(path).await.unwrap(), *expected, "{path}, request {number}");
        }
    }

    async fn inbox(&self, path: &str) -> Vec<Value> {
        let (status, mut list) = self.json(Method::GET, path, "").await;
        assert_eq!(status, 200);
        serde_json::from_value(list["messages"].take()).unwrap()
    }
}

#[tokio::test]
async fn what_arrives_is_kept_shown_and_emptied() {
    let bench = Bench::new();
    bench.check("/inbox/ana", &[200, 200]).await;
    bench.check("/inbox/shop/42?key=1", &[200]).await;
    let messages = bench.inbox("/inbox/ana").await;
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0]["body"], json!({"n": 1}));
    assert_eq!((&messages[0]["status"], &messages[0]["webhook_id"]), (&json!(200), &json!("dlv_1")));
    assert_eq!(messages[0]["headers"]["content-length"], "7");
    assert!(messages[0]["received_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(bench.inbox("/inbox/ana?limit=1").await.len(), 1);
    assert_eq!(bench.inbox("/inbox/shop/42").await.len(), 1);
    let (_, list) = bench.json(Method::GET, "/inbox", "").await;
    assert_eq!(list["inboxes"][0], json!({"name": "ana", "received": 2, "kept": 2}));
    assert_eq!(bench.json(Method::DELETE, "/inbox/ana", "").await, (200, json!({"deleted": 2})));
    assert!(bench.inbox("/inbox/ana").await.is_empty());
}

#[tokio::test]
async fn a_status_is_answered_so_many_times_with_retry_after() {
    let bench = Bench::new();
    bench.fault("ana", json!({"status": 429, "times": 2, "retry_after": "1500ms"})).await;
    let answer = bench.send(Method::POST, "/inbox/ana", "{}").await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (429, "2"));
    assert_eq!(bench.json(Method::GET, "/faults/ana", "").await.1["left"], 1);
    bench.check("/inbox/bob", &[200]).await;
    bench.check("/inbox/ana", &[429, 200, 200]).await;
    let statuses: Vec<_> = bench.inbox("/inbox/ana").await.iter().map(|message| message["status"].clone()).collect();
    assert_eq!(statuses, [429, 429, 200, 200]);
    assert_eq!(bench.json(Method::GET, "/faults", "").await.1, json!({"faults": {}}));
}

#[tokio::test]
async fn a_url_can_hold_its_own_fault() {
    let bench = Bench::new();
    bench.check("/inbox/ana?status=500&times=3", &[500, 500, 500, 200]).await;
    bench.check("/inbox/ana?status=204", &[204, 204]).await;
    let (status, problem) = bench.json(Method::POST, "/inbox/ana?status=no", "{}").await;
    assert_eq!((status, &problem["field"]), (422, &json!("status")));
}

#[tokio::test]
async fn a_wrong_fault_is_refused_by_field() {
    let bench = Bench::new();
    for (fault, field) in [(r#"{"staus":500}"#, "staus"), (r#"{"times":-1,"status":500}"#, "times"), ("{", "body")] {
        let (status, problem) = bench.json(Method::PUT, "/faults/ana", fault).await;
        assert_eq!((status, &problem["field"]), (422, &json!(field)), "{fault}");
    }
    assert_eq!(bench.json(Method::POST, "/elsewhere", "{}").await.0, 404);
    assert_eq!(bench.json(Method::PATCH, "/faults", "{}").await.0, 405);
}

#[tokio::test]
async fn latency_delays_and_a_deleted_fault_is_gone() {
    let bench = Bench::new();
    bench.fault("ana", json!({"latency": "150ms"})).await;
    let sent = Instant::now();
    bench.check("/inbox/ana", &[200]).await;
    assert!(sent.elapsed() >= Duration::from_millis(150));
    assert_eq!(bench.send(Method::DELETE, "/faults/ana", "").await.unwrap().status(), 204);
    assert_eq!(bench.json(Method::GET, "/faults/ana", "").await.0, 404);
}

#[tokio::test]
async fn resets_differ_in_what_was_read() {
    let bench = Bench::new();
    bench.fault("ana", json!({"reset": "before_reading", "times": 1})).await;
    assert!(bench.post("/inbox/ana").await.is_err());
    assert!(bench.inbox("/inbox/ana").await.is_empty());
    bench.fault("ana", json!({"reset": "after_reading", "times": 1})).await;
    assert!(bench.post("/inbox/ana").await.is_err());
    let kept = bench.inbox("/inbox/ana").await;
    assert_eq!((&kept[0]["status"], &kept[0]["fault"]), (&Value::Null, &json!("reset_after_reading")));
    bench.check("/inbox/ana", &[200]).await;
}

#[tokio::test]
async fn an_outage_lasts_as_long_as_asked() {
    let bench = Bench::new();
    let set = Instant::now();
    bench.fault("ana", json!({"outage_for": "300ms"})).await;
    assert!(bench.post("/inbox/ana").await.is_err());
    while bench.post("/inbox/ana").await.is_err() {
        assert!(set.elapsed() < PATIENCE);
    }
    assert!(set.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn broken_answers_break_the_client_as_named() {
    let bench = Bench::new();
    bench.fault("garbage", json!({"garbage": true})).await;
    assert!(bench.post("/inbox/garbage").await.is_err());
    bench.fault("head", json!({"endless": "head"})).await;
    assert!(bench.post("/inbox/head").await.is_err());
    bench.fault("truncated", json!({"truncate": true, "status": 202})).await;
    let answer = bench.send(Method::POST, "/inbox/truncated", "{}").await.unwrap();
    assert_eq!(answer.status(), 202);
    assert!(answer.text().await.is_err());
    bench.fault("body", json!({"endless": "body"})).await;
    let mut answer = bench.send(Method::POST, "/inbox/body", "{}").await.unwrap();
    let mut bytes = 0;
    while bytes < 1_000_000 {
        bytes += answer.chunk().await.unwrap().expect("there is no end").len();
    }
}

#[tokio::test]
async fn a_hang_lasts_until_the_client_leaves_and_a_drip_begins_with_one_byte() {
    let bench = Bench::new();
    bench.fault("hang", json!({"hang": true})).await;
    let hang = tokio::time::timeout(Duration::from_millis(200), bench.post("/inbox/hang")).await;
    assert!(hang.is_err(), "it answered");
    bench.fault("drip", json!({"endless": "drip"})).await;
    let mut stream = TcpStream::connect(bench.simulator.addr()).await.unwrap();
    stream.write_all(b"POST /inbox/drip HTTP/1.1\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let mut bytes = [0; 64];
    let first = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(&bytes[..first], b"H");
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_one_by_one() {
    let bench = Bench::new();
    let mut stream = TcpStream::connect(bench.simulator.addr()).await.unwrap();
    let one = "POST /inbox/ana HTTP/1.1\r\ncontent-length: 1\r\n\r\n1";
    let last = "POST /inbox/ana HTTP/1.1\r\ncontent-length: 1\r\nconnection: close\r\n\r\n2";
    stream.write_all(format!("{one}{last}").as_bytes()).await.unwrap();
    let mut answers = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answers)).await.unwrap().unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert_eq!(bench.inbox("/inbox/ana").await.len(), 2);
}

#[tokio::test]
async fn requests_it_cannot_read_are_refused() {
    let bench = Bench::new();
    let check = async |request: String, expected: &str| {
        let mut stream = TcpStream::connect(bench.simulator.addr()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(str::from_utf8(&answer).unwrap(), format!("HTTP/1.1 {expected}"));
    };
    check("hello\r\n\r\n".into(), "400").await;
    check("POST /inbox/a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".into(), "411").await;
    check("POST /inbox/a HTTP/1.1\r\ncontent-length: 2000000\r\n\r\n".into(), "413").await;
    check("POST /inbox/a HTTP/1.1\r\ncontent-length: +1\r\n\r\n".into(), "400").await;
    check(format!("POST /inbox/a HTTP/1.1\r\na: {}", "b".repeat(17_000)), "431").await;
}

#[tokio::test]
async fn a_taken_port_is_said_and_a_stopped_one_is_free() {
    let bench = Bench::new();
    let listen = bench.simulator.addr();
    let error = Simulator::start(Options { listen, ..Options::default() }).err().unwrap().to_string();
    assert!(error.contains(&listen.to_string()) && error.contains("the port is taken"), "{error}");
    bench.check("/inbox/ana", &[200]).await;
    bench.simulator.stop().await;
    Simulator::start(Options { listen, ..Options::default() }).unwrap();
}
