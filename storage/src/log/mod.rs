//! The log: topics of ordered partitions that groups of workers share out among themselves. Kafka's model, reduced to
//! what Chat4All needs.
//!
//! What callers may rely on, on every adapter:
//! - Records of one key go to one partition ([`Key::partition`]) and are read there in the order of their offsets.
//!   Offsets rise; they may have gaps.
//! - Records of one [`Log::append`] or [`Consumer::append`] to one partition keep their order. Calls that overlap may be
//!   written in either order.
//! - Delivery is at least once: after a rebalance a record comes again unless it was committed.
//! - A partition has one holder in a group at a time. Each assignment has an epoch, higher than all before; whatever
//!   a former holder still commits or appends under its old epoch is refused ([`AppendError::Fenced`]).
//! - Topics of one subscription go together: partition 3 of each has the same holder, always ([`Log::subscribe`]).
//!
//! What only some adapters can keep is in [`Guarantees`].

pub mod conformance;
pub mod memory;
pub mod outgoing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat4all_proto::http::ClusterView;
use chat4all_proto::{Generation, Key, Timestamp, Topic, TopicPartition};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

/// Identity of a record, for whoever drops repeats: the message's or delivery's id and its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordId {
    pub uuid: Uuid,
    pub generation: Generation,
}

/// A record to be written.
#[derive(Debug, Clone)]
pub struct NewRecord {
    pub topic: Topic,
    pub key: Key,
    pub id: RecordId,
    /// JSON.
    pub value: Bytes,
    /// W3C trace context, handed through.
    pub traceparent: Option<Arc<str>>,
    /// It is to be on the log once, however often it is handed over within 24 h. With [`Guarantees::writes_once`] the log
    /// sees to that (by `id.uuid`; the fingerprint tells a repeat from another message under the same id). Otherwise it is
    /// written each time, under the same id, and whoever reads it drops the repeats: the first one counts.
    pub once: Option<Fingerprint>,
}

/// A record that is on the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    pub id: RecordId,
    pub appended_at: Timestamp,
    /// Of the lease under which it was appended; `None` if under none, and with [`Guarantees::fences_writes`], where
    /// nobody has to ask. Says something only beside epochs of the same partition in the same group: whoever reads what
    /// one group writes takes a record of an epoch lower than one before it for a late word of a former holder.
    pub epoch: Option<u64>,
}

/// SHA-256 over what makes two requests the same.
pub type Fingerprint = [u8; 32];

/// A record as read.
#[derive(Debug, Clone)]
pub struct Record {
    pub offset: u64,
    pub appended_at: Timestamp,
    pub key: Key,
    pub id: RecordId,
    pub value: Bytes,
    pub traceparent: Option<Arc<str>>,
}

/// What became of one record of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    At {
        partition: u32,
        offset: u64,
    },
    /// `once`, with [`Guarantees::writes_once`]: a record of this id and fingerprint is there already, written at
    /// `first_at`. Nothing was written.
    Repeated {
        first_at: Timestamp,
    },
    /// `once`, with [`Guarantees::writes_once`]: a record of this id with another fingerprint is there. Nothing was
    /// written.
    Conflict,
}

/// Why an append failed. Says what may be done next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written and nothing will be: handing it over again later is safe.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// It may have been written, or may yet be. Handing it over again may write it twice.
    #[error("the log did not answer: {0}")]
    Unknown(String),
    /// The assignment under whose epoch it was handed over is gone. Nothing was written; the new holder does the work.
    #[error("the partition has another holder now")]
    Fenced,
    /// It can never be written: no such topic, too large.
    #[error("the log refuses the record: {0}")]
    Refused(String),
}

/// Why another call on the log failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// May succeed later.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// Somebody must act first: another version's data, other partition counts, missing rights.
    #[error("{0}")]
    Refused(String),
}

impl From<Error> for AppendError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(reason) => Self::Unavailable(reason),
            Error::Refused(reason) => Self::Refused(reason),
        }
    }
}

/// A topic as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    pub topic: Topic,
    /// 1 for keyed latest-value topics.
    pub partitions: u32,
    pub kind: TopicKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicKind {
    /// Records are kept for this long, and with [`Guarantees::retention_awaits_groups`] until every group that ever
    /// committed on the topic is past them.
    Stream { retention: Duration },
    /// Only the last value of each key is kept, for ever (Kafka: compacted).
    Latest,
}

/// `Refused` if topics of one subscription, each given with its partition count, do not fit together: for adapters.
pub fn check_counts<'a>(topics: impl IntoIterator<Item = (&'a Topic, usize)>) -> Result<(), Error> {
    let mut topics = topics.into_iter();
    let Some((first, count)) = topics.next() else { return Ok(()) };
    match topics.find(|(_, other)| *other != count) {
        None => Ok(()),
        Some((topic, other)) => Err(Error::Refused(format!(
            "`{first}` has {count} partitions and `{topic}` has {other}: topics that go together need as many"
        ))),
    }
}

