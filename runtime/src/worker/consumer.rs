//! The actor that holds a group membership and hands its partitions' records to their workers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, MailboxError, ResponseActFuture, StreamHandler,
    WrapFuture,
};
use chat4all_proto::progress::FinishedSet;
use chat4all_proto::{Topic, TopicPartition};
use chat4all_storage::log::{Assignment, Consumer as LogConsumer, Event, Lease, Record, Subscription};
use chat4all_storage::{Log, crash_point};
use futures_util::stream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::inflow::{Inflow, Limits};
use super::messages::{Drain, Enqueue};
use super::{Factory, Partition, Source, Worker};
use crate::supervisor::{self, Alive, Restarts, Verdict};
use crate::{Shutdown, clock, metrics};

/// Longest wait for a partition's work in flight to end when the partition goes elsewhere. Longer than any attempt.
const DRAIN_MAX: Duration = Duration::from_secs(18);
/// Longest wait for the log when leaving it.
const LEAVE_MAX: Duration = Duration::from_secs(5);
const JOIN_PAUSE_FIRST: Duration = Duration::from_millis(100);
const JOIN_PAUSE_MAX: Duration = Duration::from_secs(5);
const LAG_INTERVAL: Duration = Duration::from_secs(5);

/// What to consume and how.
#[derive(Debug, Clone)]
pub struct Settings {
    pub group: String,
    /// The first one leads: partitions of the others go with those of its number.
    pub topics: Vec<Topic>,
    /// For each topic of each partition.
    pub limits: Limits,
}

/// Owns the membership of one process in one group, and the workers of the partitions it holds. Asks the log and the
/// workers; ends after [`Drain`], and begins anew when its membership fails. When it dies, its workers stop, since
/// their leases' tokens are cancelled with it, and its membership ends.
pub struct Consumer<W: Worker> {
    log: Arc<dyn Log>,
    settings: Settings,
    factory: Factory<W>,
    shutdown: Shutdown,
    membership: Option<Arc<dyn LogConsumer>>,
    /// By partition number.
    held: HashMap<u32, Held<W>>,
    restarts: HashMap<u32, Restarts>,
    draining: bool,
    _alive: Alive,
}

struct Held<W: Worker> {
    /// In the order of the worker's sources.
    sources: Vec<HeldSource>,
    addr: Addr<W>,
    /// Cancels what works under the lease when this is dropped.
    _gone: tokio_util::sync::DropGuard,
}

struct HeldSource {
    lease: Lease,
    inflow: Arc<Inflow>,
    _shown: metrics::Held,
}

impl HeldSource {
    fn new(group: &str, source: &Source) -> Self {
        let lease = source.lease.clone();
        Self { inflow: Arc::clone(&source.inflow), _shown: metrics::Held::new(group, &lease), lease }
    }
}

impl<W: Worker> Held<W> {
    fn source(&self, lease: &Lease) -> Option<usize> {
        self.sources.iter().position(|held| held.lease == *lease)
    }
}

impl<W: Worker> Consumer<W> {
    pub fn new(log: Arc<dyn Log>, settings: Settings, factory: Factory<W>, shutdown: Shutdown, alive: Alive) -> Self {
        Self {
            log,
            settings,
            factory,
            shutdown,
            membership: None,
            held: HashMap::new(),
            restarts: HashMap::new(),
            draining: false,
            _alive: alive,
        }
    }

    fn join(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        if self.draining {
            return;
        }
        let (log, settings) = (Arc::clone(&self.log), self.settings.clone());
        let joining = async move { log.subscribe(&settings.group, &settings.topics).await };
        ctx.spawn(joining.into_actor(self).map(move |joined, consumer, ctx| match joined {
            Ok(subscription) => consumer.joined(subscription, ctx),
            Err(error) => {
                warn!(group = consumer.settings.group, %error, "could not join the group, trying again");
                ctx.run_later(pause, move |consumer, ctx| consumer.join((pause * 2).min(JOIN_PAUSE_MAX), ctx));
            }
        }));
    }

    fn joined(&mut self, Subscription { consumer, mut events }: Subscription, ctx: &mut Context<Self>) {
        if self.draining {
            return; // Dropping the membership ends it.
        }
        self.membership = Some(consumer);
        ctx.add_stream(stream::poll_fn(move |cx| events.poll_recv(cx)));
    }

    /// Starts a worker for each number.
    fn assigned(&mut self, assignments: Vec<Assignment>, ctx: &mut Context<Self>) {
        self.measure_catching_up(&assignments, ctx);
        let mut by_number: BTreeMap<u32, Vec<Assignment>> = BTreeMap::new();
        for assignment in assignments {
            by_number.entry(assignment.lease.partition.partition).or_default().push(assignment);
        }
        for (number, mut assignments) in by_number {
            let topics = &self.settings.topics;
            assignments.sort_by_key(|it| topics.iter().position(|topic| *topic == it.lease.partition.topic));
            self.start(number, assignments, ctx);
        }
    }

