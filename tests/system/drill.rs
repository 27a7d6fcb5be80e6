//! `chat4all drill` calls a good run good and a bad one bad, and leaves nothing behind.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::cluster::Cluster;
use crate::harness::{run, turn, until};

/// Short, and still with something in flight at every kill.
const SHORT: [&str; 6] = ["--seconds", "8", "--rate", "200", "--conversations", "40"];

/// `chat4all drill`, its temporary files in the cluster's folder.
fn command(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = cluster.command(&[&["drill"], args].concat());
    command.env("TMPDIR", cluster.folder());
    command
}

/// What stands on stdout, a JSON object a line: those of the scenarios, then the summary.
fn objects(ended: &Output) -> Vec<Value> {
    let stdout = String::from_utf8_lossy(&ended.stdout);
    let objects = stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
    objects.collect()
}

fn left_behind(cluster: &Cluster) -> Vec<String> {
    let entries = fs::read_dir(cluster.folder()).expect("the cluster's folder").flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains("drill"))
        .collect()
}

fn show(ended: &Output) {
    print!("{}{}", String::from_utf8_lossy(&ended.stderr), String::from_utf8_lossy(&ended.stdout));
}

#[test]
fn a_drill_of_killed_workers_passes_with_figures() {
    let _turn = turn::alone();
    let cluster = Cluster::new();
    let args = [&["kill-workers", "--json", "--seed", "7"][..], &SHORT].concat();
    let ended = command(&cluster, &args).output().expect("the binary runs");
    show(&ended);
    assert_eq!(ended.status.code(), Some(0));
    let [report, summary] = &objects(&ended)[..] else { panic!("a report and a summary") };
    assert_eq!((report["scenario"].as_str(), report["verdict"].as_str()), (Some("kill-workers"), Some("passed")));
    let figures = &report["figures"];
    for (name, expected) in
        [("kills", 3), ("accepted", 1_600), ("lost", 0), ("reordered", 0), ("without_status", 0), ("dead_letters", 0)]
    {
        assert_eq!(figures[name], expected, "{name}: {figures}");
    }
    assert!(figures["takeover_connectors_s"].as_f64().is_some_and(|took| took < 2.0), "{figures}");
    let events = report["events"].as_array().expect("events");
    assert_eq!(events.len(), 6, "three kills and three starts: {events:?}");
    assert_eq!(summary["summary"]["passed"], 1);
    assert_eq!(left_behind(&cluster), [] as [String; 0]);
}