/// The values of a keyed latest-value topic.
pub type LatestValues = BTreeMap<String, Bytes>;

/// What an adapter keeps beyond what every adapter does. Default: nothing of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Guarantees {
    /// A repeat of what was appended with [`NewRecord::once`] is not written.
    pub writes_once: bool,
    /// Retention never deletes a record that a group which ever committed on its topic has not passed. Otherwise age
    /// alone decides: the retention must be longer than any group may be behind.
    pub retention_awaits_groups: bool,
    /// An append on behalf of a partition checks its lease in the very write. Otherwise shortly before it: what a holder
    /// had handed over when it hung may be written after its successor's records, and [`Recent::epoch`] tells.
    pub fences_writes: bool,
}

/// One process's access to the log. Cheap to share (`Arc<dyn Log>`).
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// The same for all handles of one adapter.
    fn guarantees(&self) -> Guarantees {
        Guarantees::default()
    }

    /// Makes the topics that are missing. `Refused` if one exists with another partition count or kind, naming it and
    /// what to do. Retention is updated to what is asked.
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), Error>;

    /// Writes `records`, all or none. Durable when it returns (embedded: fsynced; Kafka: on all in-sync replicas). Readers may
    /// see them a moment before (embedded) and then act on what a power cut would take back: it was not acknowledged, and whoever
    /// sends it again does so under the same id. The results stand in the order of the records.
    ///
    /// Dropping the future does not take back what was handed over. The adapter's queue is bounded: when it is full
    /// the call fails at once with `Unavailable`.
    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError>;

    /// Age of the oldest append that was handed over and not answered yet. Never blocks: this is how the ingress knows
    /// that the log is away before it hands over anything more.
    fn oldest_unacknowledged(&self) -> Option<Duration>;

    /// Joins `group` and consumes its share of the partitions of `topics`. The membership ends with [`Consumer::leave`]
    /// or, at once and undrained, when the consumer is dropped.
    ///
    /// The first topic leads: the group shares out its partitions, and partition 3 of every other topic goes with its
    /// partition 3. They are assigned, asked back and lost in the same event, under the same epoch, and released and
    /// restarted together. `Refused` if the topics' partition counts differ.
    ///
    /// The caller sees to it that no topic which follows in one subscription of the group leads in another, or follows
    /// another topic there.
    async fn subscribe(&self, group: &str, topics: &[Topic]) -> Result<Subscription, Error>;

    /// For each partition of `topic`, one past the last readable offset.
    async fn ends(&self, topic: &Topic) -> Result<Vec<u64>, Error>;

    /// For each partition of `topic`, the offset `group` has committed: everything below is finished. The start of the
    /// partition where it never committed.
    async fn committed(&self, group: &str, topic: &Topic) -> Result<Vec<u64>, Error>;

    /// Sets (`None`: removes) the value of `key` in a keyed latest-value topic. Durable when it returns.
    async fn put_latest(&self, topic: &Topic, key: &str, value: Option<Bytes>) -> Result<(), AppendError>;

    /// The values of a keyed latest-value topic: complete when this returns, and changed within 1 s of a change made by
    /// any process.
    async fn follow_latest(&self, topic: &Topic) -> Result<watch::Receiver<Arc<LatestValues>>, Error>;

    /// The name of this process in [`Log::cluster`].
    fn process(&self) -> &str;

    /// Tells the other processes what this one is: its roles and the addresses it opened.
    async fn announce(&self, roles: Vec<String>, listens: Vec<String>) -> Result<(), Error>;

    /// Every process, who holds which partition, and how far behind each group is.
    async fn cluster(&self) -> Result<ClusterView, Error>;

    /// Deletes what retention allows to delete, now, unless that is the server's own affair; it also happens without this.
    /// Never a record that is younger than its topic's retention.
    async fn enforce_retention(&self) -> Result<(), Error>;

    /// Ends orderly: what was handed over is written, then files and connections are closed. Later calls fail with
    /// `Unavailable`.
    async fn close(&self);
}

/// A membership in a group: the handle to command it and the events to obey.
pub struct Subscription {
    pub consumer: Arc<dyn Consumer>,
    pub events: mpsc::Receiver<Event>,
}

/// One assignment of a partition to one member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    pub partition: TopicPartition,
    /// Rises with every assignment of the partition in its group. At least 1. The same for the partitions of this number
    /// of all topics subscribed to.
    pub epoch: u64,
}

