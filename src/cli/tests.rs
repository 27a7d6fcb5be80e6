//! The command line as users type it.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["chat4all"], line].concat())
}

fn check_refused(line: &[&str], kind: ErrorKind) {
    let error = parse(line).expect_err(&line.join(" "));
    assert_eq!(error.kind(), kind, "{error}");
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_the_readme_shows_is_understood() {
    for line in [
        &["serve"][..],
        &["serve", "--role", "api", "--role", "router", "--data", "d", "--set", "api.listen=127.0.0.1:0"],
        &["send", "webhook:http://h/inbox/ana", "Your parcel is here", "--wait"],
        &[
            "send",
            "a:1",
            "b:2",
            "hi",
            "--wait",
            "--timeout",
            "5s",
            "--key",
            "k",
            "--conversation",
            "c",
            "--expires",
            "1h",
        ],
        &["send", "a:1", "--json", "--", "-1 degree"],
        &["show", "msg_019ab0de-7a3c-7c1e-9a55-3f1b7c0d2e4f", "--json", "--url", "http://h:1"],
        &["tail", "--status", "failed", "--channel", "hook"],
        &["status", "--json"],
        &["channels", "list", "--json"],
        &["channels", "show", "hook", "--json"],
        &["channels", "pause", "hook", "--json", "--url", "http://h:1"],
        &["channels", "resume", "hook"],
        &["cancel", "msg_019ab0de-7a3c-7c1e-9a55-3f1b7c0d2e4f", "--json"],
        &["drain", "3f9a", "--json"],
        &["doctor", "--log", "kafka://h", "--status", "cassandra://h/k"],
        &["migrate", "--log", "kafka://h", "--status", "cassandra://h/k"],
        &["config", "--default"],
        &["config", "--check", "--config", "f.toml"],
        &["simulate", "--listen", "127.0.0.1:0"],
        &["bench", "--messages", "1000", "--batch", "100"],
        &["drill", "kill-workers"],
        &["drill", "store-away", "log-away", "--json", "--outage", "10s"],
    ] {
        parse(line).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    check_refused(&[], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
    check_refused(&["send"], ErrorKind::MissingRequiredArgument);
    check_refused(&["send", "a:1", "hi", "--timeout", "5s"], ErrorKind::MissingRequiredArgument);
    check_refused(&["show", "42"], ErrorKind::ValueValidation);
    check_refused(&["cancel", "42"], ErrorKind::ValueValidation);
    check_refused(&["channels", "pause"], ErrorKind::MissingRequiredArgument);
    check_refused(&["channels", "pause", "A b"], ErrorKind::ValueValidation);
    check_refused(&["drain"], ErrorKind::MissingRequiredArgument);
    check_refused(&["tail", "--status", "lost"], ErrorKind::ValueValidation);
    check_refused(&["serve", "--role", "cook"], ErrorKind::InvalidValue);
    check_refused(&["serve", "--set", "api.listen"], ErrorKind::ValueValidation);
    check_refused(&["send", "a:1", "hi", "--api-key", "x"], ErrorKind::UnknownArgument);
}

#[tokio::test]
async fn a_missing_api_is_named_with_what_to_do() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let Command::Status(args) = parse(&["status", "--url", &url]).unwrap().command else { panic!("not `status`") };
    let failure = status::run(args).await.unwrap_err();
    assert_eq!(failure.to_string(), format!("no answer from {url}: is `chat4all serve` running?"));
}

#[test]
fn the_manual_names_every_command_and_option() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CLI.md");
    let manual = std::fs::read_to_string(path).expect("docs/CLI.md is part of the repository");
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(manual.contains(&format!("## `{name}`")), "docs/CLI.md has no part on `{name}`");
        for option in command.get_opts().filter_map(|option| option.get_long()) {
            assert!(manual.contains(&format!("`--{option}")), "docs/CLI.md does not know `--{option}` of `{name}`");
        }
        assert!(!command.get_about().map(ToString::to_string).unwrap_or_default().is_empty(), "`{name}`");
    }
}
