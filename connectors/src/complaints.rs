//! Tells the log of dead letters: one line a second for each partition, so that a bad day does not fill the disk.

use std::time::{Duration, Instant};

use chat4all_proto::DeadLetter;
use chat4all_runtime::clock;
use tracing::warn;

const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Complaints {
    last: Option<Instant>,
    withheld: u64,
}

impl Complaints {
    pub fn about(&mut self, letter: &DeadLetter) {
        if self.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            self.withheld += 1;
            return;
        }
        let (delivery, withheld) = (&letter.delivery, std::mem::take(&mut self.withheld));
        self.last = Some(clock::instant());
        warn!(
            message_id = %delivery.message_id,
            channel = %delivery.to.channel,
            reason = letter.reason.as_str(),
            code = letter.code,
            attempts = letter.attempts,
            withheld,
            "a delivery failed for good; it is in the dead letters"
        );
    }
}
