//! Clients that are slow, endless or oversize are refused or cut off, while the others are served.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Harness, Reply, hello};

fn impatient() -> Harness {
    Harness::with(|options| {
        options.limits.head_timeout = Duration::from_millis(300);
        options.limits.keep_alive = Duration::from_millis(500);
        options.body_timeout = Duration::from_millis(300);
    })
}

async fn connected(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    stream
}

/// Everything until the server closes, which it must within 5 s.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        let mut piece = [0; 4_096];
        while let Ok(length @ 1..) = stream.read(&mut piece).await {
            bytes.extend_from_slice(&piece[..length]);
        }
    };
    timeout(Duration::from_secs(5), reading).await.expect("the server cuts the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An honest client gets its answer at once.
async fn others_are_served(harness: &Harness) {
    let started = Instant::now();
    assert_eq!(harness.send(hello()).await.status, 202);
    assert!(started.elapsed() < Duration::from_millis(250), "{:?}", started.elapsed());
}

const HEAD: &str = "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let harness = impatient();
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(connected(harness.addr(), "POST /v1/mess").await);
    }
    others_are_served(&harness).await;
    for stream in &mut slow {
        let answer = until_closed(stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[tokio::test]
async fn a_slow_head_of_a_later_request_is_cut_off() {
    let harness = impatient();
    let mut stream = connected(harness.addr(), "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream.write_all(b"GET /hea").await.unwrap();
    others_are_served(&harness).await;
    until_closed(&mut stream).await;
}

#[tokio::test]
async fn a_slow_body_is_cut_off_though_it_drips() {
    let harness = impatient();
    let mut stream = connected(harness.addr(), format!("{HEAD}content-length: 1000\r\n\r\n")).await;
    let (mut reader, mut writer) = stream.split();
    let drip = async {
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut first = [0; 12];
    let answer = timeout(Duration::from_secs(5), async {
        tokio::select! {
            result = reader.read_exact(&mut first) => { result.unwrap(); }
            () = drip => panic!("cut off without an answer"),
        }
    });
    others_are_served(&harness).await;
    answer.await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 408");
    let rest = until_closed(&mut stream).await;
    assert!(rest.contains("body_timeout"), "{rest}");
}

#[tokio::test]
async fn an_oversize_body_is_refused_before_it_is_read() {
    let harness = Harness::start();
    let mut stream = connected(harness.addr(), format!("{HEAD}content-length: 262145\r\n\r\n")).await;
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
}

#[tokio::test]
async fn an_endless_chunked_body_is_refused_at_the_limit() {
    let harness = Harness::start();
    let mut stream = connected(harness.addr(), format!("{HEAD}transfer-encoding: chunked\r\n\r\n")).await;
    let (mut reader, mut writer) = stream.split();
    let chunk = format!("{:x}\r\n{}\r\n", 65_536, " ".repeat(65_536));
    let flood = async { while writer.write_all(chunk.as_bytes()).await.is_ok() {} };
    let mut first = [0; 12];
    let cut_off = timeout(Duration::from_secs(5), async { tokio::join!(reader.read_exact(&mut first), flood) });
    let (answer, ()) = cut_off.await.expect("the server cuts the connection");
    answer.unwrap();
    assert_eq!(&first, b"HTTP/1.1 413");
    others_are_served(&harness).await;
}

#[tokio::test]
async fn an_endless_body_of_a_call_that_takes_none_is_not_read_for_ever() {
    let harness = Harness::start();
    for head in ["POST /nowhere", "DELETE /v1/messages", "GET /health/live"] {
        let head = format!("{head} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
        let mut stream = connected(harness.addr(), head).await;
        let flood = async { while stream.write_all(b"1\r\nx\r\n").await.is_ok() {} };
        timeout(Duration::from_secs(5), flood).await.expect("the server cuts the connection");
    }
}

#[tokio::test]
async fn the_limits_of_size_are_exact() {
    let harness = Harness::start();
    let padded = |bytes: usize| format!("{}{}", hello(), " ".repeat(bytes - hello().len()));
    assert_eq!(harness.send(padded(256 * 1024)).await.status, 202);
    harness.send(padded(256 * 1024 + 1)).await.expect(413, "body_too_large");
    let batch = |bytes: usize| {
        let body = format!(r#"{{"messages":[{}]}}"#, hello());
        harness.post("/v1/messages/batch", format!("{body}{}", " ".repeat(bytes - body.len())))
    };
    assert_eq!(Reply::of(batch(16 << 20)).await.status, 200);
    Reply::of(batch((16 << 20) + 1)).await.expect(413, "body_too_large");
}

#[tokio::test]
async fn deep_json_is_refused() {
    let harness = Harness::start();
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = format!("{}1{}", open.repeat(20_000), close.repeat(20_000));
        let body = format!(r#"{{"to":"hook:ana","content":{{"type":"text","text":"x"}},"metadata":{{"a":{deep}}}}}"#);
        harness.send(&*body).await.expect(400, "malformed_json");
        let reply = Reply::of(harness.post("/v1/messages/batch", format!(r#"{{"messages":[{body}]}}"#))).await;
        assert_eq!(reply.json()["results"][0]["status"], 400, "{reply:?}");
    }
    others_are_served(&harness).await;
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let harness = Harness::start();
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let mut stream = connected(harness.addr(), format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n")).await;
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn a_client_that_hangs_up_within_its_body_leaves_nothing_behind() {
    let mut harness = Harness::start();
    drop(connected(harness.addr(), format!("{HEAD}content-length: 1000\r\n\r\n{{")).await);
    others_are_served(&harness).await;
    timeout(Duration::from_secs(5), harness.server.take().unwrap().stop()).await.unwrap();
    assert_eq!(harness.log.records().len(), 1);
}
