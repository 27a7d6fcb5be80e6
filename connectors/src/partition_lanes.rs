//! The actor that works one partition of a channel's outbound topic: it feeds the engine and carries its commands out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix::fut::wrap_future;
use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, SpawnHandle, StreamHandler, WrapFuture,
};
use chat4all_engine::retry::Unit;
use chat4all_engine::{
    Arrival, At, Attempt, Carried, Command, Commits, Engine, Event, Finished, Gate, Now, Policy, Source,
};
use chat4all_proto::{ChannelName, Parked};
use chat4all_runtime::clock;
use chat4all_runtime::supervisor::Handle;
use chat4all_runtime::trace;
use chat4all_runtime::worker::in_order::stop_when_gone;
use chat4all_runtime::worker::{Drain, Enqueue, Partition, Worker, size_of_record};
use chat4all_storage::crash_point;
use chat4all_storage::log::{Commit, Record};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tracing::{error, warn};

use crate::channel::Channel;
use crate::complaints::Complaints;
use crate::messages::{Deliver, Pending, Settled};
use crate::metrics::{GateSeries, Series};
use crate::outbox::{Flushed, Outbox};
use crate::recall::{new_engine, recall};
use crate::unfinished::{Unfinished, traceparent};

/// Pause before what the log refused for now is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Outcomes that are taken up at a time.
const SETTLED_MAX: usize = 256;

/// What the partitions of one channel share.
pub struct Shared {
    pub name: ChannelName,
    pub gate: Mutex<Gate>,
    pub gate_series: GateSeries,
    pub slots: Arc<Semaphore>,
    pub slots_max: usize,
    pub commit_interval: Duration,
}

impl Shared {
    /// Never held over I/O.
    pub fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Owns one partition's engine, timers and unpublished events. Asks the channel's actor on its arbiter for attempts and
/// the log for appends and commits. Ends when its lease is gone, and aborts its attempts then.
pub struct PartitionLanes {
    shared: Arc<Shared>,
    partition: Partition,
    policy: Policy,
    engine: Engine,
    channel: Handle<Channel>,
    settled: mpsc::Sender<Settled>,
    settled_receiver: Option<mpsc::Receiver<Settled>>,
    outbox: Outbox,
    unfinished: HashMap<At, Unfinished>,
    commands: Vec<Command>,
    committed: Commits,
    commit_due: bool,
    commit_timer: Option<SpawnHandle>,
    awaiting_slot: bool,
    looking_again: bool,
    complaints: Complaints,
    wake: Option<(Instant, SpawnHandle)>,
    series: Series,
    suppressed: u64,
    draining: bool,
    idle: watch::Sender<bool>,
}

impl PartitionLanes {
    pub fn new(shared: Arc<Shared>, partition: Partition, policy: Policy, channel: Handle<Channel>) -> Self {
        let (settled, settled_receiver) = mpsc::channel(shared.slots_max);
        let engine = new_engine(&partition.sources, policy.clone());
        let committed = engine.commit();
        let outbox = Outbox::new(Arc::clone(&partition.consumer), partition.lead().lease.clone());
        shared.gate().join();
        let series = Series::of(&shared.name);
        Self {
            shared,
            partition,
            policy,
            engine,
            channel,
            settled,
            settled_receiver: Some(settled_receiver),
            outbox,
            unfinished: HashMap::new(),
            commands: Vec::new(),
            committed,
            commit_due: false,
            commit_timer: None,
            awaiting_slot: false,
            looking_again: false,
            complaints: Complaints::default(),
            wake: None,
            series,
            suppressed: 0,
            draining: false,
            idle: watch::Sender::new(false),
        }
    }

    fn feed(&mut self, event: Event, now: Now) {
        self.engine.handle(event, &mut self.shared.gate(), now, &mut self.commands);
    }

    /// Carries out what the engine has commanded since, and lets it start what can be started.
    fn go_on(&mut self, now: Now, spare: Option<OwnedSemaphorePermit>, ctx: &mut Context<Self>) {
        let slots = self.take_slots(spare, now, ctx);
        if let Some(slots) = &slots {
            self.feed(Event::Slots(slots.num_permits()), now);
        }
        self.carry_out(slots, ctx);
        self.flush(ctx);
        self.commit_later(ctx);
        self.arm(ctx);
        self.observe();
    }

