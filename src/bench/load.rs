//! The load generator: connections that send their share of the plan from a thread of their own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chat4all_proto::MessageId;
use chat4all_proto::http::{Accepted, BatchResponse, Problem};
use futures_util::future::try_join_all;

use super::http::{Connection, Endpoint};
use super::plan::{Pace, Plan};
use crate::cli::Failure;

/// How late tokio's timer may be.
const TIMER_GRAIN: Duration = Duration::from_millis(1);

/// A load that is being sent.
pub struct Load {
    thread: JoinHandle<io::Result<Sent>>,
    accepted: Arc<AtomicU64>,
}

/// What was sent and what the API said.
#[derive(Debug, Default)]
pub struct Sent {
    /// The accepted ones.
    pub samples: Vec<Sample>,
    pub refused: u64,
    pub first_refusal: Option<String>,
}

/// One accepted message; times in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub n: u32,
    pub id: MessageId,
    /// When it was sent or, in an open loop, was meant to be.
    pub due_ns: u64,
    pub accepted_ns: u64,
}

impl Load {
    /// `target` is an address without the last part of its path, which is the conversation's number.
    pub fn start(plan: Arc<Plan>, endpoint: Endpoint, target: String, epoch: Instant) -> Self {
        let accepted = Arc::new(AtomicU64::new(0));
        let sender = Sender { plan, endpoint, target, epoch, started: Instant::now(), accepted: Arc::clone(&accepted) };
        let send = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let connections = 0..sender.plan.connections;
            let shares = runtime.block_on(try_join_all(connections.map(|connection| sender.send(connection))))?;
            Ok(shares.into_iter().fold(Sent::default(), Sent::join))
        };
        Self { thread: std::thread::spawn(send), accepted }
    }

    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Call it when finished: it blocks until then.
    pub async fn finish(self) -> Result<Sent, Failure> {
        let sent = self.thread.join().map_err(|_| Failure::failed("the load generator panicked"))?;
        sent.map_err(|error| Failure::failed(format!("the connection to the API broke: {error}")))
    }
}

impl Sent {
    fn join(mut self, other: Self) -> Self {
        self.samples.extend(other.samples);
        self.refused += other.refused;
        self.first_refusal = self.first_refusal.or(other.first_refusal);
        self
    }

    fn refuse(&mut self, count: u64, why: String) {
        self.refused += count;
        self.first_refusal.get_or_insert(why);
    }
}

struct Sender {
    plan: Arc<Plan>,
    endpoint: Endpoint,
    target: String,
    epoch: Instant,
    started: Instant,
    accepted: Arc<AtomicU64>,
}

impl Sender {
    async fn send(&self, connection: u32) -> io::Result<Sent> {
        let mut api = self.endpoint.connect().await?;
        let mut sent = Sent::default();
        let mut share = self.plan.share(connection);
        match self.plan.pace {
            Pace::Closed => {
                for n in share {
                    self.send_one(&mut api, n, self.now_ns(), &mut sent).await?;
                }
            }
            Pace::Open { per_second } => {
                for n in share {
                    let due = self.started + Duration::from_secs_f64(f64::from(n) / f64::from(per_second));
                    let due_ns = self.await_due(due).await;
                    self.send_one(&mut api, n, due_ns, &mut sent).await?;
                }
            }
            Pace::Batches { messages } => loop {
                let batch: Vec<u32> = share.by_ref().take(messages as usize).collect();
                if batch.is_empty() {
                    break;
                }
                self.send_batch(&mut api, &batch, &mut sent).await?;
            },
        }
        Ok(sent)
    }

    /// Waits for the moment of a message, and tells when its latency begins: at that moment, however late the
    /// connection gets to it; only the timer's own coarseness is not counted.
    async fn await_due(&self, due: Instant) -> u64 {
        if Instant::now() >= due {
            return nanos(due - self.epoch);
        }
        tokio::time::sleep_until(due.into()).await;
        nanos(due - self.epoch + due.elapsed().min(TIMER_GRAIN))
    }

    async fn send_one(&self, api: &mut Connection, n: u32, due_ns: u64, sent: &mut Sent) -> io::Result<()> {
        let (status, body) = api.call("POST", "/v1/messages", &self.plan.body(n, &self.target)).await?;
        match (status, serde_json::from_slice::<Accepted>(&body)) {
            (202, Ok(accepted)) => self.note(n, accepted.message_id, due_ns, sent),
            _ => sent.refuse(1, refusal(status, &body)),
        }
        Ok(())
    }

    async fn send_batch(&self, api: &mut Connection, batch: &[u32], sent: &mut Sent) -> io::Result<()> {
        let messages: Vec<String> = batch.iter().map(|&n| self.plan.body(n, &self.target)).collect();
        let body = format!(r#"{{"messages":[{}]}}"#, messages.join(","));
        let due_ns = self.now_ns();
        let (status, body) = api.call("POST", "/v1/messages/batch", &body).await?;
        let Ok(answer) = serde_json::from_slice::<BatchResponse>(&body) else {
            sent.refuse(batch.len() as u64, refusal(status, &body));
            return Ok(());
        };
        for (&n, result) in batch.iter().zip(&answer.results) {
            match result.message_id {
                Some(id) if result.status == 202 => self.note(n, id, due_ns, sent),
                _ => sent.refuse(1, result.error.as_ref().map_or_else(String::new, |problem| problem.detail.clone())),
            }
        }
        Ok(())
    }

    fn note(&self, n: u32, id: MessageId, due_ns: u64, sent: &mut Sent) {
        sent.samples.push(Sample { n, id, due_ns, accepted_ns: self.now_ns() });
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    fn now_ns(&self) -> u64 {
        nanos(self.epoch.elapsed())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// An answer that is not a 202, in words.
pub fn refusal(status: u16, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => format!("{status} {}: {}", problem.code, problem.detail),
        Err(_) => format!("the API answered `{status}` and no problem"),
    }
}
