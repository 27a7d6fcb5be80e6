//! `chat4all drill`: plays faults on a private stack under load, checks every message and shows what happened. What holds
//! is judged from outside: by what the client was answered, what the receiver saw, and what the API says.

mod away;
mod chance;
mod checker;
mod field;
mod load;
mod paint;
mod receiver;
mod report;
mod scenarios;
mod stack;
mod timeline;

use std::io;
use std::time::{Duration, Instant};

use chat4all_runtime::Shutdown;

use crate::cli::{Failure, say, say_at_once};
use chance::Chance;
use field::{Channel, Field, Screen};
use load::Plan;
use paint::{Colour, Paint};
use receiver::Receiver;
use report::{Report, Verdict};
use scenarios::{Kind, Play};
use stack::Stack;
use timeline::Timeline;

pub use away::Switch;
pub use scenarios::Scenario;
pub use stack::Engines;

/// Everything that a user may choose, checked.
pub struct Options {
    pub scenarios: Vec<Scenario>,
    pub engines: Engines,
    pub per_second: u32,
    pub messages: u32,
    pub outage: Duration,
    pub conversations: u32,
    pub seed: u64,
    pub json: bool,
    pub keep: bool,
    /// Of engines that are not embedded; none: they cannot be taken away.
    pub log_switch: Option<Switch>,
    pub store_switch: Option<Switch>,
}

impl Options {
    pub fn run(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.messages) / f64::from(self.per_second))
    }

    /// Why a scenario cannot be played with these engines.
    pub fn obstacle(&self, scenario: Scenario) -> Option<&'static str> {
        match scenario {
            Scenario::StoreAway if self.engines.status.is_some() && self.store_switch.is_none() => Some(
                "how the status store is taken away is not known: give `--pause-store-with` and `--resume-store-with`",
            ),
            Scenario::LogAway if self.engines.log.is_some() && self.log_switch.is_none() => {
                Some("how the log is taken away is not known: give `--pause-log-with` and `--resume-log-with`")
            }
            _ => None,
        }
    }
}

/// Plays them one after the other, prints what was found, and fails unless every promise held.
pub async fn run(options: Options) -> Result<(), Failure> {
    let interrupted = Shutdown::new();
    interrupted.listen().map_err(Failure::failed)?;
    let paint = Paint::for_stream(&io::stdout());
    let mut reports = Vec::new();
    for &scenario in &options.scenarios {
        let title = title(scenario, &options);
        let (report, timeline) = tokio::select! {
            played = play_or_say_why_not(scenario, &title, &options) => played?,
            () = interrupted.requested() => return Err(Failure::failed("interrupted; nothing is left running")),
        };
        if options.json {
            say_at_once(report.json())?;
        } else {
            say_at_once(format!("{}\n\n{}\n", paint.with(Colour::Bold, title), report.text(timeline.as_ref(), paint)))?;
        }
        reports.push(report);
    }
    if options.json {
        say(report::summary_json(&reports))?;
    } else if reports.len() > 1 {
        say(report::summary(&reports, paint))?;
    }
    report::verdict(&reports).map_err(Failure::failed)
}

fn title(scenario: Scenario, options: &Options) -> String {
    format!(
        "drill {} · {} · {}/s · seed {}",
        scenario.as_str(),
        options.engines.describe(),
        options.per_second,
        options.seed
    )
}

/// A scenario that breaks off has failed; only wrong usage ends the whole drill.
async fn play_or_say_why_not(
    scenario: Scenario,
    title: &str,
    options: &Options,
) -> Result<(Report, Option<Timeline>), Failure> {
    let without = |verdict, reason| {
        let engines = options.engines.describe();
        (Report::without(scenario.as_str(), engines, options.seed, verdict, reason), None)
    };
    if let Some(obstacle) = options.obstacle(scenario) {
        return Ok(without(Verdict::Skipped, obstacle.to_owned()));
    }
    match play(scenario, title, options).await {
        Ok((report, timeline)) => Ok((report, Some(timeline))),
        Err(Failure::Failed(reason)) => Ok(without(Verdict::Failed, reason)),
        Err(other) => Err(other),
    }
}

async fn play(scenario: Scenario, title: &str, options: &Options) -> Result<(Report, Timeline), Failure> {
    let (begin, mut chance) = (Instant::now(), Chance::new(options.seed));
    let screen = Screen::new(title);
    let receiver = Receiver::start(scenario.channels().len(), begin, &mut chance)
        .map_err(|error| Failure::failed(format!("receiver: {error}")))?;
    let (tables, channels) = channels(scenario, &receiver);
    let engines = options.engines.for_one_run(scenario.as_str());
    let mut stack = Stack::start(&engines, &tables, scenario.layout(), options.keep).await?;
    if options.keep {
        eprintln!("kept: {}", stack.folder().display());
    }
    let plan = Plan {
        messages: options.messages,
        per_second: options.per_second,
        conversations: options.conversations,
        targets: channels.iter().map(|channel| channel.target.clone()).collect(),
    };
    let endpoint = stack.endpoint().clone();
    stack.ready().await?;
    let field = Field::open(screen, plan, channels, receiver, &endpoint, scenario.gauges(), begin)?;
    let mut play = Play {
        field: &field,
        outage: options.outage,
        run: options.run(),
        on_kafka: options.engines.log.is_some(),
        log_switch: options.log_switch.as_ref(),
        store_switch: options.store_switch.as_ref(),
        calls_before: 0,
        chance,
    };
    let found = tokio::select! {
        found = play.play(scenario, &mut stack) => found,
        () = field.watch() => unreachable!("it watches for ever"),
    };
    stack.check()?;
    let found = found?;
    stack.end().await?;
    let timeline = field.close();
    let (engines, took) = (options.engines.describe(), begin.elapsed().as_secs_f64());
    Ok((Report::new(scenario.as_str(), engines, options.seed, took, found, timeline.events()), timeline))
}

/// The channels' tables of the configuration, and where they lead.
fn channels(scenario: Scenario, receiver: &Receiver) -> (String, Vec<Channel>) {
    let mut tables = String::new();
    let mut channels = Vec::new();
    for (provider, &(name, kind, more)) in scenario.channels().iter().enumerate() {
        let addr = receiver.addr(provider);
        let (table, end, target) = match kind {
            Kind::Webhook => (
                "kind = \"webhook\"\nallow_private_targets = true\n".to_owned(),
                "delivered",
                format!("{name}:http://{addr}/conversation/{{conversation}}"),
            ),
            // Telegram reports nothing more than that it took a message.
            Kind::Telegram => (
                format!("kind = \"telegram\"\nbase_url = \"http://{addr}\"\nbot_token = \"1:drill\"\n"),
                "sent",
                format!("{name}:{{conversation}}"),
            ),
        };
        tables += &format!("[channels.{name}]\n{table}{more}");
        channels.push(Channel { name, end, target });
    }
    (tables, channels)
}
