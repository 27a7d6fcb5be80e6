//! What is played: for each scenario its stack, its faults, and what must hold meanwhile. What must hold always (nothing
//! lost, order, repeats, ends) is judged for all alike, in `field`.

use std::collections::BTreeSet;
use std::time::Duration;

use chat4all_proto::http::ClusterView;
use serde_json::json;
use tokio::time::sleep;

use super::away::{self, Switch};
use super::chance::Chance;
use super::field::{Field, Gauges};
use super::receiver::Mood;
use super::report::Found;
use super::stack::Stack;
use super::timeline::{Breaker, Mark, grouped};
use crate::bench::report::Percentiles;
use crate::cli::Failure;
use crate::serve::Role;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// kill -9 of a router, a connectors and a recorder process in turn, each started again
    KillWorkers,
    /// Telegram answers 502 for a while; webhooks go on
    ProviderOutage,
    /// A channel's receiver does not answer for a while; the other channel is as fast as before
    SlowProvider,
    /// Nobody can write to the status store for a while; messages are accepted and delivered all the same
    StoreAway,
    /// Nobody can write to the log for a while; sends are refused at once
    LogAway,
}

/// Slots of a channel in one process, as configured by default.
const SLOTS: u64 = 64;
/// Partitions of a topic by default.
const PARTITIONS: u64 = 6;
/// Ends of a partition that may wait for the log's acknowledgement; then nothing more is sent.
const UNACKNOWLEDGED_MAX: u64 = 256;
/// What a killed process may have ended and not committed: the commit interval, and as long for the commit itself.
const UNCOMMITTED: Duration = Duration::from_millis(100);
/// Longest time that a killed process's work may have no holder.
const TAKEOVER_MAX: Duration = Duration::from_secs(2);
const TAKEOVER_MAX_KAFKA: Duration = Duration::from_secs(20);
/// A killed process is started again after so long.
const DEAD_FOR: Duration = Duration::from_secs(3);
/// A breaker opens for 10 s at first, jitter takes off a fifth at most, and then makes 3 probes.
const OPEN_MIN: Duration = Duration::from_secs(8);
const PROBES: u64 = 3;
/// Calls that a breaker looks back on.
const WINDOW: u64 = 10;
const FIRST_DELIVERY_MAX: Duration = Duration::from_secs(30);
const REFUSAL_MAX: Duration = Duration::from_millis(1_500);
const ACCEPTING_MAX: Duration = Duration::from_secs(10);
const RECORDED_MAX: Duration = Duration::from_secs(60);

/// The channels, by their place in [`Scenario::channels`].
const HEALTHY: usize = 0;
const SICK: usize = 1;

impl Scenario {
    pub const ALL: [Scenario; 5] =
        [Self::KillWorkers, Self::ProviderOutage, Self::SlowProvider, Self::StoreAway, Self::LogAway];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KillWorkers => "kill-workers",
            Self::ProviderOutage => "provider-outage",
            Self::SlowProvider => "slow-provider",
            Self::StoreAway => "store-away",
            Self::LogAway => "log-away",
        }
    }

    /// Whether it has an outage of `--outage`.
    pub fn has_outage(self) -> bool {
        self != Self::KillWorkers
    }

    /// Its processes, the api first. Where nobody is killed or stopped one does everything.
    pub fn layout(self) -> &'static [(&'static str, &'static [Role])] {
        const API: (&str, &[Role]) = ("api", &[Role::Api]);
        match self {
            Self::KillWorkers => &[
                API,
                ("router-1", &[Role::Router]),
                ("router-2", &[Role::Router]),
                ("connectors-1", &[Role::Connectors]),
                ("connectors-2", &[Role::Connectors]),
                ("recorder-1", &[Role::Recorder]),
                ("recorder-2", &[Role::Recorder]),
            ],
            Self::ProviderOutage | Self::SlowProvider => &[("chat4all", &[])],
            Self::StoreAway => &[
                API,
                ("workers", &[Role::Router, Role::Connectors]),
                ("recorder-1", &[Role::Recorder]),
                ("recorder-2", &[Role::Recorder]),
            ],
            Self::LogAway => &[
                API,
                ("router", &[Role::Router]),
                ("connectors", &[Role::Connectors]),
                ("recorder", &[Role::Recorder]),
            ],
        }
    }

    /// Names and kinds of its channels, and what is special about them.
    pub fn channels(self) -> &'static [(&'static str, Kind, &'static str)] {
        match self {
            Self::ProviderOutage => &[("webhook", Kind::Webhook, ""), ("telegram", Kind::Telegram, "")],
            Self::SlowProvider => {
                &[("webhook", Kind::Webhook, ""), ("slow", Kind::Webhook, "attempt_timeout = \"5s\"\n")]
            }
            Self::KillWorkers | Self::StoreAway | Self::LogAway => &[("webhook", Kind::Webhook, "")],
        }
    }

    pub fn gauges(self) -> Gauges {
        match self {
            Self::ProviderOutage => Gauges { breaker_of: Some("telegram"), ..Gauges::default() },
            Self::StoreAway => Gauges { unrecorded: true, ..Gauges::default() },
            // A webhook's breakers are those of its destinations, which have no metric.
            Self::SlowProvider | Self::KillWorkers | Self::LogAway => Gauges::default(),
        }
    }
}

