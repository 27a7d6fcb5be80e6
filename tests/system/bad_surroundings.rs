//! What the machine can do wrong at a start: refused with a message that names it, with an exit code, before anything is
//! opened.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::harness::cluster::{Cluster, binary, config};
use crate::harness::{run, turn};

/// Runs a command that must end by itself with a failure; its exit code and what it said.
pub fn refused(mut command: Command) -> (i32, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let begin = Instant::now();
    while child.try_wait().expect("our child").is_none() {
        if begin.elapsed() > Duration::from_secs(30) {
            child.kill().expect("our child");
            panic!("it was not refused: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it has ended");
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    assert!(stdout.is_empty(), "it opened something: {}", String::from_utf8_lossy(&stdout));
    println!("bad surroundings: exit {:?}: {}", status.code(), said.lines().last().unwrap_or_default());
    (status.code().expect("it was not killed"), said)
}

/// Starts `serve` with a configuration; it must end with `code`, name each of `names`, and leave no data.
fn check(text: &str, code: i32, names: &[&str]) {
    let cluster = Cluster::with(text);
    let (ended, said) = refused(cluster.command(&["serve"]));
    assert_eq!(ended, code, "{said}");
    for name in names {
        assert!(said.contains(name), "`{name}` is not named: {said}");
    }
    assert!(!cluster.data().exists(), "nothing is made before the refusal");
}

#[test]
fn a_taken_port_is_refused() {
    let _turn = turn::beside_others();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let api = format!("[api]\nlisten = \"{address}\"");
    check(&config("", "").replace("[api]\nlisten = \"127.0.0.1:0\"", &api), 1, &[&address, "api.listen"]);
    // The simulator runs where no channel is configured.
    let text = config("", "");
    let without_channel = text.split("[channels.hook]").next().expect("the part before");
    let simulator = format!("[simulator]\nlisten = \"{address}\"");
    let text = without_channel.replace("[simulator]\nlisten = \"127.0.0.1:0\"", &simulator);
    check(&text, 1, &[&address, "simulator.listen"]);
}

#[test]
fn a_wrong_configuration_is_refused_by_the_key() {
    let _turn = turn::beside_others();
    check(&config("colour = \"red\"", ""), 2, &["colour"]);
    check(&config("commit_interval = \"soon\"", ""), 2, &["commit_interval", "soon"]);
    check(&config("retention = \"1h\"", ""), 2, &["retention", "192h"]);
    check(&config("", "retry = { attempts = 0 }"), 2, &["channels.hook.retry.attempts"]);
    check(&config("", "colour = \"red\""), 2, &["channels.hook", "colour"]);
    check(&config("", "").replace("kind = \"webhook\"", "kind = \"pigeon\""), 2, &["pigeon", "webhook"]);
    check(&config("log = \"kafka://user:pw-canary@h\"", ""), 2, &["`log`", "password_file"]);
    check(&config("status = \"cassandra://127.0.0.1\"", ""), 2, &["`status`", "keyspace"]);
    let outside = config("", "").replace("[api]\nlisten = \"127.0.0.1:0\"", "[api]\nlisten = \"0.0.0.0:0\"");
    check(&outside, 2, &["api_key"]);
    let missing = config("", "").replace("[router]", "api_key = { file = \"nowhere.key\" }\n[router]");
    check(&missing, 2, &["api.api_key", "nowhere.key"]);
}

#[test]
fn a_folder_of_another_version_is_refused() {
    let _turn = turn::beside_others();
    run(async {
        for file in ["log.db", "status.db"] {
            let mut cluster = Cluster::new();
            cluster.start(&[]).await;
            cluster.terminate_all().await;
            let database = rusqlite::Connection::open(cluster.data().join(file)).expect("the file");
            database.pragma_update(None, "user_version", 4_711).expect("it can be written");
            drop(database);
            let (code, said) = refused(cluster.command(&["serve"]));
            assert_eq!(code, 1, "{said}");
            assert!(said.contains("4711") && said.contains(file), "{said}");
        }
    });
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let _turn = turn::beside_others();
    let cluster = Cluster::new();
    fs::create_dir(cluster.data()).expect("a folder");
    let foreign = "this is somebody's file, by chance called like ours\n".repeat(100);
    fs::write(cluster.data().join("log.db"), &foreign).expect("a file");
    let (code, said) = refused(cluster.command(&["serve"]));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("log.db"), "{said}");
    assert_eq!(fs::read_to_string(cluster.data().join("log.db")).expect("it is there"), foreign);
}

#[test]
fn a_read_only_folder_is_refused() {
    let _turn = turn::beside_others();
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED a_read_only_folder: becoming another user needs root");
        return;
    }
    let cluster = Cluster::new();
    fs::create_dir(cluster.data()).expect("a folder");
    for folder in [cluster.folder().to_owned(), cluster.data()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o555)).expect("our folder");
    }
    // A copy that everybody may run, wherever the target folder is.
    let shared = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().expect("a folder");
    let copy = shared.path().join("chat4all");
    fs::copy(binary(), &copy).expect("a copy");
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]).arg(copy).arg("serve");
    command.current_dir(cluster.folder()).stdin(Stdio::null()).env_clear();
    let (code, said) = refused(command);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("data") && said.to_lowercase().contains("permission"), "{said}");
    for folder in [cluster.data(), cluster.folder().to_owned()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("our folder");
    }
}
