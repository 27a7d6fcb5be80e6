//! What a decision costs beside many lanes that wait, and what such a lane takes in memory.
//!
//! `cargo bench -p chat4all-engine` tells the decisions a second.

mod work;

use std::time::{Duration, Instant};

use work::Work;

/// Messages of one measurement.
const MESSAGES: u64 = 20_000;

/// The least of several: what it costs when nobody disturbs.
fn cost_of(work: &mut Work) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..7 {
        let begin = Instant::now();
        work.pass(MESSAGES);
        least = least.min(begin.elapsed());
    }
    least / MESSAGES as u32
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4_096
}

#[test]
fn a_message_costs_the_same_beside_100_000_lanes_and_a_lane_is_small() {
    let mut alone = Work::beside(1);
    let before = resident_bytes();
    let mut beside = Work::beside(100_000);
    let bytes = resident_bytes().saturating_sub(before) / 100_000;
    let (with_one, with_many) = (cost_of(&mut alone), cost_of(&mut beside));
    let ratio = with_many.as_secs_f64() / with_one.as_secs_f64();
    println!(
        "a message beside 1 waiting lane {with_one:?}, beside 100,000 {with_many:?}: {ratio:.2} times; {bytes} bytes a lane"
    );
    assert!(ratio <= 1.5, "{ratio:.2} times");
    assert!((200..2_500).contains(&bytes), "{bytes} bytes a waiting lane");
}
