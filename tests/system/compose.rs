//! The compose file and the image: whether Docker's own library takes the file, profile by profile, and whether it keeps to what
//! docs/DEPLOY.md says of it. Docker itself is not needed; Go builds the reader, `dev/compose-check`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::harness::cluster::{Cluster, ROLES};
use crate::harness::{run, turn};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const READER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/compose-check");
/// It fetches ten modules the first time.
const BUILD_MAX: Duration = Duration::from_secs(300);

const PROFILES: [&[&str]; 4] = [&["core"], &["demo"], &["monitoring"], &["demo", "monitoring"]];
/// These alone may be reached from outside, and from this machine only.
const PUBLISHED: [&str; 2] = ["api-lb", "grafana"];
/// These end by themselves.
const ONE_SHOT: [&str; 2] = ["api-key", "migrate"];
/// These read the API key; `api-key` writes it.
const KEY_READERS: [&str; 6] = ["api", "router", "connectors", "recorder", "migrate", "prometheus"];

/// Builds the reader. Without Go, or without the modules, the test is skipped, and says why.
fn reader() -> bool {
    static BUILT: LazyLock<Result<(), String>> = LazyLock::new(|| {
        let mut go = tokio::process::Command::new("go");
        go.args(["build", "-o", READER, "."]).current_dir(Path::new(ROOT).join("dev/compose-check"));
        go.env("GOFLAGS", "-mod=readonly").env("GOTOOLCHAIN", "local").stdin(Stdio::null()).kill_on_drop(true);
        let output = run(async { timeout(BUILD_MAX, go.output()).await });
        let output = output.map_err(|_| format!("no end after {BUILD_MAX:?}"))?.map_err(|e| format!("`go`: {e}"))?;
        let said = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        if output.status.success() { Ok(()) } else { Err(said) }
    });
    BUILT.as_ref().inspect_err(|why| println!("SKIPPED compose: {why}")).is_ok()
}

