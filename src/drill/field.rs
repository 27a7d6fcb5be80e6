//! Where a scenario is played: the load, the receiver, the clock, and what is seen of the stack from outside. Draws the
//! timeline while it goes on.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use chat4all_proto::MessageId;
use chat4all_proto::http::ClusterView;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{sleep, timeout};

use super::checker;
use super::load::{Asked, Load, Notes, Plan};
use super::paint::{Colour, Paint};
use super::receiver::Receiver;
use super::report::Found;
use super::timeline::{Breaker, Mark, Sample, Timeline, grouped};
use crate::bench::http::Endpoint;
use crate::bench::report::{Latencies, Percentiles};
use crate::bench::verify::Observer;
use crate::cli::Failure;

const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// Without any progress for so long, waiting ends: longer than any breaker stays open.
const STALL_MAX: Duration = Duration::from_secs(60);
/// After so long without progress it is asked whether anything is still on its way.
const LULL: Duration = Duration::from_secs(2);

/// A channel that is drilled.
#[derive(Debug, Clone)]
pub struct Channel {
    pub name: &'static str,
    /// The status that its messages end with.
    pub end: &'static str,
    /// Its address, with `{conversation}` in it.
    pub target: String,
}

/// What else the timeline shows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// The breaker of this channel.
    pub breaker_of: Option<&'static str>,
    pub unrecorded: bool,
}

pub struct Field {
    pub receiver: Receiver,
    plan: Plan,
    load: Load,
    epoch: Instant,
    endpoint: Endpoint,
    channels: Vec<Channel>,
    gauges: Gauges,
    timeline: RefCell<Timeline>,
    screen: Screen,
}

