//! Decisions a second of one partition's engine: a message that arrives, is sent, and ends is four of them.

#[path = "../tests/work/mod.rs"]
mod work;

use divan::Bencher;
use divan::counter::ItemsCount;
use work::Work;

const MESSAGES: u64 = 1_000;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 1_000, 100_000])]
fn beside_waiting_lanes(bencher: Bencher<'_, '_>, lanes: u64) {
    let mut work = Work::beside(lanes);
    bencher.counter(ItemsCount::new(4 * MESSAGES)).bench_local(|| work.pass(MESSAGES));
}
