//! The messaging channels with the simulator as provider: statuses that climb, receipts wherever they arrive, what fails
//! and is sent again by hand, what people write to us.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, ROLES, config};
use crate::harness::simulated::{CHANNEL, WhatsApp};
use crate::harness::{run, turn, until_async};

const LIMIT: Duration = Duration::from_secs(20);

struct Stack {
    cluster: Cluster,
    /// The process with every role.
    process: usize,
    whatsapp: WhatsApp,
    api: Api,
}

impl Stack {
    async fn start(more: &str) -> Self {
        let whatsapp = WhatsApp::start(Duration::from_millis(100));
        let mut cluster = Cluster::with(&(config("", "") + &whatsapp.channel(more)));
        let process = cluster.start(&ROLES).await;
        let api = Api::new(cluster.url(process, "api"));
        whatsapp.reports_to(&cluster.url(process, "api")).await;
        Self { cluster, process, whatsapp, api }
    }

    async fn send(&self, number: &str, conversation: &str) -> String {
        self.api.accepted(&format!("{CHANNEL}:{number}"), conversation, "olá").await
    }

    /// Waits until the message's only delivery has this status.
    async fn reaches(&self, id: &str, status: &str) -> Value {
        until_async(&format!("`{status}` of {id}"), LIMIT, || async {
            let view = self.api.show(id).await?;
            let delivery = view["deliveries"][0].clone();
            (delivery["status"] == status).then_some(delivery)
        })
        .await
    }

    /// Runs a command against the api.
    fn cli(&self, args: &[&str]) -> Output {
        let url = self.cluster.url(self.process, "api");
        self.cluster.command(args).args(["--url", &url]).output().expect("the binary runs")
    }

