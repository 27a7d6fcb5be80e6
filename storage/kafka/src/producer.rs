//! The way of records to the brokers: an idempotent producer whose delivery reports answer an append when its last
//! record is answered. Used by the log, by memberships, and for our own notes (`cluster`).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chat4all_storage::log::{AppendError, Appended};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Message as _};
use tracing::{error, warn};

use crate::outbox::{Outbox, Place};
use crate::shared::lock;
use crate::{client, metrics};

/// Longest wait for what is under way when the log is closed.
const FLUSH_MAX: Duration = Duration::from_secs(10);
/// So many failures for good, within so long, end the process.
const FAILURES_MAX: usize = 3;
const FAILURES_WITHIN: Duration = Duration::from_secs(600);

/// A record on its way.
pub(crate) struct Outgoing {
    pub topic: Arc<str>,
    pub key: String,
    /// `None`: removes the key's value from a compacted topic.
    pub value: Option<Bytes>,
    pub headers: OwnedHeaders,
}

/// What becomes of an append.
pub(crate) type Answer = Result<Vec<Appended>, AppendError>;

pub(crate) struct Producer {
    config: ClientConfig,
    outbox: Arc<Outbox>,
    living: Mutex<Living>,
}

/// The producer of now: made anew after a fatal error.
struct Living {
    inner: Arc<Inner>,
    /// When producers failed lately.
    failures: Vec<Instant>,
}

type Inner = ThreadedProducer<Reports>;

impl Producer {
    pub fn new(config: ClientConfig, outbox: Arc<Outbox>) -> Result<Self, KafkaError> {
        let inner = Arc::new(config.create_with_context(Reports)?);
        let living = Mutex::new(Living { inner, failures: Vec::new() });
        Ok(Self { config, outbox, living })
    }

    /// Hands `records`, `bytes` in all, over; `answer` is called exactly once, on another thread. Never blocks.
    /// An error: nothing was handed over and `answer` is not called.
    pub fn send(
        &self,
        records: Vec<Outgoing>,
        bytes: usize,
        answer: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), AppendError> {
        let place = self.outbox.enter(records.len(), bytes);
        let place = place.ok_or_else(|| AppendError::Unavailable("its queue is full".into()))?;
        self.send_from(place, records, answer)
    }

    /// As `send`, for our own notes, which no bound holds up.
    pub fn send_notes(
        &self,
        notes: Vec<Outgoing>,
        answer: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), AppendError> {
        let place = self.outbox.enter(0, 0).expect("what counts no records passes always");
        self.send_from(place, notes, answer)
    }

    fn send_from(
        &self,
        place: Place,
        records: Vec<Outgoing>,
        answer: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<(), AppendError> {
        let inner = self.living().inspect_err(|_| self.outbox.leave(&place))?;
        let batch = Arc::new(Batch::new(records.len(), self.outbox.clone(), place, Box::new(answer)));
        let mut failed = None;
        for (index, record) in records.into_iter().enumerate() {
            let slot = Box::new(Slot { batch: batch.clone(), index });
            // After the first failure none of the rest is handed over, so that the order holds.
            failed = failed.or_else(|| produce(&inner, record, slot).err());
            match &failed {
                Some(error) if index == 0 => {
                    batch.abandon();
                    return Err(client::failure(error).into());
                }
                Some(error) => batch.answered(index, Err(Lost::Never(error.clone()))),
                None => {}
            }
        }
        Ok(())
    }

    /// As `send_notes`, for a thread that may wait.
    pub fn send_notes_and_wait(&self, notes: Vec<Outgoing>, time_max: Duration) -> Answer {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        self.send_notes(notes, move |result| drop(answer.try_send(result)))?;
        answered.recv_timeout(time_max).unwrap_or_else(|_| Err(AppendError::Unknown("it took too long".into())))
    }

    /// Waits for what is under way. Blocks.
    pub fn flush(&self) {
        let inner = lock(&self.living).inner.clone();
        if let Err(error) = inner.flush(FLUSH_MAX) {
            warn!(%error, "records were not acknowledged before the log was closed");
        }
    }

    /// The producer, made anew if it has failed for good: what it still held is answered by its end. One that fails again
    /// and again ends the process: another one may do better in its place.
    fn living(&self) -> Result<Arc<Inner>, AppendError> {
        let mut living = lock(&self.living);
        if let Some((code, reason)) = living.inner.client().fatal_error() {
            error!(%code, reason, "the producer failed and is made anew");
            metrics::record_producer_failure();
            if is_one_too_many(&mut living.failures, Instant::now()) {
                error!("the producer has failed {FAILURES_MAX} times in {FAILURES_WITHIN:?}; this process ends");
                std::process::abort();
            }
            let new = self.config.create_with_context(Reports);
            living.inner = Arc::new(new.map_err(|error| AppendError::Unavailable(error.to_string()))?);
        }
        Ok(living.inner.clone())
    }
}

/// Notes a failure; whether there have been too many of late.
fn is_one_too_many(failures: &mut Vec<Instant>, now: Instant) -> bool {
    failures.retain(|at| now.duration_since(*at) < FAILURES_WITHIN);
    failures.push(now);
    failures.len() >= FAILURES_MAX
}

fn produce(inner: &Inner, record: Outgoing, slot: Box<Slot>) -> Result<(), KafkaError> {
    let mut base = BaseRecord::with_opaque_to(&record.topic, slot).key(&record.key).headers(record.headers);
    if let Some(value) = &record.value {
        base = base.payload(&value[..]);
    }
    inner.send(base).map_err(|(error, _)| error)
}

/// Obeys the delivery reports.
struct Reports;

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        client::log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client::told(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Slot>;

    fn delivery(&self, report: &DeliveryResult<'_>, slot: Box<Slot>) {
        let result = match report {
            Ok(message) => Ok(Appended::At {
                partition: u32::try_from(message.partition()).unwrap_or(0),
                offset: u64::try_from(message.offset()).unwrap_or(0),
            }),
            Err((error, _)) => Err(Lost::of(error)),
        };
        slot.batch.answered(slot.index, result);
    }
}

/// The place of a record in its append.
pub(crate) struct Slot {
    batch: Arc<Batch>,
    index: usize,
}

/// Why a record is not there, as far as one knows.
enum Lost {
    /// It was not written and will not be.
    Never(KafkaError),
    /// It can never be written.
    Refused(KafkaError),
    Perhaps(KafkaError),
}

impl Lost {
    fn of(error: &KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(Code::PurgeQueue) => Self::Never(error.clone()),
            Some(code) if client::is_refusal(code) => Self::Refused(error.clone()),
            _ => Self::Perhaps(error.clone()),
        }
    }
}

