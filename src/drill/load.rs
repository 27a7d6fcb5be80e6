//! The load: conversations that send one message after the other from a thread of its own, each next at the 202 of the
//! last. A message that is not accepted is sent again under its own id until it is, as a careful client would.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chat4all_proto::content::Content;
use chat4all_proto::http::SendRequest;
use chat4all_proto::{MessageId, TenantId};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::checker::Accepted;
use crate::bench::http::{Connection, Endpoint};
use crate::bench::load::refusal;

/// A client waits so long before it asks again.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How much, how fast, to where.
#[derive(Debug, Clone)]
pub struct Plan {
    pub messages: u32,
    pub per_second: u32,
    pub conversations: u32,
    /// Addresses; the conversations take turns. `{conversation}` stands for the conversation's number.
    pub targets: Vec<String>,
}

impl Plan {
    /// The place in `targets` of a conversation's address.
    pub fn target_of(&self, conversation: u32) -> usize {
        conversation as usize % self.targets.len()
    }

    /// When a message is due, after the start.
    fn due(&self, n: u32) -> Duration {
        Duration::from_secs_f64(f64::from(n) / f64::from(self.per_second))
    }
}

/// One request and its answer; times since the epoch.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub at: Duration,
    pub took: Duration,
    /// None without an answer.
    pub status: Option<u16>,
}

/// Load under way. Ends when this is dropped.
pub struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    _stop: oneshot::Sender<()>,
}

struct Shared {
    plan: Plan,
    endpoint: Endpoint,
    epoch: Instant,
    begun: Instant,
    /// Makes the ids of this run different from those of any other.
    run: String,
    accepted: AtomicU64,
    refused: AtomicU64,
    notes: Mutex<Notes>,
}

/// What has been asked and answered.
#[derive(Debug, Default, Clone)]
pub struct Notes {
    /// In the order of the 202s, and when each was sent.
    pub accepted: Vec<(Accepted, Duration)>,
    pub asked: Vec<Asked>,
    /// Refusals that no repetition mends, with the first one's words.
    pub hopeless: u64,
    pub first_hopeless: Option<String>,
}

impl Load {
    pub fn start(plan: Plan, endpoint: Endpoint, epoch: Instant) -> io::Result<Self> {
        let run = format!("drill {} {:?}", std::process::id(), std::time::SystemTime::now());
        let (accepted, refused, notes) = Default::default();
        let shared = Arc::new(Shared { plan, endpoint, epoch, begun: Instant::now(), run, accepted, refused, notes });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let sending = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("load".into()).spawn(move || {
            runtime.block_on(async {
                let mut conversations = JoinSet::new();
                for conversation in 0..sending.plan.conversations {
                    conversations.spawn(Arc::clone(&sending).send(conversation));
                }
                tokio::select! {
                    _ = stopped => {}
                    _ = conversations.join_all() => {}
                }
            });
        })?;
        Ok(Self { shared, thread, _stop: stop })
    }

    /// When it began, since the epoch.
    pub fn begun(&self) -> Duration {
        self.shared.begun - self.shared.epoch
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Requests that were not answered 202.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    pub fn notes(&self) -> Notes {
        self.shared.notes().clone()
    }
}

impl Shared {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(self: Arc<Self>, conversation: u32) {
        let mut connection = None;
        for n in (conversation..self.plan.messages).step_by(self.plan.conversations as usize) {
            tokio::time::sleep_until((self.begun + self.plan.due(n)).into()).await;
            let id = MessageId::from_idempotency_key(&TenantId::default(), &format!("{} {n}", self.run));
            let body = self.body(conversation, n, id);
            while !self.ask(&mut connection, &body, Accepted { id, conversation }).await {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn body(&self, conversation: u32, n: u32, id: MessageId) -> String {
        let target = self.plan.targets[self.plan.target_of(conversation)].as_str();
        let to = target.replace("{conversation}", &conversation.to_string());
        let content = Content::Text { text: format!("{id} is message {n} of this drill") };
        let mut request = SendRequest::new(vec![to], content);
        request.conversation_id = Some(format!("drill-{conversation}"));
        request.message_id = Some(id.to_string());
        serde_json::to_string(&request).expect("every key is text")
    }

    /// One request. Whether the message needs no further one.
    async fn ask(&self, connection: &mut Option<Connection>, body: &str, message: Accepted) -> bool {
        let at = Instant::now();
        let answer = match tokio::time::timeout(ANSWER_MAX, self.call(connection, body)).await {
            Ok(Ok(answer)) => Some(answer),
            // What is left of the connection cannot be used again.
            Ok(Err(_)) | Err(_) => {
                *connection = None;
                None
            }
        };
        let mut notes = self.notes();
        let status = answer.as_ref().map(|(status, _)| *status);
        notes.asked.push(Asked { at: at - self.epoch, took: at.elapsed(), status });
        match answer {
            Some((202, _)) => {
                notes.accepted.push((message, at - self.epoch));
                self.accepted.fetch_add(1, Ordering::Relaxed);
                true
            }
            None | Some((429 | 503, _)) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                false
            }
            Some((status, body)) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                notes.hopeless += 1;
                notes.first_hopeless.get_or_insert_with(|| refusal(status, &body));
                true
            }
        }
    }

    /// A connection that stood idle may have been closed: asks once more on a new one, which is safe under the same id.
    async fn call(&self, connection: &mut Option<Connection>, body: &str) -> io::Result<(u16, Vec<u8>)> {
        if let Some(open) = connection
            && let Ok(answer) = open.call("POST", "/v1/messages", body).await
        {
            return Ok(answer);
        }
        connection.insert(self.endpoint.connect().await?).call("POST", "/v1/messages", body).await
    }
}
