//! Planted secrets are looked for wherever text comes out.

use std::time::Duration;

use serde_json::json;

use crate::harness::client::{Api, message};
use crate::harness::cluster::{Cluster, SIGNING_SECRET, config};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::simulated::WhatsApp;
use crate::harness::{ledger, run, turn, until_async};

const API_KEY: &str = "canary-key-7Yw1sQ0pT5vB3nM9";

#[test]
fn planted_secrets_come_out_nowhere() {
    let _turn = turn::beside_others();
    run(async {
        let receiver = Receiver::start().await;
        let text = config("log_level = \"trace\"", "retry = { attempts = 2, backoff = [\"50ms\"] }")
            .replace("[router]", "api_key = { env = \"TEST_API_KEY\" }\n[router]")
            .replace(&format!("\"{SIGNING_SECRET}\""), "{ file = \"hook.secret\" }");
        let mut cluster = Cluster::with(&text);
        std::fs::write(cluster.folder().join("hook.secret"), SIGNING_SECRET).expect("a file");
        cluster.env("TEST_API_KEY", API_KEY);
        let process = cluster.start(&["api", "router", "connectors", "recorder"]).await;
        let url = cluster.url(process, "api");
        let (api, stranger) = (Api::new(url.clone()).with_key(API_KEY), Api::new(url));
        let mut texts = Vec::new();

        receiver.usually("/fails", Reply::Status(500));
        receiver.usually("/breaks", Reply::ResetAfter);
        for path in ["/takes", "/fails", "/breaks"] {
            let id = api.accepted_for(5, &receiver.target(path), path).await;
            texts.push(api.ended(&id, Duration::from_secs(20)).await.to_string());
        }
        let signed = &receiver.requests_on("/takes")[0];
        assert!(signed.headers["webhook-signature"].starts_with("v1,"), "it is signed: {:?}", signed.headers);

        // Every kind of refusal, with the key near it.
        let body = message(&receiver.target("/takes"), "c", "hi");
        texts.push(stranger.post("/v1/messages", &body).await.expect("an answer").text);
        let wrong = stranger.clone().with_key(&API_KEY.to_uppercase());
        let answer = wrong.post("/v1/messages", &body).await.expect("an answer");
        assert_eq!(answer.status, 401, "{}", answer.text);
        texts.push(answer.text);
        for (path, content_type, body) in [
            ("/v1/messages", "application/json", "{".to_owned()),
            ("/v1/messages", "text/plain", "hi".to_owned()),
            ("/v1/messages", "application/json", format!("{{\"to\":\"hook:{API_KEY}x\"}}").replace(API_KEY, "k")),
            ("/v1/none", "application/json", "{}".to_owned()),
        ] {
            texts.push(api.post_raw(path, content_type, body).await.expect("an answer").text);
        }
        for path in
            ["/metrics", "/health/ready", "/health/live", "/v1/channels", "/v1/cluster", "/v1/messages?status=failed"]
        {
            let answer = api.get(path).await.expect("an answer");
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            texts.push(answer.text);
        }
        for args in [&["config"][..], &["config", "--json"], &["status"], &["status", "--json"]] {
            let output = cluster.command(args).output().expect("the binary runs");
            texts.push(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
        }
        cluster.terminate_all().await;
        texts.push(cluster.logs());
        let letters = ledger::values(&cluster.data(), "dead-letters");
        assert_eq!(letters.len(), 1, "the one that failed; the other one was waited for until it expired");
        for topic in ["messages", "hook-outbound", "status-updates", "dead-letters"] {
            texts.extend(ledger::values(&cluster.data(), topic).iter().map(|value| value.to_string()));
        }

        let secret_bytes = SIGNING_SECRET.trim_start_matches("whsec_");
        let decoded = "secret of the whole-system tests!";
        let canaries = [("api key", API_KEY), ("signing secret", secret_bytes), ("its bytes", decoded)];
        must_be_nowhere(&canaries, &texts, cluster.folder(), &["hook.secret"]);
        println!("secrets: {} texts and {} files, no hit", texts.len(), files(cluster.folder()).len());
    });
}

/// The messaging channels' credentials: in headers, in a path, in signatures, and near every kind of failure.
#[test]
fn the_credentials_of_messaging_channels_come_out_nowhere() {
    use chat4all_simulator::credentials::{ACCESS_TOKEN, APP_SECRET, BOT_TOKEN, SECRET_TOKEN, VERIFY_TOKEN};
    let _turn = turn::beside_others();
    run(async {
        let whatsapp = WhatsApp::start(Duration::from_millis(50));
        let simulator = whatsapp.http.url("");
        let secrets = [
            ("TOKEN", ACCESS_TOKEN),
            ("APP", APP_SECRET),
            ("VERIFY", VERIFY_TOKEN),
            ("BOT", BOT_TOKEN),
            ("SECRET", SECRET_TOKEN),
        ];
        let retry = "retry = { attempts = 2, backoff = [\"50ms\"] }";
        let mut text = config("log_level = \"trace\"", "") + &whatsapp.channel(retry);
        for (name, base) in [
            ("tg", simulator.as_str()),
            ("tg-away", "http://127.0.0.1:1"),
            ("tg-tls", &simulator.replace("http:", "https:")),
        ] {
            text += &format!(
                "[channels.{name}]\nkind = \"telegram\"\nbase_url = \"{base}\"\nbot_token = \"{BOT_TOKEN}\"\nsecret_token = \"{SECRET_TOKEN}\"\n{retry}\n"
            );
        }
        for (name, value) in secrets {
            text = text.replace(&format!("\"{value}\""), &format!("{{ env = \"TEST_{name}\" }}"));
        }
        let mut cluster = Cluster::with(&text);
        secrets.iter().for_each(|(name, value)| cluster.env(&format!("TEST_{name}"), value));
        let process = cluster.start(&["api", "router", "connectors", "recorder"]).await;
        let url = cluster.url(process, "api");
        let api = Api::new(url.clone());
        whatsapp.reports_to(&url).await;
        whatsapp.put("/faults/telegram/7", &json!({"garbage": true})).await;
        whatsapp.put("/faults/whatsapp/5562990000007", &json!({"reset": "after_reading"})).await;
        let mut texts = Vec::new();
        for to in [
            "wa:+5562996991812",
            "wa:+999131026",
            "wa:+998131047",
            "wa:+5562990000007",
            "wa:+999131000",
            "tg:42",
            "tg:7",
            "tg:99940300",
            "tg:99950000",
            "tg-away:42",
            "tg-tls:42",
        ] {
            let id = api.accepted_for(5, to, to).await;
            texts.push(api.ended(&id, Duration::from_secs(20)).await.to_string());
        }
        // Our account is refused: the message waits.
        let waits = api.accepted("tg:99940100", "c", "hi").await;
        until_async("a refused account", Duration::from_secs(10), || async {
            let view = api.show(&waits).await?.to_string();
            view.contains("account_problem").then_some(())
        })
        .await;
        for (path, header, value) in [
            ("/v1/callbacks/wa", "x-hub-signature-256", "sha256=00"),
            ("/v1/callbacks/tg", "x-telegram-bot-api-secret-token", "wrong"),
        ] {
            let answer = api.post_as(path, header, value, "{}").await.expect("an answer");
            assert_eq!(answer.status, 401, "{}", answer.text);
            texts.push(answer.text);
        }
        for path in [
            "/metrics",
            "/v1/channels",
            "/v1/dead-letters",
            "/v1/messages",
            "/v1/callbacks/wa?hub.mode=subscribe&hub.verify_token=x",
        ] {
            texts.push(api.get(path).await.expect("an answer").text);
        }
        for args in [&["config"][..], &["config", "--json"], &["doctor"], &["dead-letters", "list", "--url", &url]] {
            let output = cluster.command(args).output().expect("the binary runs");
            texts.push(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
        }
        cluster.terminate_all().await;
        texts.push(cluster.logs());
        assert!(texts.last().is_some_and(|logs| logs.contains("refuses our account")), "the operator is told");
        for topic in ["messages", "wa-outbound", "tg-outbound", "status-updates", "dead-letters", "inbound"] {
            texts.extend(ledger::values(&cluster.data(), topic).iter().map(|value| value.to_string()));
        }
        let bot_secret = BOT_TOKEN.split_once(':').expect("a bot's token").1;
        let canaries = [secrets.as_slice(), &[("BOT, the second part", bot_secret)]].concat();
        must_be_nowhere(&canaries, &texts, cluster.folder(), &[]);
    });
}

fn must_be_nowhere(canaries: &[(&str, &str)], texts: &[String], folder: &std::path::Path, but_in: &[&str]) {
    for (name, canary) in canaries {
        for text in texts {
            assert!(!text.contains(canary), "the {name} came out: {}", around(text, canary));
        }
        for file in files(folder) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found || but_in.iter().any(|known| file.ends_with(known)), "the {name} is in {}", file.display());
        }
    }
}

fn around(text: &str, canary: &str) -> String {
    let line = text.lines().find(|line| line.contains(canary)).unwrap_or_default();
    line.replace(canary, "(HERE)").chars().take(400).collect()
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}