/// An append whose records are not all answered.
struct Batch {
    outbox: Arc<Outbox>,
    place: Place,
    open: Mutex<OpenBatch>,
}

struct OpenBatch {
    left: usize,
    results: Vec<Option<Result<Appended, Lost>>>,
    answer: Option<Box<dyn FnOnce(Answer) + Send>>,
}

impl Batch {
    fn new(count: usize, outbox: Arc<Outbox>, place: Place, answer: Box<dyn FnOnce(Answer) + Send>) -> Self {
        let results = std::iter::repeat_with(|| None).take(count).collect();
        Self { outbox, place, open: Mutex::new(OpenBatch { left: count, results, answer: Some(answer) }) }
    }

    /// It was not handed over after all.
    fn abandon(&self) {
        lock(&self.open).answer = None;
        self.outbox.leave(&self.place);
    }

    fn answered(&self, index: usize, result: Result<Appended, Lost>) {
        let mut open = lock(&self.open);
        open.results[index] = Some(result);
        open.left -= 1;
        if open.left == 0
            && let Some(answer) = open.answer.take()
        {
            let results = std::mem::take(&mut open.results);
            drop(open);
            self.outbox.leave(&self.place);
            answer(sum_up(results.into_iter().flatten()));
        }
    }
}

/// All are there, or none of them, or one cannot tell.
fn sum_up(results: impl Iterator<Item = Result<Appended, Lost>>) -> Answer {
    let (mut appended, mut refused, mut never, mut perhaps) = (Vec::new(), None, None, None);
    for result in results {
        match result {
            Ok(at) => appended.push(at),
            Err(Lost::Refused(error)) => refused = Some(error),
            Err(Lost::Never(error)) => never = Some(error),
            Err(Lost::Perhaps(error)) => perhaps = Some(error),
        }
    }
    match (perhaps, never, refused) {
        (None, None, None) => Ok(appended),
        (Some(error), ..) => Err(AppendError::Unknown(error.to_string())),
        (None, never, refused) if !appended.is_empty() => {
            let reason = never.or(refused).map_or_else(String::new, |error| error.to_string());
            Err(AppendError::Unknown(format!("{} records were written, another was not: {reason}", appended.len())))
        }
        (None, Some(error), _) => Err(AppendError::Unavailable(error.to_string())),
        (None, None, Some(error)) => Err(AppendError::Refused(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Appended = Appended::At { partition: 1, offset: 7 };

    #[test]
    fn three_failures_in_ten_minutes_are_one_too_many() {
        let (mut failures, begin) = (Vec::new(), Instant::now());
        let mut fails_at = |minute: u64| is_one_too_many(&mut failures, begin + Duration::from_secs(60 * minute));
        assert_eq!([0, 5, 11, 16].map(&mut fails_at), [false, false, false, false]);
        assert!(fails_at(20), "the third since minute 11");
    }

    #[test]
    fn an_append_is_all_or_none_or_unknown() {
        let error = |code| KafkaError::MessageProduction(code);
        let never = || Err(Lost::of(&error(Code::PurgeQueue)));
        let refused = || Err(Lost::of(&error(Code::MessageSizeTooLarge)));
        let perhaps = || Err(Lost::of(&error(Code::MessageTimedOut)));
        let check = |results: Vec<Result<Appended, Lost>>, expected: &str| {
            let text = format!("{:?}", sum_up(results.into_iter()));
            assert!(text.starts_with(expected), "{text}");
        };
        check(vec![Ok(AT), Ok(AT)], "Ok([At");
        check(vec![], "Ok([])");
        check(vec![never(), never()], "Err(Unavailable");
        check(vec![never(), refused()], "Err(Unavailable");
        check(vec![refused()], "Err(Refused");
        check(vec![perhaps(), never()], "Err(Unknown");
        check(vec![Ok(AT), perhaps()], "Err(Unknown");
        check(vec![Ok(AT), never()], "Err(Unknown");
        check(vec![refused(), Ok(AT)], "Err(Unknown");
    }
}
