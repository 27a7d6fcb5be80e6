//! The store on a real Cassandra does what the port promises, whatever the order of writes and whenever the server comes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_cassandra::{CassandraStatus, Options, migrate};
use chat4all_proto::http::MessageView;
use chat4all_proto::{DeliveryStatus, Message, Timestamp};
use chat4all_storage::Status;
use chat4all_storage::status::conformance::{self, Random, Sample, shuffled_batches};
use chat4all_storage::status::memory::MemoryStatus;
use chat4all_storage::status::{Claim, DeadLetterFilter, Error, Filter, Write};
use scylla::client::session_builder::SessionBuilder;
use support::{Door, PATIENCE, connected, on_a_server};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_a_status_store() {
    on_a_server(async |options: Options| {
        let status = connected(&options).await;
        conformance::all(async || Arc::clone(&status) as Arc<dyn Status>).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_several_processes_at_once_end_as_in_memory() {
    on_a_server(async |options: Options| {
        let mut random = Random::unpredictable();
        let seed = random.seed;
        let sample = Sample::new();
        let writes = sample.random_writes(&mut random, 3_000);
        let memory = MemoryStatus::new();
        memory.write(writes.clone()).await.unwrap();
        let processes = [connected(&options).await, connected(&options).await];
        let mut calls = JoinSet::new();
        for (number, batch) in shuffled_batches(&writes, &mut random).into_iter().enumerate() {
            let status = Arc::clone(&processes[number % 2]);
            calls.spawn(async move { status.write(batch).await });
        }
        while let Some(call) = calls.join_next().await {
            assert_eq!(call.unwrap(), Ok(()), "seed {seed}");
        }
        for write in &writes {
            let Write::Message(message) = write else { continue };
            let expected = view(&*memory, &sample, message).await;
            assert_eq!(view(&*processes[0], &sample, message).await, expected, "seed {seed}");
        }
        let expected = listed(&*memory, &sample).await;
        assert!(expected.iter().all(|ids| !ids.is_empty()), "seed {seed}: {expected:?}");
        assert_eq!(listed(&*processes[1], &sample).await, expected, "seed {seed}");
    })
    .await;
}

/// Of two reports about one attempt any may stay: what they say is left out.
async fn view(status: &dyn Status, sample: &Sample, message: &Message) -> Option<MessageView> {
    let mut view = status.message(&sample.tenant, message.message_id, sample.now()).await.unwrap();
    for attempt in view.iter_mut().flat_map(|view| &mut view.deliveries).flat_map(|delivery| &mut delivery.attempts) {
        (attempt.duration_ms, attempt.code) = (0, None);
    }
    view
}

/// The ids of every listing, all pages: all messages, those of each status, the channel's, the conversation's, dead
/// letters.
async fn listed(status: &dyn Status, sample: &Sample) -> Vec<Vec<String>> {
    let mut filters = vec![Filter::default(), Filter { status: None, channel: Some(sample.channel.clone()) }];
    filters.extend(DeliveryStatus::ALL.map(|reached| Filter { status: Some(reached), channel: None }));
    let mut all = Vec::new();
    for filter in filters {
        let (mut ids, mut page) = (Vec::new(), sample.page(50));
        loop {
            let shown = status.messages(&sample.tenant, &filter, &page, sample.now()).await.unwrap();
            ids.extend(shown.messages.iter().map(|message| message.message_id.to_string()));
            page.cursor = shown.next_cursor;
            if page.cursor.is_none() {
                break;
            }
        }
        all.push(ids);
    }
    let page = sample.page(1_000);
    let shown = status.conversation(&sample.tenant, &sample.conversation, &page, sample.now()).await.unwrap();
    all.push(shown.messages.iter().map(|message| message.message_id.to_string()).collect());
    let shown = status.dead_letters(&sample.tenant, &DeadLetterFilter::default(), &page).await.unwrap();
    all.push(shown.dead_letters.iter().map(|letter| letter.delivery_id.to_string()).collect());
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_later_goes_away_and_returns_is_used_while_it_is_there() {
    on_a_server(async |mut options: Options| {
        let mut door = Door::to(&options.nodes[0]).await;
        options.nodes = vec![door.address.to_string()];
        let status = CassandraStatus::connect(options).unwrap();
        let sample = Sample::new();
        let (row, message) = sample.message_to(&["ana"]);
        let refused = status.write(vec![row.clone()]).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");

        door.open().await;
        tokio::time::timeout(PATIENCE, status.connected()).await.expect("it connects by itself");
        assert_eq!(status.write(vec![row]).await, Ok(()));

        door.shut().await;
        let away = eventually(async || status.check().await.err()).await;
        assert!(matches!(away, Error::Unavailable(_)), "{away:?}");
        door.open().await;
        eventually(async || status.check().await.ok()).await;
        let seen = status.message(&sample.tenant, message.message_id, sample.now()).await;
        assert_eq!(seen.unwrap().map(|seen| seen.message_id), Some(message.message_id));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_claims_of_two_processes_that_race_one_is_new() {
    on_a_server(async |options: Options| {
        let (one, other) = (connected(&options).await, connected(&options).await);
        conformance::of_claims_that_race_one_is_new(one, other).await;
    })
    .await;
}

/// Asks again until there is an answer.
async fn eventually<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await; // nothing tells when a driver reconnects
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it happens at last")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrating_twice_changes_nothing_and_another_versions_tables_are_refused() {
    on_a_server(async |options: Options| {
        assert_eq!(migrate(&options).await, Ok(()));
        assert_eq!(migrate(&options).await, Ok(()));
        let session = SessionBuilder::new().known_node(&options.nodes[0]).build().await.unwrap();
        let raise = format!("UPDATE {}.schema_version SET version = 99 WHERE id = 0", options.keyspace);
        session.query_unpaged(raise, ()).await.unwrap();
        let refused = migrate(&options).await;
        assert!(matches!(&refused, Err(Error::Refused(text)) if text.contains("`99`")), "{refused:?}");
        let status = CassandraStatus::connect(options).unwrap();
        let told = async || status.check().await.err().filter(|error| matches!(error, Error::Refused(_)));
        assert_eq!(Err(eventually(told).await), refused);
    })
    .await;
}

/// A page that would have to look at thousands of places where nothing stands any more ends before, and the next one goes
/// on behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_ends_after_so_many_former_places_and_its_cursor_leads_on() {
    on_a_server(async |options: Options| {
        let status = connected(&options).await;
        let sample = Sample::new();
        let messages: Vec<_> = (0..2_500).map(|_| sample.message_to(&["ana"])).collect();
        let queued = messages.iter().map(|(_, message)| event_of(message, DeliveryStatus::Queued));
        let rows = messages.iter().map(|(row, _)| row.clone());
        assert_eq!(status.write(rows.chain(queued).collect()).await, Ok(()));
        let (_, oldest) = &messages[0];
        let ended = messages[1..].iter().map(|(_, message)| event_of(message, DeliveryStatus::Expired));
        assert_eq!(status.write(ended.collect()).await, Ok(()));

        let filter = Filter { status: Some(DeliveryStatus::Queued), channel: None };
        let (mut pages, mut page) = (Vec::new(), sample.page(9));
        loop {
            let shown = status.messages(&sample.tenant, &filter, &page, sample.now()).await.unwrap();
            pages.push(shown.messages.iter().map(|message| message.message_id).collect::<Vec<_>>());
            page.cursor = shown.next_cursor;
            if page.cursor.is_none() {
                break;
            }
        }
        assert_eq!(pages, [vec![], vec![oldest.message_id]]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_purged_can_be_written_listed_and_purged_again() {
    on_a_server(async |options: Options| {
        let status = connected(&options).await;
        let sample = Sample::starting(Timestamp::from_millis(86_400_000)); // 1970
        let (row, message) = sample.message_to(&["ana"]);
        let filter = Filter { status: Some(DeliveryStatus::Queued), channel: None };
        let listed = async || {
            let page = status.messages(&sample.tenant, &filter, &sample.page(9), sample.now()).await.unwrap();
            page.messages.len()
        };
        for _ in 0..2 {
            assert_eq!(status.write(vec![row.clone(), event_of(&message, DeliveryStatus::Queued)]).await, Ok(()));
            assert_eq!(listed().await, 1);
            while status.purge(Timestamp::from_millis(315_532_800_000)).await.unwrap() > 0 {}
            assert_eq!(listed().await, 0);
        }
    })
    .await;
}

/// The server's rule that keeps us from telling writes apart by timestamp alone: see `schema`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_expiring_cells_with_one_timestamp_the_lesser_may_stay() {
    on_a_server(async |options: Options| {
        assert_eq!(migrate(&options).await, Ok(()));
        let session = SessionBuilder::new().known_node(&options.nodes[0]).build().await.unwrap();
        let keyspace = &options.keyspace;
        for (conversation, ttl) in [("z", 1_000), ("a", 2_000)] {
            let insert = format!(
                "INSERT INTO {keyspace}.contacts (tenant, channel, target, conversation) VALUES ('t', 'c', 'x', ?)
                 USING TIMESTAMP 1 AND TTL {ttl}"
            );
            session.query_unpaged(insert, (conversation,)).await.unwrap();
        }
        let select =
            format!("SELECT conversation FROM {keyspace}.contacts WHERE tenant='t' AND channel='c' AND target='x'");
        let found = session.query_unpaged(select, ()).await.unwrap().into_rows_result().unwrap();
        assert_eq!(found.single_row::<(String,)>().unwrap().0, "a");
    })
    .await;
}

/// A figure, not a promise: what one process writes of messages that are queued, then delivered in one attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_of_writes_is_printed() {
    on_a_server(async |options: Options| {
        let status = connected(&options).await;
        let sample = Sample::new();
        let mut batches = Vec::new();
        for _ in 0..10 {
            let messages: Vec<_> = (0..200).map(|_| sample.message_to(&["ana"])).collect();
            let queued = messages.iter().map(|(_, message)| event_of(message, DeliveryStatus::Queued));
            batches.push(messages.iter().map(|(row, _)| row.clone()).chain(queued).collect::<Vec<_>>());
            batches.push(messages.iter().map(|(_, message)| event_of(message, DeliveryStatus::Delivered)).collect());
        }
        let begun = Instant::now();
        for batch in batches {
            assert_eq!(status.write(batch).await, Ok(()));
        }
        let rate = 2_000.0 / begun.elapsed().as_secs_f64();
        println!("{rate:.0} messages/s, each written, queued and delivered");
    })
    .await;
}

/// Figures, not promises: what an api waits for each keyed message, alone and in a batch, and what marking costs beside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_of_claims_is_printed() {
    on_a_server(async |options: Options| {
        let status = connected(&options).await;
        let sample = Sample::new();
        let claims: Vec<_> = (0..1_000).map(|_| conformance::claim_of(&sample)).collect();
        for what in ["new", "unsettled"] {
            let took = each_timed(&claims, async |claim| status.claim(claim).await.map(drop)).await;
            println!("1,000 claims, {what}: {took}");
        }
        let took = each_timed(&claims, async |claim| status.mark_appended(claim).await).await;
        println!("1,000 claims, marked: {took}");
        let batch: Vec<_> = (0..1_000).map(|_| conformance::claim_of(&sample)).collect();
        let begun = Instant::now();
        assert_eq!(status.claim(&batch).await.map(|claimed| claimed.len()), Ok(batch.len()));
        println!("1,000 claims in one call: {} ms", begun.elapsed().as_millis());
    })
    .await;
}

async fn each_timed(claims: &[Claim], call: impl AsyncFn(&[Claim]) -> Result<(), Error>) -> String {
    let mut took = Vec::with_capacity(claims.len());
    for claim in claims {
        let begun = Instant::now();
        assert_eq!(call(std::slice::from_ref(claim)).await, Ok(()));
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let [p50, p99] = [50, 99].map(|percent| took[took.len() * percent / 100].as_micros());
    format!("p50 {p50} µs, p99 {p99} µs")
}

fn event_of(message: &Message, reached: DeliveryStatus) -> Write {
    let mut event = Sample::event(message, 0, reached);
    if reached == DeliveryStatus::Delivered {
        event.attempt = Some(Sample::attempt(message, 1, chat4all_proto::envelope::OutcomeKind::Accepted));
    }
    Write::Event(Arc::new(event))
}
