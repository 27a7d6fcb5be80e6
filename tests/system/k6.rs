//! k6 and the scripts in `k6/` against real processes: they pass where all is well, and fail, with the threshold's name,
//! where it is not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::cluster::{Cluster, binary, config};
use crate::harness::{run, turn, until};

/// It may have to be built first; the script has limits of its own.
const FETCH_MAX: Duration = Duration::from_secs(1_300);
const RUN_MAX: Duration = Duration::from_secs(150);
/// What k6 ends with when a threshold did not hold, and when a script refused what it was told.
const THRESHOLD: i32 = 99;
const REFUSED: i32 = 107;

/// Whether there is a k6. Without one the test is skipped, and says why.
fn is_here() -> bool {
    static FETCHED: LazyLock<Result<(), String>> = LazyLock::new(|| {
        let ended = run(output(tool("k6").arg("--fetch"), FETCH_MAX));
        if ended.status.success() { Ok(()) } else { Err(said(&ended).1.trim().replace('\n', " ")) }
    });
    FETCHED.as_ref().inspect_err(|why| println!("SKIPPED k6: {why}")).is_ok()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A command of `dev/`, with nothing in the environment that could change what it does.
fn tool(name: &str) -> Command {
    // Run in the background, the tests themselves have Ctrl-C ignored, and no script can undo that for itself.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(root().join("dev").join(name));
    for key in ["RATE", "DURATION", "TARGET", "CHANNEL", "CHECK", "API_KEY", "VUS", "SIZE", "SETTLE", "RESULTS", "SOAK"]
    {
        command.env_remove(key);
    }
    command.env("CHAT4ALL_BINARY", binary()).env_remove("FAILPOINTS").kill_on_drop(true);
    command
}

async fn output(command: &mut Command, limit: Duration) -> Output {
    timeout(limit, command.output()).await.expect("it ends in time").expect("it runs")
}

fn said(ended: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&ended.stdout), text(&ended.stderr))
}

/// A whole Chat4All with its simulator, and where the reports go.
struct Stack {
    cluster: Cluster,
    api: String,
    simulator: String,
}

impl Stack {
    async fn start() -> Self {
        let text = config("", "");
        let mut cluster = Cluster::with(text.split("[channels.hook]").next().expect("the part before"));
        let process = cluster.start(&[]).await;
        let (api, simulator) = (cluster.url(process, "api"), cluster.url(process, "simulator"));
        Self { cluster, api, simulator }
    }

    fn results(&self) -> PathBuf {
        self.cluster.folder().join("results")
    }

    /// Runs a script for 3 s; `settings` come on top.
    async fn k6(&self, script: &str, settings: &[(&str, &str)]) -> Output {
        let mut command = tool("k6");
        command.args(["run", "--quiet", "--no-color", "--address", ""]).arg(root().join("k6").join(script));
        command.env("BASE_URL", &self.api).env("RECEIVER", &self.simulator).env("RESULTS", self.results());
        // On a busy machine nothing is said about speed.
        command.env("DURATION", "3s").env("P99_MS", "10000").envs(settings.iter().copied());
        let ended = output(&mut command, RUN_MAX).await;
        let (stdout, stderr) = said(&ended);
        println!("{script} {settings:?}: {:?}\n{stdout}{stderr}", ended.status.code());
        ended
    }

    fn report(&self, script: &str) -> Value {
        let text = fs::read_to_string(self.results().join(format!("{script}.json"))).expect("a report");
        serde_json::from_str(&text).expect("JSON")
    }
}