    /// Takes a slot for each attempt that could start. Where there are too few, asks to be woken by the next one.
    fn take_slots(
        &mut self,
        spare: Option<OwnedSemaphorePermit>,
        now: Now,
        ctx: &mut Context<Self>,
    ) -> Option<OwnedSemaphorePermit> {
        let ready = self.engine.wanted(&mut self.shared.gate(), now.instant);
        if ready == 0 {
            return None;
        }
        if !self.partition.consumer.is_current() {
            self.look_again(ctx);
            return None;
        }
        let semaphore = &self.shared.slots;
        let wanted = ready.saturating_sub(spare.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let count = u32::try_from(wanted.min(semaphore.available_permits())).expect("slots are few");
        let more = if count == 0 { None } else { Arc::clone(semaphore).try_acquire_many_owned(count).ok() };
        let taken = match (spare, more) {
            (Some(mut spare), Some(more)) => {
                spare.merge(more);
                Some(spare)
            }
            (spare, more) => spare.or(more),
        };
        if taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) < ready {
            self.await_slot(ctx);
        }
        taken
    }

    fn await_slot(&mut self, ctx: &mut Context<Self>) {
        if self.awaiting_slot {
            return;
        }
        self.awaiting_slot = true;
        let slot = Arc::clone(&self.shared.slots).acquire_owned();
        ctx.spawn(slot.into_actor(self).map(|slot, lanes, ctx| {
            lanes.awaiting_slot = false;
            lanes.go_on(now(), slot.ok(), ctx);
        }));
    }

    /// While our membership is not confirmed somebody else may hold the partition: nothing starts.
    fn look_again(&mut self, ctx: &mut Context<Self>) {
        if !self.looking_again {
            self.looking_again = true;
            ctx.run_later(RETRY_PAUSE, |lanes, ctx| {
                lanes.looking_again = false;
                lanes.go_on(now(), None, ctx);
            });
        }
    }

    fn carry_out(&mut self, mut slots: Option<OwnedSemaphorePermit>, ctx: &mut Context<Self>) {
        let mut attempts = Vec::new();
        let mut finished = [(0, 0); 2];
        for command in std::mem::take(&mut self.commands) {
            self.series.record_command(&command);
            match command {
                Command::Start(attempt) => {
                    let slot = slots.as_mut().and_then(|slots| slots.split(1));
                    attempts.push(self.pending(attempt, slot.expect("the engine starts as many as it got slots")));
                }
                Command::Publish { at, mut event, dead_letter, ends } => {
                    let unfinished = self.traced(at);
                    let carried = unfinished.and_then(Unfinished::carried_on);
                    if let Some(letter) = &dead_letter {
                        let trace_id = unfinished.and_then(|it| Some(it.trace?.trace_id()));
                        self.complaints.about(letter, trace_id);
                    }
                    event.traceparent = carried.filter(|_| event.awaits_receipt);
                    self.outbox.publish(at, &event, dead_letter.as_deref(), traceparent(carried), ends);
                }
                Command::Park { at, parked } => {
                    let carried = self.traced(at).and_then(Unfinished::carried);
                    self.outbox.park(at, &self.shared.name, &parked, traceparent(carried));
                }
                Command::Finish { at } => {
                    let (records, bytes) = &mut finished[at.source as usize];
                    *records += 1;
                    *bytes += self.unfinished.remove(&at).map_or(0, |it| it.bytes);
                }
                Command::Hold(source, hold) => self.partition.sources[source as usize].inflow.hold(hold),
            }
        }
        for (source, (records, bytes)) in self.partition.sources.iter().zip(finished) {
            if records > 0 {
                source.inflow.finished(records, bytes);
            }
        }
        if !attempts.is_empty() {
            // A dead channel drops the attempts, and they settle themselves as abandoned.
            ctx.spawn(wrap_future::<_, Self>(self.channel.addr().send(Deliver { attempts })).map(|_, _, _| ()));
        }
    }

    /// `None` where tracing is off, at no cost.
    fn traced(&self, at: At) -> Option<&Unfinished> {
        trace::tracer().and_then(|_| self.unfinished.get(&at))
    }

    fn pending(&self, attempt: Attempt, slot: OwnedSemaphorePermit) -> Pending {
        let trace = self.traced(attempt.at).and_then(|it| it.trace);
        Pending::new(attempt, trace, self.partition.gone.clone(), slot, self.settled.clone())
    }

