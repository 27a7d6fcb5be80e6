//! The log on Kafka does what the port promises, on the real broker that `CHAT4ALL_TEST_KAFKA` names (`host:port`).

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use chat4all_kafka::{KafkaLog, Options};
use chat4all_storage::Log;
use chat4all_storage::log::conformance::{self, Store};

/// Topics and groups of their own.
struct Topics(Options);

#[async_trait]
impl Store for Topics {
    async fn open(&self) -> Arc<dyn Log> {
        KafkaLog::open(self.0.clone()).unwrap()
    }
}

/// One test for each promise.
///
/// Not among them, since Kafka cannot keep them:
/// - `what_is_once_is_written_once`, `…_within_a_batch`, `…_for_every_handle`: Kafka knows no identities. The record is
///   appended again, and whoever reads drops the repeat.
/// - `retention_never_overtakes_a_group`: Kafka deletes by time alone. (The function would pass, since a broker looks
///   every five minutes only.)
macro_rules! promises {
    ($($function:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $function() {
            if let Some(options) = support::options() {
                conformance::$function(&Topics(options)).await;
            }
        }
    )*};
}

promises!(
    records_of_one_key_keep_their_order,
    results_stand_in_the_order_of_the_records,
    an_empty_append_writes_nothing,
    a_record_for_no_topic_is_refused,
    a_large_record_comes_back_whole,
    a_dropped_append_is_still_written,
    a_closed_log_refuses,
    records_of_another_handle_arrive,
    a_slow_reader_loses_nothing,
    a_commit_comes_back_with_its_metadata,
    a_metadata_too_long_is_refused,
    a_restarted_lease_is_fenced,
    an_append_with_its_commit_is_both,
    recent_records_are_those_below_the_offset,
    ends_and_commits_tell_the_lag,
    a_paused_partition_is_silent,
    groups_do_not_touch_each_other,
    two_members_share_evenly,
    a_released_partition_goes_to_the_other_and_the_old_lease_is_fenced,
    who_leaves_hands_over,
    who_is_dropped_hands_over,
    topics_are_made_once,
    a_topic_of_another_shape_is_refused,
    latest_values_reach_every_handle,
    a_cluster_shows_who_holds_what,
);