impl Field {
    /// Begins the load.
    pub fn open(
        screen: Screen,
        plan: Plan,
        channels: Vec<Channel>,
        receiver: Receiver,
        endpoint: &Endpoint,
        gauges: Gauges,
        epoch: Instant,
    ) -> Result<Self, Failure> {
        let load = Load::start(plan.clone(), endpoint.clone(), epoch).map_err(Failure::failed)?;
        let names = channels.iter().map(|channel| channel.name.to_owned()).collect();
        let timeline = RefCell::new(Timeline::new(names, plan.per_second));
        let endpoint = endpoint.clone();
        Ok(Self { receiver, plan, load, epoch, endpoint, channels, gauges, timeline, screen })
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Since the load began, as all times here.
    pub fn now(&self) -> Duration {
        self.since_load(self.epoch.elapsed())
    }

    fn since_load(&self, at: Duration) -> Duration {
        at.saturating_sub(self.load.begun())
    }

    pub async fn until(&self, at: Duration) {
        sleep(at.saturating_sub(self.now())).await;
    }

    pub fn mark(&self, mark: Mark, text: impl Into<String>) -> Duration {
        let at = self.now();
        self.mark_at(at, mark, text.into());
        at
    }

    /// Of something that happened a moment ago.
    pub fn mark_at(&self, at: Duration, mark: Mark, text: String) {
        self.screen.tell(&format!("{:>5.1} s  {text}", at.as_secs_f64()));
        self.timeline.borrow_mut().mark(at, mark, text);
    }

    pub fn accepted(&self) -> u64 {
        self.load.accepted()
    }

    pub fn refused(&self) -> u64 {
        self.load.refused()
    }

    /// Ends what is drawn and gives the timeline.
    pub fn close(self) -> Timeline {
        self.screen.clear();
        self.timeline.into_inner()
    }

    /// Looks at everything four times a second, until it is dropped.
    pub async fn watch(&self) {
        let mut tick = tokio::time::interval(SAMPLE_INTERVAL);
        loop {
            tick.tick().await;
            let (breaker, unrecorded) = (self.breaker().await, self.unrecorded().await);
            let sample = Sample {
                at: self.now(),
                accepted: self.load.accepted(),
                refused: self.load.refused(),
                taken: self.receiver.taken_by_each(),
                breaker,
                unrecorded,
            };
            let mut timeline = self.timeline.borrow_mut();
            timeline.add(sample);
            self.screen.show(&timeline);
        }
    }

    async fn breaker(&self) -> Option<Breaker> {
        let channel = self.gauges.breaker_of?;
        let metrics = self.ask("/metrics").await?;
        let text = String::from_utf8_lossy(&metrics);
        let label = format!("channel=\"{channel}\"");
        let ours =
            text.lines().filter(|line| line.starts_with("chat4all_circuit_breaker_state{") && line.contains(&label));
        ours.filter_map(|line| match line.rsplit(' ').next()? {
            "0" => Some(Breaker::Closed),
            "1" => Some(Breaker::HalfOpen),
            "2" => Some(Breaker::Open),
            _ => None,
        })
        .max()
    }

    async fn unrecorded(&self) -> Option<u64> {
        if !self.gauges.unrecorded {
            return None;
        }
        self.lag(Some(chat4all_recorder::GROUP)).await
    }

    /// Whether the breaker was seen in that state; none if there is no such metric.
    pub fn breaker_was(&self, state: Breaker) -> Option<bool> {
        let timeline = self.timeline.borrow();
        let mut seen = timeline.samples().iter().filter_map(|sample| sample.breaker).peekable();
        seen.peek()?;
        Some(seen.any(|breaker| breaker == state))
    }

    /// One question, without patience.
    async fn ask(&self, path: &str) -> Option<Vec<u8>> {
        let answer = async { self.endpoint.connect().await?.call("GET", path, "").await };
        let (status, body) = timeout(Duration::from_secs(1), answer).await.ok()?.ok()?;
        (status == 200).then_some(body)
    }

    pub async fn cluster(&self) -> Option<ClusterView> {
        serde_json::from_slice(&self.ask("/v1/cluster").await?).ok()
    }

    /// Records that a group, or all groups, still have to work off.
    pub async fn lag(&self, group: Option<&str>) -> Option<u64> {
        let cluster = self.cluster().await?;
        let groups = cluster.groups.iter().filter(|one| group.is_none_or(|group| one.group == group));
        Some(groups.flat_map(|group| &group.partitions).map(|partition| partition.lag).sum())
    }

    /// Waits until the cluster is as wanted; how long that took.
    pub async fn until_cluster(
        &self,
        what: &str,
        limit: Duration,
        is_so: impl Fn(&ClusterView) -> bool,
    ) -> Result<Duration, Failure> {
        let begin = Instant::now();
        while !self.cluster().await.is_some_and(|cluster| is_so(&cluster)) {
            if begin.elapsed() > limit {
                return Err(Failure::failed(format!("{what}: not within {} s", limit.as_secs())));
            }
            sleep(LOOK_INTERVAL).await;
        }
        Ok(begin.elapsed())
    }

    /// Waits until something is true; how long that took, none if it took too long.
    pub async fn until_true(&self, limit: Duration, is_so: impl Fn() -> bool) -> Option<Duration> {
        let begin = Instant::now();
        while !is_so() {
            if begin.elapsed() > limit {
                return None;
            }
            sleep(LOOK_INTERVAL).await;
        }
        Some(begin.elapsed())
    }

    fn notes(&self) -> Notes {
        let mut notes = self.load.notes();
        notes.asked.iter_mut().for_each(|asked| asked.at = self.since_load(asked.at));
        notes.accepted.iter_mut().for_each(|(_, at)| *at = self.since_load(*at));
        notes
    }

    /// Requests made in a time that were answered by now.
    pub fn asked(&self, from: Duration, to: Duration) -> Vec<Asked> {
        self.notes().asked.into_iter().filter(|asked| (from..to).contains(&asked.at)).collect()
    }

    /// Times of the first takings, in order.
    pub fn arrivals(&self) -> Vec<(MessageId, usize, Duration)> {
        let mut arrivals = self.receiver.arrivals();
        arrivals.iter_mut().for_each(|(.., at)| *at = self.since_load(*at));
        arrivals
    }

    /// From a message's sending to its arrival, of those of a channel that were sent in a time and have arrived.
    pub fn latency(&self, channel: usize, from: Duration, to: Duration) -> Percentiles {
        let arrived: std::collections::HashMap<_, _> =
            self.arrivals().into_iter().map(|(id, _, at)| (id, at)).collect();
        let mut latencies = Latencies::new();
        for (message, sent) in self.notes().accepted {
            let is_ours = self.plan.target_of(message.conversation) == channel && (from..to).contains(&sent);
            if let Some(at) = arrived.get(&message.id).filter(|_| is_ours) {
                latencies.record(sent.as_nanos() as u64, at.as_nanos() as u64);
            }
        }
        latencies.percentiles()
    }

    /// Waits until everything is accepted, and has come, or nothing more can come.
    pub async fn settle(&self) -> Result<(), Failure> {
        let mut last = (0, Instant::now());
        loop {
            let (accepted, taken) = (self.load.accepted(), self.receiver.taken_by_each().iter().sum::<u64>());
            if self.load.is_finished() && taken >= accepted {
                return Ok(());
            }
            if last.0 != accepted + taken {
                last = (accepted + taken, Instant::now());
            }
            let nothing_is_left = self.load.is_finished() && last.1.elapsed() > LULL && self.lag(None).await == Some(0);
            if nothing_is_left {
                return Ok(());
            }
            if last.1.elapsed() > STALL_MAX {
                return match self.load.is_finished() {
                    true => Ok(()), // what has not come by now counts as lost
                    false => Err(Failure::failed("nothing was accepted for 60 s")),
                };
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until the status store has everything; false if that takes too long.
    pub async fn recorded(&self) -> bool {
        let begin = Instant::now();
        while self.lag(None).await != Some(0) {
            if begin.elapsed() > STALL_MAX {
                return false;
            }
            sleep(LOOK_INTERVAL).await;
        }
        true
    }

    /// Holds the ledger and the status store against what was accepted. At most `repeats` duplicates are allowed.
    pub async fn judge(&self, found: &mut Found, repeats: u64) -> Result<(), Failure> {
        let notes = self.notes();
        let accepted: Vec<checker::Accepted> = notes.accepted.iter().map(|(accepted, _)| *accepted).collect();
        let findings = checker::judge(&accepted, &self.receiver.taken());
        let n = |count: usize| grouped(count as u64);
        let of = n(accepted.len());
        let mut counts = vec![
            ("accepted", accepted.len()),
            ("lost", findings.lost.len()),
            ("reordered", findings.reordered.len()),
            ("duplicates", findings.duplicates),
            ("duplicates_max", repeats as usize),
        ];
        found.check(
            "nothing accepted is lost",
            findings.lost.is_empty() && !accepted.is_empty(),
            format!("{} of {of} never came", n(findings.lost.len())),
        );
        found.check(
            "conversations keep their order",
            findings.reordered.is_empty(),
            format!("{} of {of} out of order", n(findings.reordered.len())),
        );
        found.check(
            "repeats are bounded",
            findings.duplicates as u64 <= repeats,
            format!("{} repeated, at most {} may be", n(findings.duplicates), grouped(repeats)),
        );
        if !findings.strange.is_empty() {
            let strange = n(findings.strange.len());
            found.check("no message comes as another", false, format!("{strange} under an id of no accepted message"));
        }
        if notes.hopeless > 0 {
            let first = notes.first_hopeless.unwrap_or_default();
            found.check("every message is taken", false, format!("{} refused for good: {first}", notes.hopeless));
        }
        let (open, dead) = self.without_end(&accepted).await?;
        counts.extend([("without_status", open), ("dead_letters", dead)]);
        found.check("no dead letters", dead == 0, format!("{} of {of}", n(dead)));
        found.check("every message has its end", open == 0, format!("{} of {of} not {}", n(open), self.ends()));
        counts.into_iter().for_each(|(name, count)| found.figure(name, count));
        found.lost = findings.lost;
        Ok(())
    }

    fn ends(&self) -> String {
        let mut ends: Vec<&str> = self.channels.iter().map(|channel| channel.end).collect();
        ends.dedup();
        ends.join(" or ")
    }

    /// How many messages do not have the status they should end with, and how many of those failed.
    async fn without_end(&self, accepted: &[checker::Accepted]) -> Result<(usize, usize), Failure> {
        let observer = Observer::new(self.endpoint.clone());
        let (mut open, mut dead) = (0, 0);
        for (number, channel) in self.channels.iter().enumerate() {
            let ours = accepted.iter().filter(|message| self.plan.target_of(message.conversation) == number);
            let ids: HashSet<MessageId> = ours.map(|message| message.id).collect();
            let without = observer.without(channel.end, channel.name, ids).await?;
            let alive = observer.without("failed", channel.name, without.clone()).await?;
            open += without.len();
            dead += without.len() - alive.len();
        }
        Ok((open, dead))
    }
}

/// What is shown while the drill goes on, on stderr: a timeline on a terminal, a line a second elsewhere.
pub struct Screen {
    title: String,
    bar: Option<ProgressBar>,
    last_line: Cell<Instant>,
    paint: Paint,
}

impl Screen {
    pub fn new(title: &str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg}").expect("the template is constant and valid");
            ProgressBar::new_spinner().with_style(style)
        });
        let paint = Paint::for_stream(&io::stderr());
        match &bar {
            Some(bar) => bar.set_message(format!("{}\n\n  the stack is starting", paint.with(Colour::Bold, title))),
            None => eprintln!("{title}"),
        }
        Self { title: title.to_owned(), bar, last_line: Cell::new(Instant::now()), paint }
    }

    fn show(&self, timeline: &Timeline) {
        if let Some(bar) = &self.bar {
            let title = self.paint.with(Colour::Bold, &self.title);
            bar.set_message(format!("{title}\n\n{}", timeline.draw(self.paint)));
        } else if self.last_line.get().elapsed() >= Duration::from_secs(1) {
            self.last_line.set(Instant::now());
            eprintln!("{}", timeline.line());
        }
    }

    /// An event. On a terminal the timeline shows it.
    fn tell(&self, line: &str) {
        if self.bar.is_none() {
            eprintln!("{line}");
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear();
    }
}
