//! The poll thread of one membership: it polls at least every 100 ms whatever happens, obeys its handle, and hands on what
//! comes. It never waits for the one who reads the events: a hung reader stops the records, not the polls.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chat4all_proto::Topic;
use chat4all_storage::log::outgoing::{EVENTS_MAX, Outgoing};
use chat4all_storage::log::{Error, Event, Lease, Subscription};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, TopicPartitionList};
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use crate::commit::Committer;
use crate::consumer::{Handle, Membership, Phase, Request};
use crate::read::number;
use crate::rebalance::{Member, MemberConsumer};
use crate::shared::{KeepOpen, lock, start};
use crate::{client, cluster, metrics, read, record, watchdog};

/// Longest wait for a record: requests and events wait meanwhile.
const POLL: Duration = Duration::from_millis(20);
/// The reader is behind for so long: fetching stops altogether.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// While the reader is behind: between two attempts, and between two polls.
const BEHIND_PAUSE: Duration = Duration::from_millis(2);
const BEHIND_POLL: Duration = Duration::from_millis(90);
/// Records taken in one go before they are handed on and requests are looked at.
const BATCH_RECORDS_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Before trying again what failed.
const AGAIN: Duration = Duration::from_millis(200);

pub(crate) struct Poll {
    consumer: Arc<MemberConsumer>,
    me: Arc<Membership>,
    restarts: Vec<Lease>,
    again_at: Option<Instant>,
    behind_since: Option<Instant>,
    /// All is paused because the reader is behind.
    stopped: bool,
}

/// Becomes a member and starts its threads.
pub(crate) fn join(open: Arc<KeepOpen>, group: &str, topics: Vec<(String, Topic)>) -> Result<Subscription, Error> {
    let shared = &open.0;
    let (channel, events) = mpsc::channel(EVENTS_MAX);
    let me = Arc::new(Membership::new(shared.clone(), group, topics));
    let member = Member { me: me.clone(), events: Mutex::new(Outgoing::new(channel)), failed: Mutex::default() };
    let config = shared.options.member(&shared.process, &shared.group_name(group));
    let consumer: MemberConsumer = config.create_with_context(member).map_err(|error| client::failure(&error))?;
    let lead: Vec<&str> = me.topics.iter().take(1).map(|(name, _)| name.as_str()).collect();
    consumer.subscribe(&lead).map_err(|error| client::failure(&error))?;
    let poll = Poll {
        consumer: Arc::new(consumer),
        me: me.clone(),
        restarts: Vec::new(),
        again_at: None,
        behind_since: None,
        stopped: false,
    };
    let mut threads = lock(&shared.threads);
    threads.retain(|thread| !thread.is_finished());
    threads.push(start("log-poll", move || poll.run()));
    drop(threads);
    Ok(Subscription { consumer: Arc::new(Handle(me, open)), events })
}

impl Poll {
    fn run(mut self) {
        let committer = Committer::new(self.me.clone(), self.consumer.clone());
        let committer = start("log-commit", move || committer.run());
        let me = self.me.clone();
        let watchdog = start("log-watchdog", move || watchdog::run(&me));
        while !self.is_over() {
            self.obey();
            self.restart_what_failed();
            if self.hand_on() {
                self.fetch();
            }
        }
        self.end([committer, watchdog]);
    }

    fn member(&self) -> &Member {
        self.consumer.context()
    }

    fn is_over(&self) -> bool {
        self.me.shared.is_closing()
            || self.me.peek(|state| state.leave.is_some())
            || lock(&self.member().events).is_closed()
            || lock(&self.member().failed).is_some()
    }

    fn obey(&mut self) {
        for request in self.me.peek(|state| std::mem::take(&mut state.requests)) {
            match request {
                Request::Pause(lease) => self.set_paused(&lease, true),
                Request::Resume(lease) => self.set_paused(&lease, false),
                Request::Restart(lease) => self.restarts.push(lease),
                Request::Retake(lease) => self.retake(lease),
            }
        }
    }

    /// A reader that is behind is why nothing comes: then there is nothing to mend.
    fn retake(&mut self, lease: Lease) {
        if self.behind_since.is_some() || self.me.peek(|state| state.phase(&lease)) != Some(Phase::Held) {
            return;
        }
        let lost = self.me.with(|state| state.set_phase(lease.partition.partition, Phase::Restarting));
        lock(&self.member().events).push(Event::Lost(lost));
        self.restarts.push(lease);
    }

    /// Each change reaches librdkafka once: a pause throws away what was fetched ahead.
    fn set_paused(&self, lease: &Lease, paused: bool) {
        let changed = self.me.with(|state| {
            let owned = state.owned.get_mut(&lease.partition);
            owned.filter(|owned| owned.lease == *lease && owned.paused != paused).map(|owned| owned.paused = paused)
        });
        if changed.is_some() && !self.stopped {
            self.apply(paused, |owned| owned == lease);
        }
    }

    /// Pauses or resumes those of our partitions that `which` chooses.
    fn apply(&self, paused: bool, which: impl Fn(&Lease) -> bool) {
        let mut list = TopicPartitionList::new();
        self.me.with(|state| {
            for owned in state.owned.values().filter(|owned| which(&owned.lease)) {
                let at = &owned.lease.partition;
                list.add_partition(&self.me.shared.name(&at.topic), number(at.partition));
            }
        });
        let applied = if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        if let Err(error) = applied {
            warn!(group = &*self.me.group, %error, paused, "could not pause or resume partitions");
        }
    }

