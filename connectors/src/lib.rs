//! Connectors: one consumer a channel, one [`partition_lanes::PartitionLanes`] a partition, one [`channel::Channel`] an
//! arbiter that calls the provider. What happens to a delivery is decided in the engine (`chat4all-engine`), what a
//! provider's answer means in `chat4all-channels`; here is only what carries that out.

pub mod channel;
mod complaints;
pub mod http;
pub mod messages;
pub mod metrics;
mod operator;
mod outbox;
pub mod partition_lanes;
mod recall;
pub mod removed;
mod unfinished;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Actor, ArbiterHandle};
use chat4all_channels::Channel as Provider;
use chat4all_engine::{Gate, Load, Policy, breaker, gate, retry};
use chat4all_proto::{ChannelName, Topic};
use chat4all_runtime::supervisor::{self, Handle};
use chat4all_runtime::worker::{self, Consumer, Factory, InOrder, Limits};
use chat4all_runtime::{Control, Shutdown};
use chat4all_storage::Log;
use tokio::sync::{Semaphore, watch};

use crate::channel::Channel;
use crate::http::Client;
use crate::metrics::GateSeries;
use crate::partition_lanes::{PartitionLanes, Shared};
use crate::removed::{PartitionRemoved, Removed};

/// One channel, as configured.
#[derive(Clone)]
pub struct Settings {
    pub name: ChannelName,
    pub provider: Arc<dyn Provider>,
    pub http: http::Options,
    /// Most calls of the provider at a time, in this process.
    pub in_flight_max: u32,
    /// Whether an attempt whose answer was lost is made again.
    pub resend_ambiguous: bool,
    pub retry: retry::Policy,
    pub breaker: breaker::Policy,
    pub rates: gate::Limits,
    /// Of the channel's topics.
    pub partitions: u32,
    /// Of each partition in memory.
    pub limits: Limits,
    pub commit_interval: Duration,
    /// How long a delivery is known as seen, at most: less than an idempotency key is kept.
    pub repeats_kept: Duration,
    /// What operators want. It was read before the channel is started.
    pub control: watch::Receiver<Arc<Control>>,
}

/// The consumer group that works a channel's topics.
pub fn group(channel: &ChannelName) -> String {
    format!("connectors-{channel}")
}

/// The channel whose topics a group works, if it is one of ours.
pub fn channel_of_group(group: &str) -> Option<ChannelName> {
    group.strip_prefix("connectors-")?.parse().ok()
}

/// Starts a channel's actors: the consumer on the current arbiter, partitions and callers spread over `arbiters` (at
/// least one). Fails if the HTTP client cannot be made.
pub fn start(
    settings: &Settings,
    log: &Arc<dyn Log>,
    arbiters: &[ArbiterHandle],
    shutdown: &Shutdown,
) -> Result<Handle<Consumer<PartitionLanes>>, http::ClientError> {
    let callers = arbiters
        .iter()
        .map(|arbiter| start_caller(settings, arbiter.clone(), shutdown))
        .collect::<Result<Vec<_>, _>>()?;
    let slots_max = settings.in_flight_max as usize;
    let shared = Arc::new(Shared {
        name: settings.name.clone(),
        gate_series: GateSeries::of(&settings.name),
        gate: Mutex::new(Gate::new(gate::Policy {
            breaker: settings.breaker.clone(),
            limits: settings.rates.clone(),
            slots: slots_max,
            partitions: settings.partitions,
        })),
        slots: Arc::new(Semaphore::new(slots_max)),
        slots_max,
        commit_interval: settings.commit_interval,
    });
    operator::obey(Arc::clone(&shared), settings.control.clone(), Arc::clone(log), shutdown.clone());
    let topic = Topic::Outbound(settings.name.clone());
    let policy = Policy {
        retry: settings.retry.clone(),
        accepted: settings.provider.accepted_status(),
        has_receipts: settings.provider.highest_status() > settings.provider.accepted_status(),
        resend_ambiguous: settings.resend_ambiguous,
        topic: topic.to_string(),
        partition: 0,
        repeats_kept: settings.repeats_kept,
        destination: settings.provider.destination(),
        crowded: Load { records: settings.limits.records_max / 2, bytes: settings.limits.bytes_max / 2 },
    };
    let arbiters = arbiters.to_vec();
    let factory: Factory<PartitionLanes> = Arc::new(move |partition| {
        let number = partition.number();
        let place = number as usize % arbiters.len();
        let (shared, channel) = (Arc::clone(&shared), callers[place].clone());
        let policy = Policy { partition: number, ..policy.clone() };
        PartitionLanes::start_in_arbiter(&arbiters[place], move |_| {
            PartitionLanes::new(shared, partition, policy, channel)
        })
    });
    let consumer = worker::Settings {
        group: group(&settings.name),
        topics: vec![topic, Topic::Parked(settings.name.clone())],
        limits: settings.limits,
    };
    Ok(worker::start(log, consumer, factory, shutdown))
}

/// Starts what works off the topics of a channel that is no longer configured, on the current arbiter.
pub fn start_removed(
    channel: &ChannelName,
    limits: Limits,
    commit_interval: Duration,
    log: &Arc<dyn Log>,
    shutdown: &Shutdown,
) -> Handle<Consumer<PartitionRemoved>> {
    let factory: Factory<PartitionRemoved> =
        Arc::new(move |partition| InOrder::new(Removed, partition, commit_interval).start());
    let topics = vec![Topic::Outbound(channel.clone()), Topic::Parked(channel.clone())];
    worker::start(log, worker::Settings { group: group(channel), topics, limits }, factory, shutdown)
}

fn start_caller(
    settings: &Settings,
    arbiter: ArbiterHandle,
    shutdown: &Shutdown,
) -> Result<Handle<Channel>, http::ClientError> {
    let provider = Arc::clone(&settings.provider);
    let client = Client::new(settings.http.clone())?;
    Ok(supervisor::supervise("channel", shutdown.clone(), move |alive| {
        let (provider, client) = (Arc::clone(&provider), client.clone());
        Channel::start_in_arbiter(&arbiter, move |_| Channel::new(provider, client, alive))
    }))
}
