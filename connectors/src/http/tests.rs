//! The client against receivers that do everything wrong: each attempt ends in time, and as documented.

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chat4all_channels::{Answer, Request, Silence};
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{BODY_BYTES_MAX, Client, Options};

/// Time-out of attempts that are meant to run into it.
const SHORT: Duration = Duration::from_millis(300);
/// Time-out of attempts that are not.
const LONG: Duration = Duration::from_secs(20);

fn client(attempt_timeout: Duration) -> Client {
    Client::new(Options { allow_private_targets: true, attempt_timeout }).unwrap()
}

fn post(url: &str) -> Request {
    let body = Bytes::from_static(b"{}");
    Request { method: Method::POST, url: url.parse().unwrap(), headers: Default::default(), body }
}

/// How an answer is written in the tables below.
#[derive(Debug, PartialEq)]
enum Seen {
    Status(u16, usize),
    Silence(Silence),
}

fn seen(answer: Answer) -> Seen {
    match answer {
        Answer::Response { status, body, .. } => Seen::Status(status.as_u16(), body.len()),
        Answer::Silence(silence) => Seen::Silence(silence),
    }
}

/// Calls a server whose every connection is handled by `serve`.
async fn check<S, F>(attempt_timeout: Duration, serve: S, expected: Seen)
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let started = Instant::now();
    let answer = client(attempt_timeout).call(post(&url)).await;
    // Room for a busy machine; what matters is that nothing waits for the server.
    assert!(started.elapsed() < attempt_timeout + Duration::from_secs(5), "took {:?}", started.elapsed());
    assert_eq!(seen(answer), expected);
    server.abort();
}

async fn read_request(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n{}") {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// Reads the request, answers `bytes`, closes.
async fn answering(mut stream: TcpStream, bytes: Vec<u8>) {
    read_request(&mut stream).await;
    let _ = stream.write_all(&bytes).await;
}

async fn for_ever(mut stream: TcpStream, head: &'static str, again: String) {
    read_request(&mut stream).await;
    let _ = stream.write_all(head.as_bytes()).await;
    while stream.write_all(again.as_bytes()).await.is_ok() {}
}

/// A byte now and then, until the other side has enough.
async fn dripping(mut stream: TcpStream, at_once: &'static str, then: &'static str) {
    read_request(&mut stream).await;
    let _ = stream.write_all(at_once.as_bytes()).await;
    let mut every = tokio::time::interval(Duration::from_millis(50));
    for byte in then.as_bytes().iter().cycle() {
        every.tick().await;
        if stream.write_all(std::slice::from_ref(byte)).await.is_err() {
            return;
        }
    }
}

const TIMED_OUT: Seen = Seen::Silence(Silence::TimedOut { after: SHORT });
const BROKEN: Seen = Seen::Silence(Silence::Broken);

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let hang = |mut stream: TcpStream| async move {
        read_request(&mut stream).await;
        read_request(&mut stream).await;
    };
    check(SHORT, hang, TIMED_OUT).await;
    check(SHORT, |stream| dripping(stream, "HTTP/1.1 ", "200 OK\r\n"), TIMED_OUT).await;
    check(SHORT, |stream| for_ever(stream, "", "HTTP/1.1 100 Continue\r\n\r\n".into()), TIMED_OUT).await;
}

#[tokio::test]
async fn a_reset_may_have_been_read() {
    let before_reading = |stream: TcpStream| async move {
        let _ = stream.set_zero_linger();
    };
    check(LONG, before_reading, BROKEN).await;
    let after_reading = |mut stream: TcpStream| async move {
        read_request(&mut stream).await;
        let _ = stream.set_zero_linger();
    };
    check(LONG, after_reading, BROKEN).await;
    check(LONG, |stream| answering(stream, Vec::new()), BROKEN).await;
}

#[tokio::test]
async fn what_is_not_http_is_broken() {
    check(LONG, |stream| answering(stream, b"\x16\x03\x01 220 smtp.example.com\r\n\r\n".to_vec()), BROKEN).await;
    check(LONG, |stream| answering(stream, b"HTTP/1.1 200 O".to_vec()), BROKEN).await;
    check(LONG, |stream| answering(stream, b"HTTP/1.1 banana\r\n\r\n".to_vec()), BROKEN).await;
}

#[tokio::test]
async fn a_head_without_end_is_cut_off_early() {
    let line = format!("x-endless: {}\r\n", "a".repeat(4_000));
    check(LONG, move |stream| for_ever(stream, "HTTP/1.1 200 OK\r\n", line.clone()), BROKEN).await;
    check(LONG, |stream| for_ever(stream, "HTTP/1.1 200 OK\r\nx: ", "a".repeat(4_096)), BROKEN).await;
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit() {
    let sized = |bytes: usize| {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{}", "a".repeat(bytes)).into_bytes();
        move |stream| answering(stream, answer.clone())
    };
    check(LONG, sized(0), Seen::Status(200, 0)).await;
    check(LONG, sized(BODY_BYTES_MAX), Seen::Status(200, BODY_BYTES_MAX)).await;
    check(LONG, sized(BODY_BYTES_MAX + 1), Seen::Status(200, BODY_BYTES_MAX)).await;
    let chunk = format!("1000\r\n{}\r\n", "a".repeat(4_096));
    let head = "HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n";
    let endless = move |stream| for_ever(stream, head, chunk.clone());
    check(LONG, endless, Seen::Status(500, BODY_BYTES_MAX)).await;
}

#[tokio::test]
async fn a_status_counts_though_its_body_never_ends() {
    let truncated = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_vec();
    check(LONG, move |stream| answering(stream, truncated.clone()), Seen::Status(200, 3)).await;
    let bad_chunk = b"HTTP/1.1 410 Gone\r\ntransfer-encoding: chunked\r\n\r\nbanana\r\n".to_vec();
    check(LONG, move |stream| answering(stream, bad_chunk.clone()), Seen::Status(410, 0)).await;
    let stuck = |mut stream: TcpStream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 202 OK\r\ncontent-length: 9999\r\n\r\nab").await;
        read_request(&mut stream).await;
    };
    let started = Instant::now();
    check(SHORT, stuck, Seen::Status(202, 2)).await;
    assert!(started.elapsed() >= SHORT);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let redirect = b"HTTP/1.1 307 Away\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".to_vec();
    check(LONG, move |stream| answering(stream, redirect.clone()), Seen::Status(307, 0)).await;
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let call = async |url: &str| seen(client(LONG).call(post(url)).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(call(&format!("http://{closed}/")).await, Seen::Silence(Silence::NoConnection));
    assert_eq!(call("http://nobody.invalid/").await, Seen::Silence(Silence::NoConnection));
    // TLS with somebody who does not speak it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1_024]).await;
    });
    assert_eq!(call(&url).await, Seen::Silence(Silence::NoConnection));
    server.await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_hangs_is_no_connection_either() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let answer = client(Duration::from_millis(600)).call(post(&url)).await;
    assert_eq!(seen(answer), Seen::Silence(Silence::NoConnection));
}

#[tokio::test]
async fn private_targets_are_refused_before_anything_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = Client::new(Options::default()).unwrap();
    for host in ["127.0.0.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "localhost"] {
        let answer = client.call(post(&format!("http://{host}:{port}/"))).await;
        assert_eq!(seen(answer), Seen::Silence(Silence::ForbiddenTarget), "{host}");
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "it was dialled");
}
