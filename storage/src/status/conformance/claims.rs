//! Checks of claims on message ids.

use std::sync::Arc;

use chat4all_proto::Timestamp;
use futures_util::future::join_all;

use super::sample::Sample;
use crate::status::{Claim, Claimed, Status};

/// Claims by each of two handles in one race.
const RACERS: u64 = 4;

/// A claim on an id of its own.
pub fn claim_of(sample: &Sample) -> Claim {
    let message = sample.message(Vec::new());
    let (tenant, message_id, accepted_at) = (message.tenant, message.message_id, message.accepted_at);
    Claim { tenant, message_id, fingerprint: [0xab; 32], accepted_at }
}

/// The same id claimed `later_s` seconds later.
fn again(claim: &Claim, later_s: u64) -> Claim {
    let accepted_at = Timestamp::from_millis(claim.accepted_at.as_millis() + 1_000 * later_s);
    Claim { accepted_at, ..claim.clone() }
}

fn with_other_contents(claim: &Claim) -> Claim {
    Claim { fingerprint: [0xcd; 32], ..again(claim, 1) }
}

async fn claim(status: &dyn Status, claim: &Claim) -> Claimed {
    let claimed = status.claim(std::slice::from_ref(claim)).await.expect("the store answers");
    claimed.into_iter().next().expect("an answer for each claim")
}

async fn mark(status: &dyn Status, claim: &Claim) {
    status.mark_appended(std::slice::from_ref(claim)).await.expect("the store answers");
}

pub async fn an_id_is_claimed_once_and_appended_again_until_it_is_marked(status: Arc<dyn Status>) {
    let first = claim_of(&Sample::new());
    let first_at = first.accepted_at;
    assert_eq!(claim(&*status, &first).await, Claimed::New);
    for later_s in [0, 1, 2] {
        assert_eq!(claim(&*status, &again(&first, later_s)).await, Claimed::Unsettled { first_at });
    }
    for later_s in [3, 4] {
        mark(&*status, &first).await;
        assert_eq!(claim(&*status, &again(&first, later_s)).await, Claimed::Appended { first_at });
    }
}

pub async fn an_id_claimed_for_other_contents_is_a_conflict(status: Arc<dyn Status>) {
    let first = claim_of(&Sample::new());
    let (first_at, other) = (first.accepted_at, with_other_contents(&first));
    mark(&*status, &first).await;
    assert_eq!(claim(&*status, &first).await, Claimed::New, "what was not claimed cannot be marked");
    assert_eq!(claim(&*status, &other).await, Claimed::Conflict);
    mark(&*status, &other).await;
    assert_eq!(claim(&*status, &first).await, Claimed::Unsettled { first_at }, "nor can others mark it");
    mark(&*status, &first).await;
    assert_eq!(claim(&*status, &other).await, Claimed::Conflict);
    assert_eq!(claim(&*status, &first).await, Claimed::Appended { first_at });
}

pub async fn claims_are_answered_in_their_order(status: Arc<dyn Status>) {
    let sample = Sample::new();
    let claims: Vec<Claim> = (0..100).map(|_| claim_of(&sample)).collect();
    let (known, marked) = (&claims[10..40], &claims[20..30]);
    assert_eq!(status.claim(known).await, Ok(vec![Claimed::New; 30]));
    assert_eq!(status.mark_appended(marked).await, Ok(()));
    let met = status.claim(&claims).await.expect("the store answers");
    assert_eq!(met.len(), claims.len());
    for (index, (claim, met)) in claims.iter().zip(met).enumerate() {
        let first_at = claim.accepted_at;
        let expected = match index {
            20..30 => Claimed::Appended { first_at },
            10..40 => Claimed::Unsettled { first_at },
            _ => Claimed::New,
        };
        assert_eq!(met, expected, "claim {index}");
    }
    assert_eq!(status.claim(&[]).await, Ok(Vec::new()));
    assert_eq!(status.mark_appended(&[]).await, Ok(()));
}

pub async fn an_id_belongs_to_its_tenant(status: Arc<dyn Status>) {
    let ours = claim_of(&Sample::new());
    let theirs = Claim { tenant: Sample::new().tenant, ..with_other_contents(&ours) };
    assert_eq!(claim(&*status, &ours).await, Claimed::New);
    assert_eq!(claim(&*status, &theirs).await, Claimed::New);
    mark(&*status, &theirs).await;
    assert_eq!(claim(&*status, &ours).await, Claimed::Unsettled { first_at: ours.accepted_at });
}

/// `one` and `other` are handles on one store, as two processes have, or one handle twice.
pub async fn of_claims_that_race_one_is_new(one: Arc<dyn Status>, other: Arc<dyn Status>) {
    let sample = Sample::new();
    for round in 0..10 {
        let first = claim_of(&sample);
        let racers: Vec<Claim> = (0..RACERS).map(|later_s| again(&first, later_s)).collect();
        let calls = racers.iter().flat_map(|racer| [claim(&*one, racer), claim(&*other, racer)]);
        let met = join_all(calls).await;
        let new = met.iter().filter(|claimed| **claimed == Claimed::New).count();
        assert_eq!(new, 1, "round {round}: {met:?}");
        let Claimed::Unsettled { first_at } = claim(&*one, &first).await else { panic!("it was not marked") };
        assert!(racers.iter().any(|racer| racer.accepted_at == first_at));
        let others = met.iter().filter(|claimed| **claimed == Claimed::Unsettled { first_at }).count();
        assert_eq!(others, met.len() - 1, "round {round}: {met:?}");
    }
}
