//! The store on its file: that it is a status store, equals the one in memory, and what its file does to it.

mod costs;
mod faults;
mod plans;
mod processes;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use chat4all_proto::envelope::OutcomeKind;
use chat4all_proto::{DeliveryId, DeliveryStatus, Generation, MessageId, MessageStatus, Timestamp};
use chat4all_storage::Status;
use chat4all_storage::status::conformance::{self, Random, Sample, shuffled_batches};
use chat4all_storage::status::memory::MemoryStatus;
use chat4all_storage::status::rows::{
    self, AttemptKey, ContactKey, ContactRow, DeliveryKey, DeliveryRow, LetterKey, MessageKey, MessageRow,
    ProviderIdRow, Rows,
};
use chat4all_storage::status::{Claim, Claimed, Filter, JoinKey, Write};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Connection, Row};
use uuid::Uuid;

use super::{EmbeddedStatus, Options, query};

fn open(dir: &Path) -> Arc<EmbeddedStatus> {
    EmbeddedStatus::open(dir, Options::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_a_status_store() {
    let folder = tempfile::tempdir().unwrap();
    conformance::all(async || open(folder.path()) as Arc<dyn Status>).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_claims_on_two_handles_that_race_one_is_new() {
    let folder = tempfile::tempdir().unwrap();
    conformance::of_claims_that_race_one_is_new(open(folder.path()), open(folder.path())).await;
}

#[tokio::test]
async fn a_claim_outlives_messages_accepted_with_it_by_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let status = open(folder.path());
    let claim = conformance::claim_of(&Sample::new());
    let later_s = |s: u64| claim.accepted_at.saturating_add(std::time::Duration::from_secs(s));
    assert_eq!(status.claim(std::slice::from_ref(&claim)).await, Ok(vec![Claimed::New]));
    let again = Claim { accepted_at: later_s(10), ..claim.clone() };
    let first_at = claim.accepted_at;
    assert_eq!(status.claim(&[again]).await, Ok(vec![Claimed::Unsettled { first_at }]));
    assert_eq!(status.purge(later_s(3_610)).await, Ok(0));
    assert_eq!(status.purge(later_s(3_611)).await, Ok(1));
    assert_eq!(status.claim(&[claim]).await, Ok(vec![Claimed::New]));
}

#[tokio::test]
async fn the_conformance_suite_runs_on_one_current_thread_too() {
    let folder = tempfile::tempdir().unwrap();
    conformance::order_and_repetition_do_not_matter(open(folder.path()), Random::unpredictable(), 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_permutation_and_repetition_of_100_000_writes_ends_as_in_memory() {
    let mut random = Random::unpredictable();
    println!("seed {}", random.seed);
    let writes = Sample::new().random_writes(&mut random, 100_000);
    let memory = MemoryStatus::new();
    for write in &writes {
        memory.write(vec![write.clone()]).await.unwrap(); // one by one, as they were made
    }
    let expected = memory.dump();
    let Rows { messages, provider_ids, joins, contacts, dead_letters, .. } = &expected;
    let sizes = [messages.len(), provider_ids.len(), joins.len(), dead_letters.len()];
    assert!(sizes.iter().all(|size| *size > 5_000) && contacts.len() == 3, "seed {}: {sizes:?}", random.seed);
    for round in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let status = open(folder.path());
        for batch in shuffled_batches(&writes, &mut random) {
            status.write(batch).await.unwrap();
        }
        let stored = status.writer.run(|connection| dump(connection)).await.unwrap();
        assert!(stored == expected, "seed {}, round {round}: the rows differ", random.seed);
        status.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_stays_small_under_steady_load() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { commit_interval_min: std::time::Duration::ZERO, ..Options::default() };
    let status = EmbeddedStatus::open(folder.path(), options).unwrap();
    let mut random = Random::unpredictable();
    println!("seed {}", random.seed);
    for batch in Sample::new().random_writes(&mut random, 60_000).chunks(40) {
        status.write(batch.to_vec()).await.unwrap();
    }
    let bytes = std::fs::metadata(folder.path().join("status.db-wal")).unwrap().len();
    println!("the write-ahead log has {} MiB", bytes >> 20);
    assert!(bytes < 48 << 20, "it was never begun anew: {bytes} bytes");
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["ana"]);
    let status = open(folder.path());
    status.write(vec![row, event(&message, DeliveryStatus::Delivered)]).await.unwrap();
    status.close().await;
    let status = open(folder.path());
    let seen = status.message(&sample.tenant, message.message_id, sample.now()).await.unwrap().unwrap();
    assert_eq!(seen.status, MessageStatus::Delivered);
}

#[tokio::test]
async fn calls_that_wait_together_share_one_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let status = open(folder.path());
    let sample = Sample::new();
    let commits = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (counted, (release, released)) = (Arc::clone(&commits), std::sync::mpsc::channel::<()>());
    let held = tokio::spawn({
        let status = Arc::clone(&status);
        async move {
            let action = move |connection: &mut Connection| {
                let count = move || {
                    counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    false
                };
                connection.commit_hook(Some(count)).unwrap();
                released.recv().unwrap();
            };
            status.writer.run(action).await
        }
    });
    let writes: Vec<_> = (0..200)
        .map(|_| {
            let (status, row) = (Arc::clone(&status), sample.message_to(&["ana"]).0);
            tokio::spawn(async move { status.write(vec![row]).await })
        })
        .collect();
    while status.writer.queued() < 200 {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    held.await.unwrap().unwrap();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    assert_eq!(commits.load(std::sync::atomic::Ordering::SeqCst), 1);
    let page = status.messages(&sample.tenant, &Filter::default(), &sample.page(500), sample.now()).await.unwrap();
    assert_eq!(page.messages.len(), 200);
}

#[tokio::test]
async fn an_event_without_a_providers_id_writes_what_it_always_did() {
    let folder = tempfile::tempdir().unwrap();
    let status = open(folder.path());
    let written = Arc::new(Mutex::new(BTreeSet::new()));
    let tables = Arc::clone(&written);
    let note = move |context: AuthContext<'_>| {
        if let AuthAction::Insert { table_name } | AuthAction::Update { table_name, .. } = context.action {
            tables.lock().unwrap().insert(table_name.to_owned());
        }
        Authorization::Allow
    };
    status.writer.run(move |connection| connection.authorizer(Some(note))).await.unwrap().unwrap();
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["https://example.com/inbox"]);
    let mut delivered = Sample::event(&message, 0, DeliveryStatus::Delivered);
    delivered.attempt = Some(Sample::attempt(&message, 1, OutcomeKind::Accepted));
    status.write(vec![row, event(&message, DeliveryStatus::Queued), Write::Event(Arc::new(delivered))]).await.unwrap();
    let written: Vec<String> = written.lock().unwrap().iter().cloned().collect();
    assert_eq!(written, ["attempts", "deliveries", "messages"], "the statements that were prepared");
}

#[tokio::test]
async fn a_receipt_is_forgotten_after_a_day_without_its_event() {
    let folder = tempfile::tempdir().unwrap();
    let status = open(folder.path());
    let sample = Sample::new();
    let message = sample.message(vec![sample.address("ana")]);
    let mut sent = Sample::event(&message, 0, DeliveryStatus::Sent);
    sent.provider_id = Some("matched".into());
    let receipts = ["matched", "in vain"].map(|id| sample.receipt(id, DeliveryStatus::Read));
    let receipts = receipts.map(|receipt| Write::Receipt(Arc::new(receipt)));
    status.write(receipts.into_iter().chain([Write::Event(Arc::new(sent))]).collect()).await.unwrap();

    let keys = ["matched", "in vain"].map(|id| JoinKey::new(&sample.channel, id));
    let kept = async || -> Vec<bool> {
        status.joins(&keys).await.unwrap().into_iter().map(|join| join.receipt.is_some()).collect()
    };
    for (later_s, deleted, expected) in [(86_390, 0, [true, true]), (11, 1, [true, false])] {
        let age = move |connection: &mut Connection| {
            connection.execute("UPDATE joins SET written_at_s = written_at_s - ?1", [later_s])
        };
        status.writer.run(age).await.unwrap().unwrap();
        assert_eq!(status.purge(Timestamp::from_millis(0)).await, Ok(deleted));
        assert_eq!(kept().await, expected);
    }
}

fn event(message: &chat4all_proto::Message, status: DeliveryStatus) -> Write {
    Write::Event(Arc::new(Sample::event(message, 0, status)))
}

/// Every row of the file.
fn dump(connection: &Connection) -> Rows {
    fn all<K: Ord, V>(
        connection: &Connection,
        sql: &str,
        read: impl Fn(&Row<'_>) -> (K, V),
    ) -> std::collections::BTreeMap<K, V> {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok(read(row))).unwrap();
        rows.map(Result::unwrap).collect()
    }
    let text = |row: &Row<'_>, index| row.get::<_, String>(index).unwrap();
    let uuid = |row: &Row<'_>, index| Uuid::from_bytes(row.get(index).unwrap());
    let message = |row: &Row<'_>| MessageKey {
        tenant: text(row, 0).parse().unwrap(),
        message: MessageId::from_uuid(uuid(row, 1)),
    };
    let delivery = |row: &Row<'_>| DeliveryKey { message: message(row), delivery: DeliveryId::from_uuid(uuid(row, 2)) };
    let status_is_the_rank: bool = connection
        .query_row("SELECT count(*) = 0 FROM deliveries WHERE status <> (precedence >> 27) & 15", [], |row| row.get(0))
        .unwrap();
    assert!(status_is_the_rank);
    Rows {
        messages: all(connection, "SELECT tenant, id, accepted_at_ms, conversation, body FROM messages", |row| {
            let conversation = text(row, 3).parse().unwrap();
            (message(row), MessageRow { accepted_at_ms: row.get(2).unwrap(), conversation, body: text(row, 4) })
        }),
        deliveries: all(
            connection,
            "SELECT tenant, message_id, delivery_id, precedence, updated_at_ms, accepted_at_ms,
                channel || ':' || target, body FROM deliveries",
            |row| {
                let row_of = DeliveryRow {
                    precedence: row.get(3).unwrap(),
                    updated_at_ms: row.get(4).unwrap(),
                    accepted_at_ms: row.get(5).unwrap(),
                    address: text(row, 6).parse().unwrap(),
                    body: text(row, 7),
                };
                (delivery(row), row_of)
            },
        ),
        attempts: all(
            connection,
            "SELECT tenant, message_id, delivery_id, generation, number, body, started_at_ms FROM attempts",
            |row| {
                let generation = Generation(row.get(3).unwrap());
                let (number, started_at) = (row.get(4).unwrap(), rows::timestamp(row.get(6).unwrap()));
                (AttemptKey { delivery: delivery(row), generation, started_at, number }, text(row, 5))
            },
        ),
        provider_ids: all(
            connection,
            "SELECT tenant, message_id, delivery_id, provider_precedence, provider_id FROM deliveries
             WHERE provider_id IS NOT NULL",
            |row| (delivery(row), ProviderIdRow { precedence: row.get(3).unwrap(), provider_id: text(row, 4) }),
        ),
        joins: all(
            connection,
            "SELECT channel, id, event_rank, event_at_ms, event, receipt_rank, receipt_at_ms, receipt FROM joins",
            |row| {
                let key = JoinKey { channel: text(row, 0).parse().unwrap(), id: text(row, 1) };
                (key, query::joins::join_row(row, 2).unwrap())
            },
        ),
        contacts: all(
            connection,
            "SELECT tenant, channel || ':' || target, accepted_at_ms, conversation FROM contacts",
            |row| {
                let key = ContactKey { tenant: text(row, 0).parse().unwrap(), address: text(row, 1).parse().unwrap() };
                let conversation = text(row, 3).parse().unwrap();
                (key, ContactRow { accepted_at_ms: row.get(2).unwrap(), conversation })
            },
        ),
        dead_letters: all(
            connection,
            "SELECT tenant, delivery_id, generation, failed_at_ms, body, accepted_at_ms, channel, reason, replayed_as,
                replay_accepted_at_ms FROM dead_letters",
            |row| {
                let delivery = DeliveryId::from_uuid(uuid(row, 1));
                let Ok(letter) = query::dead_letters::letter_row(row, 2) else { panic!("it cannot be read") };
                (LetterKey { tenant: text(row, 0).parse().unwrap(), delivery }, letter)
            },
        ),
    }
}