    /// Appends what is to be published, one batch at a time, in order.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        let Some(flush) = self.outbox.flush() else { return self.tell_if_idle() };
        ctx.spawn(flush.into_actor(self).map(|flushed, lanes, ctx| match lanes.outbox.flushed(flushed) {
            Flushed::Written(news) => {
                let now = now();
                for event in news {
                    lanes.feed(event, now);
                }
                lanes.go_on(now, None, ctx);
            }
            Flushed::Later(reason) => {
                warn!(partition = %lanes.partition.lead().lease.partition, reason, "statuses could not be appended, trying again");
                ctx.run_later(RETRY_PAUSE, |lanes, ctx| lanes.flush(ctx));
            }
            // Whoever holds the partition now does the rest; `gone` follows.
            Flushed::Fenced => lanes.abandon(),
        }));
    }

    fn commit_later(&mut self, ctx: &mut Context<Self>) {
        if self.commit_due {
            return;
        }
        self.commit_due = true;
        let wait = if self.draining { Duration::ZERO } else { self.shared.commit_interval };
        self.commit_timer = Some(ctx.run_later(wait, |lanes, ctx| {
            lanes.commit_timer = None;
            lanes.commit_due = false;
            lanes.commit(ctx);
        }));
    }

    fn commit(&mut self, ctx: &mut Context<Self>) {
        let commits = self.engine.commit();
        if self.commit_due || self.committed == commits {
            return self.tell_if_idle();
        }
        self.commit_due = true;
        let consumer = Arc::clone(&self.partition.consumer);
        // Both in one call where both have moved: a parked copy must not be finished before what it is a copy of.
        let changed =
            commits.iter().zip(&self.committed).zip(&self.partition.sources).filter(|((new, old), _)| new != old);
        let changed = changed
            .map(|(((offset, metadata), _), source)| Commit {
                lease: source.lease.clone(),
                offset: *offset,
                metadata: metadata.clone(),
            })
            .collect();
        let writing = async move {
            crash_point("connectors::before-commit");
            let written = consumer.commit(changed).await;
            crash_point("connectors::after-commit");
            (written, commits)
        };
        ctx.spawn(writing.into_actor(self).map(|(written, commits), lanes, ctx| {
            lanes.commit_due = false;
            match written {
                Ok(fenced) if fenced.is_empty() => {
                    lanes.committed = commits.clone();
                    let now = now();
                    lanes.feed(Event::Committed(commits), now);
                    lanes.go_on(now, None, ctx);
                }
                Ok(_) => return lanes.abandon(),
                Err(error) => {
                    warn!(partition = %lanes.partition.lead().lease.partition, %error, "a commit failed and is tried again");
                }
            }
            if lanes.engine.commit() == lanes.committed { lanes.tell_if_idle() } else { lanes.commit_later(ctx) }
        }));
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(next) = self.engine.next_wake() else { return };
        if self.wake.is_some_and(|(armed, _)| armed <= next) {
            return;
        }
        if let Some((_, armed)) = self.wake.take() {
            ctx.cancel_future(armed);
        }
        let wait = next.saturating_duration_since(clock::instant()).max(Duration::from_millis(1));
        let armed = ctx.run_later(wait, |lanes, ctx| {
            lanes.wake = None;
            let now = now();
            lanes.feed(Event::Tick, now);
            lanes.go_on(now, None, ctx);
        });
        self.wake = Some((next, armed));
    }

    fn observe(&mut self) {
        self.series.record_lanes([self.engine.ready(), self.engine.in_flight(), self.engine.waiting()]);
        let changes = {
            let mut gate = self.shared.gate();
            let changes = gate.take_changes();
            self.shared.gate_series.record(&gate, &changes);
            changes
        };
        changes.iter().for_each(|change| self.complaints.about_breaker(&self.shared.name, change));
        self.series.record_suppressed(self.engine.suppressed() - self.suppressed);
        self.suppressed = self.engine.suppressed();
    }

    fn tell_if_idle(&mut self) {
        if self.draining && self.engine.is_quiet() && self.outbox.is_empty() && self.engine.commit() == self.committed {
            self.idle.send_replace(true);
        }
    }

    fn abandon(&mut self) {
        self.feed(Event::Drain, now());
        self.idle.send_replace(true);
    }

