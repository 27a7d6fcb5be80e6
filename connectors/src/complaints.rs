//! Tells the log what people should know: a few lines for each partition, so that a bad day does not fill the disk.

use std::time::{Duration, Instant};

use chat4all_engine::breaker::State;
use chat4all_engine::gate::Change;
use chat4all_proto::outcome::{Outcome, Report};
use chat4all_proto::{ChannelName, DeadLetter, TraceId};
use chat4all_runtime::clock;
use tracing::{debug, error, field, info, warn};

pub struct Complaints {
    dead_letters: Pace,
    account: Pace,
    unknown_codes: Pace,
    destinations: Pace,
}

impl Default for Complaints {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            dead_letters: Pace::new(Duration::from_secs(1)),
            account: Pace::new(minute),
            unknown_codes: Pace::new(minute),
            destinations: Pace::new(Duration::from_secs(1)),
        }
    }
}

impl Complaints {
    pub fn about(&mut self, letter: &DeadLetter, trace_id: Option<TraceId>) {
        let Some(withheld) = self.dead_letters.admit() else { return };
        let delivery = &letter.delivery;
        warn!(
            message_id = %delivery.message_id,
            trace_id = trace_id.map(field::display),
            channel = %delivery.to.channel,
            reason = letter.reason.as_str(),
            code = letter.code,
            attempts = letter.attempts,
            withheld,
            "a delivery failed for good; it is in the dead letters"
        );
    }

    /// A breaker has opened or closed.
    pub fn about_breaker(&mut self, channel: &ChannelName, change: &Change) {
        let Change { destination, state } = change;
        let destination = destination.as_deref();
        match (destination, state) {
            (_, State::HalfOpen) => debug!(%channel, destination, "trying whether it is back"),
            (None, State::Open) => {
                warn!(%channel, "the provider seems to be away: its messages wait on the log; a few calls try whether it is back");
            }
            (None, State::Closed) => info!(%channel, "the provider is back"),
            (Some(_), state) => {
                let Some(withheld) = self.destinations.admit() else { return };
                if *state == State::Open {
                    warn!(%channel, destination, withheld, "a destination seems to be away: its messages wait; a few calls try whether it is back");
                } else {
                    info!(%channel, destination, withheld, "a destination is back");
                }
            }
        }
    }

    /// What an answer says about us rather than about one message.
    pub fn about_answer(&mut self, channel: &ChannelName, report: &Report) {
        let (code, detail) = (report.code.as_deref(), report.detail.as_deref());
        if report.outcome == Outcome::AccountProblem
            && let Some(withheld) = self.account.admit()
        {
            error!(
                %channel, code, detail, withheld,
                "the provider refuses our account: messages wait until somebody mends it (`chat4all doctor --channel {channel}`)"
            );
        }
        if report.code_is_unknown
            && let Some(withheld) = self.unknown_codes.admit()
        {
            warn!(%channel, code, outcome = report.outcome.kind().as_str(), withheld, "the provider answered a code that this version does not know");
        }
    }
}

/// One line an interval.
struct Pace {
    interval: Duration,
    last: Option<Instant>,
    withheld: u64,
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Self { interval, last: None, withheld: 0 }
    }

    /// Whether a line may be written now: then how many were withheld since the last one.
    fn admit(&mut self) -> Option<u64> {
        if self.last.is_some_and(|last| last.elapsed() < self.interval) {
            self.withheld += 1;
            return None;
        }
        self.last = Some(clock::instant());
        Some(std::mem::take(&mut self.withheld))
    }
}