#[test]
fn k6_finds_a_good_stack_good() {
    let _turn = turn::alone();
    if !is_here() {
        return;
    }
    run(async {
        let mut stack = Stack::start().await;
        for (script, settings, accepted) in [
            ("smoke", &[][..], 30),
            ("batch", &[("BATCH", "30"), ("RATE", "5")], 450),
            ("smoke", &[("CHECK", "api")], 30),
        ] {
            let ended = stack.k6(&format!("{script}.js"), settings).await;
            assert_eq!(ended.status.code(), Some(0));
            let report = stack.report(script);
            assert!(report["accepted"].as_u64().is_some_and(|count| count >= accepted), "{report}");
            for figure in ["errors", "lost", "outOfOrder"] {
                assert_eq!(report[figure], 0, "{figure}: {report}");
            }
            assert!(said(&ended).0.contains("PASSED"));
        }
        let page = fs::read_to_string(stack.results().join("smoke.html")).expect("a page");
        assert!(page.contains("<svg") && !page.contains("http://www") && !page.contains("https://"), "self-contained");
        stack.cluster.terminate_all().await;
    });
}

#[test]
fn k6_names_the_loss_of_a_receiver_that_refuses() {
    let _turn = turn::alone();
    if !is_here() {
        return;
    }
    run(async {
        let mut stack = Stack::start().await;
        // Each message is a dead letter at once.
        let gone = format!("{}/inbox/{{conversation}}?status=410", stack.simulator);
        for settings in [&[("TARGET", gone.as_str()), ("CHECK", "receiver")][..], &[("TARGET", &gone)]] {
            let ended = stack.k6("smoke.js", settings).await;
            let (stdout, stderr) = said(&ended);
            assert_eq!(ended.status.code(), Some(THRESHOLD));
            assert!(stderr.contains("'loss'"), "{stderr}");
            assert!(stdout.contains("✘ loss") && stdout.contains("✔ errors"), "{stdout}");
            assert!(stderr.contains("did not arrive; its status: failed"), "{stderr}");
            let report = stack.report("smoke");
            assert_eq!(report["lost"], report["accepted"]);
        }
        stack.cluster.terminate_all().await;
    });
}

#[test]
fn k6_refuses_a_bad_variable_by_its_name() {
    let _turn = turn::beside_others();
    if !is_here() {
        return;
    }
    run(async {
        let mut stack = Stack::start().await;
        for (script, name, value) in [
            ("smoke.js", "BASE_URL", "127.0.0.1"),
            ("smoke.js", "BASE_URL", "http://127.0.0.1:1"),
            ("smoke.js", "CHANNEL", "pigeon"),
            ("load.js", "RATE", "fast"),
            ("load.js", "RATE", "0"),
            ("load.js", "DURATION", "5"),
            ("soak.js", "SOAK", "all night"),
            ("batch.js", "BATCH", "1001"),
            ("breakpoint.js", "RUNGS", "0"),
            ("spike.js", "PEAK", "-1"),
            ("smoke.js", "CHECK", "perhaps"),
        ] {
            let ended = stack.k6(script, &[(name, value)]).await;
            assert_eq!(ended.status.code(), Some(REFUSED), "{name}={value}");
            assert!(said(&ended).1.contains(&format!("{name}: ")), "{name}={value}");
        }
        stack.cluster.terminate_all().await;
    });
}

#[test]
fn a_failover_is_passed_with_k6_and_without_and_nothing_is_left() {
    let _turn = turn::alone();
    let mut ways = vec![&["--without-k6"][..]];
    if is_here() {
        ways.push(&[]);
    }
    run(async {
        let cluster = Cluster::new();
        for way in ways {
            let mut command = tool("failover");
            command.args(["--duration", "8s", "--rate", "100"]).args(way);
            command.env("TMPDIR", cluster.folder()).env("P99_MS", "10000");
            let ended = output(&mut command, RUN_MAX).await;
            let (stdout, stderr) = said(&ended);
            println!("{stdout}{stderr}");
            assert_eq!(ended.status.code(), Some(0), "{way:?}");
            assert!(stdout.contains("PASSED"), "{way:?}");
            assert_eq!(stderr.matches("is killed").count(), 3, "{way:?}: {stderr}");
            assert_eq!(left_behind(&cluster), [] as [String; 0]);
        }
    });
}

