//! What a new user does first, as the README tells it, against a real process.

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
