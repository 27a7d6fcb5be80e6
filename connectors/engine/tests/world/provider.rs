//! The simulated provider: what it answers and when, and who calls it how often.

use std::time::Duration;

use chat4all_proto::outcome::{Outcome, Report, Scope};

use super::FAULTS_END_MS;
use super::script::{Fate, HOSTS, Random};

/// Of an attempt.
pub const DEADLINE_MS: u64 = 15_000;

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Taken,
    /// The receiver had it, and we never learnt.
    TakenAndLost,
    NotTakenAndLost,
    /// A 500.
    Failed,
    /// Nobody is there.
    NoConnection,
    /// A gateway says that nobody is there.
    BadGateway,
    /// Nobody answers until our own deadline.
    TimedOut,
    Throttled {
        after_ms: u64,
    },
    Account,
    Rejected,
    Gone,
}

impl Answer {
    pub fn is_taken(self) -> bool {
        matches!(self, Self::Taken | Self::TakenAndLost)
    }

    /// Whether it looks like an outage to whoever called.
    pub fn is_outage_like(self) -> bool {
        matches!(
            self,
            Self::TakenAndLost | Self::NotTakenAndLost | Self::NoConnection | Self::BadGateway | Self::TimedOut
        )
    }

    pub fn report(self) -> Report {
        let outcome = match self {
            Self::Taken => Outcome::Accepted { provider_id: None },
            Self::TakenAndLost | Self::NotTakenAndLost | Self::TimedOut => Outcome::Ambiguous,
            Self::Failed | Self::NoConnection | Self::BadGateway => Outcome::TRANSIENT,
            Self::Throttled { after_ms } => {
                Outcome::Throttled { after: Some(Duration::from_millis(after_ms)), scope: Scope::Account }
            }
            Self::Account => Outcome::AccountProblem,
            Self::Rejected => Outcome::MessageRejected,
            Self::Gone => Outcome::RecipientGone,
        };
        Report { outage_like: self.is_outage_like(), ..Report::new(outcome, None, None) }
    }
}

/// A time in which a side answers in its own way.
#[derive(Debug, Clone, Copy)]
pub struct Spell {
    pub side: usize,
    pub from_ms: u64,
    pub to_ms: u64,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Refuses,
    BadGateway,
    Hangs,
    Throttles,
    /// It refuses our account.
    Locked,
}

impl Kind {
    pub fn is_outage(self) -> bool {
        matches!(self, Self::Refuses | Self::BadGateway | Self::Hangs)
    }
}

#[derive(Debug)]
pub struct Provider {
    pub spells: Vec<Spell>,
    /// In calm worlds only the dead host is at fault.
    calm: bool,
}

impl Provider {
    pub fn new(random: &mut Random, hosts: bool, calm: bool) -> Self {
        let sides = if hosts { HOSTS } else { 1 };
        let mut spells = Vec::new();
        for side in 0..sides {
            for _ in 0..if calm { 0 } else { random.below(3) } {
                let from_ms = random.below(FAULTS_END_MS - 30_000);
                let kind = match random.below(6) {
                    0 => Kind::Refuses,
                    1 => Kind::BadGateway,
                    2 => Kind::Hangs,
                    3 if !hosts => Kind::Locked,
                    4 => Kind::Throttles,
                    _ => Kind::Refuses,
                };
                spells.push(Spell { side, from_ms, to_ms: from_ms + 3_000 + random.below(40_000), kind });
            }
        }
        if hosts {
            spells.push(Spell { side: HOSTS - 1, from_ms: 1_000, to_ms: FAULTS_END_MS, kind: Kind::Refuses });
        }
        Self { spells, calm }
    }

    /// What a call to `side` at this time comes to, and how long it takes.
    pub fn answer(&self, side: usize, fate: Fate, now_ms: u64, random: &mut Random) -> (Answer, u64) {
        let spell =
            self.spells.iter().find(|spell| spell.side == side && (spell.from_ms..spell.to_ms).contains(&now_ms));
        let quick = 1 + random.below(40);
        match spell.map(|spell| spell.kind) {
            Some(Kind::Refuses) => return (Answer::NoConnection, quick),
            Some(Kind::BadGateway) => return (Answer::BadGateway, quick),
            Some(Kind::Hangs) => return (Answer::TimedOut, DEADLINE_MS),
            Some(Kind::Locked) => return (Answer::Account, quick),
            Some(Kind::Throttles) if random.one_in(2) => {
                return (Answer::Throttled { after_ms: random.below(3_000) }, quick);
            }
            Some(Kind::Throttles) | None => {}
        }
        let answer = match fate {
            Fate::Poison => Answer::Failed,
            Fate::Moody if !random.one_in(6) => Answer::Failed,
            Fate::Moody => Answer::Taken,
            Fate::Rejected => Answer::Rejected,
            Fate::Gone => Answer::Gone,
            Fate::Taken if self.calm || now_ms > FAULTS_END_MS => Answer::Taken,
            Fate::Taken => match random.below(100) {
                0..3 => Answer::TakenAndLost,
                3..6 => Answer::NotTakenAndLost,
                6..10 => Answer::Failed,
                _ => Answer::Taken,
            },
        };
        let slow = random.one_in(20) && !self.calm;
        (answer, if slow { random.below(3_000) } else { quick })
    }
}
