//! What every status store must do, as plain functions over the port; adapters' tests call [`all`]. Panics say what is
//! wrong.
//!
//! Each check brings tenants, channels and times of its own, so that all may share one store with other data in it.
//! Nothing is asked that needs a transaction over several rows: only that a write is seen by reads that begin after it
//! returned. `purge` deletes what was accepted before 1980.

mod claims;
mod dead_letters;
mod joins;
mod listings;
mod order;
mod sample;
mod views;

pub use claims::*;
pub use dead_letters::*;
pub use joins::*;
pub use listings::*;
pub use order::*;
pub use sample::{Random, Sample};
pub use views::*;

use std::sync::Arc;

use super::Status;

/// Runs every check, each on a store from `make`: new ones, or one again and again.
pub async fn all(make: impl AsyncFn() -> Arc<dyn Status>) {
    a_write_is_seen_when_it_returns(make().await).await;
    a_message_shows_what_was_sent(make().await).await;
    events_may_come_before_their_message(make().await).await;
    deliveries_stand_in_the_order_of_the_addresses(make().await).await;
    attempts_of_all_generations_are_kept_once_each(make().await).await;
    a_delivery_without_an_end_expires_by_itself(make().await).await;
    a_replay_has_an_expiry_of_its_own(make().await).await;
    a_received_message_is_one_of_its_conversation(make().await).await;
    any_text_comes_back_as_it_was(make().await).await;
    a_delivery_is_found_by_its_provider_id(make().await).await;
    tenants_do_not_see_each_other(make().await).await;

    the_halves_of_a_join_meet_in_either_order(make().await).await;
    a_join_keeps_the_greatest_of_each_half(make().await).await;
    only_what_a_receipt_can_be_about_waits_for_one(make().await).await;
    an_address_is_in_the_conversation_of_its_latest_message(make().await).await;

    a_dead_letter_shows_what_failed(make().await).await;
    a_replayed_dead_letter_is_in_no_listing_until_it_fails_again(make().await).await;
    dead_letters_are_listed_by_channel_reason_and_time_newest_first(make().await).await;
    a_replay_through_another_channel_marks_the_letter_that_it_goes_instead_of(make().await).await;
    a_discarded_dead_letter_is_gone_and_listed_no_more(make().await).await;

    the_highest_rank_stays(make().await).await;
    a_replay_starts_anew(make().await).await;
    a_replayed_message_changes_no_row(make().await).await;
    order_and_repetition_do_not_matter(make().await, Random::unpredictable(), 2_000).await;

    a_conversation_is_listed_newest_first(make().await).await;
    pages_join_without_gap_or_overlap_while_messages_arrive(make().await).await;
    a_listing_shows_each_message_once(make().await).await;
    filters_apply_to_one_delivery_together(make().await).await;
    a_delivery_leaves_the_listing_of_its_former_status(make().await).await;
    a_made_up_cursor_is_refused(make().await).await;
    purge_deletes_all_of_the_old_and_nothing_else(make().await).await;
    purge_takes_joins_contacts_and_dead_letters_with_their_messages(make().await).await;

    an_id_is_claimed_once_and_appended_again_until_it_is_marked(make().await).await;
    an_id_claimed_for_other_contents_is_a_conflict(make().await).await;
    claims_are_answered_in_their_order(make().await).await;
    an_id_belongs_to_its_tenant(make().await).await;
    let status = make().await;
    of_claims_that_race_one_is_new(Arc::clone(&status), status).await;

    a_closed_store_is_unavailable(make().await).await;
}

/// The last check for a store that others share: nobody may use it afterwards.
pub async fn a_closed_store_is_unavailable(status: Arc<dyn Status>) {
    let sample = Sample::new();
    assert_eq!(status.check().await, Ok(()));
    status.close().await;
    let refused = |result: Result<(), super::Error>| {
        assert!(matches!(result, Err(super::Error::Unavailable(_))), "a closed store answered {result:?}");
    };
    refused(status.check().await);
    refused(status.claim(&[claim_of(&sample)]).await.map(drop));
    refused(status.mark_appended(&[claim_of(&sample)]).await);
    refused(status.write(vec![sample.message_to(&["a"]).0]).await);
    refused(status.messages(&sample.tenant, &Default::default(), &sample.page(1), sample.now()).await.map(drop));
    status.close().await;
}
