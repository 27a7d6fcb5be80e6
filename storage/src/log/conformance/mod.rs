//! What every adapter of [`Log`] must do, as plain functions over the port. An adapter's tests call [`all`], or the
//! functions one by one ([`log_promises!`](crate::log_promises)). They suppose no more than the port promises: offsets
//! have gaps, records come at least once, assignments take their time. Where [`Guarantees`](super::Guarantees) differ, a
//! function checks what holds for its log.
//!
//! Each function panics with what is wrong, and ends within [`PATIENCE`] of the last thing that happened.

mod appends;
mod commits;
mod groups;
mod reader;
mod together;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat4all_proto::{Generation, Key, Topic};
use uuid::Uuid;

use super::{Log, NewRecord, RecordId, TopicKind, TopicSpec};

pub use appends::*;
pub use commits::*;
pub use groups::*;
pub use together::*;
pub use topics::*;

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Nothing happened for so long: nothing does.
const QUIET: Duration = Duration::from_millis(300);
/// Partitions of the topics in these tests.
const PARTITIONS: u32 = 4;

/// An empty log that several handles can be opened on.
#[async_trait]
pub trait Store: Send + Sync {
    /// Another handle: its own connection, its own memberships.
    async fn open(&self) -> Arc<dyn Log>;
}

/// Hands the names of all functions to the macro `$each`, so that no adapter can leave one out.
#[macro_export]
macro_rules! log_promises {
    ($each:ident) => {
        $each!(
            records_of_one_key_keep_their_order,
            results_stand_in_the_order_of_the_records,
            an_empty_append_writes_nothing,
            a_record_for_no_topic_is_refused,
            a_large_record_comes_back_whole,
            what_is_once_is_written_once,
            what_is_once_is_once_within_a_batch,
            what_is_once_is_once_for_every_handle,
            a_dropped_append_is_still_written,
            a_closed_log_refuses,
            records_of_another_handle_arrive,
            a_slow_reader_loses_nothing,
            a_commit_comes_back_with_its_metadata,
            a_metadata_too_long_is_refused,
            a_restarted_lease_is_fenced,
            an_append_with_its_commit_is_both,
            recent_records_are_those_below_the_offset,
            recent_records_tell_the_epoch_where_writes_are_not_fenced,
            records_are_read_aside,
            what_retention_deleted_is_not_read_aside,
            ends_and_commits_tell_the_lag,
            a_paused_partition_is_silent,
            a_partition_that_was_paused_flows_when_it_comes_back,
            groups_do_not_touch_each_other,
            two_members_share_evenly,
            a_released_partition_goes_to_the_other_and_the_old_lease_is_fenced,
            who_leaves_hands_over,
            who_is_dropped_hands_over,
            partitions_of_one_number_go_together,
            commits_of_one_call_are_taken_over_together,
            a_restart_of_one_restarts_what_goes_with_it,
            a_pause_of_one_topic_leaves_the_other_alone,
            topics_of_other_partition_counts_do_not_go_together,
            topics_are_made_once,
            a_topic_of_another_shape_is_refused,
            latest_values_reach_every_handle,
            retention_never_overtakes_a_group,
            a_cluster_shows_who_holds_what,
        );
    };
}

/// Runs everything, each function on a store of its own.
pub async fn all<S: Store>(new_store: impl Fn() -> S) {
    macro_rules! run {
        ($($function:ident),* $(,)?) => {$(
            println!("{}", stringify!($function).replace('_', " "));
            $function(&new_store()).await;
        )*};
    }
    log_promises!(run);
}

/// A handle with the topics `messages`, `status-updates` (streams) and `control` (latest values).
async fn open(store: &impl Store) -> Arc<dyn Log> {
    let log = store.open().await;
    log.ensure_topics(&specs(Duration::from_secs(7 * 24 * 3_600))).await.expect("topics can be made");
    log
}

fn specs(retention: Duration) -> Vec<TopicSpec> {
    let stream = |topic| TopicSpec { topic, partitions: PARTITIONS, kind: TopicKind::Stream { retention } };
    let control = TopicSpec { topic: Topic::Control, partitions: 1, kind: TopicKind::Latest };
    vec![stream(Topic::Messages), stream(Topic::StatusUpdates), control]
}

fn record(key: &str, value: impl Into<Bytes>) -> NewRecord {
    NewRecord {
        topic: Topic::Messages,
        key: Key::raw(key),
        id: RecordId { uuid: Uuid::now_v7(), generation: Generation(0) },
        value: value.into(),
        traceparent: None,
        once: None,
    }
}

/// Records of `count` values over 10 keys.
fn records(count: usize) -> Vec<NewRecord> {
    (0..count).map(|n| record(&format!("default/conversation-{}", n % 10), number(n))).collect()
}

fn number(n: usize) -> Bytes {
    Bytes::from(n.to_string())
}