    fn read(&mut self, source: Source, record: &Record) -> Arrival {
        let at = At { source, offset: record.offset };
        let bytes = size_of_record(record);
        let carried = match source {
            Source::Outbound => {
                serde_json::from_slice(&record.value).map(|delivery| Carried::Outbound(Arc::new(delivery)))
            }
            Source::Parked => serde_json::from_slice(&record.value).map(Carried::Parked),
        };
        let carried = carried.unwrap_or_else(|error| {
            let partition = &self.partition.sources[source as usize].lease.partition;
            error!(%partition, offset = record.offset, %error, "an unreadable record is passed over; it stays on the log");
            Carried::Unreadable
        });
        let message = match &carried {
            Carried::Outbound(delivery) | Carried::Parked(Parked { delivery, .. }) => Some(delivery.message_id),
            Carried::Unreadable => None,
        };
        let traced = message.filter(|_| trace::tracer().is_some());
        let trace = traced.map(|message| trace::parent(record.traceparent.as_deref(), message));
        self.unfinished.insert(at, Unfinished { bytes, trace, latest: None });
        Arrival { at, bytes, carried }
    }
}

impl Drop for PartitionLanes {
    fn drop(&mut self) {
        let mut gate = self.shared.gate();
        self.engine.abandon_all(&mut gate);
        gate.leave();
    }
}

fn now() -> Now {
    Now { instant: clock::instant(), wall: clock::now() }
}

impl Actor for PartitionLanes {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (consumer, gone) = (Arc::clone(&self.partition.consumer), self.partition.gone.clone());
        let (sources, policy) = (self.partition.sources.clone(), self.policy.clone());
        let recalled = async move {
            loop {
                let mut engine = new_engine(&sources, policy.clone());
                match recall(&*consumer, &sources, &mut engine).await {
                    _ if gone.is_cancelled() => return engine,
                    Ok(()) => return engine,
                    Err(error) => {
                        let partition = &sources[0].lease.partition;
                        warn!(%partition, %error, "reading back failed and is tried again");
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
            }
        };
        // Records wait in the mailbox meanwhile.
        ctx.wait(recalled.into_actor(self).map(|engine, lanes, _| lanes.engine = engine));
        stop_when_gone(self.partition.gone.clone(), ctx);
        let mut settled = self.settled_receiver.take().expect("an actor starts once");
        ctx.add_stream(stream::poll_fn(move |cx| {
            let mut batch = Vec::new();
            settled.poll_recv_many(cx, &mut batch, SETTLED_MAX).map(|count| (count > 0).then_some(batch))
        }));
    }
}

impl Worker for PartitionLanes {
    const NAME: &'static str = "partition_lanes";
}

impl Handler<Enqueue> for PartitionLanes {
    type Result = ();

    fn handle(&mut self, Enqueue { source, records }: Enqueue, ctx: &mut Self::Context) {
        fail::fail_point!("connectors::lanes");
        let now = now();
        let source = Source::ALL[source];
        if source == Source::Parked {
            crash_point("connectors::before-return");
        }
        for record in records {
            let arrival = self.read(source, &record);
            self.feed(Event::Arrived(arrival), now);
        }
        self.go_on(now, None, ctx);
        if source == Source::Parked {
            crash_point("connectors::after-return");
        }
    }
}

impl StreamHandler<Vec<Settled>> for PartitionLanes {
    fn handle(&mut self, batch: Vec<Settled>, ctx: &mut Self::Context) {
        let now = now();
        let mut free: Option<OwnedSemaphorePermit> = None;
        for Settled { at, result, slot } in batch {
            match (&mut free, slot) {
                (Some(free), Some(slot)) => free.merge(slot),
                (free, slot) => *free = slot.or(free.take()),
            }
            match result {
                Some(answered) => {
                    self.series.record_attempt(&answered.report, answered.took);
                    self.complaints.about_answer(&self.shared.name, &answered.report);
                    if answered.span.is_some()
                        && let Some(unfinished) = self.unfinished.get_mut(&at)
                    {
                        unfinished.latest = answered.span;
                    }
                    let jitter = Unit::new(fastrand::f64());
                    let finished = Finished { at, report: answered.report, took: answered.took, jitter };
                    self.feed(Event::Finished(finished), now);
                }
                None => {
                    self.series.record_resent("abandoned");
                    self.feed(Event::Abandoned { at }, now);
                }
            }
        }
        // Others may wait for a slot longer than our own next attempts do.
        drop(free);
        self.go_on(now, None, ctx);
    }
}

impl Handler<Drain> for PartitionLanes {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) -> Self::Result {
        self.draining = true;
        if let Some(timer) = self.commit_timer.take() {
            // The next one does not wait.
            ctx.cancel_future(timer);
            self.commit_due = false;
        }
        let mut idle = self.idle.subscribe();
        self.feed(Event::Drain, now());
        self.go_on(now(), None, ctx);
        Box::pin(async move {
            // An error means that the worker is gone: nothing is left to wait for.
            let _ = idle.wait_for(|idle| *idle).await;
        })
    }
}
