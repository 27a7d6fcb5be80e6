//! The configuration as users meet it: what is taken, what is refused and how the refusal reads.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

const SECRET: &str = "canary-7f3a-secret";
const SIGNING_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const WHATSAPP: &str =
    "[channels.wa]\nkind = \"whatsapp\"\nphone_number_id = \"1\"\naccess_token = \"canary-7f3a-secret\"";

/// A folder with `chat4all.toml` and an environment.
struct Case {
    folder: TempDir,
    sources: Sources,
}

fn case(file: &str, env: &[(&str, &str)]) -> Case {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("chat4all.toml"), file).unwrap();
    let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let sources = Sources { file: None, folder: folder.path().to_owned(), env, overrides: vec![] };
    Case { folder, sources }
}

fn loaded(file: &str, env: &[(&str, &str)]) -> Config {
    case(file, env).sources.load().unwrap_or_else(|error| panic!("{file} {env:?}: {error}"))
}

/// `words` must all stand in the refusal; a planted secret never does.
fn check_refused(file: &str, env: &[(&str, &str)], words: &[&str]) {
    let error = case(file, env).sources.load().expect_err(file);
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains(SECRET), "{text}");
    }
    for word in words {
        assert!(error.to_string().contains(word), "`{word}` is missing in: {error}");
    }
}

#[test]
fn without_anything_the_defaults_hold_and_every_kind_has_a_channel() {
    let config = loaded("", &[]);
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(
        (config.log.to_string(), config.status.to_string()),
        ("embedded:./data".into(), "embedded:./data".into())
    );
    assert!(config.channels_by_default);
    let names: Vec<_> = config.channels.keys().map(ChannelName::as_str).collect();
    assert_eq!(names, ["instagram", "telegram", "webhook", "whatsapp"]);
    for channel in config.channels.values() {
        let connector = channel.connector().ok().unwrap();
        assert!(connector.may_dial_private(), "the simulator is on this machine");
        let probe = connector.probe().map(|probe| probe.url.port());
        assert_eq!(probe, (channel.kind != Kind::Webhook).then_some(Some(8090)), "{:?}", channel.kind);
    }
}

#[test]
fn a_configured_channel_takes_the_place_of_the_default_ones_and_is_careful() {
    let config = loaded("[channels.hook]\nkind = \"webhook\"", &[]);
    assert!(!config.channels_by_default);
    let hook = &config.channels[&"hook".parse().unwrap()];
    assert_eq!((hook.limits.in_flight, hook.retry.attempts), (64, 5));
    assert_eq!(hook.attempt_timeout(), Duration::from_secs(15));
    let connector = hook.connector().ok().unwrap();
    assert!(!connector.may_dial_private());
    assert!(hook.resends_ambiguous(&*connector), "the receiver drops repeats");
}