    /// Finds out how much waits in what was just assigned, once for each topic.
    fn measure_catching_up(&self, assignments: &[Assignment], ctx: &mut Context<Self>) {
        let mut starts: HashMap<Topic, Vec<(Lease, u64)>> = HashMap::new();
        for Assignment { lease, offset, .. } in assignments {
            starts.entry(lease.partition.topic.clone()).or_default().push((lease.clone(), *offset));
        }
        for (topic, starts) in starts {
            let log = Arc::clone(&self.log);
            let ends = async move { log.ends(&topic).await };
            ctx.spawn(ends.into_actor(self).map(move |ends, consumer, _| {
                // A log that is away now cannot be measured.
                let Ok(ends) = ends else { return };
                for (lease, offset) in starts {
                    let (Some(held), Some(end)) = (consumer.held(&lease), ends.get(lease.partition.partition as usize))
                    else {
                        continue;
                    };
                    let Some(source) = held.source(&lease) else { continue };
                    held.sources[source].inflow.catching_up(end.saturating_sub(offset));
                }
            }));
        }
    }

    fn start(&mut self, number: u32, assignments: Vec<Assignment>, ctx: &mut Context<Self>) {
        let Some(membership) = self.membership.clone() else { return };
        let sources: Vec<Source> = assignments.into_iter().map(|it| self.source(it, &membership)).collect();
        let gone = CancellationToken::new();
        let (alive, pulse) = supervisor::pulse();
        let held = sources.iter().map(|source| HeldSource::new(&self.settings.group, source)).collect();
        let lead = sources[0].lease.clone();
        let addr = (self.factory)(Partition { sources, consumer: membership, gone: gone.clone(), alive });
        self.held.insert(number, Held { sources: held, addr, _gone: gone.drop_guard() });
        let death = async move { pulse.stopped().await };
        ctx.spawn(death.into_actor(self).map(move |(), consumer, ctx| consumer.died(lead, ctx)));
    }

    fn source(&self, assignment: Assignment, membership: &Arc<dyn LogConsumer>) -> Source {
        let Assignment { lease, offset, metadata } = assignment;
        let finished = FinishedSet::decode(&metadata, offset).unwrap_or_else(|error| {
            warn!(%error, partition = %lease.partition, "what an earlier holder finished above its watermark comes again");
            FinishedSet::default()
        });
        self.tell_assigned(&lease, offset, &finished);
        let inflow =
            Arc::new(Inflow::new(&self.settings.group, Arc::clone(membership), lease.clone(), self.settings.limits));
        Source { lease, offset, finished, inflow }
    }

    /// Where a takeover starts is what explains every repeat after it. A first assignment starts from nothing.
    fn tell_assigned(&self, lease: &Lease, watermark: u64, finished: &FinishedSet) {
        let (group, topic, partition) = (&self.settings.group, &lease.partition.topic, lease.partition.partition);
        let (epoch, finished) = (lease.epoch, ranges(finished));
        if epoch > 1 {
            info!(group, %topic, partition, epoch, watermark, finished, "partition assigned");
        } else {
            debug!(group, %topic, partition, epoch, watermark, finished, "partition assigned");
        }
    }

    /// A worker ended, whose first source's lease this is. If that is still ours, it died of a panic.
    fn died(&mut self, lease: Lease, ctx: &mut Context<Self>) {
        if self.held(&lease).is_none() {
            return;
        }
        self.forget(&lease);
        let verdict = self.restarts.entry(lease.partition.partition).or_default().died(clock::instant());
        match verdict {
            Verdict::GiveUp => {
                self.shutdown.fail(format!("the worker of {} died again and again", lease.partition));
            }
            Verdict::RestartAfter(pause) => {
                let partition = &lease.partition;
                error!(actor = W::NAME, %partition, pause_ms = pause.as_millis(), "a worker died of a panic and is restarted");
                metrics::record_restart(W::NAME);
                ctx.run_later(pause, move |consumer, _| {
                    if let Some(membership) = &consumer.membership {
                        membership.restart(&lease);
                    }
                });
            }
        }
    }

    fn held(&self, lease: &Lease) -> Option<&Held<W>> {
        self.held.get(&lease.partition.partition).filter(|held| held.source(lease).is_some())
    }

    /// Lets go of a lease and those that were assigned with it.
    fn forget(&mut self, lease: &Lease) {
        if self.held(lease).is_some() {
            self.held.remove(&lease.partition.partition);
        }
    }

    fn hand_over(&mut self, lease: &Lease, records: Vec<Arc<Record>>, ctx: &mut Context<Self>) {
        let Some(held) = self.held(lease) else { return };
        let Some(source) = held.source(lease) else { return };
        held.sources[source].inflow.arrived(&records);
        // Awaited before the next event, so that batches keep their order. A dead worker is noticed by its pulse.
        ctx.wait(
            held.addr.send(Enqueue { source, records }).into_actor(self).map(|_: Result<(), MailboxError>, _, _| ()),
        );
    }

