//! Load: conversations that send one message after the other, each next at the last one's 202.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::client::{Api, message};
use crate::checker::Accepted;

/// How much, to where, how fast.
#[derive(Clone)]
pub struct Plan {
    pub name: &'static str,
    pub conversations: usize,
    pub messages: usize,
    pub per_second: f64,
    /// An address; `{conversation}` in it stands for the number of the conversation.
    pub target: String,
    /// Sends with an `Idempotency-Key` and repeats until it is answered 202.
    pub insists: bool,
}

/// One request and what came of it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub at: Instant,
    pub took: Duration,
    /// None without an answer.
    pub status: Option<u16>,
}

/// Load under way.
pub struct Load {
    accepted: Arc<Mutex<Vec<Accepted>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    count: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
    begin: Instant,
}

impl Load {
    /// Begins to send. Message `i` of conversation `c` is due at its place in an even schedule; what is late goes at once.
    pub fn start(plan: &Plan, api: &Api) -> Self {
        Self::start_on(plan, std::slice::from_ref(api))
    }

    /// As `start`; the conversations take turns in choosing one of `apis`.
    pub fn start_on(plan: &Plan, apis: &[Api]) -> Self {
        let accepted = Arc::<Mutex<Vec<Accepted>>>::default();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let count = Arc::<AtomicUsize>::default();
        let begin = Instant::now();
        let mut tasks = JoinSet::new();
        for conversation in 0..plan.conversations {
            let (plan, api) = (plan.clone(), apis[conversation % apis.len()].clone());
            let (accepted, count) = (Arc::clone(&accepted), Arc::clone(&count));
            let asked = Arc::clone(&asked);
            tasks.spawn(async move {
                for number in (conversation..plan.messages).step_by(plan.conversations) {
                    let due = begin + Duration::from_secs_f64(number as f64 / plan.per_second);
                    tokio::time::sleep_until(due.into()).await;
                    if let Some(id) = send(&plan, &api, &asked, conversation, number).await {
                        let conversation = format!("{}-{conversation}", plan.name);
                        accepted.lock().expect("no panic").push(Accepted { message_id: id, conversation });
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        Self { accepted, asked, count, tasks, begin }
    }

    /// Answered 202 so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Every request so far, by its answer's time.
    pub fn asked(&self) -> Arc<Mutex<Vec<Asked>>> {
        Arc::clone(&self.asked)
    }

    /// Waits for the end of the load. What was accepted, within a conversation in the order of the 202s, and the rate.
    pub async fn finish(mut self, limit: Duration) -> (Vec<Accepted>, f64) {
        let all = async { while self.tasks.join_next().await.is_some_and(|ended| ended.is_ok()) {} };
        let over = tokio::time::timeout(limit, all).await;
        assert!(over.is_ok(), "the load did not end within {limit:?}: {} accepted", self.count());
        let rate = self.count() as f64 / self.begin.elapsed().as_secs_f64();
        let accepted = std::mem::take(&mut *self.accepted.lock().expect("no panic"));
        (accepted, rate)
    }
}

/// Sends one message; its id once it is answered 202.
async fn send(plan: &Plan, api: &Api, asked: &Mutex<Vec<Asked>>, conversation: usize, number: usize) -> Option<String> {
    let target = plan.target.replace("{conversation}", &conversation.to_string());
    let body = message(&target, &format!("{}-{conversation}", plan.name), &format!("{number}"));
    let key = format!("{}-{number}", plan.name);
    loop {
        let at = Instant::now();
        let answer =
            if plan.insists { api.post_keyed(&body, &key).await } else { api.post("/v1/messages", &body).await };
        let status = answer.as_ref().ok().map(|answer| answer.status);
        asked.lock().expect("no panic").push(Asked { at, took: at.elapsed(), status });
        match answer {
            Ok(answer) if answer.status == 202 => return answer.json()["message_id"].as_str().map(str::to_owned),
            Ok(answer) if answer.status != 503 => panic!("refused: {} {}", answer.status, answer.text),
            _ if !plan.insists => return None,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
