//! The engine in a world of its own: a log, routers that crash and write again, a provider that fails in every way, holders
//! that crash, drain, lose their partitions and their callers, operators who pause and cancel. All of it follows from one
//! seed.
//!
//! `CHAT4ALL_SEED=n` replays one seed and shows what happened; `CHAT4ALL_FAULTS=3,17` with it lets only these of its faults
//! happen, and `CHAT4ALL_LINES=n` shows more of it. `CHAT4ALL_SEEDS=n` runs that many.

mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use chat4all_engine::mutant::{self, Mutant};
use world::{Broken, Figures, Only, World};

/// Lines of a trace that are shown: the last ones.
fn trace_lines() -> usize {
    setting("CHAT4ALL_LINES").map_or(60, |text| number(&text) as usize)
}

fn run(seed: u64, broken: Option<Broken>) -> Result<Figures, String> {
    World::new(seed, broken, None).run().map_err(|(fault, _)| fault)
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

#[test]
fn nothing_is_lost_reordered_or_sent_twice_without_need() {
    if let Some(seed) = setting("CHAT4ALL_SEED") {
        let only: Option<Vec<usize>> = setting("CHAT4ALL_FAULTS")
            .map(|text| text.split(',').filter(|part| !part.is_empty()).map(|part| number(part) as usize).collect());
        match World::new(number(&seed), None, only.as_deref()).traced().run() {
            Ok(figures) => println!("{figures:?}"),
            Err((fault, trace)) => panic!("{}", told(&fault, &trace)),
        }
        return;
    }
    let seeds = setting("CHAT4ALL_SEEDS").map_or(2_000, |text| number(&text));
    let (next, total, failed) = (AtomicU64::new(0), Mutex::new(Figures::default()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.lock().expect("no panic").is_some() {
                        return;
                    }
                    match run(seed, None) {
                        Ok(figures) => *total.lock().expect("no panic") += figures,
                        Err(fault) => *failed.lock().expect("no panic") = Some((seed, fault)),
                    }
                }
            });
        }
    });
    if let Some((seed, fault)) = failed.into_inner().expect("no panic") {
        panic!("seed {seed}: {fault}\n{}", shortened(seed));
    }
    let total = total.into_inner().expect("no panic");
    println!("{seeds} seeds: {total:?}");
    assert!(total.faults >= seeds * 25, "{total:?}: the faults did happen");
    assert!(total.crashes > seeds && total.drains > 0 && total.cut_off > 0, "{total:?}: of every kind");
    assert!(total.failed > 0 && total.expired > 0 && total.repeats > 0, "{total:?}: the rare ends did happen");
    assert!(total.cancelled > 0 && total.parked > 0 && total.resent > 0, "{total:?}: and the rare ways");
    assert!(total.probes > 0 && total.returns > 0, "{total:?}: outages were looked at");
}

/// The same seed with as few of its faults as still fail, and how to see it again.
fn shortened(seed: u64) -> String {
    let fails = |only: &[usize]| World::new(seed, None, Some(only)).run().is_err();
    let mut left: Vec<usize> = (0..100).collect();
    for fault in 0..100 {
        let fewer: Vec<usize> = left.iter().copied().filter(|other| *other != fault).collect();
        if fails(&fewer) {
            left = fewer;
        }
    }
    let only: Only<'_> = Some(&left);
    let Err((fault, trace)) = World::new(seed, None, only).traced().run() else {
        return format!("replay with CHAT4ALL_SEED={seed}");
    };
    let faults: Vec<String> = left.iter().map(usize::to_string).collect();
    format!("replay with CHAT4ALL_SEED={seed} CHAT4ALL_FAULTS={}\n{}", faults.join(","), told(&fault, &trace))
}

fn told(fault: &str, trace: &[String]) -> String {
    let shown = trace.len().saturating_sub(trace_lines());
    format!("{}\n{fault}", trace[shown..].join("\n"))
}

/// A defect must be found out: else the test above proves nothing.
#[test]
fn every_defect_of_the_engine_is_noticed() {
    let mut missed = Vec::new();
    for defect in Mutant::ALL {
        mutant::set(Some(defect));
        // Some show at once, some need the crash at the right moment.
        let noticed = (0..2_000).find_map(|seed| {
            let world = std::panic::catch_unwind(|| run(seed, None));
            match world {
                Ok(Ok(_)) => None,
                Ok(Err(fault)) => Some((seed, fault)),
                Err(_) => Some((seed, "the engine panicked".to_owned())),
            }
        });
        mutant::set(None);
        match noticed {
            Some((seed, fault)) => println!("{defect:?}: seed {seed}: {fault}"),
            None => missed.push(defect),
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// Nor does it prove much unless the world can break its own rules and be caught.
#[test]
fn every_broken_rule_of_the_log_is_noticed() {
    for broken in
        [Broken::IgnoresLease, Broken::ForgetsFinishedSet, Broken::CommitsWhatIsInFlight, Broken::AcknowledgesUnwritten]
    {
        let noticed = (0..300).find_map(|seed| run(seed, Some(broken)).err());
        println!("{broken:?}: {}", noticed.as_deref().unwrap_or("not noticed"));
        assert!(noticed.is_some(), "{broken:?} was not noticed");
    }
}