/// What Docker would make of the file; else why it refuses it.
fn read(file: &Path, profiles: &[&str]) -> Result<Value, String> {
    let mut command = Command::new(READER);
    let output = command.arg(ROOT).arg(file).args(profiles).env_clear().output().expect("the reader runs");
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).expect("JSON"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Everything in which a file, with these profiles, is not as it should be.
fn faults(file: &Path, profiles: &[&str]) -> Vec<String> {
    let project = match read(file, profiles) {
        Ok(project) => project,
        Err(refused) => return vec![refused],
    };
    let services = project["services"].as_object().expect("services");
    let mut faults = Vec::new();
    for (name, service) in services {
        let found =
            [hardening(service), image(service), bounds(name, service), reach(name, service), mounts(name, service)];
        faults.extend(found.into_iter().flatten().map(|fault| format!("{name}: {fault}")));
        for (other, dependency) in service["depends_on"].as_object().into_iter().flatten() {
            let wanted =
                if ONE_SHOT.contains(&other.as_str()) { "service_completed_successfully" } else { "service_healthy" };
            if dependency["condition"] != wanted {
                faults.push(format!("{name}: waits for {other} on another condition than {wanted}"));
            }
        }
    }
    faults.extend(
        ROLES
            .iter()
            .filter(|role| services[**role]["deploy"]["replicas"] != 2)
            .map(|role| format!("not two of {role}")),
    );
    faults
}

fn hardening(service: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |holds: bool, what: &str| faults.extend((!holds).then(|| what.to_owned()));
    check(service["read_only"] == true, "its root file system can be written");
    check(service["cap_drop"] == serde_json::json!(["ALL"]), "it keeps capabilities");
    check(service["security_opt"] == serde_json::json!(["no-new-privileges:true"]), "it may gain privileges");
    let user = service["user"].as_str().unwrap_or("root").split(':').next().unwrap_or_default();
    check(user.parse::<u32>().is_ok_and(|user| user > 0), "it runs as root, or as nobody knows whom");
    for key in ["privileged", "cap_add", "devices", "pid", "ipc", "env_file"] {
        check(service[key].is_null(), &format!("it has `{key}`"));
    }
    let is_secret = |key: &String| ["PASSWORD", "SECRET", "TOKEN", "API_KEY"].iter().any(|word| key.contains(word));
    let secrets = service["environment"].as_object().into_iter().flat_map(|environment| environment.keys());
    check(!secrets.into_iter().any(is_secret), "a secret is in its environment");
    faults
}

/// Pinned; the engines in the versions that every other test runs on.
fn image(service: &Value) -> Vec<String> {
    let image = service["image"].as_str().unwrap_or_default();
    if image == "chat4all:local" {
        return service["build"].is_null().then(|| "its image is built nowhere".to_owned()).into_iter().collect();
    }
    let (name, tag) = image.split_once(':').unwrap_or((image, "latest"));
    let tested = match name {
        "apache/kafka" => Some(version("kafka")),
        "cassandra" => Some(version("cassandra")),
        _ => None,
    };
    let exact =
        tag.split(['.', '-']).take(3).filter(|part| part.trim_start_matches('v').parse::<u32>().is_ok()).count() == 3;
    match tested {
        _ if !exact => vec![format!("its image `{image}` is not pinned to a version")],
        Some(tested) if tag != tested => {
            vec![format!("its image `{image}` is not the version that is tested, {tested}")]
        }
        _ => Vec::new(),
    }
}

/// The first version in a server's pom.xml, as `dev/services` reads it.
fn version(server: &str) -> String {
    let pom = fs::read_to_string(Path::new(ROOT).join("dev").join(server).join("pom.xml")).expect("our file");
    let (_, rest) = pom.split_once("<version>").expect("a version");
    rest.split_once("</version>").expect("a version").0.to_owned()
}

fn bounds(name: &str, service: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let limits = &service["deploy"]["resources"]["limits"];
    for limit in ["cpus", "memory"] {
        if limits[limit].is_null() {
            faults.push(format!("no limit of {limit}"));
        }
    }
    let one_shot = ONE_SHOT.contains(&name);
    let restart = if one_shot { "no" } else { "unless-stopped" };
    if service["restart"] != restart {
        faults.push(format!("`restart` is not `{restart}`"));
    }
    if !one_shot && service["healthcheck"]["test"][0] != "CMD" {
        faults.push("no health check".to_owned());
    }
    if !one_shot && service["stop_grace_period"].is_null() {
        faults.push("no time to end in order".to_owned());
    }
    if service["logging"]["options"]["max-size"].is_null() {
        faults.push("its log grows without end".to_owned());
    }
    faults
}

fn reach(name: &str, service: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for port in service["ports"].as_array().into_iter().flatten() {
        if !PUBLISHED.contains(&name) {
            faults.push(format!("publishes port {}", port["target"]));
        }
        if port["host_ip"] != "127.0.0.1" {
            faults.push(format!("publishes port {} beyond this machine", port["target"]));
        }
    }
    if !matches!(service["network_mode"].as_str(), None | Some("none")) {
        faults.push("shares a network that is not its own".to_owned());
    }
    faults
}

fn mounts(name: &str, service: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for mount in service["volumes"].as_array().into_iter().flatten() {
        let source = mount["source"].as_str().unwrap_or_default();
        let read_only = mount["read_only"] == true;
        if mount["type"] == "bind" {
            if !Path::new(source).starts_with(ROOT) || !Path::new(source).exists() {
                faults.push(format!("mounts `{source}`, which the repository does not have"));
            }
            if !read_only {
                faults.push(format!("may write to `{source}`"));
            }
        } else if source == "api-key" && name != "api-key" && !(read_only && KEY_READERS.contains(&name)) {
            faults.push("has the API key and must not, or may change it".to_owned());
        }
    }
    faults
}

fn compose_file() -> String {
    fs::read_to_string(Path::new(ROOT).join("docker-compose.yml")).expect("our file")
}

#[test]
fn every_profile_is_taken_and_keeps_to_the_rules() {
    let _turn = turn::beside_others();
    if !reader() {
        return;
    }
    let file = Path::new(ROOT).join("docker-compose.yml");
    for profiles in PROFILES {
        assert_eq!(faults(&file, profiles), Vec::<String>::new(), "with {profiles:?}");
        let project = read(&file, profiles).expect("it was read before");
        let names: BTreeSet<&String> = project["services"].as_object().expect("services").keys().collect();
        println!("{profiles:?}: {names:?}");
    }
}

/// What is changed in the file, and what must be said of it. Everything is tried with all profiles.
const BROKEN: &[(&str, &str, &str)] = &[
    // By Docker's library.
    ("    networks: [default]\n    ports:", "    networks: [nowhere]\n    ports:", "undefined network nowhere"),
    ("source: cassandra, target", "source: nowhere, target", "undefined volume nowhere"),
    ("      kafka: { condition: service_healthy }", "      kafak: { condition: service_healthy }", "undefined service"),
    ("condition: service_healthy", "condition: service_well", "kafka.condition"),
    ("    stop_grace_period: 35s", "    stop_grace_period: soon", "stop_grace_period"),
    ("    stop_grace_period: 35s", "    stop_grace_perod: 35s", "stop_grace_perod"),
    ("${API_PORT:-8080}", "${API_PORT:-80800}", "80800"),
    // By our rules.
    ("  read_only: true\n  cap_drop", "  cap_drop", "its root file system can be written"),
    ("cap_drop: [ALL]", "cap_drop: [NET_RAW]", "it keeps capabilities"),
    ("  security_opt: [\"no-new-privileges:true\"]\n", "", "it may gain privileges"),
    ("    user: \"999:999\"\n", "", "cassandra: it runs as root"),
    ("    user: \"472:0\"\n", "    user: \"0:0\"\n", "grafana: it runs as root"),
    ("    user: \"472:0\"\n", "    user: \"472:0\"\n    privileged: true\n", "grafana: it has `privileged`"),
    (
        "      GF_AUTH_ANON",
        "      GF_SECURITY_ADMIN_PASSWORD: admin\n      GF_AUTH_ANON",
        "grafana: a secret is in its environment",
    ),
    ("haproxy:3.2.25-alpine", "haproxy:latest", "api-lb: its image `haproxy:latest` is not pinned"),
    ("haproxy:3.2.25-alpine", "haproxy", "api-lb: its image `haproxy` is not pinned"),
    ("apache/kafka:4.3.1", "apache/kafka:4.3.0", "kafka: its image `apache/kafka:4.3.0` is not the version"),
    ("  build: .\n", "", "its image is built nowhere"),
    ("cpus: \"2.0\", memory: 2G", "cpus: \"2.0\"", "cassandra: no limit of memory"),
    ("cpus: \"2.0\", memory: 2G", "memory: 2G", "cassandra: no limit of cpus"),
    ("  restart: unless-stopped\n  # Attempts", "  # Attempts", "router: `restart` is not"),
    (
        "    healthcheck: { <<: *healthy, test: [CMD, chat4all, health, --url, \"http://127.0.0.1:8081\"] }\n",
        "",
        "router: no health check",
    ),
    ("  stop_grace_period: 45s\n", "", "connectors: no time to end in order"),
    (
        "  logging: { driver: json-file, options: { max-size: 10m, max-file: \"3\" } }\n",
        "",
        "its log grows without end",
    ),
    (
        "    networks: [engines]\n    # A Metadata",
        "    ports: [\"127.0.0.1:9092:9092\"]\n    networks: [engines]\n    # A Metadata",
        "kafka: publishes port 9092",
    ),
    ("127.0.0.1:${API_PORT:-8080}:8080", "${API_PORT:-8080}:8080", "api-lb: publishes port 8080 beyond this machine"),
    ("    network_mode: none\n", "    network_mode: host\n", "api-key: shares a network"),
    (
        "source: ./deploy/haproxy.cfg",
        "source: ./deploy/haproxy.conf",
        "deploy/haproxy.conf`, which the repository does not have",
    ),
    (
        "source: ./deploy/haproxy.cfg",
        "source: /var/run/docker.sock",
        "`/var/run/docker.sock`, which the repository does not have",
    ),
    ("target: /etc/prometheus/rules, read_only: true", "target: /etc/prometheus/rules", "prometheus: may write to"),
    (
        "target: /run/chat4all, read_only: true",
        "target: /run/chat4all",
        "has the API key and must not, or may change it",
    ),
    (
        "      - { type: volume, source: grafana,",
        "      - *key\n      - { type: volume, source: grafana,",
        "grafana: has the API key",
    ),
    (
        "migrate: { condition: service_completed_successfully }",
        "migrate: { condition: service_started }",
        "router: waits for migrate",
    ),
    ("    replicas: 2\n", "    replicas: 1\n", "not two of connectors"),
];

#[test]
fn what_breaks_a_rule_is_refused() {
    let _turn = turn::beside_others();
    if !reader() {
        return;
    }
    let (folder, text) = (tempfile::tempdir().expect("a temporary folder"), compose_file());
    let file = folder.path().join("docker-compose.yml");
    for (from, to, expected) in BROKEN {
        assert!(text.contains(from), "nothing to break: {from}");
        fs::write(&file, text.replacen(from, to, 1)).expect("a file");
        let faults = faults(&file, &["demo", "monitoring"]);
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{from} -> {to}: {faults:#?}");
        println!("{expected}: refused");
    }
}

/// The paths that `.dockerignore` lets into the build, all of them at the top.
fn context() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(ROOT).join(".dockerignore")).expect("our file");
    let rules: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules[0], "*", "first everything is left out");
    rules[1..].iter().map(|rule| rule.strip_prefix('!').expect("then some of it comes back").to_owned()).collect()
}

