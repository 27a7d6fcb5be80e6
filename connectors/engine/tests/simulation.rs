//! The engine in a world of its own: a log, a router that crashes and writes again, a provider that fails in every way,
//! and holders that crash, drain and lose their callers. All of it follows from one seed.
//!
//! `CHAT4ALL_SEED=n` replays one seed; `CHAT4ALL_SEEDS=n` runs that many.

mod world;

use world::{Mutant, World};

/// Runs one seed to its end; what it found wrong.
fn run(seed: u64, mutant: Mutant) -> Result<world::Figures, String> {
    World::new(seed, mutant).run().map_err(|fault| format!("seed {seed}: {fault}"))
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn nothing_is_lost_reordered_or_sent_twice_without_need() {
    if let Some(seed) = setting("CHAT4ALL_SEED") {
        println!("{:?}", run(seed, Mutant::None).unwrap_or_else(|fault| panic!("{fault}")));
        return;
    }
    let seeds = setting("CHAT4ALL_SEEDS").unwrap_or(200);
    let mut total = world::Figures::default();
    for seed in 0..seeds {
        total += run(seed, Mutant::None).unwrap_or_else(|fault| panic!("{fault}\nreplay with CHAT4ALL_SEED={seed}"));
    }
    println!("{seeds} seeds: {total:?}");
    assert!(total.crashes > seeds && total.drains > 0 && total.cut_off > 0, "{total:?}: the faults did happen");
    assert!(total.failed > 0 && total.expired > 0 && total.repeats > 0, "{total:?}: the rare ends did happen");
    assert!(total.resent > 0, "{total:?}: crashes did find attempts under way");
}

/// A world that breaks one rule must be found out: else the test above proves nothing.
#[test]
fn every_broken_rule_is_noticed() {
    for mutant in [
        Mutant::CommitsWhatIsInFlight,
        Mutant::ForgetsTheFinishedSet,
        Mutant::ForgetsTheIds,
        Mutant::ForgetsTheRouter,
        Mutant::AcknowledgesUnwritten,
        Mutant::MixesLanes,
        Mutant::StartsWhileDraining,
    ] {
        let noticed = (0..400).find_map(|seed| run(seed, mutant).err());
        println!("{mutant:?}: {}", noticed.as_deref().unwrap_or("not noticed"));
        assert!(noticed.is_some(), "{mutant:?} was not noticed");
    }
}
