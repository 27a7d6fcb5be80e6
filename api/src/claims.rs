//! Keyed messages on a log that cannot keep `once` itself (Kafka): each id is claimed in the status store before the
//! append and marked as appended after it. Answers as a log that keeps `once` does, so that `ingest` need not know.
//!
//! An append that is not known to have succeeded leaves its claim unsettled, and a repeat appends the message again under
//! the same id. While the store is away or slow nothing is claimed. In both cases the router drops what is on the log
//! twice, for as long as its window goes back. A 202 never depends on the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chat4all_proto::{Message, MessageId, TenantId, Timestamp, Topic};
use chat4all_storage::Status;
use chat4all_storage::log::{Appended, Fingerprint, NewRecord};
use chat4all_storage::status::{Claim, Claimed};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::Api;
use crate::complaints::Pace;
use crate::ingest::Unwritten;
use crate::metrics;

/// How much longer the store may take for each claim of a batch: it makes some 500 a second on a small machine.
const FOR_EACH_CLAIM: Duration = Duration::from_millis(2);
/// Most claims that are being marked at a time. Those beyond stay unsettled.
const MARKS_MAX: usize = 16 * 1_024;

static UNCLAIMED: Pace = Pace::new(Duration::from_secs(10));

impl Api {
    /// Appends records of messages that were accepted `now` to `messages`; those with `once` only if their ids were not used
    /// lately, as far as the log or the claims can tell.
    pub(crate) async fn append_once(
        &self,
        records: Vec<NewRecord>,
        now: Timestamp,
    ) -> Result<Vec<Appended>, Unwritten> {
        match &self.claims {
            Some(claims) if records.iter().any(|record| record.once.is_some()) => {
                self.append_claimed(claims, records, now).await
            }
            _ => self.hand_over(&Topic::Messages, records).await,
        }
    }

    async fn append_claimed(
        &self,
        claims: &Claims,
        records: Vec<NewRecord>,
        now: Timestamp,
    ) -> Result<Vec<Appended>, Unwritten> {
        self.check_log_answers()?; // before an id is bound to contents that are refused
        let wanted = wanted(&records, &self.tenant, now);
        let met = claims.claim(&wanted, now).await;
        let is_claimed = met.is_some();
        let mut ids = Ids::of(wanted, met);
        let (fates, records) = ids.decide(records);
        let appended = if records.is_empty() { Vec::new() } else { self.hand_over(&Topic::Messages, records).await? };
        if is_claimed {
            claims.mark_appended(ids.appended());
        }
        let mut appended = appended.into_iter();
        Ok(fates.into_iter().map_while(|fate| fate.with(&mut appended)).collect())
    }
}

/// A claim for each id. Of records that share one the first decides what it stands for.
fn wanted(records: &[NewRecord], tenant: &TenantId, now: Timestamp) -> Vec<Claim> {
    let mut claims = BTreeMap::new();
    for record in records {
        let Some(fingerprint) = record.once else { continue };
        let (tenant, message_id) = (tenant.clone(), MessageId::from_uuid(record.id.uuid));
        claims.entry(message_id).or_insert(Claim { tenant, message_id, fingerprint, accepted_at: now });
    }
    claims.into_values().collect()
}

/// The store, as far as claims need it.
pub(crate) struct Claims {
    status: Arc<dyn Status>,
    /// Longest wait for an answer about one claim.
    timeout: Duration,
    /// A permit for each claim that is being marked.
    marks: Arc<Semaphore>,
}

impl Claims {
    pub(crate) fn new(status: Arc<dyn Status>, timeout: Duration) -> Self {
        Self { status, timeout, marks: Arc::new(Semaphore::new(MARKS_MAX)) }
    }

    /// `None` if the store does not answer in time.
    async fn claim(&self, wanted: &[Claim], now: Timestamp) -> Option<Vec<Claimed>> {
        let limit = self.limit(wanted);
        let error = match timeout(limit, self.status.claim(wanted)).await {
            Ok(Ok(met)) => return Some(met),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {limit:?}"),
        };
        metrics::record_unclaimed(wanted.len());
        if let Some(withheld) = UNCLAIMED.admit(now) {
            warn!(error, withheld, "the status store takes no claims: only the routers can tell repeats of a key");
        }
        None
    }

