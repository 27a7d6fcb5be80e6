//! What the drill sends to: a small server for each channel, on a thread of its own, all writing into one ledger of what
//! they answered 2xx. Each can be away or hang. It knows nothing of the connectors.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chat4all_proto::MessageId;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

use super::chance::Chance;
use super::checker::Taken;
use crate::bench::http::{Buffered, Message, find};

/// Answers take so long, so that there is always something in flight.
const LATENCY_MS: (u64, u64) = (5, 25);

/// How a provider behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Its gateway answers 502.
    Away,
    /// It reads and does not answer until the mood changes.
    Hanging,
}

/// Running servers, one for each channel. They end when this is dropped.
pub struct Receiver {
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

struct Shared {
    epoch: Instant,
    providers: Vec<Provider>,
    ledger: Mutex<Ledger>,
}

struct Provider {
    addr: SocketAddr,
    mood: watch::Sender<Mood>,
    /// Requests, whatever came of them.
    calls: AtomicU64,
    /// Different messages taken.
    taken: AtomicU64,
}

#[derive(Default)]
struct Ledger {
    taken: Vec<Taken>,
    /// Provider and time of the first taking.
    first: HashMap<MessageId, (usize, Duration)>,
}

impl Receiver {
    /// `providers` servers, numbered from 0. Times are counted from `epoch`.
    pub fn start(providers: usize, epoch: Instant, chance: &mut Chance) -> io::Result<Self> {
        let mut listeners = Vec::new();
        let mut known = Vec::new();
        for _ in 0..providers {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let (calls, taken) = Default::default();
            known.push(Provider { addr: listener.local_addr()?, mood: watch::Sender::new(Mood::Well), calls, taken });
            listeners.push((listener, chance.branch()));
        }
        let shared = Arc::new(Shared { epoch, providers: known, ledger: Mutex::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        std::thread::Builder::new().name("receiver".into()).spawn(move || {
            runtime.block_on(async {
                for (provider, (listener, chance)) in listeners.into_iter().enumerate() {
                    tokio::spawn(listen(listener, provider, chance, Arc::clone(&serving)));
                }
                // Ends with an error when the other half is dropped.
                let _ = stopped.await;
            });
        })?;
        Ok(Self { shared, _stop: stop })
    }

    pub fn addr(&self, provider: usize) -> SocketAddr {
        self.shared.providers[provider].addr
    }

    pub fn set_mood(&self, provider: usize, mood: Mood) {
        self.shared.providers[provider].mood.send_replace(mood);
    }

    pub fn calls(&self, provider: usize) -> u64 {
        self.shared.providers[provider].calls.load(Ordering::Relaxed)
    }

    /// Different messages that each provider has taken.
    pub fn taken_by_each(&self) -> Vec<u64> {
        self.shared.providers.iter().map(|provider| provider.taken.load(Ordering::Relaxed)).collect()
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.shared.ledger().taken.clone()
    }

    /// When messages were first taken, by provider and in order.
    pub fn arrivals(&self) -> Vec<(MessageId, usize, Duration)> {
        let ledger = self.shared.ledger();
        let mut arrivals: Vec<_> = ledger.first.iter().map(|(id, (provider, at))| (*id, *provider, *at)).collect();
        arrivals.sort_by_key(|(_, _, at)| *at);
        arrivals
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, provider: usize, taken: Taken, at: Duration) {
        let mut ledger = self.ledger();
        let first = ledger.first.len();
        ledger.first.entry(taken.id).or_insert((provider, at));
        if ledger.first.len() > first {
            self.providers[provider].taken.fetch_add(1, Ordering::Relaxed);
        }
        ledger.taken.push(taken);
    }
}

async fn listen(listener: TcpListener, provider: usize, mut chance: Chance, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, provider, chance.branch(), Arc::clone(&shared)));
        }
    }
}

/// One connection. One that breaks is the sender's business: it sends again.
async fn serve(stream: TcpStream, provider: usize, mut chance: Chance, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut mood = shared.providers[provider].mood.subscribe();
    let mut requests = Buffered::new(stream);
    while let Ok(Some(request)) = requests.next().await {
        let at = shared.epoch.elapsed();
        shared.providers[provider].calls.fetch_add(1, Ordering::Relaxed);
        let (taken, body) = read(&request);
        requests.consume();
        let now = *mood.borrow_and_update();
        let (status, body) = match (now, taken) {
            (Mood::Hanging, _) => {
                let _ = mood.changed().await;
                return;
            }
            (Mood::Away, _) => ("502 Bad Gateway", "{}".to_owned()),
            (Mood::Well, None) => ("400 Bad Request", "{}".to_owned()),
            (Mood::Well, Some(taken)) => {
                tokio::time::sleep(Duration::from_millis(LATENCY_MS.0 + chance.below(LATENCY_MS.1 - LATENCY_MS.0)))
                    .await;
                shared.note(provider, taken, at);
                ("200 OK", body)
            }
        };
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
        if requests.stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The message, and the body of a good answer. A text names its message, since not every provider is told its id.
fn read(request: &Message<'_>) -> (Option<Taken>, String) {
    let body: Value = serde_json::from_slice(request.body).unwrap_or(Value::Null);
    let delivery = request.header("webhook-id").map(str::to_owned);
    let is_webhook = delivery.is_some();
    let text = if is_webhook { &body["data"]["content"]["text"] } else { &body["text"] };
    let id = text.as_str().and_then(named);
    // Of a webhook both must be the same.
    let said = body["data"]["message_id"].as_str().and_then(|text| text.parse().ok());
    let id = id.filter(|id| !is_webhook || said == Some(*id));
    // As Telegram's Bot API answers.
    let answer = json!({"ok": true, "result": {"message_id": 1, "chat": {"id": body["chat_id"]}}});
    (id.map(|id| Taken { id, delivery }), answer.to_string())
}

/// The first id in a text.
fn named(text: &str) -> Option<MessageId> {
    let at = find(text.as_bytes(), b"msg_")?;
    text[at..].split(' ').next()?.parse().ok()
}
