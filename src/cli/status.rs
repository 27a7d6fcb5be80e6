//! `chat4all status`

use chat4all_proto::http::ClusterView;

use super::client::ApiArgs;
use super::output::table;
use super::{Failure, say};

/// Shows every process with its roles and addresses, who works on which partition, and what waits.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  chat4all status\n  chat4all status --json | jq '.groups[].partitions[] | select(.lag > 0)'"
)]
pub struct Args {
    /// As the API answers it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

pub async fn run(args: Args) -> Result<(), Failure> {
    let cluster: ClusterView = args.api.connect()?.get(&["v1", "cluster"], &[]).await?;
    if args.json {
        return say(serde_json::to_string_pretty(&cluster).expect("the API's bodies have text keys only"));
    }
    say(describe(&cluster))
}

fn describe(cluster: &ClusterView) -> String {
    let mut rows = vec![["PROCESS", "PID", "STATE", "ROLES", "ADDRESSES", "SINCE"].map(str::to_owned).to_vec()];
    for process in &cluster.processes {
        let state = if process.alive { "alive" } else { "gone" };
        rows.push(vec![
            process.process.clone(),
            process.pid.to_string(),
            state.to_owned(),
            process.roles.join(","),
            if process.listens.is_empty() { "-".to_owned() } else { process.listens.join(",") },
            process.started_at.to_string(),
        ]);
    }
    let mut text = table(&rows);
    let mut rows =
        vec![["GROUP", "TOPIC", "PARTITION", "HOLDER", "EPOCH", "COMMITTED", "WAITING"].map(str::to_owned).to_vec()];
    for group in &cluster.groups {
        for partition in &group.partitions {
            rows.push(vec![
                group.group.clone(),
                partition.topic.clone(),
                partition.partition.to_string(),
                partition.holder.clone().unwrap_or_else(|| "nobody".to_owned()),
                partition.epoch.to_string(),
                partition.committed.to_string(),
                partition.lag.to_string(),
            ]);
        }
    }
    text.push_str("\n\n");
    text.push_str(&table(&rows));
    text
}
