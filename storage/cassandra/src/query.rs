//! Queries: finds the places of a page, loads the facts of what it shows and lets `Rows` make the view.

use std::collections::BTreeMap;

use chat4all_proto::http::{DeadLetterPage, MessagePage};
use chat4all_proto::{Address, ConversationId, DeliveryId, MessageId, TenantId, Timestamp};
use chat4all_storage::status::rows::{DeliveryRow, LetterKey, LetterRow, Listing, MessageKey, Position, Rows, decode};
use chat4all_storage::status::{Error, Filter, Join, JoinKey, PageRequest};
use futures_util::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use crate::fact;
use crate::listing::{self, Name, Source};
use crate::store::Store;

/// Most places that one page looks at, each bucket counted as one. Then it ends, full or not, with the cursor from which
/// the next one goes on.
const LOOKED_AT_MAX: usize = 2_000;
/// Places that one statement reads.
const PLACES_MIN: usize = 20;
const PLACES_MAX: usize = 200;

impl Store {
    /// What is stored of a message; nothing of its joins and contacts that can be relied on.
    pub(crate) async fn message(&self, key: &MessageKey) -> Result<Rows, Error> {
        let values = (key.tenant.as_str(), key.message.as_uuid());
        fact::merged(self.rows(&self.statements.message, values).await?)
    }

    pub(crate) async fn dead_letter(&self, key: &LetterKey) -> Result<Rows, Error> {
        let values = (key.tenant.as_str(), key.delivery.as_uuid());
        fact::merged(self.rows(&self.statements.dead_letter, values).await?)
    }

    pub(crate) async fn joins(&self, keys: &[JoinKey]) -> Result<Vec<Join>, Error> {
        let joins = keys.iter().cloned().map(|key| self.join(key));
        stream::iter(joins).buffered(self.in_flight_max).try_collect().await
    }

    async fn join(&self, key: JoinKey) -> Result<Join, Error> {
        let facts = self.rows(&self.statements.join, (key.channel.as_str(), &key.id)).await?;
        fact::merged(facts)?.join(&key)
    }

    pub(crate) async fn conversation_with(
        &self,
        tenant: &TenantId,
        address: &Address,
    ) -> Result<Option<ConversationId>, Error> {
        let key = (tenant.as_str(), address.channel.as_str(), &*address.target);
        let found: Vec<(String,)> = self.rows(&self.statements.contact, key).await?;
        let read = |(id,): (String,)| id.parse().map_err(crate::failure::unreadable);
        found.into_iter().next().map(read).transpose()
    }

    pub(crate) async fn message_page(
        &self,
        listing: Listing<'_>,
        page: &PageRequest,
        now: Timestamp,
    ) -> Result<MessagePage, Error> {
        let Found { rows, places, rest } = self.find(listing, page).await?;
        let mut shown = rows.page(listing, places, page.limit, now)?;
        shown.next_cursor = shown.next_cursor.or(rest.map(|rest| rest.to_cursor(listing)));
        Ok(shown)
    }

    pub(crate) async fn dead_letter_page(
        &self,
        listing: Listing<'_>,
        page: &PageRequest,
    ) -> Result<DeadLetterPage, Error> {
        let Found { rows, places, rest } = self.find(listing, page).await?;
        let mut shown = rows.dead_letter_page(listing, places, page.limit)?;
        shown.next_cursor = shown.next_cursor.or(rest.map(|rest| rest.to_cursor(listing)));
        Ok(shown)
    }

    /// The first places of a page that still hold: one more than it shows, if there are.
    async fn find(&self, listing: Listing<'_>, page: &PageRequest) -> Result<Found, Error> {
        let mut scan = Scan::start(self, listing, page).await?;
        let at_once = page.limit.saturating_add(1).clamp(1, self.in_flight_max);
        let mut found = Found::default();
        while found.places.len() <= page.limit {
            let Some(places) = scan.next(self).await? else {
                found.rest = (scan.left == 0).then_some(scan.after);
                break;
            };
            let mut checks = stream::iter(places).map(|place| self.look_at(listing, place)).buffered(at_once);
            while found.places.len() <= page.limit
                && let Some((place, rows)) = checks.try_next().await?
            {
                let Some(rows) = rows else { continue };
                found.places.push(place);
                absorb(&mut found.rows, rows);
            }
        }
        Ok(found)
    }

    /// The rows of what stands at a place; none if it has moved on, is not yet there or was deleted.
    async fn look_at(&self, listing: Listing<'_>, place: Position) -> Result<(Position, Option<Rows>), Error> {
        let tenant = listing.tenant().clone();
        let (rows, holds) = match listing {
            Listing::DeadLetters(_, filter) => {
                let key = LetterKey { tenant, delivery: DeliveryId::from_uuid(place.id) };
                let rows = self.dead_letter(&key).await?;
                let row = rows.dead_letters.get(&key);
                let failed_then =
                    |row: &LetterRow| row.letter.as_ref().is_some_and(|it| it.failed_at_ms == place.at_ms);
                let holds = row.is_some_and(|row| row.is_listed(filter) && failed_then(row));
                (rows, holds)
            }
            Listing::Conversation(..) | Listing::Messages(..) => {
                let key = MessageKey { tenant, message: MessageId::from_uuid(place.id) };
                let rows = self.message(&key).await?;
                let holds = is_listed(&rows, &key, listing, place);
                (rows, holds)
            }
        };
        Ok((place, holds.then_some(rows)))
    }
}

