//! `chat4all bench`: starts a server, a receiver and a load generator on this machine, measures the whole way, and
//! checks that nothing was lost, reordered or left without its status. It uses the public API only.

pub mod http;
pub mod load;
mod plan;
mod progress;
mod receiver;
pub mod report;
mod server;
mod usage;
pub mod verify;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_runtime::Shutdown;
use reqwest::Url;

use crate::cli::{Failure, say};
use load::Load;
use plan::{Pace, Plan};
use progress::Progress;
use receiver::Receiver;
use report::Report;
use server::Server;
use verify::Observer;

/// Without any progress for so long, waiting ends.
const STALL_MAX: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The channel of the messages that are measured, and of those that only wait.
const CHANNEL: &str = "bench";
const WAITING_CHANNEL: &str = "waiting";

/// Measures the whole way: accepted, delivered in order, recorded. Fails unless every message made it.
///
/// Starts a private server (all roles, embedded engines), a receiving server and a load generator, all on this
/// machine, and prints rates, latencies, memory and CPU. By default 64 connections send one message at a time, each
/// the next as soon as the last was accepted. Latencies begin when a message was meant to be sent.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Messages to send
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Connections that send. 64 unless given; 4 with --batch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Option<u32>,
    /// Send batches of this many messages instead of one by one
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch: Option<u32>,
    /// Send this many messages a second, whether or not the server keeps up
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Conversations that the messages belong to
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    conversations: u32,
    /// Length of each text
    #[arg(long, value_name = "SIZE", default_value = "1KiB")]
    size: bytesize::ByteSize,
    /// First let this many messages pile up behind a receiver that refuses them, then measure beside them
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "url")]
    waiting: u32,
    /// Folder for the private server's data, on the disk to be measured. A temporary one unless given
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    data: Option<PathBuf>,
    /// Measure a running API of this machine instead of a private server; CHAT4ALL_API_KEY holds its key
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// With --url: the webhook channel to send through. It must allow private targets
    #[arg(long, value_name = "NAME", default_value = "webhook", requires = "url")]
    channel: String,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  chat4all bench
  chat4all bench --batch 100 --messages 500000
  chat4all bench --rate 500 --messages 15000
  chat4all bench --waiting 100000
  chat4all bench --data /mnt/disk --json";

/// Text longer than this does not fit into a message.
const SIZE_MAX: u64 = 200 * 1024;

pub async fn run(args: Args) -> Result<(), Failure> {
    let size = args.size.as_u64();
    if size > SIZE_MAX {
        return Err(Failure::usage(format!("`--size {}` is too long: at most 200 KiB fit into a message", args.size)));
    }
    let pace = match (args.batch, args.rate) {
        (Some(messages), _) => Pace::Batches { messages },
        (None, Some(per_second)) => Pace::Open { per_second },
        (None, None) => Pace::Closed,
    };
    let connections = args.connections.unwrap_or(if args.batch.is_some() { 4 } else { 64 });
    let plan = Plan::new(args.messages, connections, args.conversations, size as usize, pace);

    let receiver = Receiver::start(plan.clone()).map_err(|error| Failure::failed(format!("receiver: {error}")))?;
    let server = match &args.url {
        Some(url) => Server::running(url, args.channel.clone()).await?,
        None => Server::start(args.data.as_deref()).await?,
    };
    let interrupted = Shutdown::new();
    interrupted.listen().map_err(Failure::failed)?;
    let outcome = tokio::select! {
        outcome = measure(&args, &plan, &receiver, &server) => outcome,
        () = interrupted.requested() => Err(Failure::failed("interrupted")),
    };
    let report = match (outcome, server.stop().await) {
        (Ok(report), Ok(())) => report,
        (Err(failure), Ok(())) | (Ok(_), Err(failure)) => return Err(failure),
        (Err(failure), Err(ended)) => return Err(Failure::failed(format!("{failure}\n{ended}"))),
    };
    say(if args.json { report.json() } else { report.table() })?;
    report.verdict().map_err(Failure::failed)
}

async fn measure(args: &Args, plan: &Plan, receiver: &Receiver, server: &Server) -> Result<Report, Failure> {
    let observer = Observer::new(server.endpoint().clone());
    if args.waiting > 0 {
        pile_up(args, receiver, server, &observer).await?;
    }
    let usage_before = usage::read(server.pids());
    let progress = Progress::new(plan.messages);
    let epoch = receiver.epoch();
    let started = Instant::now();
    let target = format!("{}:http://{}/inbox", server.channel(), receiver.addr());
    let load = Load::start(Arc::new(plan.clone()), server.endpoint().clone(), target, epoch);
    while !load.is_finished() {
        progress.show(load.accepted(), receiver.received());
        tokio::time::sleep(LOOK_INTERVAL * 5).await;
    }
    let sent = load.finish().await?;
    await_all(
        || receiver.received(),
        sent.samples.len() as u64,
        |received| {
            progress.show(sent.samples.len() as u64, received);
        },
    )
    .await;
    let recorded_in = observer.await_no_lag(&[server.channel()]).await?.then(|| started.elapsed());
    let usage = usage::read(server.pids()).since(&usage_before);
    progress.finish();
    let arrivals = receiver.arrivals();
    let accepted = sent.samples.iter().map(|sample| sample.id).collect();
    let without_status = observer.without("delivered", server.channel(), accepted).await?.len() as u64;
    Ok(Report::new(plan, args.waiting, sent, arrivals, started - epoch, recorded_in, usage, without_status))
}

/// Fills the log with messages that cannot be delivered, and waits until they have come as far as they can.
async fn pile_up(args: &Args, receiver: &Receiver, server: &Server, observer: &Observer) -> Result<(), Failure> {
    let pace = Pace::Batches { messages: 100 };
    let plan = Plan::new(args.waiting, 4, args.conversations, args.size.as_u64() as usize, pace);
    let progress = Progress::new(args.waiting);
    let target = format!("{WAITING_CHANNEL}:http://{}{}", receiver.addr(), receiver::REFUSING_PATH);
    let load = Load::start(Arc::new(plan), server.endpoint().clone(), target, receiver.epoch());
    while !load.is_finished() {
        progress.show_waiting(load.accepted());
        tokio::time::sleep(LOOK_INTERVAL * 5).await;
    }
    progress.finish();
    let sent = load.finish().await?;
    if let Some(first) = sent.first_refusal {
        return Err(Failure::failed(format!("{} waiting messages were not accepted: {first}", sent.refused)));
    }
    if observer.await_no_lag(&[]).await? {
        Ok(())
    } else {
        Err(Failure::failed("the waiting messages were not routed and recorded in time"))
    }
}

/// Returns when `count` has reached `wanted`, or has stood still for too long.
async fn await_all(count: impl Fn() -> u64, wanted: u64, mut show: impl FnMut(u64)) {
    let mut last = (count(), Instant::now());
    while last.0 < wanted && last.1.elapsed() < STALL_MAX {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = count();
        if now != last.0 {
            last = (now, Instant::now());
        }
        show(now);
    }
}