#[test]
fn an_answer_that_was_lost_is_resent_where_the_channel_can_tell_a_repeat_or_the_configuration_says_so() {
    for (more, resent) in [("", false), ("ambiguous = \"resend\"", true), ("ambiguous = \"unknown\"", false)] {
        let config = loaded(&format!("{WHATSAPP}\n{more}"), &[]);
        let channel = &config.channels[&"wa".parse().unwrap()];
        assert_eq!(channel.resends_ambiguous(&*channel.connector().ok().unwrap()), resent, "{more}");
        assert_eq!(channel.attempt_timeout(), Duration::from_secs(10));
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let mut case = case(
        "partitions = 3\nlog_level = \"warn\"\nretention = \"200h\"",
        &[
            ("CHAT4ALL_PARTITIONS", "4"),
            ("CHAT4ALL_LOG_LEVEL", "debug"),
            ("CHAT4ALL_API__LISTEN", "127.0.0.1:0"),
            ("CHAT4ALL_CHANNELS__HOOK__KIND", "webhook"),
            ("CHAT4ALL_CHANNELS__HOOK__ALLOW_PRIVATE_TARGETS", "true"),
            ("CHAT4ALL_CHANNELS__HOOK__RETRY", "{ backoff = [\"5ms\"] }"),
            ("CHAT4ALL_URL", "http://elsewhere"),
            ("CHAT4ALL_API_KEY", SECRET),
            ("CHAT4ALL_TEST_KAFKA", "h:1"),
            ("OTHER", "x"),
        ],
    );
    case.sources.overrides.push(Override { flag: "--set", key: "partitions".into(), value: "5".into() });
    let config = case.sources.load().unwrap();
    assert_eq!((config.partitions, config.log_level.as_str()), (5, "debug"));
    assert_eq!(config.retention, Duration::from_secs(200 * 3_600));
    let hook = &config.channels[&"hook".parse().unwrap()];
    assert!(hook.connector().ok().unwrap().may_dial_private());
    assert_eq!((hook.retry.attempts, hook.retry.backoff.as_slice()), (5, &[Duration::from_millis(5)][..]));
}

#[test]
fn a_refusal_names_the_key_and_where_it_was_set() {
    let hook = |rest: &str| format!("[channels.hook]\nkind = \"webhook\"\n{rest}");
    for (file, words) in [
        ("lgo = 1", &["`lgo`", "chat4all.toml", "no such key", "log"][..]),
        ("[api]\nlistn = \"x\"", &["`api.listn`", "chat4all.toml"]),
        ("[api]\nlisten = \"localhost\"", &["`api.listen`", "`localhost`"]),
        ("api = 1", &["`api`", "table"]),
        ("partitions = \"many\"", &["`partitions`"]),
        ("partitions = 0", &["`partitions`", "from 1 to"]),
        ("[tracing]\notlp_endpoint = \"127.0.0.1:4318\"", &["`tracing.otlp_endpoint`", "must be a URL"]),
        ("[tracing]\notlp_endpoint = \"http://a:b@c\"", &["`tracing.otlp_endpoint`", "no user"]),
        ("[tracing]\nsample_ratio = 1.5", &["`tracing.sample_ratio`", "from 0 to 1"]),
        ("[tracing]\nqueue = 0", &["`tracing.queue`", "from 1 to"]),
        ("[tracing]\nheaders = { \"a b\" = \"canary-7f3a-secret\" }", &["`tracing.headers.a b`", "HTTP header"]),
        ("[tracing]\nheaders = { a = \"canary-7f3a-secret\\n\" }", &["`tracing.headers.a`", "ASCII"]),
        ("retention = \"24h\"", &["`retention`", "192h"]),
        ("commit_interval = \"soon\"", &["`commit_interval`", "`soon`", "250ms"]),
        ("commit_interval = 50", &["`commit_interval`", "string"]),
        ("[in_memory]\nbytes = \"lots\"", &["`in_memory.bytes`", "256KiB"]),
        ("[in_memory]\nbytes = \"1KiB\"", &["`in_memory.bytes`", "1MiB"]),
        ("log = \"./data\"", &["`log`", "embedded:DIR", "kafka://"]),
        ("status = \"./data\"", &["`status`", "embedded:DIR", "cassandra://"]),
        ("log = \"embedded:\"", &["`log`", "folder"]),
        ("log = \"cassandra://h/k\"", &["`log`", "no log"]),
        ("status = \"kafka://h\"", &["`status`", "no statuses"]),
        ("log_level = \"a=b=c\"", &["`log_level`"]),
        ("log_format = \"xml\"", &["`log_format`", "auto, text, json"]),
        ("[api]\nlisten = \"0.0.0.0:8080\"", &["`api.api_key`", "loopback"]),
        ("[simulator]\nlisten = \"127.0.0.1:8080\"", &["`simulator.listen`", "chat4all.toml"]),
        ("[channels.Hook]\nkind = \"webhook\"", &["channels.Hook", "not a channel name"]),
        ("[channels.hook]", &["`channels.hook.kind`", "missing"]),
        ("[channels.hook]\nkind = \"fax\"", &["`channels.hook.kind`", "`fax`", "`webhook`", "`telegram`"]),
        (&hook("bot_token = \"1:x\""), &["`channels.hook.bot_token`", "no such key", "signing_secret", "retry"]),
        (&hook("ambiguous = \"maybe\""), &["`channels.hook.ambiguous`", "unknown, resend"]),
        ("[channels.t]\nkind = \"telegram\"", &["`channels.t.bot_token`", "missing"]),
        ("[channels.t]\nkind = \"telegram\"\nbot_token = 5", &["`channels.t.bot_token`", "must be a string"]),
        ("[channels.t]\nkind = \"telegram\"\nbot_token = \"canary-7f3a-secret\"", &["`channels.t.bot_token`"]),
        (&format!("{WHATSAPP}\nbase_url = \"graph\""), &["`channels.wa.base_url`", "chat4all.toml"]),
        (&format!("{WHATSAPP}\ntemplates = 5"), &["`channels.wa.templates`"]),
        (&format!("{WHATSAPP}\n{}", WHATSAPP.replace("wa]", "wb]")), &["`channels.wb`", "`channels.wa`"]),
        ("[simulator]\ncallbacks = \"here\"", &["`simulator.callbacks`", "URL"]),
        (&hook("limits = { per_second = 0 }"), &["`channels.hook.limits.per_second`", "0.001"]),
        (&hook("limits = { recipient = { every = \"0s\" } }"), &["`channels.hook.limits.recipient.every`", "`0s`"]),
        (&hook("limits = { tenant = { burst = 3 } }"), &["`channels.hook.limits.tenant", "every"]),
        (&hook("breaker = { failure_rate = 1.5 }"), &["`channels.hook.breaker.failure_rate`", "1.5"]),
        (&hook("breaker = { probes = 0 }"), &["`channels.hook.breaker.probes`"]),
        (&hook("breaker = { open_for = \"1m\" }"), &["`channels.hook.breaker.open_for_max`", "`open_for`"]),
        (&hook("attempt_timeout = \"16s\""), &["`channels.hook.attempt_timeout`", "15s"]),
        (&hook("retry = { attempts = 0 }"), &["`channels.hook.retry.attempts`"]),
        (&hook("retry = { backoff = [] }"), &["`channels.hook.retry.backoff`"]),
        (&hook("retry = { backoff = [\"x\"] }"), &["`channels.hook.retry.backoff`", "`x`"]),
        (&hook("signing_secret = \"canary-7f3a-secret\""), &["`channels.hook.signing_secret`", "whsec_"]),
        ("log = \"embedded:a\"\nlog = ", &["chat4all.toml", "line 2"]),
    ] {
        check_refused(file, &[], words);
    }
    check_refused("", &[("CHAT4ALL_API__LISTN", "x")], &["`api.listn`", "`CHAT4ALL_API__LISTN`"]);
    check_refused("", &[("CHAT4ALL_RETENTION", "1h")], &["`retention`", "`CHAT4ALL_RETENTION`"]);
    check_refused("partitions = 6", &[("CHAT4ALL_PARTITIONS", "x")], &["`partitions`", "`CHAT4ALL_PARTITIONS`"]);
}

/// Refusals of an engine's URL: which key, and which part of it.
#[test]
fn a_url_of_an_engine_is_checked_part_by_part() {
    let kafka = |rest: &str, words: &[&str]| {
        check_refused(&format!("log = \"kafka:{rest}\""), &[], &[&["`log`", "chat4all.toml"], words].concat());
    };
    kafka("h:9092", &["two slashes"]);
    kafka("//", &["HOST:PORT"]);
    kafka("//h:port", &["HOST:PORT"]);
    kafka("//h:0", &["HOST:PORT"]);
    kafka("//a:9092,", &["HOST:PORT"]);
    kafka("//h/topic", &["path", "prefix"]);
    kafka("//u:canary-7f3a-secret@h", &["password_file", "password_env"]);
    kafka("//h?user=u&password=canary-7f3a-secret", &["password_file", "password_env"]);
    kafka("//h?colour=canary-7f3a-secret", &["`colour`", "password_env", "replication"]);
    kafka("//h?tls=canary-7f3a-secret", &["`tls`", "true or false"]);
    kafka("//h?ca_file=ca.pem", &["tls=true"]);
    kafka("//h?tls=true&key_file=key.pem", &["certificate_file"]);
    kafka("//h?sasl=digest&user=u&password_env=P", &["`sasl`", "scram-sha-512"]);
    kafka("//h?sasl=plain", &["`sasl`", "user"]);
    kafka("//h?user=u", &["password_file"]);
    kafka("//h?password_env=P", &["`user`"]);
    kafka("//h?user=u&password_env=P&password_file=f", &["both"]);
    kafka("//h?user=u&password_env=NONE", &["`NONE`", "not set"]);
    kafka("//h?user=u&password_file=none", &["none", "cannot be read"]);
    kafka("//h?prefix=a/b", &["`prefix`"]);
    kafka("//h?replication=0", &["`replication`"]);
    kafka("//h?replication=many", &["`replication`"]);
    kafka("//h?tls=true&tls=false", &["`tls`", "twice"]);

    let cassandra = |rest: &str, words: &[&str]| {
        check_refused(
            &format!("status = \"cassandra:{rest}\""),
            &[],
            &[&["`status`", "chat4all.toml"], words].concat(),
        );
    };
    cassandra("//h", &["keyspace"]);
    cassandra("//h/", &["keyspace"]);
    cassandra("//h/1k", &["`1k`", "lower case"]);
    cassandra("//h/k?sasl=plain", &["`sasl`", "consistency"]);
    cassandra("//h/k?consistency=two", &["`consistency`", "local_quorum"]);
    cassandra("//h/k?replication=0", &["`replication`"]);
    cassandra("//h/k?replication=eu:3,us", &["`replication`"]);
    cassandra("//h/k?ca_file=ca.pem", &["tls=true"]);
    cassandra("//u:canary-7f3a-secret@h/k", &["password_file"]);
}

#[test]
fn a_url_of_an_engine_is_printed_as_it_was_written_and_its_secret_is_read() {
    let kafka = "kafka://a,[::1]:9093?tls=true&ca_file=/etc/ca.pem&sasl=plain&user=app&password_env=KAFKA&prefix=x.";
    let cassandra = "cassandra://a:1,b/k?user=app&password_file=cassandra.secret&replication=eu:3,us:2&consistency=one";
    let case = case(&format!("log = \"{kafka}\"\nstatus = \"{cassandra}\""), &[("KAFKA", SECRET)]);
    std::fs::write(case.folder.path().join("cassandra.secret"), format!("{SECRET}\n")).unwrap();
    let config = case.sources.load().unwrap();
    assert_eq!((config.log.to_string(), config.status.to_string()), (kafka.into(), cassandra.into()));
    assert!(!format!("{config:?}").contains(SECRET));
    let (LogEngine::Kafka(kafka), StatusEngine::Cassandra(cassandra)) = (&config.log, &config.status) else {
        panic!("{config:?}")
    };
    let password = |password: &secrecy::SecretString| secrecy::ExposeSecret::expose_secret(password).to_owned();
    let options = kafka.options();
    assert_eq!((options.brokers.as_str(), options.topic_prefix.as_str()), ("a:9092,[::1]:9093", "x."));
    assert_eq!(password(&options.sasl.unwrap().password), SECRET);
    assert_eq!(options.tls.unwrap().ca_file, Some("/etc/ca.pem".into()));
    let options = cassandra.options();
    assert_eq!((options.nodes, options.keyspace.as_str()), (vec!["a:1".to_owned(), "b:9042".to_owned()], "k"));
    assert_eq!(password(&options.credentials.unwrap().password), SECRET);
}

#[test]
fn the_collector_of_the_surroundings_is_taken_where_nothing_else_is_said() {
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")];
    let url = |file: &str, env: &[(&str, &str)]| loaded(file, env).tracing.traces_url().map(String::from);
    assert_eq!(url("", &[]), None);
    assert_eq!(url("", &env).as_deref(), Some("http://collector:4318/v1/traces"));
    assert_eq!(url("[tracing]\notlp_endpoint = \"\"", &env), None, "off is off");
    let ours = "[tracing]\notlp_endpoint = \"https://o/otlp/v1/traces\"";
    assert_eq!(url(ours, &env).as_deref(), Some("https://o/otlp/v1/traces"));
    let headers = "[tracing]\nheaders = { authorization = \"canary-7f3a-secret\" }";
    assert!(!toml(&loaded(headers, &[])).contains(SECRET));
}

#[test]
fn a_named_file_must_exist() {
    let mut case = case("", &[]);
    case.sources.file = Some(case.folder.path().join("other.toml"));
    let error = case.sources.load().unwrap_err().to_string();
    assert!(error.contains("other.toml"), "{error}");
}

#[test]
fn secrets_come_from_text_file_or_environment() {
    let value = |config: Config| {
        use secrecy::ExposeSecret;
        config.api.api_key.unwrap().value().expose_secret().to_owned()
    };
    assert_eq!(value(loaded(&format!("[api]\napi_key = \"{SECRET}\""), &[])), SECRET);
    assert_eq!(value(loaded("[api]\napi_key = { env = \"KEY\" }", &[("KEY", SECRET)])), SECRET);
    assert_eq!(value(loaded("", &[("CHAT4ALL_API__API_KEY", "0123")])), "0123");
    let case = case("[api]\napi_key = { file = \"api.key\" }", &[]);
    std::fs::write(case.folder.path().join("api.key"), format!("{SECRET}\n")).unwrap();
    assert_eq!(value(case.sources.load().unwrap()), SECRET);
}

#[test]
fn a_bad_secret_is_refused_without_being_repeated() {
    check_refused("[api]\napi_key = { file = \"none\" }", &[], &["`api.api_key`", "none"]);
    check_refused("[api]\napi_key = { env = \"NONE\" }", &[], &["`api.api_key`", "`NONE`"]);
    check_refused("[api]\napi_key = \"\"", &[], &["`api.api_key`", "empty"]);
    check_refused(&format!("[api]\napi_key = \"{SECRET} x\""), &[], &["`api.api_key`"]);
    check_refused(&format!("[api]\napi_key = {{ value = \"{SECRET}\" }}"), &[], &["`api.api_key", "file"]);
    check_refused(&format!("[api]\napi_key = [\"{SECRET}\"]"), &[], &["`api.api_key`"]);
    check_refused(&format!("[api]\napi_key = \"{SECRET}"), &[], &["line 2"]);
    check_refused("", &[("CHAT4ALL_API", SECRET)], &["`api`", "table"]);
    check_refused("", &[("CHAT4ALL_LOG", SECRET)], &["`log`"]);
    let mut case = case("", &[]);
    case.sources.overrides.push(Override { flag: "--set", key: "api.api_key".into(), value: SECRET.into() });
    let error = case.sources.load().unwrap_err().to_string();
    assert!(error.contains("`--set`") && !error.contains(SECRET), "{error}");
}

#[test]
fn what_is_printed_hides_secrets_and_can_be_loaded_again() {
    let file = format!(
        "[api]\napi_key = \"{SECRET}\"\n[channels.hook]\nkind = \"webhook\"\nsigning_secret = {{ env = \"SIGN\" }}"
    );
    let config = loaded(&file, &[("SIGN", SIGNING_SECRET)]);
    for text in [toml(&config), json(&config), format!("{config:?}")] {
        assert!(!text.contains(SECRET) && !text.contains(SIGNING_SECRET), "{text}");
        assert!(text.contains("hidden") && text.contains("SIGN"), "{text}");
    }
    let again = loaded(&toml(&config), &[("SIGN", SIGNING_SECRET)]);
    assert_eq!(toml(&again), toml(&config));
}

#[test]
fn the_blocks_of_the_channels_manual_can_be_used_as_they_stand() {
    let manual = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/CHANNELS.md")).unwrap();
    let blocks: Vec<&str> = manual.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let mut kinds = Vec::new();
    for block in blocks {
        let case = case(block, &[]);
        let mut sources = case.sources.clone();
        for (mark, value) in
            [("SECRET", "canary-7f3a-secret"), ("TOKEN", "canary-7f3a-secret"), ("BOT_TOKEN", "42:AAcanary")]
        {
            // Every secret is in the environment or in a file under a name that says what it is.
            for name in block.split('"').filter(|text| text.to_uppercase().ends_with(mark)) {
                sources.env.insert(name.into(), value.into());
                let is_signing = name.starts_with("hook");
                std::fs::write(case.folder.path().join(name), if is_signing { SIGNING_SECRET } else { value }).unwrap();
            }
        }
        let config = sources.load().unwrap_or_else(|error| panic!("{error}\n{block}"));
        kinds.extend(config.channels.values().map(|channel| channel.kind));
    }
    kinds.sort();
    assert_eq!(kinds, Kind::ALL, "a block for each kind");
}

/// The default file with the keys that stand there as comments switched on.
fn default_file_with_all_keys() -> String {
    let lines = DEFAULT_FILE.lines().map(|line| {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let is_key = bare.starts_with("[channels") || bare.split_once(" = ").is_some_and(|(key, _)| is_word(key));
        if is_key { bare } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[test]
fn the_default_file_says_what_the_defaults_are() {
    assert_eq!(toml(&loaded(DEFAULT_FILE, &[])), toml(&loaded("", &[])));
}

#[test]
fn the_default_file_and_the_documentation_know_every_key() {
    let case = case(&default_file_with_all_keys(), &[]);
    for (name, secret) in [("api.key", SECRET), ("hook.secret", SIGNING_SECRET), ("otlp.header", SECRET)] {
        std::fs::write(case.folder.path().join(name), secret).unwrap();
    }
    let config = case.sources.load().unwrap();
    let careful = loaded("[channels.hook]\nkind = \"webhook\"", &[]);
    let hook = |config: &Config| format!("{:?}", config.channels[&"hook".parse().unwrap()].retry);
    assert_eq!(hook(&config), hook(&careful));

    let manual = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIGURATION.md"));
    let manual = manual.expect("docs/CONFIGURATION.md is part of the repository");
    for key in keys_of(&serde_json::to_value(&config).unwrap(), "") {
        let key = key.replace("channels.hook.", "channels.NAME.");
        assert!(manual.contains(&format!("`{key}`")), "docs/CONFIGURATION.md does not know `{key}`");
    }
}

fn keys_of(value: &serde_json::Value, prefix: &str) -> Vec<String> {
    match value {
        serde_json::Value::Object(fields) if !fields.contains_key("file") => {
            fields.iter().flat_map(|(name, value)| keys_of(value, &format!("{prefix}.{name}"))).collect()
        }
        _ => vec![prefix.trim_start_matches('.').to_owned()],
    }
}