#[test]
fn a_drill_of_a_stack_that_loses_messages_fails_and_names_them() {
    if !cfg!(feature = "failpoints") {
        println!("SKIPPED drill of a loss: built without the feature `failpoints`");
        return;
    }
    let _turn = turn::alone();
    let mut cluster = Cluster::new();
    // Each router process silently drops one message.
    cluster.env("FAILPOINTS", "router::lose=300*off->1*return->off");
    let args = [&["kill-workers", "--json"][..], &SHORT].concat();
    let ended = command(&cluster, &args).output().expect("the binary runs");
    show(&ended);
    assert_eq!(ended.status.code(), Some(1));
    let objects = objects(&ended);
    let (report, lost) = (&objects[0], objects[0]["figures"]["lost"].as_u64().expect("a count"));
    assert_eq!(report["verdict"], "failed");
    assert!((1..=3).contains(&lost), "{lost} lost");
    let ids = report["lost"].as_array().expect("ids");
    assert_eq!(ids.len() as u64, lost);
    assert!(ids.iter().all(|id| id.as_str().is_some_and(|id| id.starts_with("msg_"))), "{ids:?}");
    let broken: HashSet<&str> = report["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter(|check| check["holds"] == false)
        .filter_map(|check| check["promise"].as_str())
        .collect();
    assert!(broken.contains("nothing accepted is lost"), "{broken:?}");
    assert!(broken.contains("every message has its end"), "{broken:?}");
    let words = String::from_utf8_lossy(&ended.stderr);
    assert!(words.contains(&format!("nothing accepted is lost: {lost} of 1,600 never came")), "{words}");
}

#[test]
fn drills_of_what_hangs_or_is_away_pass() {
    let _turn = turn::alone();
    let cluster = Cluster::new();
    let args = ["slow-provider", "store-away", "log-away", "--json", "--seconds", "8", "--outage", "3s"];
    let ended = command(&cluster, &args).output().expect("the binary runs");
    show(&ended);
    assert_eq!(ended.status.code(), Some(0));
    let objects = objects(&ended);
    let verdicts: Vec<_> = objects.iter().filter_map(|one| Some((one["scenario"].as_str()?, one))).collect();
    assert_eq!(verdicts.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["slow-provider", "store-away", "log-away"]);
    assert!(verdicts.iter().all(|(_, one)| one["verdict"] == "passed" && one["figures"]["accepted"] == 1_600));
    assert!(objects[2]["figures"]["refused"].as_u64() > Some(50), "the load asked on: {}", objects[2]["figures"]);
    assert_eq!(objects[3]["summary"]["passed"], 3);
}

#[test]
fn a_drill_of_a_provider_that_is_away_passes_where_there_is_a_breaker() {
    let _turn = turn::alone();
    let cluster = Cluster::new();
    let args = ["provider-outage", "--json", "--seconds", "9", "--outage", "5s"];
    let ended = command(&cluster, &args).output().expect("the binary runs");
    show(&ended);
    let report = &objects(&ended)[0];
    match report["figures"]["breaker_opened"].as_bool() {
        Some(opened) => assert!(opened && report["verdict"] == "passed", "{report}"),
        None => {
            assert_eq!(report["verdict"], "failed", "without a breaker the provider is not left in peace: {report}")
        }
    }
}

#[test]
fn a_drill_that_is_interrupted_or_killed_leaves_no_process() {
    let _turn = turn::alone();
    run(async {
        let cluster = Cluster::new();
        // At once, and while one of its processes is stopped.
        for (signal, after) in [(Signal::KILL, None), (Signal::KILL, Some("is away")), (Signal::INT, Some("is away"))] {
            let mut drill = command(&cluster, &["log-away", "--seconds", "12", "--outage", "8s"]);
            let mut drill = drill.stderr(Stdio::piped()).spawn().expect("the binary runs");
            let children = until("the drill's processes", Duration::from_secs(60), || {
                let children = children_of(&drill);
                (children.len() == 4).then_some(children)
            })
            .await;
            if let Some(words) = after {
                let stderr = BufReader::new(drill.stderr.take().expect("it is piped"));
                let mut lines = stderr.lines().map_while(Result::ok);
                assert!(lines.any(|line| line.contains(words)), "the drill never said `{words}`");
            }
            let pid = Pid::from_raw(drill.id().try_into().expect("a pid")).expect("not zero");
            kill_process(pid, signal).expect("our child");
            let status = until("its end", Duration::from_secs(10), || drill.try_wait().expect("our child")).await;
            assert!(!status.success());
            until(&format!("the end of its processes, {signal:?} {after:?}"), Duration::from_secs(10), || {
                children.iter().all(|pid| !is_chat4all(*pid)).then_some(())
            })
            .await;
            // Nobody can tidy up after a SIGKILL.
            let left = left_behind(&cluster);
            assert!(signal == Signal::INT || left.len() == 1, "{left:?}");
            assert!(signal == Signal::KILL || left.is_empty(), "{left:?}");
            left.iter().for_each(|name| fs::remove_dir_all(cluster.folder().join(name)).expect("its folder"));
        }
    });
}

fn children_of(parent: &Child) -> Vec<u32> {
    let of = format!("/proc/{0}/task/{0}/children", parent.id());
    let list = fs::read_to_string(of).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A process that has ended and was not waited for has no command line.
fn is_chat4all(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("die-with"))
}

#[test]
fn what_a_drill_cannot_do_is_refused_by_name() {
    let cluster = Cluster::new();
    for (args, words) in [
        (&["drill", "all", "--rate", "0"][..], "--rate"),
        (&["drill", "kill-everybody"], "kill-workers"),
        (&["drill"], "SCENARIO"),
        (&["drill", "log-away", "--outage", "30s", "--seconds", "20"], "`--outage 30s`"),
        (&["drill", "log-away", "--outage", "1s"], "`--outage 1s`"),
        (&["drill", "log-away", "--outage", "soon"], "--outage"),
        (&["drill", "all", "--log", "embedded:data"], "--log"),
        (&["drill", "log-away", "--log", "kafka://127.0.0.1:1"], "`--pause-log-with`"),
        (&["drill", "store-away", "--pause-store-with", "true", "--resume-store-with", "true"], "--status"),
    ] {
        let ended = cluster.command(args).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
        assert!(ended.stdout.is_empty(), "{args:?}");
    }
}
