//! Claims on message ids: one row an id, which lightweight transactions take and mark. See `schema`.

use chat4all_storage::status::claims::ClaimRow;
use chat4all_storage::status::{Claim, Claimed, Error, rows};
use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::value::{CqlValue, Row};

use crate::failure;
use crate::store::Store;

impl Store {
    pub(crate) async fn claim(&self, claims: &[Claim]) -> Result<Vec<Claimed>, Error> {
        let calls = claims.iter().cloned().map(|claim| self.claim_one(claim));
        stream::iter(calls).buffered(self.in_flight_max).try_collect().await
    }

    async fn claim_one(&self, claim: Claim) -> Result<Claimed, Error> {
        let (tenant, id, at_ms) = (claim.tenant.as_str(), claim.message_id.as_uuid(), rows::millis(claim.accepted_at));
        let row = (tenant, id, &claim.fingerprint[..], at_ms, self.claim_ttl_s);
        let answer = self.execute(&self.statements.claim, row).await?;
        let answer = answer.into_rows_result().map_err(failure::unreadable)?;
        if is_applied(&answer.first_row().map_err(failure::unreadable)?) {
            return Ok(Claimed::New);
        }
        Ok(self.claim_of(&claim).await?.meet(&claim.fingerprint))
    }

    /// The row that is in the way of a claim.
    async fn claim_of(&self, claim: &Claim) -> Result<ClaimRow, Error> {
        let key = (claim.tenant.as_str(), claim.message_id.as_uuid());
        let found: Vec<(Vec<u8>, i64, bool)> = self.rows(&self.statements.claimed, key).await?;
        let expired = || Error::Unavailable("a claim expired just now".into());
        let (fingerprint, first_at_ms, appended) = found.into_iter().next().ok_or_else(expired)?;
        let no_fingerprint = |_| failure::unreadable("a fingerprint has 32 bytes");
        let fingerprint = fingerprint.try_into().map_err(no_fingerprint)?;
        Ok(ClaimRow { fingerprint, first_at: rows::timestamp(first_at_ms), appended })
    }

    /// What is not applied is not there any more, or another's.
    pub(crate) async fn mark_appended(&self, claims: &[Claim]) -> Result<(), Error> {
        let marks = claims.iter().cloned().map(|claim| self.mark_one(claim));
        stream::iter(marks).buffer_unordered(self.in_flight_max).try_collect().await
    }

    async fn mark_one(&self, claim: Claim) -> Result<(), Error> {
        let (tenant, id, first_at_ms) =
            (claim.tenant.as_str(), claim.message_id.as_uuid(), rows::millis(claim.accepted_at));
        let fingerprint = &claim.fingerprint[..];
        let row = (self.claim_ttl_s, fingerprint, first_at_ms, tenant, id, fingerprint);
        self.run(&self.statements.mark_appended, row).await
    }
}

/// The first column of the answer, whose others depend on it.
fn is_applied(answer: &Row) -> bool {
    answer.columns.first() == Some(&Some(CqlValue::Boolean(true)))
}
