//! The tests' own webhook receiver: plain HTTP/1.1 over TCP, none of Chat4All's code. It notes each request and what it
//! answered, and misbehaves per path as told.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::Random;

/// What a path answers.
#[derive(Debug, Clone)]
pub enum Reply {
    Status(u16),
    /// A status with one more header.
    With(u16, &'static str, String),
    /// A 200 with this JSON.
    Json(&'static str),
    /// Reads the request and never answers.
    Hang,
    /// Resets the connection before it reads anything.
    ResetBefore,
    /// Reads the request, then resets the connection.
    ResetAfter,
    /// Something that is no HTTP.
    Garbage,
    /// Headers for ever.
    EndlessHead,
    /// A 200 whose body never ends.
    EndlessBody,
    /// A 200 whose answer comes a byte a second.
    Drip,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    pub at: SystemTime,
    pub path: String,
    pub webhook_id: String,
    pub headers: HashMap<String, String>,
    /// `Null` where it is no JSON.
    pub body: Value,
    /// The status that was answered; none where no usable answer was given.
    pub status: Option<u16>,
}

impl Received {
    pub fn taken(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    pub fn data(&self, field: &str) -> &str {
        self.body["data"][field].as_str().unwrap_or_default()
    }
}

#[derive(Default)]
struct State {
    requests: Vec<Received>,
    taken: usize,
    /// Next replies by path; then `usually`, then 200.
    next: HashMap<String, VecDeque<Reply>>,
    usually: HashMap<String, Reply>,
    latency: Duration,
    wobble: Option<Random>,
    /// Texts divisible by this are refused for good.
    refused: Option<u64>,
}

impl State {
    /// What to answer on a path, and after what time.
    fn choose(&mut self, path: &str) -> (Reply, Duration) {
        let scripted = self.next.get_mut(path).and_then(VecDeque::pop_front);
        if let Some(reply) = scripted.or_else(|| self.usually.get(path).cloned()) {
            return (reply, self.latency);
        }
        let Some(random) = &mut self.wobble else { return (Reply::Status(200), self.latency) };
        let latency = Duration::from_millis(5 + random.below(36));
        match random.below(100) {
            0..3 => (Reply::Status(500), latency),
            3 => (Reply::ResetAfter, latency),
            _ => (Reply::Status(200), latency),
        }
    }

    /// A 200 becomes a 410 where the message is to be refused.
    fn or_refuse(&self, reply: Reply, body: &[u8]) -> Reply {
        let Some(refused) = self.refused.filter(|_| matches!(reply, Reply::Status(200))) else { return reply };
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let number = body["data"]["content"]["text"].as_str().and_then(|text| text.parse::<u64>().ok());
        if number.is_some_and(|number| number % refused == 0) { Reply::Status(410) } else { reply }
    }
}

/// Listens until dropped.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::listen([127, 0, 0, 1]).await
    }

    /// On every loopback address at once: each is a destination of its own.
    pub async fn everywhere() -> Self {
        Self::listen([0, 0, 0, 0]).await
    }

    async fn listen(ip: [u8; 4]) -> Self {
        let listener = TcpListener::bind((IpAddr::from(ip), 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::<Mutex<State>>::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, accepting }
    }

    /// Nobody listens here any more, and every open connection ends.
    pub async fn goes_away(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }

    /// Listens at the same address again.
    pub async fn comes_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("its own port");
        self.accepting = tokio::spawn(accept(listener, Arc::clone(&self.state)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a path on the channel `hook`.
    pub fn target(&self, path: &str) -> String {
        format!("hook:http://{}{path}", self.address)
    }

    /// The next requests on `path` are answered with these, one each.
    pub fn script(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        self.state().next.entry(path.to_owned()).or_default().extend(replies);
    }

    /// What `path` answers when nothing is scripted.
    pub fn usually(&self, path: &str, reply: Reply) {
        self.state().usually.insert(path.to_owned(), reply);
    }

    /// Every answer waits this long.
    pub fn latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// From now on answers take 5 to 40 ms, 3 in 100 are a 500 and 1 in 100 is a reset after reading: so that there is
    /// always something under way, waiting, and finished out of turn.
    pub fn wobbles(&self, random: Random) {
        self.state().wobble = Some(random);
    }

    /// From now on every message whose text is a number divisible by `every` is answered 410.
    pub fn refuses(&self, every: u64) {
        self.state().refused = Some(every);
    }

    pub fn requests(&self) -> Vec<Received> {
        self.state().requests.clone()
    }

    pub fn requests_on(&self, path: &str) -> Vec<Received> {
        self.state().requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// Requests answered 2xx, repeats included.
    pub fn taken(&self) -> usize {
        self.state().taken
    }

    /// Different deliveries answered 2xx.
    pub fn distinct(&self) -> usize {
        self.distinct_that(Received::taken)
    }

    /// Different deliveries with a request of this kind.
    pub fn distinct_that(&self, is: fn(&Received) -> bool) -> usize {
        let state = self.state();
        let ids: std::collections::HashSet<_> =
            state.requests.iter().filter(|request| is(request)).map(|request| &request.webhook_id).collect();
        ids.len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok();
        connections.spawn(serve(stream, Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, request after request. Ends with the first thing that is not as it should be.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut buffer = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut buffer).await {
        let (reply, latency) = state.lock().expect("no panic under the lock").choose(&head.path);
        if matches!(reply, Reply::ResetBefore) {
            note(&state, head, Vec::new(), None);
            return reset(stream);
        }
        let Some(body) = read_body(&mut stream, &mut buffer, head.length).await else { return };
        let reply = state.lock().expect("no panic under the lock").or_refuse(reply, &body);
        match answer(stream, reply, latency, head, body, &state).await {
            Some(kept) => stream = kept,
            None => return,
        }
    }
}

struct Head {
    path: String,
    headers: HashMap<String, String>,
    length: usize,
}

async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Head> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8(buffer.drain(..end + 4).collect()).ok()?;
            let mut lines = text.lines();
            let path = lines.next()?.split(' ').nth(1)?.to_owned();
            let pairs = lines.filter_map(|line| line.split_once(':'));
            let headers: HashMap<String, String> =
                pairs.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
            let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            return Some(Head { path, headers, length });
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn read_body(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(buffer.drain(..length).collect())
}

fn note(state: &Mutex<State>, head: Head, raw: Vec<u8>, status: Option<u16>) {
    let webhook_id = head.headers.get("webhook-id").cloned().unwrap_or_default();
    let body = serde_json::from_slice(&raw).unwrap_or(Value::Null);
    let received = Received { at: SystemTime::now(), path: head.path, webhook_id, headers: head.headers, body, status };
    let mut state = state.lock().expect("no panic under the lock");
    state.taken += usize::from(received.taken());
    state.requests.push(received);
}

fn reset(stream: TcpStream) {
    // A reset instead of an orderly end.
    socket_linger_zero(&stream);
    drop(stream);
}

#[allow(deprecated, reason = "a linger of zero does not block: it is how a reset is sent")]
fn socket_linger_zero(stream: &TcpStream) {
    stream.set_linger(Some(Duration::ZERO)).ok();
}

/// Answers; the stream, if it can take another request.
async fn answer(
    mut stream: TcpStream,
    reply: Reply,
    latency: Duration,
    head: Head,
    body: Vec<u8>,
    state: &Mutex<State>,
) -> Option<TcpStream> {
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    match reply {
        Reply::Status(status) => {
            note(state, head, body, Some(status));
            write(&mut stream, status, "", "").await?;
            Some(stream)
        }
        Reply::With(status, name, value) => {
            note(state, head, body, Some(status));
            write(&mut stream, status, &format!("{name}: {value}\r\n"), "").await?;
            Some(stream)
        }
        Reply::Json(json) => {
            note(state, head, body, Some(200));
            write(&mut stream, 200, "content-type: application/json\r\n", json).await?;
            Some(stream)
        }
        Reply::Hang => {
            note(state, head, body, None);
            // Until the other side has had enough.
            let _ = stream.read(&mut [0; 1]).await;
            None
        }
        Reply::ResetAfter | Reply::ResetBefore => {
            note(state, head, body, None);
            reset(stream);
            None
        }
        Reply::Garbage => {
            note(state, head, body, None);
            stream.write_all(b"\x00\xff this is no HTTP\r\n\r\n").await.ok()?;
            None
        }
        Reply::EndlessHead => {
            note(state, head, body, None);
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
            loop {
                stream.write_all(b"x-more: and more and more and more and more\r\n").await.ok()?;
            }
        }
        Reply::EndlessBody => {
            note(state, head, body, Some(200));
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(b"10\r\n0123456789abcdef\r\n").await.ok()?;
            }
        }
        Reply::Drip => {
            note(state, head, body, None);
            for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".iter().chain(&[b'x'; 1000]) {
                stream.write_all(&[*byte]).await.ok()?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            None
        }
    }
}

async fn write(stream: &mut TcpStream, status: u16, more: &str, body: &str) -> Option<()> {
    let text = format!("HTTP/1.1 {status} Status\r\n{more}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.ok()
}
