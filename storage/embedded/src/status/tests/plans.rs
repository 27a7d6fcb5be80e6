//! That no query looks at more rows than it needs, however many there are.

use chat4all_storage::Status;

use super::open;
use crate::status::{claims, purge, query};

#[tokio::test]
async fn every_query_searches_an_index_and_sorts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let status = open(folder.path());
    for (sql, index) in [
        (query::CONVERSATION, "messages_by_conversation (tenant=? AND conversation=? AND (accepted_at_ms,id)<(?,?))"),
        (query::ALL, "messages_by_time (tenant=? AND (accepted_at_ms,id)<(?,?))"),
        (
            query::RUN,
            "deliveries_by_status (tenant=? AND status=? AND channel=? AND (accepted_at_ms,message_id)<(?,?))",
        ),
        (query::NEXT_CHANNEL, "deliveries_by_status (tenant=? AND status=? AND channel>?)"),
        (query::NEXT_RUN, "deliveries_by_status ((tenant,status,channel)>(?,?,?))"),
        (query::MESSAGE, "sqlite_autoindex_messages_1 (tenant=? AND id=?)"),
        (query::DELIVERIES, "PRIMARY KEY (tenant=? AND message_id=?)"),
        (query::ATTEMPTS, "PRIMARY KEY (tenant=? AND message_id=?)"),
        (query::joins::JOIN, "PRIMARY KEY (channel=? AND id=?)"),
        (query::joins::CONTACT, "PRIMARY KEY (tenant=? AND channel=? AND target=?)"),
        (query::dead_letters::LETTER, "sqlite_autoindex_dead_letters_1 (tenant=? AND delivery_id=?)"),
        (
            query::dead_letters::RUN,
            "dead_letters_by_reason (tenant=? AND reason=? AND channel=? AND failed_at_ms>? AND (failed_at_ms,delivery_id)<(?,?))",
        ),
        (query::dead_letters::NEXT_CHANNEL, "dead_letters_by_reason (tenant=? AND reason=? AND channel>?)"),
        (query::dead_letters::DISCARD, "sqlite_autoindex_dead_letters_1 (tenant=? AND delivery_id=?)"),
        (query::ANY, "(tenant=?)"),
        (purge::OLD_MESSAGES, "messages_by_time (tenant=? AND accepted_at_ms<?)"),
        (purge::NEXT_TENANT, "(tenant>?)"),
        (purge::OLD_ORPHANS, "deliveries_by_status (tenant=? AND status=? AND channel=? AND accepted_at_ms<?)"),
        (purge::OLD_BY_TIME[0], "joins_by_time (event_at_ms<?)"),
        (purge::OLD_BY_TIME[1], "contacts_by_time (accepted_at_ms<?)"),
        (purge::OLD_BY_TIME[2], "dead_letters_by_time (<expr><?)"),
        (claims::FIND, "PRIMARY KEY (tenant=? AND message_id=?)"),
        (claims::ALLOW_AGAIN, "PRIMARY KEY (tenant=? AND message_id=?)"),
        (claims::MARK, "PRIMARY KEY (tenant=? AND message_id=?)"),
        (claims::OLD, "claims_by_time (last_at_ms<?)"),
        (purge::IN_VAIN, "joins_without_event (written_at_s<?)"),
    ] {
        let steps = status.writer.run(move |connection| plan(connection, sql)).await.unwrap();
        assert!(steps.iter().any(|step| step.ends_with(index)), "{sql}: {steps:?}");
        for step in steps {
            assert!(!step.contains("SCAN ") && !step.contains("TEMP B-TREE"), "{sql}: {step}");
        }
    }
    status.close().await;
}

fn plan(connection: &rusqlite::Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    for parameter in 1..=statement.parameter_count() {
        statement.raw_bind_parameter(parameter, 1).unwrap();
    }
    let mut rows = statement.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get("detail").unwrap());
    }
    steps
}