/// Where an assigned partition starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub lease: Lease,
    /// The committed offset, or the start of the partition: the first record comes from here or above.
    pub offset: u64,
    /// As committed with `offset`; empty if never.
    pub metadata: String,
}

/// What happens to a member, in the order it happens.
#[derive(Debug)]
pub enum Event {
    /// These partitions are now ours; their records follow. If one is there, so is that of each topic subscribed to.
    Assigned(Vec<Assignment>),
    /// Further records of one of our partitions, ascending and without overlap.
    Records { lease: Lease, records: Vec<Arc<Record>> },
    /// These go to another member: finish what is under way, commit, then [`Consumer::release`] them. No more records of
    /// them come. The others flow on meanwhile. Who does not release within 20 s loses them.
    Revoking(Vec<Lease>),
    /// These are gone already: drop all work on them; commits and appends under these leases are refused.
    Lost(Vec<Lease>),
    /// The membership is over for the reason given. Subscribe anew.
    Failed(String),
}

/// Longest metadata of a commit, in bytes. Kafka's default limit.
pub const METADATA_BYTES_MAX: usize = 4_096;

/// A commit: everything below `offset` is finished, `metadata` (at most [`METADATA_BYTES_MAX`]) says what above it is
/// finished too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub lease: Lease,
    pub offset: u64,
    pub metadata: String,
}

impl Commit {
    /// `Refused` if its metadata is too long: for adapters.
    pub fn check(&self) -> Result<(), Error> {
        match self.metadata.len() {
            ..=METADATA_BYTES_MAX => Ok(()),
            bytes => Err(Error::Refused(format!(
                "a commit's metadata has {bytes} bytes, at most {METADATA_BYTES_MAX} are allowed"
            ))),
        }
    }
}

/// One member of a group. All calls may be made from any thread; none blocks it.
#[async_trait]
pub trait Consumer: Send + Sync + 'static {
    /// No further records of the partition until `resume`, apart from what is on its way. Stale leases are ignored.
    fn pause(&self, lease: &Lease);

    fn resume(&self, lease: &Lease);

    /// Answers [`Event::Revoking`]: the work under `lease` and under those that were assigned with it has ended, and
    /// their last commits are written. All of them go to their new holder; released once more, they are stale.
    fn release(&self, lease: &Lease);

    /// Gives a partition up, with those that were assigned with it, and takes them again at once, as after a crash of
    /// whoever worked on them: an `Assigned` with a higher epoch and the last commits follows. No `Lost` comes for the
    /// old leases. Stale leases are ignored.
    fn restart(&self, lease: &Lease);

    /// Whether our membership is confirmed recently enough (half a session) that nobody else can hold our partitions.
    /// While false, start nothing that acts on the outside.
    fn is_current(&self) -> bool;

    /// Writes commits, durable when it returns, with all that was written before. The answer lists the leases whose commits
    /// were refused because another holder has the partition (or a newer epoch is ours); the others are written.
    ///
    /// Commits of one call for partitions that were assigned together are written together or not at all: no takeover
    /// sees one without the other. Embedded: one transaction. Kafka: one request, of which the coordinator leaves out
    /// single partitions only where it refuses them for good (rights, a topic that was deleted).
    async fn commit(&self, commits: Vec<Commit>) -> Result<Vec<Lease>, Error>;

    /// As [`Log::append`], on behalf of a partition that is being worked on: refused with `Fenced` once `lease` is gone
    /// (see [`Guarantees::fences_writes`]). Embedded: a power cut (not the end of a process) before the next commit or
    /// [`Log::append`] may take it back, and with it everything after. What it was made of is then unfinished too.
    async fn append(&self, lease: &Lease, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError>;

    /// `append`, then `commit`, in this order. Embedded: one transaction, both or neither, also after a power cut, which may take
    /// both back as with `append`. Kafka: after a crash between the two the records are there twice.
    async fn append_and_commit(&self, records: Vec<NewRecord>, commit: Commit) -> Result<Vec<Appended>, AppendError>;

    /// The last `count` records below `offset`, oldest first, without what they hold: for windows that drop repeats.
    async fn recent(&self, partition: &TopicPartition, offset: u64, count: usize) -> Result<Vec<Recent>, Error>;

    /// The records of a partition that are on the log now, at or above `from`, in order: up to `max`, fewer if they are
    /// large or slow in coming. Empty: there are none. What retention deleted is passed over. Nothing changes for the
    /// membership, which need not hold the partition.
    async fn read(&self, partition: &TopicPartition, from: u64, max: usize) -> Result<Vec<Arc<Record>>, Error>;

    /// Leaves the group, releasing everything that is still held: the caller has drained and committed. The others take
    /// over at once.
    async fn leave(&self);
}
