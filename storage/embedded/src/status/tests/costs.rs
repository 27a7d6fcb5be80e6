//! What writes and listings cost: figures to read, from `cargo test --release -- --ignored --nocapture costs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat4all_proto::envelope::{OutcomeKind, Reason};
use chat4all_proto::{Content, DeliveryStatus, Generation, Message};
use chat4all_storage::Status;
use chat4all_storage::status::conformance::Sample;
use chat4all_storage::status::{DeadLetterFilter, Filter, PageRequest, Write};

use super::open;

const ROWS: usize = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a measurement"]
async fn rows_and_listings() {
    for batch in [1, 100, 500, 2_000] {
        let rows = if batch == 1 { 5_000 } else { ROWS };
        let folder = tempfile::tempdir().unwrap();
        let status = open(folder.path());
        let mut sample = Sample::new();
        sample.tenant = chat4all_proto::TenantId::default();
        sample.channel = "webhook".parse().unwrap();
        let messages: Vec<Arc<Message>> = (0..rows)
            .map(|n| {
                let mut message = sample.message(vec![sample.address("ana")]);
                message.conversation_id = format!("order-{}", n % 1_000).parse().unwrap();
                message.content = Content::Text { text: "x".repeat(700) };
                Arc::new(message)
            })
            .collect();
        let stage = async |name: &str, writes: Vec<Write>| {
            let (began, cpu) = (Instant::now(), cpu_time());
            for chunk in writes.chunks(batch) {
                status.write(chunk.to_vec()).await.unwrap();
            }
            let per_row = |time: Duration| time.as_secs_f64() * 1e6 / writes.len() as f64;
            println!(
                "batch {batch}: {name}: {:.2} µs a row, CPU {:.2}",
                per_row(began.elapsed()),
                per_row(cpu_time() - cpu)
            );
        };
        let events = |reached, attempt: bool| -> Vec<Write> {
            let event = |message: &Arc<Message>| {
                let mut event = Sample::event(message, 0, reached);
                event.attempt = attempt.then(|| Sample::attempt(message, 1, OutcomeKind::Accepted));
                Write::Event(Arc::new(event))
            };
            messages.iter().map(event).collect()
        };
        stage("messages of 1 KiB", messages.iter().cloned().map(Write::Message).collect()).await;
        stage("events, new row", events(DeliveryStatus::Queued, false)).await;
        stage("events with an attempt, row raised", events(DeliveryStatus::Delivered, true)).await;
        stage("events, lower than the row", events(DeliveryStatus::Queued, false)).await;
        for filter in [
            Filter::default(),
            Filter { status: Some(DeliveryStatus::Delivered), channel: None },
            Filter { status: None, channel: Some(sample.channel.clone()) },
        ] {
            let mut page = PageRequest { limit: 50, cursor: None };
            let began = Instant::now();
            for _ in 0..50 {
                let found = status.messages(&sample.tenant, &filter, &page, sample.now()).await.unwrap();
                page.cursor = found.next_cursor;
            }
            println!("batch {batch}: page of 50 by {filter:?}: {:?}", began.elapsed() / 50);
        }
        let letters = messages.iter().map(|message| Sample::dead_letter(message, 0, Reason::RecipientGone));
        stage("dead letters", letters.map(|letter| Write::DeadLetter(Arc::new(letter))).collect()).await;
        let replays = messages[10..].iter().map(|message| Message { generation: Generation(1), ..(**message).clone() });
        let mut page = PageRequest { limit: 50, cursor: None };
        let filter = DeadLetterFilter::default();
        for replayed in ["no", "nearly every"] {
            let began = Instant::now();
            for _ in 0..50 {
                page.cursor = status.dead_letters(&sample.tenant, &filter, &page).await.unwrap().next_cursor;
            }
            println!("batch {batch}: page of 50, {replayed} dead letter replayed: {:?}", began.elapsed() / 50);
            if replayed == "no" {
                stage("replays", replays.clone().map(|message| Write::Message(Arc::new(message))).collect()).await;
            }
        }
        let cpu = cpu_time();
        std::thread::sleep(Duration::from_secs(3));
        println!("idle: {:?} of CPU in 3 s", cpu_time() - cpu);
        status.close().await;
    }
}

/// Of all threads that live.
fn cpu_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let nanos = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
