//! The dead letter desk with the simulator as provider: replay by filter, through another channel, and more than once;
//! deletion.

use std::process::Output;
use std::time::Duration;

use chat4all_simulator::credentials::PHONE_NUMBER_ID;
use serde_json::{Value, json};

use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, ROLES, config};
use crate::harness::simulated::{CHANNEL, WhatsApp};
use crate::harness::{run, turn, until_async};

const LIMIT: Duration = Duration::from_secs(20);
/// A second channel of the same provider, with a number of its own.
const SPARE: &str = "spare";

struct Desk {
    cluster: Cluster,
    process: usize,
    whatsapp: WhatsApp,
    api: Api,
}

impl Desk {
    async fn start() -> Self {
        let whatsapp = WhatsApp::start(Duration::from_millis(100));
        let channel = whatsapp.channel("");
        let spare = channel
            .replace(&format!("[channels.{CHANNEL}]"), &format!("[channels.{SPARE}]"))
            .replace(PHONE_NUMBER_ID, "100000000000002");
        let mut cluster = Cluster::with(&(config("", "") + &channel + &spare));
        let process = cluster.start(&ROLES).await;
        let api = Api::new(cluster.url(process, "api"));
        whatsapp.reports_to(&cluster.url(process, "api")).await;
        Self { cluster, process, whatsapp, api }
    }

    /// Sends to a number that is refused once; the ids of message and delivery, once there is a dead letter.
    async fn fails_once(&self, number: &str) -> (String, String) {
        let fault = format!("/faults/whatsapp/{}", number.trim_start_matches('+'));
        self.whatsapp.put(&fault, &json!({"status": 400, "code": 131_026, "times": 1})).await;
        let message = self.api.accepted(&format!("{CHANNEL}:{number}"), number, "olá").await;
        let failed = self.delivery(&message, CHANNEL, "failed").await;
        let delivery = failed["delivery_id"].as_str().expect("an id").to_owned();
        until_async("the dead letter", LIMIT, || async {
            let answer = self.api.get(&format!("/v1/dead-letters/{delivery}")).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        (message, delivery)
    }

    /// Waits until the delivery of a message through a channel has this status.
    async fn delivery(&self, message: &str, channel: &str, status: &str) -> Value {
        until_async(&format!("`{status}` of {message} through {channel}"), LIMIT, || async {
            let view = self.api.show(message).await?;
            let goes_there = |one: &&Value| one["to"].as_str().is_some_and(|to| to.split(':').next() == Some(channel));
            let found = view["deliveries"].as_array()?.iter().find(goes_there)?.clone();
            (found["status"] == status).then_some(found)
        })
        .await
    }

    fn cli(&self, args: &[&str]) -> Output {
        let url = self.cluster.url(self.process, "api");
        let line = [&["dead-letters"], args, &["--url", &url]].concat();
        self.cluster.command(&line).output().expect("the binary runs")
    }

    fn says(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(output.status.success(), "{args:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

#[test]
fn a_filter_is_replayed_at_a_rate_and_asking_twice_sends_once() {
    let _turn = turn::beside_others();
    run(async {
        let mut desk = Desk::start().await;
        let numbers: Vec<String> = (0..6).map(|number| format!("+556299000000{number}")).collect();
        let mut messages = Vec::new();
        for number in &numbers {
            messages.push(desk.fails_once(number).await.0);
        }
        let chosen = ["--channel", CHANNEL, "--reason", "recipient_gone"];
        let all = "6 would be replayed, 0 were on their way already, 0 skipped";
        assert_eq!(desk.says(&[&["replay", "--dry-run"], &chosen[..]].concat()), all);
        assert_eq!(desk.says(&["replay", "--all", "--to-channel", SPARE, "--dry-run"]), all);
        let none = "0 replayed, 0 were on their way already, 0 skipped";
        assert_eq!(desk.says(&["replay", "--reason", "undelivered"]), none);
        // The second one before the recorder knows of the first.
        let said = desk.says(&[&["replay", "--rate", "50/s"], &chosen[..]].concat());
        assert_eq!(said, "6 replayed, 0 were on their way already, 0 skipped");
        desk.says(&[&["replay", "--rate", "50/s"], &chosen[..]].concat());
        for message in &messages {
            let read = desk.delivery(message, CHANNEL, "read").await;
            assert_eq!(read["generation"], 1, "{read}");
        }
        assert_eq!(desk.says(&[&["replay"], &chosen[..]].concat()), none);
        assert_eq!(desk.says(&["list"]), "no dead letters");
        for number in &numbers {
            assert_eq!(desk.whatsapp.inbox(number).await.len(), 2, "refused, and sent once more: {number}");
        }
        desk.cluster.terminate_all().await;
    });
}

#[test]
fn another_channel_carries_what_failed_once_however_often_it_is_asked_to() {
    let _turn = turn::beside_others();
    run(async {
        let mut desk = Desk::start().await;
        let number = "+5562990000001";
        let (message, delivery) = desk.fails_once(number).await;
        let said = desk.says(&["replay", &delivery, "--to-channel", SPARE]);
        assert!(said.contains(&format!("{SPARE}:{number}")), "{said}");
        // At once and through its own channel, and by a filter: of one letter only one replay is routed.
        desk.says(&["replay", &delivery]);
        desk.says(&["replay", "--all", "--to-channel", SPARE]);
        let sent = desk.delivery(&message, SPARE, "sent").await;
        assert_eq!(sent["generation"], 1, "{sent}");
        let said = desk.says(&["replay", &delivery]);
        assert!(said.contains("was replayed before") && said.contains(SPARE), "{said}");
        assert_eq!(desk.says(&["list"]), "no dead letters");
        assert!(desk.says(&["show", &delivery]).contains("replayed"));
        let own = desk.delivery(&message, CHANNEL, "failed").await;
        assert_eq!(own["generation"], 0, "{own}");
        // The next message shows that nothing of it was still under way.
        let next = desk.api.accepted(&format!("{CHANNEL}:{number}"), number, "next").await;
        desk.delivery(&next, CHANNEL, "read").await;
        assert_eq!(desk.whatsapp.inbox(number).await.len(), 3, "refused, sent through the other one, and the next");
        desk.cluster.terminate_all().await;
    });
}

#[test]
fn what_is_deleted_by_hand_is_gone_also_after_a_kill() {
    let _turn = turn::beside_others();
    run(async {
        let mut desk = Desk::start().await;
        let (_, first) = desk.fails_once("+5562990000001").await;
        desk.fails_once("+5562990000002").await;
        let refused = desk.cli(&["purge", "--all"]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"));
        assert_eq!(desk.says(&["purge", &first, "--yes"]), "1 dead letter deleted");
        assert_eq!(desk.cli(&["purge", &first, "--yes"]).status.code(), Some(1), "it is gone");
        assert_eq!(desk.says(&["purge", "--channel", CHANNEL, "--yes"]), "1 dead letter deleted");
        assert_eq!(desk.says(&["list"]), "no dead letters");
        desk.cluster.kill(desk.process);
        desk.cluster.start_again(desk.process).await;
        desk.api.moved(desk.cluster.url(desk.process, "api"));
        desk.api.ready(LIMIT).await;
        assert_eq!(desk.says(&["list"]), "no dead letters");
        desk.cluster.terminate_all().await;
    });
}
