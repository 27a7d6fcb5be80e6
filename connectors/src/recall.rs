//! What a partition's new holder has to know before the first record: where the assignment starts, and what stands on the log.

use chat4all_engine::{Begin, Engine, Passed, Policy, Source, WINDOW};
use chat4all_proto::Parked;
use chat4all_runtime::clock;
use chat4all_runtime::worker;
use chat4all_storage::log::{self, Consumer, Recent};

/// Records of a page while what is parked is read.
const PAGE: usize = 500;

/// An engine that begins where the assignment does.
pub fn new_engine(sources: &[worker::Source], policy: Policy) -> Engine {
    let [outbound, parked] = [Source::Outbound, Source::Parked].map(|source| {
        let worker::Source { offset, finished, .. } = &sources[source as usize];
        Begin { offset: *offset, finished: finished.clone() }
    });
    Engine::new(policy, outbound, parked)
}

/// What a new holder has to know of what is on the log: the deliveries that passed lately, and those that are parked.
pub async fn recall(
    consumer: &dyn Consumer,
    sources: &[worker::Source],
    engine: &mut Engine,
) -> Result<(), log::Error> {
    let [outbound, parked] = sources else { unreachable!("a channel has two topics") };
    let recent = consumer.recent(&outbound.lease.partition, outbound.offset, WINDOW).await?;
    engine.remember(recent.into_iter().map(passed));
    let mut from = parked.offset;
    loop {
        let page = consumer.read(&parked.lease.partition, from, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        from = last.offset + 1;
        for record in page.iter().filter(|record| !parked.finished.contains(record.offset)) {
            // What cannot be read is passed over, and logged, when it comes.
            if let Ok(copy) = serde_json::from_slice::<Parked>(&record.value) {
                engine.rebuild(&copy, clock::now());
            }
        }
    }
}

/// Only routers write to an outbound topic: the epochs there are theirs.
fn passed(seen: Recent) -> Passed {
    let Recent { id, appended_at, epoch } = seen;
    Passed { id: (id.uuid, id.generation), router_epoch: epoch, at: appended_at }
}
