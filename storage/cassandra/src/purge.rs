//! Deletes what is too old, for stores without a TTL or for a shorter time than the TTL's. Goes through every listing
//! that begins before the bound; what is in none (a receipt that no event came for, a replay without its letter) goes by
//! its TTL alone. So does what another process writes within the next hour into a bucket that was deleted here: it takes
//! the bucket for known.

use std::collections::BTreeSet;

use chat4all_proto::{DeliveryId, MessageId, TenantId};
use chat4all_storage::status::rows::{self, ContactKey, LetterKey, MessageKey, Position, Rows};
use chat4all_storage::status::{Error, JoinKey};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::failure;
use crate::insert;
use crate::listing::Name;
use crate::store::Store;

/// Rows after which a call stops.
const ROWS_MAX: usize = 5_000;
/// Most places that are read at once, and most buckets.
const READ_MAX: i32 = 1_000;

impl Store {
    /// Deletes messages accepted before `bound_ms` and what belongs to them. The number of places and buckets
    /// deleted.
    pub(crate) async fn purge(&self, bound_ms: i64) -> Result<u64, Error> {
        let mut deleted = 0;
        for tenant in self.tenants().await? {
            let tenant: TenantId = tenant.parse().map_err(failure::unreadable)?;
            let mut listings = self.runs(tenant.as_str()).await?;
            listings.push(Name::all());
            for listing in listings {
                deleted += self.purge_listing(&tenant, &listing, bound_ms).await?;
                if deleted >= ROWS_MAX {
                    return Ok(deleted as u64);
                }
            }
        }
        Ok(deleted as u64)
    }

    async fn purge_listing(&self, tenant: &TenantId, listing: &Name, bound_ms: i64) -> Result<usize, Error> {
        let mut deleted = 0;
        let bound = Position { at_ms: bound_ms, id: uuid::Uuid::nil() };
        for bucket in self.buckets(tenant.as_str(), listing, bound_ms, READ_MAX).await? {
            let places = self.places((tenant.as_str(), listing, bucket), bound, READ_MAX).await?;
            let is_last = places.len() < READ_MAX as usize;
            deleted += places.len();
            self.purge_places(tenant, listing, places, bound_ms).await?;
            if is_last && bucket < listing.bucket(bound_ms) {
                self.run(&self.statements.delete_bucket, (tenant.as_str(), &listing.0, bucket)).await?;
                deleted += 1;
                self.forget_directories();
            }
            if deleted >= ROWS_MAX {
                break;
            }
        }
        Ok(deleted)
    }

    /// The places last: what was cut off is gone through again.
    async fn purge_places(
        &self,
        tenant: &TenantId,
        listing: &Name,
        places: Vec<Position>,
        bound_ms: i64,
    ) -> Result<(), Error> {
        stream::iter(places)
            .map(Ok)
            .try_for_each_concurrent(self.in_flight_max, |place| async move {
                if listing.is_of_dead_letters() {
                    self.purge_dead_letter(tenant, DeliveryId::from_uuid(place.id), bound_ms).await?;
                } else {
                    self.purge_message(tenant, MessageId::from_uuid(place.id), bound_ms).await?;
                }
                self.delete_place(tenant, listing, place).await
            })
            .await
    }

    async fn purge_dead_letter(&self, tenant: &TenantId, delivery: DeliveryId, bound_ms: i64) -> Result<(), Error> {
        let key = LetterKey { tenant: tenant.clone(), delivery };
        let is_old = |rows: Rows| rows.dead_letters.get(&key).is_some_and(|row| row.accepted_at_ms() < bound_ms);
        if is_old(self.dead_letter(&key).await?) {
            self.run(&self.statements.delete_dead_letter, (tenant.as_str(), delivery.as_uuid())).await?;
        }
        Ok(())
    }

    /// Deletes a message and all that its facts lead to.
    async fn purge_message(&self, tenant: &TenantId, message: MessageId, bound_ms: i64) -> Result<(), Error> {
        let key = MessageKey { tenant: tenant.clone(), message };
        let rows = self.message(&key).await?;
        if rows.messages.get(&key).is_some_and(|row| row.accepted_at_ms >= bound_ms) {
            return Ok(()); // an event that dates it wrongly
        }
        self.purge_joins(&rows, bound_ms).await?;
        for ContactKey { tenant, address } in rows.contacts.keys() {
            let (channel, target) = (address.channel.as_str(), &*address.target);
            let contact = (insert::contact_bound(bound_ms) - 1, tenant.as_str(), channel, target);
            self.run(&self.statements.delete_contact, contact).await?;
        }
        let mut deliveries: BTreeSet<DeliveryId> = rows.deliveries.keys().map(|key| key.delivery).collect();
        if let Some(accepted) = rows.accepted(&key)? {
            deliveries.extend(accepted.to.iter().map(|address| DeliveryId::of(message, address)));
        }
        for delivery in deliveries {
            self.purge_dead_letter(tenant, delivery, bound_ms).await?;
        }
        for (key, row) in &rows.messages {
            let place = Position { at_ms: row.accepted_at_ms, id: key.message.as_uuid() };
            self.delete_place(tenant, &Name::conversation(&row.conversation), place).await?;
        }
        self.run(&self.statements.delete_message, (tenant.as_str(), message.as_uuid())).await
    }

    /// An id that a later message was given too stays.
    async fn purge_joins(&self, rows: &Rows, bound_ms: i64) -> Result<(), Error> {
        let keys: Vec<JoinKey> = rows.joins.keys().cloned().collect();
        let joins = self.joins(&keys).await?;
        for (key, join) in keys.iter().zip(joins) {
            if join.event.is_some_and(|event| rows::millis(event.accepted_at) < bound_ms) {
                self.run(&self.statements.delete_join, (key.channel.as_str(), &key.id)).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn delete_place(&self, tenant: &TenantId, listing: &Name, place: Position) -> Result<(), Error> {
        let bucket = listing.bucket(place.at_ms);
        let key = (tenant.as_str(), &listing.0, bucket, place.at_ms, &place.id.as_bytes()[..]);
        self.run(&self.statements.delete_place, key).await
    }
}
