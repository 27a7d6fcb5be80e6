//! What a new user does first, as the README tells it, against a real process.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::harness::cluster::{Cluster, config};
use crate::harness::{run, turn};

#[test]
fn a_new_user_sends_shows_and_looks_around() {
    let _turn = turn::beside_others();
    run(async {
        // As without any configuration, but for the ports.
        let text = config("", "");
        let mut cluster = Cluster::with(text.split("[channels.hook]").next().expect("the part before"));
        let process = cluster.start(&[]).await;
        let (url, simulator) = (cluster.url(process, "api"), cluster.url(process, "simulator"));
        let cli = |args: &[&str]| {
            let mut command = cluster.command(args);
            let output = command.args(["--url", &url]).output().expect("the binary runs");
            let (said, complained) =
                (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{args:?}: {} {said} {complained}", output.status);
            said
        };
        let sent = cli(&["send", &format!("webhook:{simulator}/inbox/ana"), "Your parcel is here", "--wait"]);
        println!("{sent}");
        assert!(sent.contains("delivered"), "{sent}");
        let id = sent.split_whitespace().find(|word| word.starts_with("msg_")).expect("the id").to_owned();
        let shown = cli(&["show", &id]);
        assert!(
            shown.contains("Your parcel is here") && shown.contains("delivered") && shown.contains("accepted"),
            "{shown}"
        );
        let shown: serde_json::Value = serde_json::from_str(&cli(&["show", &id, "--json"])).expect("JSON");
        assert_eq!((shown["message_id"].as_str(), shown["status"].as_str()), (Some(id.as_str()), Some("delivered")));
        let status = cli(&["status"]);
        for word in ["api", "router", "connectors", "recorder", "webhook-outbound", &cluster.pid(process).to_string()] {
            assert!(status.contains(word), "`{word}` is missing in\n{status}");
        }
        let status: serde_json::Value = serde_json::from_str(&cli(&["status", "--json"])).expect("JSON");
        assert_eq!(status["processes"].as_array().map(Vec::len), Some(1));

        let inbox = crate::harness::client::Api::new(simulator.clone()).get("/inbox/ana").await.expect("an answer");
        assert_eq!(inbox.status, 200);
        assert!(inbox.text.contains("Your parcel is here"), "{}", inbox.text);

        let failed = cluster.command(&["show", "msg_018f4e0e-0000-7000-8000-000000000001", "--url", &url]).output();
        assert_eq!(failed.expect("the binary runs").status.code(), Some(1));
        let nobody = cluster.command(&["status", "--url", "http://127.0.0.1:1"]).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
        assert_eq!(nobody.status.code(), Some(1), "{said}");
        assert!(said.contains("127.0.0.1:1"), "it says where it looked: {said}");
        for help in [&["--help"][..], &["serve", "--help"], &["send", "--help"], &["bench", "--help"]] {
            let output = cluster.command(help).output().expect("the binary runs");
            assert!(output.status.success() && output.stdout.len() > 200, "{help:?}");
        }
        cluster.terminate_all().await;
    });
}

#[test]
fn health_says_whether_a_process_may_be_given_work() {
    let _turn = turn::beside_others();
    run(async {
        let text = config("", "").replace("[router]", "api_key = \"any\"\n[router]");
        let mut cluster = Cluster::with(&text);
        let (api, recorder) = (cluster.start(&["api"]).await, cluster.start(&["recorder"]).await);
        let urls = [cluster.url(api, "api"), cluster.url(recorder, "recorder")];
        let health = |url: &str| {
            let output = cluster.command(&["health", "--url", url]).output().expect("the binary runs");
            (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        // No key is needed for it.
        for url in &urls {
            let (code, text) = health(url);
            assert!(code == Some(0) && text.contains("log: ready\n"), "{url}: {code:?} {text}");
        }
        let unready = r#"{"ready":false,"parts":[{"name":"log","ready":false,"detail":"it is away"}]}"#;
        let (code, text) = health(&answers_once("503 Service Unavailable", unready));
        assert!(code == Some(1) && text.contains("log: not ready: it is away\n"), "{code:?} {text}");
        let (code, text) = health(&answers_once("200 OK", "<html>"));
        assert!(code == Some(1) && text.contains("does not understand"), "{code:?} {text}");
        assert_eq!(health("http://127.0.0.1:1").0, Some(1));
        assert_eq!(health("somewhere").0, Some(2));
        cluster.terminate_all().await;
    });
}

/// The address of a server that reads one request and answers it so.
fn answers_once(status: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut head = [0; 4_096];
        let _ = client.read(&mut head).expect("a request");
        client.write_all(answer.as_bytes()).expect("it still listens");
    });
    url
}
