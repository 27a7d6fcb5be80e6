//! What a message costs, as ratios of runs of `chat4all bench` side by side: absolute figures say more about the machine.
//! The bench itself fails unless everything accepted arrived in order and is recorded.

use std::process::Command;

use serde_json::Value;

use crate::harness::{long, turn};

fn bench(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_chat4all"))
        .args(["bench", "--json"])
        .args(arguments)
        .output()
        .expect("the binary is there");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bench {arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("a report")
}

fn figure(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("no figure `{name}` in {report}"))
}

fn messages() -> &'static str {
    if long() { "100000" } else { "8000" }
}

#[test]
fn a_backlog_does_not_slow_the_others_down() {
    let _turn = turn::alone();
    let waiting = if long() { "100000" } else { "20000" };
    let without = bench(&["--messages", messages()]);
    let beside = bench(&["--messages", messages(), "--waiting", waiting]);
    let ratio = figure(&beside, "delivered_per_second") / figure(&without, "delivered_per_second");
    println!("cost: delivered beside {waiting} waiting messages {ratio:.2} times as fast as without them");
    assert!(ratio > 0.5, "{ratio}");
}

#[test]
fn a_batch_costs_less_than_its_messages_one_by_one() {
    let _turn = turn::alone();
    let singly = bench(&["--messages", messages()]);
    let batched = bench(&["--messages", messages(), "--batch", "100"]);
    let ratio = figure(&batched, "all_cpu_us_a_message") / figure(&singly, "all_cpu_us_a_message");
    println!("cost: CPU a message in batches of 100 {ratio:.2} of one by one");
    assert!(ratio < 1.0, "{ratio}");
}
