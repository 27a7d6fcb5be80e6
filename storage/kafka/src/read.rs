//! Reading aside: ends, commits, and records, without any membership. Everything here blocks.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_storage::log::outgoing::RECORDS_BYTES_MAX;
use chat4all_storage::log::{Error, Recent, Record};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{Logs, failure};
use crate::record;
use crate::shared::{ASK_MAX, Shared};
use crate::topics::TopicInfo;

/// Longest pause between two records read back.
const RECORD_MAX: Duration = Duration::from_secs(10);
/// Reading takes no further record after this.
const READ_MAX: Duration = Duration::from_secs(10);
/// Longest wait for records below the end that do not come: there is a gap, or a broker that has just become the leader
/// does not know yet how much it may show.
const GAP_MAX: Duration = Duration::from_secs(1);

/// The offset of a partition as Kafka's own type.
pub(crate) fn raw(offset: u64) -> Offset {
    Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}

pub(crate) fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

/// Start and end of a partition.
pub(crate) fn bounds(shared: &Shared, topic: &str, partition: u32) -> Result<(u64, u64), Error> {
    let (low, high) =
        shared.asker().fetch_watermarks(topic, number(partition), ASK_MAX).map_err(|error| failure(&error))?;
    Ok((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)))
}

/// Start and end of every partition of each topic: two questions to each broker, however many topics there are.
pub(crate) fn all_bounds(shared: &Shared, topics: &[&TopicInfo]) -> Result<Vec<Vec<(u64, u64)>>, Error> {
    let [starts, ends] = [Offset::Beginning, Offset::End].map(|which| find_offsets(shared, topics, which));
    let (starts, ends) = (starts?, ends?);
    let bounds = |topic: &TopicInfo| {
        let bound = |found: &TopicPartitionList, partition| offset_in(found, &topic.name, partition);
        (0..topic.partitions).map(|partition| Ok((bound(&starts, partition)?, bound(&ends, partition)?))).collect()
    };
    topics.iter().copied().map(bounds).collect()
}

/// Where each partition begins or ends. librdkafka's question by time takes the two marks for a time.
fn find_offsets(shared: &Shared, topics: &[&TopicInfo], which: Offset) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..topic.partitions {
            let added = list.add_partition_offset(&topic.name, number(partition), which);
            added.map_err(|error| failure(&error))?;
        }
    }
    if list.count() == 0 {
        return Ok(list); // librdkafka refuses a question about nothing
    }
    shared.asker().offsets_for_times(list, ASK_MAX).map_err(|error| failure(&error))
}

fn offset_in(found: &TopicPartitionList, topic: &str, partition: u32) -> Result<u64, Error> {
    let element = found.find_partition(topic, number(partition));
    let element = element.ok_or_else(|| Error::Unavailable(format!("no answer about `{topic}` {partition}")))?;
    element.error().map_err(|error| failure(&error))?;
    match element.offset() {
        Offset::Offset(offset) => Ok(u64::try_from(offset).unwrap_or(0)),
        // An empty partition has no first record.
        _ => Ok(0),
    }
}

/// What `group` has committed for each partition, `None` where it never did.
pub(crate) fn committed(shared: &Shared, group: &str, topic: &TopicInfo) -> Result<Vec<Option<u64>>, Error> {
    let mut asked = TopicPartitionList::new();
    for partition in 0..topic.partitions {
        asked.add_partition(&topic.name, number(partition));
    }
    let observer = shared.observer(group)?;
    let found = observer.committed_offsets(asked, ASK_MAX).map_err(|error| failure(&error))?;
    found
        .elements()
        .iter()
        .map(|element| {
            element.error().map_err(|error| failure(&error))?;
            Ok(match element.offset() {
                Offset::Offset(offset) => u64::try_from(offset).ok(),
                _ => None,
            })
        })
        .collect()
}

/// The last `count` records below `below`, oldest first.
pub(crate) fn recent(
    shared: &Shared,
    topic: &str,
    partition: u32,
    below: u64,
    count: usize,
) -> Result<Vec<Recent>, Error> {
    let (low, high) = bounds(shared, topic, partition)?;
    let end = below.min(high);
    let mut span = count as u64;
    // Offsets may have gaps: then one looks further back.
    loop {
        let start = end.saturating_sub(span).max(low);
        let mut found = Vec::new();
        read(shared, topic, partition, start..end, |message| {
            found.push(record::recent(message));
            true
        })?;
        if found.len() >= count || start == low || start >= end {
            found.drain(..found.len().saturating_sub(count));
            return Ok(found);
        }
        span *= 2;
    }
}

/// Records that are there at or above `from`, up to `max`, fewer if that is a lot.
pub(crate) fn records(
    shared: &Shared,
    topic: &str,
    partition: u32,
    from: u64,
    max: usize,
) -> Result<Vec<Arc<Record>>, Error> {
    if max == 0 {
        return Ok(Vec::new());
    }
    let (low, high) = bounds(shared, topic, partition)?;
    let (begun, mut found, mut bytes) = (Instant::now(), Vec::new(), 0);
    read(shared, topic, partition, from.max(low)..high, |message| {
        bytes += message.payload_len();
        found.push(Arc::new(record::read(message)));
        found.len() < max && bytes < RECORDS_BYTES_MAX && begun.elapsed() < READ_MAX
    })?;
    Ok(found)
}

/// Hands records to `take` until it has enough or there are no more of these `offsets`.
fn read(
    shared: &Shared,
    topic: &str,
    partition: u32,
    offsets: Range<u64>,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> bool,
) -> Result<(), Error> {
    if offsets.is_empty() {
        return Ok(());
    }
    let reader = reader(shared, topic, partition, raw(offsets.start)).map_err(|error| failure(&error))?;
    let (mut deadline, mut at_end) = (Instant::now() + RECORD_MAX, false);
    loop {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let offset = record::offset(&message);
                if offset >= offsets.end || !take(&message) || offset + 1 == offsets.end {
                    return Ok(());
                }
                (deadline, at_end) = (Instant::now() + RECORD_MAX, false);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => (deadline, at_end) = (Instant::now() + GAP_MAX, true),
            Some(Err(_)) | None if Instant::now() < deadline => {}
            _ if at_end => return Ok(()),
            Some(Err(error)) => return Err(failure(&error)),
            None => return Err(Error::Unavailable("records could not be read back in time".into())),
        }
    }
}

/// A consumer of one partition from `offset` on, a member of no group. It tells of the partition's end.
pub(crate) fn reader(
    shared: &Shared,
    topic: &str,
    partition: u32,
    offset: Offset,
) -> Result<BaseConsumer<Logs>, KafkaError> {
    // librdkafka wants a group's name, though nothing is asked of the group.
    let mut config = shared.options.consumer(&shared.process, &shared.group_name("chat4all-reader"));
    config.set("enable.partition.eof", "true").set("auto.offset.reset", "earliest");
    let reader: BaseConsumer<Logs> = config.create_with_context(Logs::default())?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, number(partition), offset)?;
    reader.assign(&list)?;
    Ok(reader)
}