#[test]
fn a_failover_of_a_stack_that_loses_messages_fails() {
    if !cfg!(feature = "failpoints") {
        println!("SKIPPED failover of a loss: built without the feature `failpoints`");
        return;
    }
    let _turn = turn::alone();
    if !is_here() {
        return;
    }
    run(async {
        let cluster = Cluster::new();
        let mut command = tool("failover");
        command.args(["--duration", "6s", "--rate", "100", "--kills", "1"]);
        // Each router process silently drops one message.
        command.env("FAILPOINTS", "router::lose=100*off->1*return->off");
        command.env("TMPDIR", cluster.folder()).env("P99_MS", "10000").env("SETTLE", "5s");
        let ended = output(&mut command, RUN_MAX).await;
        let (stdout, stderr) = said(&ended);
        println!("{stdout}{stderr}");
        assert_eq!(ended.status.code(), Some(1));
        assert!(stdout.contains("✘ loss") && stderr.contains("'loss'"), "{stdout}{stderr}");
        assert_eq!(left_behind(&cluster), [] as [String; 0]);
    });
}

#[test]
fn what_a_failover_cannot_do_is_refused_by_name() {
    run(async {
        for (args, words) in [
            (&["--rate", "fast"][..], "--rate"),
            (&["--rate", "0"], "--rate"),
            (&["--duration", "5"], "--duration"),
            (&["--kills", "some"], "--kills"),
            (&["--kills"], "--kills"),
            (&["--hard"], "`--hard`"),
            (&["--without-k6", "--kills", "9"], "--kills"),
        ] {
            let ended = output(tool("failover").args(args), RUN_MAX).await;
            let (stdout, stderr) = said(&ended);
            assert_eq!(ended.status.code(), Some(2), "{args:?}: {stderr}");
            assert!(stderr.contains(words) && stdout.is_empty(), "{args:?}: {stderr}");
        }
    });
}

#[test]
fn a_failover_that_is_interrupted_or_killed_leaves_no_process() {
    let _turn = turn::alone();
    if !is_here() {
        return;
    }
    run(async {
        for signal in [Signal::INT, Signal::KILL] {
            let cluster = Cluster::new();
            let mut command = tool("failover");
            command.env("TMPDIR", cluster.folder()).args(["--duration", "60s", "--kills", "50"]);
            let mut failover = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
            let mut lines = BufReader::new(failover.stderr.take().expect("it is piped")).lines();
            let killed = async {
                while let Some(line) = lines.next_line().await.expect("text") {
                    if line.contains("is killed") {
                        return;
                    }
                }
                panic!("it ended before it killed anybody");
            };
            timeout(RUN_MAX, killed).await.expect("a kill in time");
            let pid = Pid::from_raw(failover.id().expect("it runs").try_into().expect("a pid")).expect("not zero");
            kill_process(pid, signal).expect("our child");
            let status = timeout(Duration::from_secs(30), failover.wait()).await.expect("an end").expect("our child");
            assert!(!status.success());
            let folder = cluster.folder().to_string_lossy().into_owned();
            until("the end of its processes", Duration::from_secs(10), || runs_in(&folder).is_none().then_some(()))
                .await;
            // Nobody can tidy up after a SIGKILL.
            assert_eq!(left_behind(&cluster).len(), usize::from(signal == Signal::KILL));
        }
    });
}

/// The command line of a process that names this folder.
fn runs_in(folder: &str) -> Option<String> {
    let processes = fs::read_dir("/proc").expect("every Linux has it").flatten();
    let lines = processes.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.into_iter().find(|line| line.contains(folder))
}

fn left_behind(cluster: &Cluster) -> Vec<String> {
    let entries = fs::read_dir(cluster.folder()).expect("the cluster's folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("chat4all-")).collect()
}
