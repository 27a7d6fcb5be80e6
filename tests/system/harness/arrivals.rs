//! What arrived of a load, and what the api and the metrics say of it: for tests of outages.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::Api;
use super::load::Plan;
use super::receiver::{Received, Receiver, Reply};
use super::{quantile, until_async};

/// What Telegram answers to a message that it takes.
const TAKEN: &str = r#"{"ok":true,"result":{"message_id":1,"chat":{"id":1}}}"#;

/// A channel of `kind = "telegram"` whose Bot API is `provider`.
pub fn telegram(name: &str, provider: &Receiver, more: &str) -> String {
    telegram_answers(provider, Reply::Json(TAKEN));
    format!(
        "[channels.{name}]\nkind = \"telegram\"\nbase_url = \"http://{}\"\nbot_token = \"1:a\"\nambiguous = \"resend\"\n{more}\n",
        provider.address()
    )
}

/// What the Bot API answers from now on.
pub fn telegram_answers(provider: &Receiver, reply: Reply) {
    provider.usually("/bot1:a/sendMessage", reply);
}

pub fn telegram_takes(provider: &Receiver) {
    telegram_answers(provider, Reply::Json(TAKEN));
}

/// Webhook: the time from the 202's message being accepted to its first arrival, of those accepted within `[from, to)`.
pub fn latencies(requests: &[Received], from: SystemTime, to: SystemTime) -> Vec<Duration> {
    let mut firsts: HashMap<&str, Duration> = HashMap::new();
    for request in requests.iter().filter(|request| request.taken()) {
        let accepted = request.body["timestamp"].as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let accepted = SystemTime::from(accepted.expect("every webhook has a time"));
        if (from..to).contains(&accepted) {
            let took = request.at.duration_since(accepted).unwrap_or_default();
            firsts.entry(&request.webhook_id).or_insert(took);
        }
    }
    firsts.into_values().collect()
}

/// Their median and 99th percentile.
pub fn percentiles(latencies: &mut [Duration]) -> [Duration; 2] {
    [0.5, 0.99].map(|q| quantile(latencies, q))
}

/// The longest time within `[from, to)` in which nothing was taken.
pub fn longest_gap(requests: &[Received], from: SystemTime, to: SystemTime) -> Duration {
    let taken = requests.iter().filter(|request| request.taken()).map(|request| request.at);
    let mut times: Vec<SystemTime> = taken.filter(|at| (from..to).contains(at)).chain([from, to]).collect();
    times.sort_unstable();
    times.windows(2).map(|pair| pair[1].duration_since(pair[0]).expect("sorted")).max().expect("two at least")
}

/// Panics unless every message of the plan arrived, the first arrivals of a conversation in their order. Returns how many
/// arrived again.
pub fn must_be_whole(requests: &[Received], plan: &Plan) -> usize {
    // By conversation: the numbers in the order of their first arrival.
    let mut arrived: HashMap<String, Vec<usize>> = HashMap::new();
    let mut again = 0;
    for request in requests.iter().filter(|request| request.taken()) {
        let (conversation, text) = match &request.body["chat_id"] {
            Value::Null => (request.data("conversation_id").to_owned(), &request.body["data"]["content"]["text"]),
            chat => (chat.to_string(), &request.body["text"]),
        };
        let number = text.as_str().and_then(|text| text.parse().ok()).expect("a load's text is a number");
        let numbers = arrived.entry(conversation).or_default();
        if numbers.contains(&number) { again += 1 } else { numbers.push(number) }
    }
    let name = plan.name;
    let count: usize = arrived.values().map(Vec::len).sum();
    assert_eq!((arrived.len(), count), (plan.conversations, plan.messages), "{name}: conversations and messages");
    for (conversation, numbers) in &arrived {
        assert!(numbers.is_sorted(), "{name}: reordered in {conversation}: {numbers:?}");
    }
    again
}

/// The sum of a metric's series with this label, at a process's address.
pub async fn metric(ops: &Api, name: &str, label: &str) -> f64 {
    let text = ops.get("/metrics").await.expect("metrics").text;
    let series = text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// For each topic's partition: what is committed, and what lies behind it.
pub async fn commits(api: &Api) -> Option<HashMap<(String, u64), (u64, u64)>> {
    let view = api.get("/v1/cluster").await.ok().filter(|answer| answer.status == 200)?.json();
    let mut commits = HashMap::new();
    for partition in view["groups"].as_array()?.iter().filter_map(|group| group["partitions"].as_array()).flatten() {
        let key = (partition["topic"].as_str()?.to_owned(), partition["partition"].as_u64()?);
        commits.insert(key, (partition["committed"].as_u64()?, partition["lag"].as_u64()?));
    }
    Some(commits)
}

/// Waits until every group has worked off everything, and the api is ready.
pub async fn at_rest(api: &Api, limit: Duration) {
    until_async("lag 0 and ready", limit, || async {
        let lag: u64 = commits(api).await?.values().map(|(_, lag)| lag).sum();
        let ready = api.get("/health/ready").await.ok()?.status == 200;
        (ready && lag == 0).then_some(())
    })
    .await;
}

/// Panics if there is a dead letter or a message that failed.
pub async fn none_failed(api: &Api) {
    let letters = api.get("/v1/dead-letters").await.expect("an answer").json();
    assert_eq!(letters["dead_letters"].as_array().map(Vec::len), Some(0), "{letters:#}");
    for status in ["failed", "unknown", "expired"] {
        let found = api.get(&format!("/v1/messages?status={status}")).await.expect("an answer").json();
        assert_eq!(found["messages"].as_array().map(Vec::len), Some(0), "{status}: {found:#}");
    }
}
