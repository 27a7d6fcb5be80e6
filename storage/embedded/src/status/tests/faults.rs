//! Full disks, folders and files that are not what they should be.

use std::path::Path;
use std::sync::Arc;

use chat4all_proto::{DeliveryStatus, MessageStatus};
use chat4all_storage::Status;
use chat4all_storage::status::conformance::Sample;
use chat4all_storage::status::{Error, Write};
use rusqlite::Connection;

use super::{dump, event, open};
use crate::sqlite;
use crate::status::{EmbeddedStatus, OpenError, Options};

/// A batch that needs about a MiB.
fn large_batch(sample: &Sample) -> Vec<Write> {
    (0..1_000).map(|_| sample.message_to(&["ana"; 20]).0).collect()
}

/// Breaks the writer's connection with `fault` and mends it with `repair`.
async fn check_fault(fault: fn(&Connection), words: &str, repair: fn(&Connection)) {
    let folder = tempfile::tempdir().unwrap();
    let status = open(folder.path());
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["ana"]);
    status.write(vec![row, event(&message, DeliveryStatus::Queued)]).await.unwrap();
    let before = status.writer.run(|connection| dump(connection)).await.unwrap();

    status.writer.run(move |connection| fault(connection)).await.unwrap();
    let mut batch = vec![event(&message, DeliveryStatus::Delivered)];
    batch.extend(large_batch(&sample));
    for _ in 0..2 {
        let Err(Error::Unavailable(text)) = status.write(batch.clone()).await else { panic!("the write went through") };
        assert!(text.contains(words) && text.contains("status.db"), "{text}");
    }
    let after = status.writer.run(|connection| dump(connection)).await.unwrap();
    assert!(before == after, "half of the batch was written");
    assert_eq!(status.check().await, Ok(()), "reading goes on");

    status.writer.run(move |connection| repair(connection)).await.unwrap();
    status.write(batch).await.unwrap();
    let seen = status.message(&sample.tenant, message.message_id, sample.now()).await.unwrap().unwrap();
    assert_eq!(seen.status, MessageStatus::Delivered);
}

#[tokio::test]
async fn a_full_disk_writes_nothing_until_there_is_room() {
    let fill = |connection: &Connection| sqlite::set_page_count_max(connection, 1).unwrap();
    let free = |connection: &Connection| sqlite::set_page_count_max(connection, 1_000_000).unwrap();
    check_fault(fill, "no room is left", free).await;
}

#[tokio::test]
async fn a_read_only_file_writes_nothing_until_it_may_be_written() {
    check_fault(
        |connection| connection.pragma_update(None, "query_only", true).unwrap(),
        "cannot be written: check the rights",
        |connection| connection.pragma_update(None, "query_only", false).unwrap(),
    )
    .await;
}

#[tokio::test]
async fn a_row_of_a_later_version_is_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let status = open(folder.path());
    let sample = Sample::new();
    let (row, message) = sample.message_to(&["ana"]);
    status.write(vec![row]).await.unwrap();
    let damage = |connection: &mut Connection| {
        connection.execute("UPDATE messages SET body = replace(body, '\"v\":1', '\"v\":2')", []).unwrap()
    };
    assert_eq!(status.writer.run(damage).await, Ok(1));
    let answer = status.message(&sample.tenant, message.message_id, sample.now()).await;
    let Err(Error::Refused(text)) = answer else { panic!("{answer:?}") };
    assert!(text.contains(&message.message_id.to_string()) && text.contains("version `2`"), "{text}");
}

fn check_refusal(dir: &Path, words: &[&str]) -> OpenError {
    let error = EmbeddedStatus::open(dir, Options::default()).unwrap_err();
    for words in words.iter().chain([&dir.to_str().unwrap()]) {
        assert!(error.to_string().contains(words), "{error}");
    }
    error
}

#[test]
fn what_is_not_our_store_is_refused_before_it_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let under_a_file = folder.path().join("file/sub");
    std::fs::write(folder.path().join("file"), "x").unwrap();
    check_refusal(&under_a_file, &["choose another folder"]);

    let text = "this is no database, though it is long enough to have a page's header of a hundred bytes and more....";
    std::fs::write(folder.path().join("status.db"), text).unwrap();
    check_refusal(folder.path(), &["status.db", "is not a database of chat4all"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("status.db")).unwrap(), text);
}

#[tokio::test]
async fn another_programs_database_and_another_version_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("status.db");
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE theirs (a); PRAGMA user_version = 1").unwrap();
    check_refusal(folder.path(), &["status.db", "is not a database of chat4all"]);

    for version in [2, 7] {
        let folder = tempfile::tempdir().unwrap();
        let status: Arc<EmbeddedStatus> = open(folder.path());
        let change = move |connection: &mut Connection| connection.pragma_update(None, "user_version", version);
        status.writer.run(change).await.unwrap().unwrap();
        status.close().await;
        check_refusal(folder.path(), &["status.db", &format!("its format is {version}, this version reads 3")]);
    }
}
