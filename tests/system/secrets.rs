//! Planted secrets are looked for wherever text comes out.

use std::time::Duration;

use crate::harness::client::{Api, message};
use crate::harness::cluster::{Cluster, SIGNING_SECRET, config};
use crate::harness::receiver::{Receiver, Reply};
use crate::harness::{ledger, run, turn};

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
            let id = api.accepted(&receiver.target(path), path, "hi").await;
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
        assert_eq!(letters.len(), 2, "the two that failed");
        for topic in ["messages", "hook-outbound", "status-updates", "dead-letters"] {
            texts.extend(ledger::values(&cluster.data(), topic).iter().map(|value| value.to_string()));
        }

        let secret_bytes = SIGNING_SECRET.trim_start_matches("whsec_");
        let decoded = "secret of the whole-system tests!";
        for (name, canary) in [("api key", API_KEY), ("signing secret", secret_bytes), ("its bytes", decoded)] {
            for text in &texts {
                assert!(!text.contains(canary), "the {name} came out: {}", around(text, canary));
            }
            for file in files(cluster.folder()) {
                let bytes = std::fs::read(&file).unwrap_or_default();
                let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
                assert!(!found || file.ends_with("hook.secret"), "the {name} is in {}", file.display());
            }
        }
        println!("secrets: {} texts and {} files, no hit", texts.len(), files(cluster.folder()).len());
    });
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
