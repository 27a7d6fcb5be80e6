//! What an engine is told and what it says: events in, commands out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_proto::envelope::DeadLetter;
use chat4all_proto::outcome::Report;
use chat4all_proto::progress::FinishedSet;
use chat4all_proto::{Generation, Outbound, Parked, StatusEvent, Timestamp};
use uuid::Uuid;

use crate::retry::Unit;

/// How much of one topic's partition is in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    pub records: usize,
    pub bytes: usize,
}

/// One of the two topics that an engine works off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Outbound,
    /// Where lanes go that cannot move, out of the way of the others.
    Parked,
}

impl Source {
    pub const ALL: [Source; 2] = [Source::Outbound, Source::Parked];
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    pub source: Source,
    pub offset: u64,
}

/// Where an assignment starts on one of the topics: everything below `offset` is finished, and `finished` above it.
#[derive(Debug, Clone, Default)]
pub struct Begin {
    pub offset: u64,
    pub finished: FinishedSet,
}

/// The time of an event, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    pub instant: Instant,
    pub wall: Timestamp,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A record came in; offsets rise on each topic.
    Arrived(Arrival),
    /// As many attempts may be started now.
    Slots(usize),
    /// An attempt has ended.
    Finished(Finished),
    /// Nothing became of a started attempt, through no fault of the provider: whoever made it died.
    Abandoned { at: At },
    /// The end of this delivery is acknowledged by the log.
    Published { at: At },
    /// Its copy on the parked topic is.
    Parked { at: At },
    /// What `commit` gave is written.
    Committed(Commits),
    /// Time passed, or the gate has changed.
    Tick,
    /// The partition goes elsewhere: start nothing more.
    Drain,
}

/// For each source the watermark and the metadata that names what is finished above it. They are written together.
pub type Commits = [(u64, String); 2];

#[derive(Debug)]
pub struct Arrival {
    pub at: At,
    /// What it is counted as in memory.
    pub bytes: usize,
    pub carried: Carried,
}

#[derive(Debug)]
pub enum Carried {
    Outbound(Arc<Outbound>),
    Parked(Parked),
    /// It is passed over.
    Unreadable,
}

/// A delivery that passed before this assignment, as far as the log tells without its content.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    pub id: (Uuid, Generation),
    /// Of the router that wrote it; `None` where the log keeps an older router's records from following a newer one's.
    pub router_epoch: Option<u64>,
    pub at: Timestamp,
}

#[derive(Debug)]
pub struct Finished {
    pub at: At,
    pub report: Report,
    /// How long the attempt took.
    pub took: Duration,
    /// For the wait before the next attempt, if there is one.
    pub jitter: Unit,
}

/// One call of the provider to be made.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub at: At,
    pub delivery: Arc<Outbound>,
    /// 1 is the first call for this delivery, as far as this lease knows.
    pub number: u32,
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Call the provider and answer with `Finished`.
    Start(Attempt),
    /// Append to the log. Where `ends` is true, answer with `Published` once it is acknowledged: only then does the
    /// record count as finished.
    Publish { at: At, event: Box<StatusEvent>, dead_letter: Option<Box<DeadLetter>>, ends: bool },
    /// Append to the parked topic, after all that was to be appended before, and answer with `Parked`.
    Park { at: At, parked: Box<Parked> },
    /// Nothing is left to do for this record.
    Finish { at: At },
    /// Fetch no further records of this topic until told otherwise.
    Hold(Source, bool),
}