#[test]
fn the_image_is_built_from_all_that_it_needs_and_runs_as_nobody_in_particular() {
    let context = context();
    for path in &context {
        assert!(Path::new(ROOT).join(path).exists(), "`{path}` of .dockerignore is not there");
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).current_dir(ROOT);
    let metadata: Value = serde_json::from_slice(&cargo.output().expect("cargo runs").stdout).expect("JSON");
    for package in metadata["packages"].as_array().expect("packages") {
        let files = package["targets"].as_array().expect("targets").iter().map(|target| &target["src_path"]);
        for file in files.chain([&package["manifest_path"]]) {
            let file = Path::new(file.as_str().expect("a path")).strip_prefix(ROOT).expect("in the workspace");
            let top = file.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
            assert!(context.contains(&top), "`{}` is not in the build: add it to .dockerignore", file.display());
        }
    }
    let text = fs::read_to_string(Path::new(ROOT).join("Dockerfile")).expect("our file");
    let of = |word: &str| text.lines().filter_map(|line| line.strip_prefix(word)).map(str::trim).collect::<Vec<_>>();
    for image in of("FROM ") {
        let tag = image.split_whitespace().next().and_then(|image| image.split_once(':')).expect("a tag").1;
        assert!(tag.contains(|c: char| c.is_ascii_digit()) && tag.contains(['.', '-']), "`{image}` is not pinned");
    }
    assert_eq!(of("USER "), ["10001:10001"]);
    assert!(of("HEALTHCHECK ")[0].ends_with("CMD [\"chat4all\", \"health\"]"));
}