    fn says(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

#[test]
fn a_first_message_climbs_to_read_with_nothing_configured() {
    let _turn = turn::beside_others();
    run(async {
        // As without any configuration, but for the ports.
        let text = config("", "");
        let mut cluster = Cluster::with(text.split("[channels.hook]").next().expect("the part before"));
        let process = cluster.start(&[]).await;
        let url = cluster.url(process, "api");
        let send = |args: &[&str]| {
            let output = cluster.command(&[&["send"], args, &["--wait", "--url", &url]].concat()).output();
            let output = output.expect("the binary runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
            said
        };
        let said = send(&["whatsapp:+5562996991812", "hi"]);
        println!("{said}");
        let places: Vec<_> = ["  queued", "  sent,", "  delivered,", "  read,"].map(|status| said.find(status)).into();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{said}");
        assert!(send(&["instagram:17841400000000000", "hi"]).contains("  read,"));
        assert!(send(&["telegram:42", "hi"]).contains("  sent,"));
        let doctor = cluster
            .command(&[
                "doctor",
                "--set",
                &format!("simulator.listen={}", cluster.url(process, "simulator").trim_start_matches("http://")),
            ])
            .output()
            .expect("the binary runs");
        let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(doctor.status.success() && said.matches("credentials are good").count() == 3, "{said}");
        cluster.terminate_all().await;
    });
}

#[test]
fn doctor_tells_what_is_wrong_and_sends_nothing() {
    let _turn = turn::beside_others();
    run(async {
        let whatsapp = WhatsApp::start(Duration::from_millis(100));
        let good = whatsapp.channel("");
        let doctor = async |table: &str, code: i32, words: &[&str]| {
            let cluster = Cluster::with(&(config("", "") + table));
            let output = cluster.command(&["doctor", "--channel", CHANNEL]).output().expect("the binary runs");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert_eq!(output.status.code(), Some(code), "{said}");
            for word in words {
                assert!(said.contains(word), "`{word}` is missing in {said}");
            }
            assert!(!said.contains("canary"), "{said}");
        };
        doctor(&good, 0, &["wa (whatsapp)", "credentials are good"]).await;
        let wrong = good.replace(chat4all_simulator::credentials::ACCESS_TOKEN, "canary-token");
        doctor(&wrong, 1, &["credentials are refused", "190"]).await;
        let away = good.replace(&whatsapp.http.url(""), "http://127.0.0.1:1");
        doctor(&away, 1, &["not reached"]).await;
        let unsigned: String =
            good.lines().filter(|line| !line.starts_with("app_secret")).map(|line| format!("{line}\n")).collect();
        doctor(&unsigned, 0, &["credentials are good", "callbacks are refused"]).await;
        doctor("", 2, &["no such channel", "hook"]).await;
        let inboxes = whatsapp.http.get("/inbox").await.expect("an answer").json();
        assert_eq!(inboxes["inboxes"].as_array().map(Vec::len), Some(0), "{inboxes}");
    });
}

#[test]
fn a_receipt_counts_before_the_answer_and_at_any_api_process() {
    let _turn = turn::beside_others();
    run(async {
        let mut stack = Stack::start("").await;
        let other = stack.cluster.start(&["api"]).await;
        stack.whatsapp.reports_to(&stack.cluster.url(other, "api")).await;
        // `read` is reported after 0.2 s, the send is answered after 1 s.
        stack.whatsapp.put("/faults/whatsapp/5562990000001", &json!({"latency": "1s"})).await;
        let id = stack.send("+5562990000001", "c").await;
        let delivery = stack.reaches(&id, "read").await;
        assert_eq!(delivery["attempts"].as_array().map(Vec::len), Some(1), "{delivery}");
        assert!(delivery["provider_id"].as_str().is_some_and(|id| id.starts_with("wamid.")), "{delivery}");
        stack.cluster.terminate_all().await;
    });
}

#[test]
fn a_delivery_whose_answer_was_lost_is_unknown_until_its_receipt_comes() {
    let _turn = turn::beside_others();
    run(async {
        let mut stack = Stack::start("attempt_timeout = \"500ms\"").await;
        // Receipts reach nobody for now.
        stack.whatsapp.reports_to("http://127.0.0.1:1").await;
        for (number, fault) in [("1", json!({"hang": true})), ("2", json!({"reset": "after_reading"}))] {
            let number = format!("556299000000{number}");
            stack.whatsapp.put(&format!("/faults/whatsapp/{number}"), &fault).await;
            let id = stack.send(&format!("+{number}"), &number).await;
            let unknown = stack.reaches(&id, "unknown").await;
            assert_eq!(unknown["attempts"].as_array().map(Vec::len), Some(1), "not sent again: {unknown}");
            stack.whatsapp.reports_to(&stack.cluster.url(stack.process, "api")).await;
            let read = stack.reaches(&id, "read").await;
            assert!(read["provider_id"].as_str().is_some_and(|id| id.starts_with("wamid.")), "{read}");
            stack.whatsapp.reports_to("http://127.0.0.1:1").await;
        }
        stack.cluster.terminate_all().await;
    });
}

#[test]
fn where_it_is_chosen_a_delivery_whose_answer_was_lost_is_sent_again() {
    let _turn = turn::beside_others();
    run(async {
        let mut stack = Stack::start("attempt_timeout = \"500ms\"\nambiguous = \"resend\"").await;
        stack.whatsapp.put("/faults/whatsapp/5562990000001", &json!({"hang": true, "times": 1})).await;
        let id = stack.send("+5562990000001", "c").await;
        stack.reaches(&id, "read").await;
        assert_eq!(stack.whatsapp.inbox("+5562990000001").await.len(), 2);
        stack.cluster.terminate_all().await;
    });
}

#[test]
fn what_failed_is_shown_and_sent_again_by_hand_once() {
    let _turn = turn::beside_others();
    run(async {
        let mut stack = Stack::start("").await;
        // Refused at once, and accepted and reported as failed later.
        for (number, reason) in [("+999131026", "recipient_gone"), ("+998131047", "message_rejected")] {
            let id = stack.send(number, number).await;
            let failed = stack.reaches(&id, "failed").await;
            assert_eq!(failed["reason"], reason, "{failed}");
            let delivery = failed["delivery_id"].as_str().expect("an id").to_owned();
            let letter = until_async("the dead letter", LIMIT, || async {
                let answer = stack.api.get(&format!("/v1/dead-letters/{delivery}")).await.ok()?;
                (answer.status == 200).then(|| answer.json())
            })
            .await;
            assert_eq!(
                (&letter["reason"], &letter["attempts"], &letter["code"]),
                (&json!(reason), &json!(1), &json!(&number[4..])),
                "{letter}"
            );
            let listed = stack.says(&["dead-letters", "list", "--reason", reason]);
            assert!(listed.contains(&delivery), "{listed}");
            assert!(stack.says(&["dead-letters", "show", &delivery]).contains("waits for a hand"));

            // Both are about the same letter: one after the other might be about the letter that the first one ends in.
            let sends = stack.whatsapp.inbox(number).await.len();
            let path = format!("/v1/dead-letters/{delivery}/replay");
            let nothing = json!({});
            let (one, other) = tokio::join!(stack.api.post(&path, &nothing), stack.api.post(&path, &nothing));
            assert_eq!([one, other].map(|answer| answer.expect("an answer").status), [202, 202]);
            let again = until_async("the replay's end", LIMIT, || async {
                let view = stack.api.show(&id).await?;
                let again = view["deliveries"][0].clone();
                (again["generation"] == 1 && again["status"] == "failed").then_some(again)
            })
            .await;
            assert_eq!(again["delivery_id"], delivery.as_str(), "{again}");
            until_async("the second letter", LIMIT, || async {
                let letter = stack.api.get(&format!("/v1/dead-letters/{delivery}")).await.ok()?.json();
                (letter["generation"] == 1).then_some(())
            })
            .await;
            assert_eq!(stack.whatsapp.inbox(number).await.len(), sends + 1, "one more, whoever asked how often");
        }
        let missing = stack.cli(&["dead-letters", "show", "dlv_5c1f0e9a-8d7b-5c3e-9a55-3f1b7c0d2e4f"]);
        assert_eq!(missing.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&missing.stderr).contains("dead_letter_not_found"));
        stack.cluster.terminate_all().await;
    });
}

#[test]
fn a_replay_that_succeeds_leaves_the_list_and_is_not_sent_again() {
    let _turn = turn::beside_others();
    run(async {
        let mut stack = Stack::start("").await;
        let number = "+5562990000001";
        let fault = "/faults/whatsapp/5562990000001";
        stack.whatsapp.put(fault, &json!({"status": 400, "code": 131_026, "times": 1})).await;
        let id = stack.send(number, "c").await;
        let delivery = stack.reaches(&id, "failed").await["delivery_id"].as_str().expect("an id").to_owned();
        let replay = || stack.cli(&["dead-letters", "replay", &delivery]).status.success();
        until_async("the letter", LIMIT, || async { replay().then_some(()) }).await;
        stack.reaches(&id, "read").await;
        assert!(stack.says(&["dead-letters", "list"]).contains("no dead letters"));
        assert!(replay(), "asking again is no error");
        let next = stack.send(number, "c").await;
        stack.reaches(&next, "read").await;
        assert_eq!(stack.whatsapp.inbox(number).await.len(), 3, "refused, replayed, and the next message");
        stack.cluster.terminate_all().await;
    });
}

#[test]
fn what_people_write_is_kept_once_in_the_conversation_it_answers() {
    let _turn = turn::beside_others();
    run(async {
        let mut stack = Stack::start("").await;
        let number = "+5562990000001";
        let id = stack.send(number, "order-42").await;
        let answered = stack.reaches(&id, "read").await["provider_id"].as_str().expect("an id").to_owned();
        let write = async |body: Value| {
            let answer = stack.whatsapp.http.post("/inbound/whatsapp", &body).await.expect("an answer").json();
            assert_eq!(answer["status"], 200, "{answer}");
            answer["provider_id"].as_str().expect("an id").to_owned()
        };
        let history = async |conversation: &str, count: usize| {
            until_async(&format!("{count} messages of {conversation}"), LIMIT, || async {
                let path = format!("/v1/conversations/{}/messages", conversation.replace('+', "%2B"));
                let page = stack.api.get(&path).await.ok()?.json();
                let messages = page["messages"].as_array()?.clone();
                (messages.len() == count).then_some(messages)
            })
            .await
        };
        let first = write(json!({"from": number, "text": "obrigada 🚚"})).await;
        write(json!({"from": number, "text": "and to this one", "reply_to": answered})).await;
        write(json!({"from": "+5562990000002", "text": "who is this?"})).await;
        let messages = history("order-42", 3).await;
        let [reply, plain, sent] = messages.as_slice() else { panic!("{messages:?}") };
        assert_eq!((&plain["status"], &plain["content"]["text"]), (&json!("received"), &json!("obrigada 🚚")));
        assert_eq!((&plain["from"], &plain["provider_id"]), (&json!(format!("{CHANNEL}:{number}")), &json!(first)));
        assert_eq!((&reply["reply_to"], &sent["status"]), (&json!(answered), &json!("read")));
        history(&format!("{CHANNEL}:+5562990000002"), 1).await;
        let shown = stack.says(&["show", plain["message_id"].as_str().expect("an id")]);
        assert!(shown.contains("received") && shown.contains(&first), "{shown}");

        // To answer, its id goes back as `reply_to`.
        let said = stack.says(&["send", &format!("{CHANNEL}:{number}"), "you are welcome", "--reply-to", &first]);
        let id = said.split_whitespace().next().expect("the id").to_owned();
        stack.reaches(&id, "read").await;
        let sends = stack.whatsapp.inbox(number).await;
        assert_eq!(sends.last().expect("a send")["body"]["context"]["message_id"], first.as_str());
        stack.cluster.terminate_all().await;
    });
}

#[test]
fn what_a_channel_cannot_carry_is_refused_with_channel_field_and_limit() {
    let _turn = turn::beside_others();
    run(async {
        let mut stack = Stack::start("templates = { parcel = [\"1\"] }").await;
        let to = format!("{CHANNEL}:+5562996991812");
        for (to, content, field, words) in [
            (
                to.as_str(),
                json!({"type": "text", "text": "x".repeat(4_097)}),
                "content.text",
                &["`wa`", "4096", "4097"][..],
            ),
            (&to, json!({"type": "raw", "body": {}}), "content.type", &["`wa`"]),
            (
                &to,
                json!({"type": "template", "name": "parcel", "language": "pt_BR"}),
                "content.variables",
                &["`wa`", "1"],
            ),
            (&to, json!({"type": "template", "name": "other", "language": "pt_BR"}), "content.name", &["`wa`"]),
            ("wa:62996991812", json!({"type": "text", "text": "hi"}), "to[0]", &["`wa`", "+"]),
        ] {
            let answer =
                stack.api.post("/v1/messages", &json!({"to": to, "content": content})).await.expect("an answer");
            let problem = answer.json();
            assert_eq!(answer.status, 422, "{problem}");
            assert!(problem["field"].as_str().is_some_and(|at| at.starts_with(field)), "{field}: {problem}");
            for word in words {
                assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{word}: {problem}");
            }
        }
        stack.cluster.terminate_all().await;
    });
}