/// What speaks to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Webhook,
    Telegram,
}

/// What is played with.
pub struct Play<'a> {
    pub field: &'a Field,
    pub outage: Duration,
    /// Of the whole load.
    pub run: Duration,
    pub on_kafka: bool,
    pub log_switch: Option<&'a Switch>,
    pub store_switch: Option<&'a Switch>,
    /// Of the sick channel's provider, before its outage.
    pub calls_before: u64,
    pub chance: Chance,
}

impl Play<'_> {
    pub async fn play(&mut self, scenario: Scenario, stack: &mut Stack) -> Result<Found, Failure> {
        match scenario {
            Scenario::KillWorkers => self.kill_workers(stack).await,
            Scenario::ProviderOutage => self.provider_outage().await,
            Scenario::SlowProvider => self.slow_provider().await,
            Scenario::StoreAway => self.store_away(stack).await,
            Scenario::LogAway => self.log_away(stack).await,
        }
    }

    async fn kill_workers(&mut self, stack: &mut Stack) -> Result<Found, Failure> {
        let (field, mut found) = (self.field, Found::default());
        let limit = if self.on_kafka { TAKEOVER_MAX_KAFKA } else { TAKEOVER_MAX };
        let roles = [Role::Router, Role::Connectors, Role::Recorder];
        let (mut slowest, mut pause) = (Duration::ZERO, Duration::ZERO);
        for (kill, role) in (1..).zip(roles) {
            field.until_cluster("two processes share the work of each role", START_MAX, is_shared).await?;
            field.until(self.run * kill / 4).await;
            let victim = stack.find(&format!("{}-{}", role.as_str(), 1 + self.chance.below(2)));
            let process = field.cluster().await.and_then(|view| process_of(&view, stack.pid(victim)));
            let process = process.ok_or_else(|| Failure::failed("the cluster does not show its processes"))?;
            let name = stack.name(victim).to_owned();
            let killed = field.now();
            stack.kill(victim);
            let what = format!("the work of the killed {name} is taken over");
            field.until_cluster(&what, START_MAX, |view| is_held(view, role, &process)).await?;
            let took = field.now() - killed;
            let seconds = took.as_secs_f64();
            field.mark_at(
                killed,
                Mark::Killed,
                format!("{name} is killed; its work has a holder after {seconds:.2} s"),
            );
            slowest = slowest.max(took);
            found.figure(&format!("takeover_{}_s", role.as_str()), hundredths(took));
            sleep(DEAD_FOR.min(self.run / 10).saturating_sub(field.now() - killed)).await;
            stack.start_again(victim).await?;
            field.mark(Mark::Started, format!("{name} is started again"));
            pause = pause.max(longest_gap(field, killed, killed + DEAD_FOR));
        }
        found.figure("kills", roles.len());
        found.figure("longest_pause_s", hundredths(pause));
        found.check(
            "the others take over",
            slowest <= limit,
            format!("within {:.2} s, at most {} s", slowest.as_secs_f64(), limit.as_secs()),
        );
        found.check(
            "deliveries go on",
            pause <= limit + Duration::from_secs(1),
            format!("longest pause {:.2} s", pause.as_secs_f64()),
        );
        field.settle().await?;
        let asked = field.asked(Duration::ZERO, field.now());
        let mut took: Vec<Duration> = asked.iter().map(|asked| asked.took).collect();
        took.sort();
        let [p95, p99] = [95, 99].map(|share| took.get(took.len() * share / 100).map_or(0.0, |time| tenths_ms(*time)));
        found.figure("refused", field.refused());
        found.figure("answer_ms", json!({"p95": p95, "p99": p99}));
        found.check(
            "clients notice nothing",
            field.refused() == 0,
            format!("{} refused, answers within p95/p99 {p95:.1}/{p99:.1} ms", grouped(field.refused())),
        );
        // Only the connectors send: what their killed process had in flight, and had ended but not committed.
        let most = SLOTS + (f64::from(field.plan().per_second) * UNCOMMITTED.as_secs_f64()).ceil() as u64;
        field.recorded().await;
        field.judge(&mut found, most).await?;
        Ok(found)
    }

    async fn provider_outage(&mut self) -> Result<Found, Failure> {
        let (field, mut found) = (self.field, Found::default());
        let (away, back) = self.sick_while(Mood::Away, "telegram answers 502", "telegram is back").await;
        let (calls, taken) = (field.receiver.calls(SICK), field.receiver.taken_by_each()[SICK]);
        let first = field.until_true(FIRST_DELIVERY_MAX * 2, || field.receiver.taken_by_each()[SICK] > taken).await;
        let seconds = first.map(|first| first.as_secs_f64());
        found.figure("first_delivery_s", json!(first.map(hundredths)));
        found.check(
            "delivery resumes by itself",
            first.is_some_and(|first| first <= FIRST_DELIVERY_MAX),
            seconds.map_or("not at all".to_owned(), |seconds| format!("first after {seconds:.1} s, at most 30 s")),
        );
        let calls_meanwhile = calls - self.calls_before;
        let lanes = u64::from(field.plan().conversations).div_ceil(2).min(SLOTS);
        let half_opens = 1 + self.outage.as_secs().div_ceil(OPEN_MIN.as_secs());
        let most = lanes + WINDOW + PROBES * half_opens;
        found.figure("calls_while_away", calls_meanwhile);
        found.check(
            "the provider is left in peace",
            calls_meanwhile <= most,
            format!("{} calls meanwhile, at most {most}", grouped(calls_meanwhile)),
        );
        let opened = field.breaker_was(Breaker::Open);
        found.figure("breaker_opened", json!(opened));
        if let Some(opened) = opened {
            let words = if opened { "open" } else { "never open" };
            found.check("its breaker opens", opened, words.to_owned());
        }
        field.settle().await?;
        self.healthy(&mut found, away, back);
        field.recorded().await;
        field.judge(&mut found, 0).await?;
        Ok(found)
    }

    async fn slow_provider(&mut self) -> Result<Found, Failure> {
        let (field, mut found) = (self.field, Found::default());
        let (away, back) = self.sick_while(Mood::Hanging, "slow does not answer", "slow answers again").await;
        found.figure("calls_while_away", field.receiver.calls(SICK) - self.calls_before);
        field.settle().await?;
        self.healthy(&mut found, away, back);
        field.recorded().await;
        field.judge(&mut found, 0).await?;
        Ok(found)
    }

    /// The outage of the second channel; when it began and ended.
    async fn sick_while(&mut self, mood: Mood, begins: &str, ends: &str) -> (Duration, Duration) {
        let field = self.field;
        field.until(self.calm()).await;
        self.calls_before = field.receiver.calls(SICK);
        field.receiver.set_mood(SICK, mood);
        let away = field.mark(Mark::Away, begins);
        field.until(away + self.outage).await;
        field.receiver.set_mood(SICK, Mood::Well);
        (away, field.mark(Mark::Back, ends))
    }

    /// Before an outage, and after it.
    fn calm(&self) -> Duration {
        self.run.saturating_sub(self.outage) / 2
    }

    /// The first channel must not have noticed.
    fn healthy(&self, found: &mut Found, away: Duration, back: Duration) {
        // The first second warms caches up.
        let before = self.field.latency(HEALTHY, Duration::from_secs(1).min(away / 2), away);
        let during = self.field.latency(HEALTHY, away, back);
        // A tail of a few hundred messages on a busy machine is not exact; who waits for the sick channel waits for seconds.
        let most = before.p99 * 2.0 + 50.0;
        let words = |p: &Percentiles| format!("{:.1}/{:.1} ms", p.p50, p.p99);
        found.figure("healthy_before_ms", json!(before));
        found.figure("healthy_during_ms", json!(during));
        found.check(
            "the other channel is as fast",
            during.p99 <= most && during.max > 0.0,
            format!("p50/p99 {}, meanwhile {}", words(&before), words(&during)),
        );
    }

    async fn store_away(&mut self, stack: &Stack) -> Result<Found, Failure> {
        let (field, mut found) = (self.field, Found::default());
        field.until(self.calm()).await;
        let store = away::take(stack, stack.find("recorder-1"), "status", self.store_switch).await?;
        let away = field.mark(Mark::Away, store.how("the status store"));
        field.until(away + self.outage).await;
        let unrecorded = field.lag(Some(chat4all_recorder::GROUP)).await.unwrap_or(0);
        store.bring_back().await?;
        let back = field.mark(Mark::Back, "the status store is back");

        let asked = field.asked(away, back);
        let accepted = asked.iter().filter(|asked| asked.status == Some(202)).count();
        let came = field.arrivals().iter().filter(|(.., at)| (away..back).contains(at)).count();
        let n = |count: usize| grouped(count as u64);
        found.figure("unrecorded_at_the_end_of_the_outage", unrecorded);
        // A drill of an outage that was none would prove nothing.
        found.check(
            "the store was away",
            unrecorded >= accepted as u64 / 2 && accepted > 0,
            format!("{} records waited for it", grouped(unrecorded)),
        );
        found.check(
            "sends are still answered 202",
            (asked.len() - accepted) * 1_000 <= asked.len(),
            format!("{} of {} meanwhile", n(accepted), n(asked.len())),
        );
        found.check("deliveries go on", came * 10 >= accepted * 9, format!("{} of {} meanwhile", n(came), n(accepted)));
        // What flows in meanwhile is always a little behind.
        let behind = u64::from(field.plan().per_second);
        let caught_up = |view: &ClusterView| lag_of(view, chat4all_recorder::GROUP) < behind;
        let took = field.until_cluster("the statuses are complete", RECORDED_MAX, caught_up).await?;
        found.figure("statuses_complete_s", hundredths(took));
        found.check("statuses catch up", true, format!("{:.1} s after its return, at most 60 s", took.as_secs_f64()));
        field.settle().await?;
        field.recorded().await;
        field.judge(&mut found, 0).await?;
        Ok(found)
    }

    async fn log_away(&mut self, stack: &Stack) -> Result<Found, Failure> {
        let (field, mut found) = (self.field, Found::default());
        field.until(self.calm()).await;
        let log = away::take(stack, stack.find("router"), "log", self.log_switch).await?;
        let away = field.mark(Mark::Away, log.how("the log"));
        field.until(away + self.outage).await;
        let asked = field.asked(away + Duration::from_secs(1), field.now());
        log.bring_back().await?;
        let back = field.mark(Mark::Back, "the log is back");
        let accepted = field.accepted();
        let again = field.until_true(ACCEPTING_MAX * 2, || field.accepted() > accepted).await;

        let taken = asked.iter().filter(|asked| asked.status == Some(202)).count();
        let mut took: Vec<Duration> = asked.iter().map(|asked| asked.took).collect();
        took.sort();
        let (median, worst) = (took.get(took.len() / 2).copied(), took.last().copied());
        let ms = |time: Option<Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
        found.figure("refused", field.refused());
        found.figure("refusal_ms", json!({"p50": ms(median), "max": ms(worst)}));
        found.check(
            "nothing is accepted meanwhile",
            taken == 0,
            format!("{taken} of {} sends", grouped(asked.len() as u64)),
        );
        found.check(
            "sends are refused at once",
            worst.is_some_and(|worst| worst <= REFUSAL_MAX) && asked.iter().all(|asked| asked.status == Some(503)),
            format!("503 within {:.1} ms mostly, {:.0} ms at worst", ms(median), ms(worst)),
        );
        found.figure("accepting_again_s", json!(again.map(hundredths)));
        found.check(
            "it resumes by itself",
            again.is_some_and(|again| again <= ACCEPTING_MAX),
            again.map_or("not at all".to_owned(), |again| {
                format!("accepting after {:.2} s, at most 10 s", again.as_secs_f64())
            }),
        );
        found.figure("outage_s", hundredths(back - away));
        field.settle().await?;
        field.recorded().await;
        let most = SLOTS + UNACKNOWLEDGED_MAX * PARTITIONS;
        field.judge(&mut found, most).await?;
        Ok(found)
    }
}