/// The configuration that is mounted, and every command of every process as the binary reads it.
#[test]
fn the_processes_can_be_started_as_the_file_says() {
    let _turn = turn::beside_others();
    if !reader() {
        return;
    }
    let cluster = Cluster::new();
    let config = fs::read_to_string(Path::new(ROOT).join("deploy/chat4all/chat4all.toml")).expect("our file");
    let key = "/run/chat4all/api.key";
    assert!(config.contains(key));
    fs::write(cluster.folder().join("api.key"), "made-for-this-test\n").expect("a file");
    fs::write(cluster.folder().join("mounted.toml"), config.replace(key, "api.key")).expect("a file");
    let said = |args: &[&str]| {
        let output = cluster.command(args).output().expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, text) = said(&["config", "--check", "--config", "mounted.toml"]);
    assert_eq!(code, Some(0), "{text}");

    let project = read(&Path::new(ROOT).join("docker-compose.yml"), &["demo"]).expect("it is valid");
    let ours =
        project["services"].as_object().expect("services").iter().filter(|(_, service)| service["build"].is_object());
    let mut commands = BTreeMap::new();
    for (name, service) in ours.filter(|(name, _)| *name != "api-key") {
        let command = service["command"].as_array().into_iter().flatten().map(|word| word.as_str().expect("text"));
        let mut command: Vec<&str> = command.collect();
        commands.insert(name.as_str(), command.clone());
        // Every argument is looked at before the help is printed.
        command.push("--help");
        let (code, text) = said(&command);
        assert_eq!(code, Some(0), "{name}: {text}");
    }
    for role in ROLES {
        assert_eq!(commands[role], ["serve", "--role", role, "--config", "/etc/chat4all/chat4all.toml"]);
    }
    assert_eq!(commands["migrate"], ["migrate", "--config", "/etc/chat4all/chat4all.toml"]);
}