    /// Drains each partition once and gives it to its next holder. The others flow on meanwhile.
    fn revoke_all(&mut self, leases: Vec<Lease>, ctx: &mut Context<Self>) {
        let by_number: BTreeMap<u32, Lease> =
            leases.into_iter().map(|lease| (lease.partition.partition, lease)).collect();
        by_number.into_values().for_each(|lease| self.revoke(lease, ctx));
    }

    /// One lease stands for those that were assigned with it.
    fn revoke(&mut self, lease: Lease, ctx: &mut Context<Self>) {
        let Some(membership) = self.membership.clone() else { return };
        crash_point("runtime::before-drain");
        let drained = self.held(&lease).map(|held| drain(held.addr.clone(), lease.partition.clone()));
        let drained = async move {
            if let Some(drained) = drained {
                drained.await;
            }
        };
        ctx.spawn(drained.into_actor(self).map(move |(), consumer, _| {
            consumer.forget(&lease);
            debug!(partition = %lease.partition, epoch = lease.epoch, "partition released");
            crash_point("runtime::before-release");
            membership.release(&lease);
            crash_point("runtime::after-release");
        }));
    }

    fn rejoin(&mut self, reason: &str, ctx: &mut Context<Self>) {
        self.held.clear();
        if self.membership.take().is_some() && !self.draining {
            warn!(group = self.settings.group, reason, "the membership ended, joining again");
            ctx.run_later(JOIN_PAUSE_FIRST, |consumer, ctx| consumer.join(JOIN_PAUSE_FIRST, ctx));
        }
    }

    fn report_lag(&mut self, ctx: &mut Context<Self>) {
        let (log, settings) = (Arc::clone(&self.log), self.settings.clone());
        let lags = async move {
            let mut lags = Vec::new();
            for topic in &settings.topics {
                let ends = log.ends(topic).await?;
                let committed = log.committed(&settings.group, topic).await?;
                let lag = ends.into_iter().zip(committed).map(|(end, committed)| end.saturating_sub(committed));
                lags.extend((0..).zip(lag).map(|(n, lag)| (TopicPartition::new(topic.clone(), n), lag)));
            }
            Ok::<_, chat4all_storage::log::Error>(lags)
        };
        ctx.spawn(lags.into_actor(self).map(|lags, consumer, _| {
            // While the log cannot tell, the series keep their last values.
            for (partition, lag) in lags.unwrap_or_default() {
                if consumer.held.contains_key(&partition.partition) {
                    metrics::record_lag(&consumer.settings.group, &partition, lag);
                }
            }
        }));
    }
}

/// Waits until a worker has drained, but not for ever.
async fn drain<W: Worker>(addr: Addr<W>, partition: TopicPartition) {
    match tokio::time::timeout(DRAIN_MAX, addr.send(Drain)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%partition, %error, "the worker ended before it had drained"),
        Err(_) => warn!(%partition, "the drain took too long; what is in flight will be done again elsewhere"),
    }
}

impl<W: Worker> Actor for Consumer<W> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.join(JOIN_PAUSE_FIRST, ctx);
        ctx.run_interval(LAG_INTERVAL, Self::report_lag);
    }
}

impl<W: Worker> StreamHandler<Event> for Consumer<W> {
    fn handle(&mut self, event: Event, ctx: &mut Self::Context) {
        fail::fail_point!("runtime::consumer");
        match event {
            Event::Assigned(assignments) => self.assigned(assignments, ctx),
            Event::Records { lease, records } => self.hand_over(&lease, records, ctx),
            Event::Revoking(leases) => self.revoke_all(leases, ctx),
            Event::Lost(leases) => {
                for lease in leases {
                    warn!(partition = %lease.partition, epoch = lease.epoch, "partition lost: its new holder does the rest");
                    self.forget(&lease);
                }
            }
            Event::Failed(reason) => self.rejoin(&reason, ctx),
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        self.rejoin("the log ended it", ctx);
    }
}

impl<W: Worker> Handler<Drain> for Consumer<W> {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let drains: Vec<_> =
            self.held.values().map(|held| drain(held.addr.clone(), held.sources[0].lease.partition.clone())).collect();
        let membership = self.membership.take();
        let ending = async move {
            futures_util::future::join_all(drains).await;
            if let Some(membership) = membership
                && tokio::time::timeout(LEAVE_MAX, membership.leave()).await.is_err()
            {
                warn!("the log did not take our leave; the others will notice that we are gone");
            }
        };
        Box::pin(ending.into_actor(self).map(|(), consumer, _| consumer.held.clear()))
    }
}

/// `12,14-20`: for people, and for the test that holds every duplicate against what a takeover knew.
fn ranges(finished: &FinishedSet) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for offset in finished.iter() {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == offset => *last = offset,
            _ => runs.push((offset, offset)),
        }
    }
    let texts: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_offsets_are_logged_as_ranges() {
        assert_eq!(ranges(&FinishedSet::from_offsets([3, 5, 6, 7, 9])), "3,5-7,9");
        assert_eq!(ranges(&FinishedSet::default()), "");
    }
}