fn is_listed(rows: &Rows, key: &MessageKey, listing: Listing<'_>, place: Position) -> bool {
    let Some(message) = rows.messages.get(key) else { return false };
    let of_message = message.accepted_at_ms == place.at_ms;
    match listing {
        Listing::Conversation(_, conversation) => of_message && message.conversation == *conversation,
        Listing::Messages(_, filter) if *filter == Filter::default() => of_message,
        Listing::Messages(_, filter) => {
            rows.deliveries.values().any(|row| row.accepted_at_ms == place.at_ms && matches(filter, row))
        }
        Listing::DeadLetters(..) => false,
    }
}

fn matches(filter: &Filter, row: &DeliveryRow) -> bool {
    filter.channel.as_ref().is_none_or(|channel| *channel == row.address.channel)
        && filter.status.is_none_or(|asked| decode(row.precedence).is_some_and(|stored| stored.status == asked))
}

#[derive(Default)]
struct Found {
    rows: Rows,
    places: Vec<Position>,
    /// Where to go on, if the scan ended before the listing.
    rest: Option<Position>,
}

/// Takes over what views show. Joins and contacts are in partitions of their own.
fn absorb(rows: &mut Rows, more: Rows) {
    let Rows { messages, deliveries, attempts, provider_ids, joins: _, contacts: _, dead_letters } = more;
    rows.messages.extend(messages);
    rows.deliveries.extend(deliveries);
    rows.attempts.extend(attempts);
    rows.provider_ids.extend(provider_ids);
    rows.dead_letters.extend(dead_letters);
}

/// Goes through the places of a listing, newest first.
struct Scan<'a> {
    tenant: &'a str,
    /// Each with the runs that have it. All runs of a listing count in the same buckets.
    buckets: BTreeMap<i64, Vec<Name>>,
    after: Position,
    /// Places and partitions that may still be looked at.
    left: usize,
    places_max: usize,
}

impl<'a> Scan<'a> {
    async fn start(store: &Store, listing: Listing<'a>, page: &PageRequest) -> Result<Self, Error> {
        let cursor = Position::of_cursor(page.cursor.as_deref(), listing)?;
        let (after, from_ms) = match listing {
            Listing::DeadLetters(_, filter) => (filter.start(cursor), filter.from_ms()),
            Listing::Conversation(..) | Listing::Messages(..) => (cursor, i64::MIN),
        };
        let tenant = listing.tenant().as_str();
        let names = match Source::of(listing) {
            Source::Names(names) => names,
            Source::Prefix(prefix) => {
                store.runs(tenant).await?.into_iter().filter(|name| name.0.starts_with(&prefix)).collect()
            }
        };
        let mut buckets: BTreeMap<i64, Vec<Name>> = BTreeMap::new();
        let mut reads =
            stream::iter(names).map(|name| buckets_of(store, tenant, name, after)).buffered(store.in_flight_max);
        while let Some((name, of_name)) = reads.try_next().await? {
            for bucket in of_name.into_iter().filter(|bucket| *bucket >= name.bucket(from_ms)) {
                buckets.entry(bucket).or_default().push(name.clone());
            }
        }
        let places_max = page.limit.saturating_add(1).clamp(PLACES_MIN, PLACES_MAX);
        Ok(Self { tenant, buckets, after, left: LOOKED_AT_MAX, places_max })
    }

    /// Some next places; `None` at the end of the listing, or if `left` is 0.
    async fn next(&mut self, store: &Store) -> Result<Option<Vec<Position>>, Error> {
        while self.left > 0
            && let Some((&bucket, names)) = self.buckets.last_key_value()
        {
            let limit = i32::try_from(self.places_max).expect("at most `PLACES_MAX`");
            let places = |name| store.places((self.tenant, name, bucket), self.after, limit);
            let reads: Vec<_> = names.iter().map(places).collect();
            let runs: Vec<Vec<Position>> = stream::iter(reads).buffered(store.in_flight_max).try_collect().await?;
            let is_done = runs.iter().all(|run| run.len() < self.places_max);
            let bucket_start = names.first().map_or(i64::MIN, |name| name.bucket_start_ms(bucket));
            let places = listing::in_order(runs, self.places_max);
            self.left = self.left.saturating_sub(names.len() + places.len());
            self.after = places.last().copied().unwrap_or(self.after);
            if is_done {
                self.buckets.pop_last();
                self.after = Position { at_ms: bucket_start, id: Uuid::nil() };
            }
            if !places.is_empty() {
                return Ok(Some(places));
            }
        }
        Ok(None)
    }
}

async fn buckets_of(store: &Store, tenant: &str, name: Name, after: Position) -> Result<(Name, Vec<i64>), Error> {
    // A page ends before it came through so many: what is cut off here is for a later one.
    let limit = i32::try_from(LOOKED_AT_MAX).expect("some thousands fit");
    let buckets = store.buckets(tenant, &name, after.at_ms, limit).await?;
    Ok((name, buckets))
}
