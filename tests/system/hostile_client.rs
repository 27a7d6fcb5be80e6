//! Clients that send slowly, too much or too deep are refused or cut off; others are served meanwhile.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::client::Api;
use crate::harness::cluster::Cluster;
use crate::harness::receiver::Receiver;
use crate::harness::{quantile, run, turn};

/// Longest that a connection may be used up by a slow request: 10 s for its body, with room for a busy machine.
const CUT_OFF_MAX: Duration = Duration::from_secs(20);

/// Sends `begin`, then a byte a second, until the server answers or ends it. What it answered, after what time.
async fn drip(address: String, begin: &str) -> (String, Duration) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(begin.as_bytes()).await.expect("the beginning");
    let (started, mut answer) = (Instant::now(), Vec::new());
    loop {
        let mut buffer = [0; 4096];
        match tokio::time::timeout(Duration::from_secs(1), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(count)) => answer.extend_from_slice(&buffer[..count]),
            Err(_) if stream.write_all(b"x").await.is_err() => break,
            Err(_) => assert!(started.elapsed() < 3 * CUT_OFF_MAX, "never cut off: {begin}"),
        }
    }
    (String::from_utf8_lossy(&answer).into_owned(), started.elapsed())
}

#[test]
fn hostile_clients_are_cut_off_and_others_are_served() {
    let _turn = turn::alone();
    run(async {
        let receiver = Receiver::start().await;
        let mut cluster = Cluster::new();
        let process = cluster.start(&[]).await;
        let url = cluster.url(process, "api");
        let (api, address) = (Api::new(url.clone()), url.trim_start_matches("http://").to_owned());
        let to = receiver.target("/inbox");

        let mut quiet = Vec::new();
        for number in 0..200 {
            let begin = Instant::now();
            api.accepted(&to, "quiet", &number.to_string()).await;
            quiet.push(begin.elapsed());
        }
        let mut attackers = tokio::task::JoinSet::new();
        let head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        for _ in 0..50 {
            let (address, slow_head, slow_body) =
                (address.clone(), format!("{head}x-slow: "), format!("{head}content-length: 1000\r\n\r\n{{"));
            let second = address.clone();
            attackers.spawn(async move { drip(address, &slow_head).await });
            attackers.spawn(async move { drip(second, &slow_body).await });
        }
        let mut busy = Vec::new();
        for number in 0..200 {
            let begin = Instant::now();
            api.accepted(&to, "busy", &number.to_string()).await;
            busy.push(begin.elapsed());
        }
        let (before, during) = (quantile(&mut quiet, 0.99), quantile(&mut busy, 0.99));
        println!("hostile client: p99 of others {before:?} before, {during:?} beside 100 slow connections");
        // At least 50 ms apart before it says anything: a p99 of 200 is two values.
        assert!(during < 2 * before + Duration::from_millis(50), "{before:?} then {during:?}");
        let mut answers = std::collections::BTreeMap::new();
        while let Some(ended) = attackers.join_next().await {
            let (answer, after) = ended.expect("no panic");
            assert!(after < CUT_OFF_MAX, "cut off only after {after:?}: {answer}");
            *answers.entry(answer.lines().next().unwrap_or("(closed)").to_owned()).or_insert(0) += 1;
        }
        println!("hostile client: slow ones were answered {answers:?}");
        assert!(answers.keys().all(|line| line == "(closed)" || line.contains(" 408")), "{answers:?}");

        let deep = format!(
            "{{\"to\":\"{to}\",\"content\":{{\"type\":\"raw\",\"body\":{}{}}}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        let answer = api.post_raw("/v1/messages", "application/json", deep).await.expect("an answer");
        assert!(answer.status == 400 || answer.status == 422, "deep JSON: {} {}", answer.status, answer.text);
        let wide =
            format!("{{\"to\":\"{to}\",\"content\":{{\"type\":\"text\",\"text\":\"{}\"}}}}", "x".repeat(300_000));
        let answer = api.post_raw("/v1/messages", "application/json", wide).await.expect("an answer");
        assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("body_too_large")), "{}", answer.text);
        oversize_head(&address).await;
        oversize_body(&address).await;
        api.accepted(&to, "after", "hi").await;
        assert!(cluster.runs(process));
    });
}

/// A head without an end is refused before it fills the memory.
async fn oversize_head(address: &str) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let mut sent = 0;
    let line = format!("x-more: {}\r\n", "x".repeat(1_000));
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n").await.expect("the beginning");
    while sent < 8 * 1024 * 1024 && stream.write_all(line.as_bytes()).await.is_ok() {
        sent += line.len();
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(CUT_OFF_MAX, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "a head of {sent} bytes was neither refused nor cut off");
    assert!(!String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 2"), "a head of {sent} bytes was served");
}

/// A body that says it is huge is refused by its length, not after it was read.
async fn oversize_body(address: &str) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("the head");
    let mut buffer = [0; 64];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.expect("an answer at once");
    let answer = String::from_utf8_lossy(&buffer[..read.expect("bytes")]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}