    fn limit(&self, claims: &[Claim]) -> Duration {
        self.timeout + FOR_EACH_CLAIM * number_of(claims)
    }

    /// Beside the answer to the client, which does not wait.
    fn mark_appended(&self, claims: Vec<Claim>) {
        let count = number_of(&claims);
        let Ok(permits) = Arc::clone(&self.marks).try_acquire_many_owned(count) else { return };
        let (status, limit) = (Arc::clone(&self.status), self.limit(&claims));
        tokio::spawn(async move {
            let marked = timeout(limit, status.mark_appended(&claims)).await;
            if !matches!(marked, Ok(Ok(()))) {
                debug!(claims = count, "not marked as appended: repeats are appended again");
            }
            drop(permits);
        });
    }
}

fn number_of(claims: &[Claim]) -> u32 {
    u32::try_from(claims.len()).expect("a batch has a thousand messages at most")
}

/// The ids that one request's keyed messages came under.
struct Ids(BTreeMap<Uuid, Id>);

struct Id {
    claim: Claim,
    met: Claimed,
    /// Whether a record under it is among those to be appended.
    is_appended: bool,
}

/// What becomes of one record.
enum Fate {
    /// As the log answers.
    Appended,
    /// It is appended, perhaps once more; the client is told the time of the first request.
    AppendedAgain {
        first_at: Timestamp,
    },
    Known(Appended),
}

impl Ids {
    /// What was not claimed counts as new.
    fn of(wanted: Vec<Claim>, met: Option<Vec<Claimed>>) -> Self {
        let met = met.unwrap_or_else(|| vec![Claimed::New; wanted.len()]);
        let ids = wanted.into_iter().zip(met);
        Self(ids.map(|(claim, met)| (claim.message_id.as_uuid(), Id { claim, met, is_appended: false })).collect())
    }

    /// The fate of each record, and those to be appended.
    fn decide(&mut self, records: Vec<NewRecord>) -> (Vec<Fate>, Vec<NewRecord>) {
        let (mut fates, mut appended) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
        for mut record in records {
            let fate = match (record.once, self.0.get_mut(&record.id.uuid)) {
                (Some(fingerprint), Some(id)) => id.decide(fingerprint),
                _ => Fate::Appended,
            };
            if let Fate::AppendedAgain { first_at } = fate {
                date_back(&mut record, first_at);
            }
            if !matches!(fate, Fate::Known(_)) {
                appended.push(record);
            }
            fates.push(fate);
        }
        (fates, appended)
    }

    /// The claims whose records were to be appended.
    fn appended(self) -> Vec<Claim> {
        self.0.into_values().filter(|id| id.is_appended).map(|id| id.claim).collect()
    }
}

impl Id {
    fn decide(&mut self, fingerprint: Fingerprint) -> Fate {
        if fingerprint != self.claim.fingerprint {
            return Fate::Known(Appended::Conflict);
        }
        if self.is_appended {
            return Fate::Known(Appended::Repeated { first_at: self.claim.accepted_at });
        }
        match self.met {
            Claimed::Conflict => Fate::Known(Appended::Conflict),
            Claimed::Appended { first_at } => Fate::Known(Appended::Repeated { first_at }),
            Claimed::New => {
                self.is_appended = true;
                Fate::Appended
            }
            Claimed::Unsettled { first_at } => {
                (self.is_appended, self.claim.accepted_at) = (true, first_at);
                Fate::AppendedAgain { first_at }
            }
        }
    }
}

impl Fate {
    /// `appended`: what the log says of the records that it was handed, in order. `None` if it has said too little.
    fn with(self, appended: &mut impl Iterator<Item = Appended>) -> Option<Appended> {
        match self {
            Self::Appended => appended.next(),
            Self::AppendedAgain { first_at } => appended.next().map(|_| Appended::Repeated { first_at }),
            Self::Known(known) => Some(known),
        }
    }
}

/// So that answer, log and status store tell one time, whichever of the two appends the message is read from. Its expiry
/// still counts from now: an outage must not use up a message that was accepted only after it.
fn date_back(record: &mut NewRecord, first_at: Timestamp) {
    let message = serde_json::from_slice::<Message>(&record.value).expect("it was made from a message");
    let message = Message { accepted_at: first_at, ..message };
    record.value = Bytes::from(serde_json::to_vec(&message).expect("a message has text keys only"));
}