    fn restart_what_failed(&mut self) {
        if self.restarts.is_empty() || self.again_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.again_at = None;
        for lease in std::mem::take(&mut self.restarts) {
            if self.me.peek(|state| state.phase(&lease)) != Some(Phase::Restarting) {
                continue;
            }
            if let Err(error) = self.member().restart(&self.consumer, lease.partition.partition) {
                warn!(partition = %lease.partition, %error, "could not take a partition again, trying once more");
                self.restarts.push(lease);
                self.again_at = Some(Instant::now() + AGAIN);
            }
        }
    }

    /// False while the reader is behind; polls all the same.
    fn hand_on(&mut self) -> bool {
        let last_poll = Instant::now();
        while !lock(&self.member().events).flush() {
            let behind_since = *self.behind_since.get_or_insert_with(Instant::now);
            if !self.stopped && behind_since.elapsed() > BEHIND_MAX {
                self.stopped = true;
                self.apply(true, |_| true);
            }
            if last_poll.elapsed() > BEHIND_POLL || self.is_over() {
                self.poll(Duration::ZERO);
                return false;
            }
            std::thread::sleep(BEHIND_PAUSE);
        }
        self.behind_since = None;
        if std::mem::take(&mut self.stopped) {
            let paused: Vec<Lease> = self.me.with(|state| {
                state.owned.values().filter(|owned| owned.paused).map(|owned| owned.lease.clone()).collect()
            });
            self.apply(false, |lease| !paused.contains(lease));
        }
        true
    }

    /// Takes what is there, waiting a little for the first.
    fn fetch(&self) {
        let (mut patience, mut bytes) = (POLL, 0);
        for _ in 0..BATCH_RECORDS_MAX {
            match self.poll(patience) {
                Some(more) if bytes + more < BATCH_BYTES_MAX => bytes += more,
                _ => return,
            }
            patience = Duration::ZERO;
        }
    }

    /// Bytes of what came, `None` if nothing did.
    fn poll(&self, patience: Duration) -> Option<usize> {
        match self.consumer.poll(patience)? {
            Ok(message) => {
                self.take(&message);
                Some(message.payload_len())
            }
            Err(error) => {
                self.take_error(&error);
                Some(0)
            }
        }
    }

    /// Under the lease of now: rebalances happen between two records.
    fn take(&self, message: &BorrowedMessage<'_>) {
        let Some(partition) = self.member().partition(message.topic(), message.partition()) else { return };
        let offset = record::offset(message);
        let lease = self.me.peek(|state| {
            let owned = state.owned.get_mut(&partition)?;
            if owned.phase != Phase::Held || offset < owned.position {
                return None;
            }
            owned.position = offset + 1;
            Some(owned.lease.clone())
        });
        if let Some(lease) = lease {
            lock(&self.member().events).push_record(&lease, record::read(message));
        }
    }

    fn take_error(&self, error: &KafkaError) {
        match error {
            KafkaError::MessageConsumptionFatal(_) => self.member().fail(error.to_string()),
            KafkaError::MessageConsumption(Code::AutoOffsetReset) => self.repair(),
            KafkaError::MessageConsumption(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed) => {
                self.member().fail(error.to_string());
            }
            _ => debug!(group = &*self.me.group, %error, "polling"),
        }
    }

    /// The place of some partition is not on the log any more. librdkafka does not say which, and that one would be
    /// silent for good.
    fn repair(&self) {
        let positions: Vec<_> = self.me.with(|state| {
            let places = state.owned.iter();
            places.map(|(partition, owned)| (partition.clone(), owned.position, owned.paused)).collect()
        });
        for (partition, position, paused) in positions {
            let name = self.me.shared.name(&partition.topic);
            let repaired = read::bounds(&self.me.shared, &name, partition.partition).and_then(|(low, high)| {
                let target = position.clamp(low, high.max(low));
                if target == position {
                    return Ok(());
                }
                error!(%partition, position, start = low, end = high, "records were deleted before they were read");
                metrics::record_skipped(&partition.topic);
                self.me.with(|state| state.owned.get_mut(&partition).map(|owned| owned.position = target));
                let list = self.member().list([(&partition, target)]);
                let reassigned = list.and_then(|list| self.member().reassign(&self.consumer, &list, paused));
                reassigned.map_err(|error| client::failure(&error))
            });
            if let Err(error) = repaired {
                self.member().fail(format!("the place in `{partition}` is lost: {error}"));
            }
        }
    }

    /// Ends the membership and this thread. The consumer is closed here, where its callbacks may run.
    fn end(self, threads: [std::thread::JoinHandle<()>; 2]) {
        let mut reason = lock(&self.member().failed).take();
        if self.me.shared.is_closing() {
            reason = Some("the log was closed".into());
        }
        let (left, held) = self.me.with(|state| {
            let held: BTreeSet<u32> = state.owned.keys().map(|partition| partition.partition).collect();
            let left = state.leave.take();
            state.end();
            (left, held)
        });
        self.me.unconfirm();
        if !held.is_empty() {
            cluster::give_up(&self.me, &held.into_iter().collect::<Vec<_>>());
        }
        {
            let mut events = lock(&self.member().events);
            if let Some(reason) = reason {
                events.push(Event::Failed(reason));
            }
            events.flush();
        }
        threads.into_iter().for_each(|thread| drop(thread.join()));
        drop(self.consumer);
        drop(left);
    }
}
