//! The receiving server: takes webhooks on a thread of its own and notes what came when, and in which order.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chat4all_proto::MessageId;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::http::{Buffered, Message, find};
use super::plan::Plan;

/// Below this path everything is refused for an hour: its messages wait.
pub const REFUSING_PATH: &str = "/refusing";

const TAKEN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const REFUSED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n";
const NOT_OURS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

/// A running receiver. Ends when this is dropped.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

struct Shared {
    plan: Plan,
    epoch: Instant,
    /// Different messages.
    received: AtomicU64,
    arrivals: Mutex<Arrivals>,
}

/// What came, by the number of the message.
#[derive(Debug, Clone)]
pub struct Arrivals {
    /// Id and time since the epoch in nanoseconds of the first arrival.
    pub first: Vec<Option<(MessageId, u64)>>,
    pub repeated: u64,
    /// First arrivals that came after a later message of their conversation.
    pub overtaken: u64,
    /// One past the highest place that arrived, by conversation.
    next: Vec<u32>,
}

impl Receiver {
    pub fn start(plan: Plan) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let arrivals = Mutex::new(Arrivals::new(&plan));
        let shared = Arc::new(Shared { plan, epoch: Instant::now(), received: AtomicU64::new(0), arrivals });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, mut stopped) = oneshot::channel();
        let receiving = Arc::clone(&shared);
        std::thread::Builder::new().name("receiver".into()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                loop {
                    tokio::select! {
                        _ = &mut stopped => return,
                        Ok((stream, _)) = listener.accept() => {
                            tokio::spawn(serve(stream, Arc::clone(&receiving)));
                        }
                    }
                }
            });
        })?;
        Ok(Self { addr, shared, _stop: stop })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What times are counted from.
    pub fn epoch(&self) -> Instant {
        self.shared.epoch
    }

    /// How many different messages have come.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    pub fn arrivals(&self) -> Arrivals {
        self.shared.arrivals().clone()
    }
}

impl Shared {
    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Message<'_>) -> &'static [u8] {
        let path = request.first_line.split(' ').nth(1).unwrap_or_default();
        if path.starts_with(REFUSING_PATH) {
            return REFUSED;
        }
        let at_ns = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match identify(request.body).filter(|(n, _)| *n < self.plan.messages) {
            Some((n, id)) => {
                if self.arrivals().note(&self.plan, n, id, at_ns) {
                    self.received.fetch_add(1, Ordering::Relaxed);
                }
                TAKEN
            }
            None => NOT_OURS,
        }
    }
}

impl Arrivals {
    pub fn new(plan: &Plan) -> Self {
        Self {
            first: vec![None; plan.messages as usize],
            repeated: 0,
            overtaken: 0,
            next: vec![0; plan.conversations as usize],
        }
    }

    /// Whether it is the first arrival of message `n`.
    pub fn note(&mut self, plan: &Plan, n: u32, id: MessageId, at_ns: u64) -> bool {
        let first = &mut self.first[n as usize];
        if first.is_some() {
            self.repeated += 1;
            return false;
        }
        *first = Some((id, at_ns));
        let (conversation, place) = plan.place(n);
        let next = &mut self.next[conversation as usize];
        if place < *next {
            self.overtaken += 1;
        }
        *next = (*next).max(place + 1);
        true
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut requests = Buffered::new(stream);
    // A connection that breaks is the sender's business: it sends again.
    while let Ok(Some(request)) = requests.next().await {
        let answer = shared.answer(&request);
        requests.consume();
        if requests.stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// The message's number and id, without reading the whole as JSON.
fn identify(body: &[u8]) -> Option<(u32, MessageId)> {
    let n = after(body, b"\"metadata\":{\"n\":")?;
    let digits = n.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let n = std::str::from_utf8(&n[..digits]).ok()?.parse().ok()?;
    let id = after(body, b"\"message_id\":\"")?;
    let id = std::str::from_utf8(id.get(..find(id, b"\"")?)?).ok()?.parse().ok()?;
    Some((n, id))
}

fn after<'a>(body: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    find(body, mark).map(|at| &body[at + mark.len()..])
}
