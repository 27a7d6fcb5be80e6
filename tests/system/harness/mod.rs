//! What every whole-system test stands on. It knows Chat4All from outside only: its command line, its HTTP, its log lines,
//! and what is on its log once all processes have ended.

pub mod arrivals;
pub mod client;
pub mod cluster;
pub mod engines;
pub mod ledger;
pub mod load;
pub mod receiver;
pub mod simulated;
pub mod turn;

use std::future::Future;
use std::time::{Duration, Instant};

/// SplitMix64. Every test with chance in it prints its seed; `CHAT4ALL_SEED` replays one.
pub struct Random(u64);

impl Random {
    pub fn from_env(test: &str) -> Self {
        let given = std::env::var("CHAT4ALL_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()) ^ since_boot());
        println!("{test}: seed {seed} (replay with CHAT4ALL_SEED={seed})");
        Self(seed)
    }

    /// Another source of chance, from the same seed.
    pub fn branch(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to but not including `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Up to `most`.
    pub fn pause(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.below(most.as_millis() as u64 + 1))
    }
}

fn since_boot() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos() as u64)
}

/// Whether the long figures are asked for.
pub fn long() -> bool {
    std::env::var_os("CHAT4ALL_LONG").is_some_and(|value| value != "0")
}

/// Runs a test's future on a runtime of its own.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime").block_on(test)
}

/// Waits until `met` yields something. Panics with `what` after `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut met: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = met() {
            return value;
        }
        assert!(begin.elapsed() < limit, "waited {limit:?} for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// As `until`, for conditions that have to be asked for.
pub async fn until_async<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = ask().await {
            return value;
        }
        assert!(begin.elapsed() < limit, "waited {limit:?} for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Of unsorted values, the one that a share of `q` lies below.
pub fn quantile(values: &mut [Duration], q: f64) -> Duration {
    values.sort_unstable();
    values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or_default()
}