const START_MAX: Duration = Duration::from_secs(60);

fn process_of(view: &ClusterView, pid: u32) -> Option<String> {
    view.processes.iter().find(|process| process.pid == pid).map(|process| process.process.clone())
}

/// Whether every group has two holders, and no partition none.
fn is_shared(view: &ClusterView) -> bool {
    view.groups.iter().all(|group| {
        let holders: Option<BTreeSet<&String>> = group.partitions.iter().map(|one| one.holder.as_ref()).collect();
        holders.is_some_and(|holders| holders.len() == 2)
    })
}

/// Whether every partition that a role works on has a holder other than `gone`.
fn is_held(view: &ClusterView, role: Role, gone: &str) -> bool {
    let mut groups = view.groups.iter().filter(|group| group.group.starts_with(role.as_str()));
    groups.all(|group| group.partitions.iter().all(|one| one.holder.as_ref().is_some_and(|holder| holder != gone)))
}

fn lag_of(view: &ClusterView, group: &str) -> u64 {
    let groups = view.groups.iter().filter(|one| one.group == group);
    groups.flat_map(|group| &group.partitions).map(|partition| partition.lag).sum()
}

/// Longest time without an arrival.
fn longest_gap(field: &Field, from: Duration, to: Duration) -> Duration {
    let mut times: Vec<Duration> =
        field.arrivals().iter().map(|(.., at)| *at).filter(|at| (from..to).contains(at)).collect();
    times.insert(0, from);
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(to - from)
}

fn tenths_ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn hundredths(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}
