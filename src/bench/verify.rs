//! Asks the API what became of the messages.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use chat4all_proto::MessageId;
use chat4all_proto::http::ClusterView;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::{Connection, Endpoint};
use super::{LOOK_INTERVAL, STALL_MAX};
use crate::cli::Failure;

/// The topics that every message passes.
const TOPICS: [&str; 2] = ["messages", "status-updates"];
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection for questions.
pub struct Observer {
    endpoint: Endpoint,
}

/// As much of a listing as is needed here.
#[derive(Deserialize)]
struct Page {
    messages: Vec<Listed>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    message_id: MessageId,
    status: String,
}

impl Observer {
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// A server cuts off who connects long before asking.
    async fn connect(&self) -> Result<Connection, Failure> {
        self.endpoint.connect().await.map_err(unreachable)
    }

    /// Waits until everything on the way is worked off, outbound and parked only of `channels`. False if it is not getting less.
    pub async fn await_no_lag(&self, channels: &[&str]) -> Result<bool, Failure> {
        let of_channel = |channel: &&str| [format!("{channel}-outbound"), format!("{channel}-parked")];
        let of_channels: Vec<String> = channels.iter().flat_map(of_channel).collect();
        let ours = |topic: &str| TOPICS.contains(&topic) || of_channels.iter().any(|name| name == topic);
        let mut api = self.connect().await?;
        let mut least = (u64::MAX, Instant::now());
        loop {
            let cluster: ClusterView = get(&mut api, "/v1/cluster").await?;
            let partitions = cluster.groups.iter().flat_map(|group| &group.partitions);
            let lag = partitions.filter(|partition| ours(&partition.topic)).map(|partition| partition.lag).sum();
            if lag == 0 {
                return Ok(true);
            }
            if lag < least.0 {
                least = (lag, Instant::now());
            }
            if least.1.elapsed() > STALL_MAX {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Those of `open` that do not have a status in the status store. It has had its time: what is missing now counts.
    pub async fn without(
        &self,
        status: &str,
        channel: &str,
        mut open: HashSet<MessageId>,
    ) -> Result<HashSet<MessageId>, Failure> {
        let mut api = self.connect().await?;
        let first = format!("/v1/messages?status={status}&channel={channel}&limit=200");
        let mut path = first.clone();
        loop {
            let page: Page = get(&mut api, &path).await?;
            for message in &page.messages {
                if message.status == status {
                    open.remove(&message.message_id);
                }
            }
            match page.next_cursor {
                Some(cursor) if !open.is_empty() => path = format!("{first}&cursor={}", percent_encode(&cursor)),
                _ => return Ok(open),
            }
        }
    }
}

/// The processes of the cluster that live.
pub async fn pids(endpoint: &Endpoint) -> Result<Vec<u32>, Failure> {
    let mut api = endpoint.connect().await.map_err(unreachable)?;
    let cluster: ClusterView = get(&mut api, "/v1/cluster").await?;
    Ok(cluster.processes.iter().filter(|process| process.alive).map(|process| process.pid).collect())
}

/// Asks until there is an answer: a busy server may say 503 for a moment.
async fn get<T: DeserializeOwned>(api: &mut Connection, path: &str) -> Result<T, Failure> {
    let since = Instant::now();
    loop {
        let (status, body) = api.call("GET", path, "").await.map_err(unreachable)?;
        match status {
            200 => {
                return serde_json::from_slice(&body)
                    .map_err(|error| Failure::failed(format!("the answer to `GET {path}` cannot be read: {error}")));
            }
            503 if since.elapsed() < PATIENCE => tokio::time::sleep(LOOK_INTERVAL).await,
            _ => {
                let body = String::from_utf8_lossy(&body);
                return Err(Failure::failed(format!("`GET {path}` was answered `{status}`: {body}")));
            }
        }
    }
}

fn percent_encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn unreachable(error: io::Error) -> Failure {
    Failure::failed(format!("no answer from the API: {error}; is `chat4all serve` running?"))
}
