//! Deletes dead letters by hand. A mark stays that keeps them out of listings, should they be written once more: the same
//! that a replay leaves.

use chat4all_proto::{DeliveryId, Generation, TenantId};
use chat4all_storage::status::Error;
use chat4all_storage::status::rows::{LetterKey, Position};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::fact::{self, Fact};
use crate::insert::Insert;
use crate::listing::Name;
use crate::store::Store;

impl Store {
    pub(crate) async fn discard(&self, tenant: &TenantId, letters: &[(DeliveryId, Generation)]) -> Result<u64, Error> {
        let discards = letters.iter().map(|&(delivery, generation)| self.discard_one(tenant, delivery, generation));
        let discards: Vec<_> = discards.collect();
        let done: Vec<bool> = stream::iter(discards).buffer_unordered(self.in_flight_max).try_collect().await?;
        Ok(done.into_iter().filter(|was_there| *was_there).count() as u64)
    }

    /// The mark first: what is cut off then is out of the listings, and can be gone through again.
    async fn discard_one(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
        generation: Generation,
    ) -> Result<bool, Error> {
        let partition = (tenant.as_str(), delivery.as_uuid());
        let facts: Vec<(i8, String)> = self.rows(&self.statements.dead_letter, partition).await?;
        let key = LetterKey { tenant: tenant.clone(), delivery };
        let rows = fact::merged(facts.clone())?;
        let Some(found) = rows.dead_letter(&key)?.filter(|found| found.letter.delivery.generation <= generation) else {
            return Ok(false);
        };
        let (tenant_name, id) = (tenant.to_string(), delivery.as_uuid());
        let mark = Fact::of_discarded(&found.letter.delivery);
        self.insert([Insert::DeadLetter { tenant: tenant_name, delivery: id, fact: mark }].into()).await?;
        for (_, body) in facts.iter().filter(|(kind, _)| fact::is_dead_letter(*kind)) {
            let fact = (tenant.as_str(), id, fact::tag(body.as_bytes()));
            self.run(&self.statements.delete_dead_letter_fact, fact).await?;
        }
        let place = Position { at_ms: chat4all_storage::status::rows::millis(found.letter.failed_at), id };
        let listing = Name::dead_letters(found.letter.reason.as_str(), &found.letter.delivery.to.channel);
        self.delete_place(tenant, &listing, place).await?;
        Ok(true)
    }
}
