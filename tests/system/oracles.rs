//! Judges that we did not write: mockpost stands in for WhatsApp and Telegram, pywa checks and reads what is signed as Meta
//! signs. Both are Python, with what `tests/oracles/requirements.txt` names, in an environment that the first run makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Duration;

use chat4all_simulator::credentials::{ACCESS_TOKEN, APP_SECRET, PHONE_NUMBER_ID};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::harness::client::Api;
use crate::harness::cluster::{Cluster, ROLES, config};
use crate::harness::simulated::WhatsApp;
use crate::harness::{run, turn, until_async};

const LIMIT: Duration = Duration::from_secs(20);
/// The script has limits of its own.
const INSTALL_MAX: Duration = Duration::from_secs(1_300);
const TEXT: &str = "Olá, é a Ana 🚚 https://example.com/a?b=c&d";
const NUMBER: &str = "5562996991812";
/// As long as real ones: mockpost looks.
const BOT_TOKEN: &str = "700000001:AAE-of-the-whole-system-tests_00000";

/// The Python that has the judges. Without one the test is skipped, and says why.
pub fn python() -> Option<&'static Path> {
    static PYTHON: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
        let said = run(output(Command::new("python3").arg(script("environment.py")), INSTALL_MAX));
        said.map(|path| path.trim_end().into())
    });
    PYTHON.as_deref().inspect_err(|why| println!("SKIPPED oracles: {why}")).ok()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles").join(name)
}

/// What a command prints; else in one line why it failed.
async fn output(command: &mut Command, limit: Duration) -> Result<String, String> {
    let running = timeout(limit, command.kill_on_drop(true).output()).await;
    let ran = running.map_err(|_| format!("no end after {limit:?}")).and_then(|ran| ran.map_err(|e| e.to_string()));
    let output = ran.map_err(|why| format!("{:?}: {why}", command.as_std().get_program()))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(complaints.replace('\n', " "));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

/// A script that serves. Killed when dropped; ends by itself when we are killed.
pub struct Server {
    pub url: String,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
    /// Where it runs.
    _folder: TempDir,
}

impl Server {
    pub async fn start(python: &Path, name: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(python);
        command.arg(script(name)).args(args).current_dir(folder.path()).env("MOCKPOST_STRICT_AUTH", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut server = Self { url: String::new(), lines, _child: child, _folder: folder };
        server.url = format!("http://127.0.0.1:{}", server.line().await);
        server
    }

    /// The next line that it prints.
    pub async fn line(&mut self) -> String {
        timeout(LIMIT, self.lines.next_line()).await.expect("a line in time").expect("text").expect("it runs on")
    }
}

/// Chat4All with mockpost as the provider of its channels `wa` and `tg`.
struct Stack {
    cluster: Cluster,
    api: Api,
    mockpost: Api,
    _server: Server,
}

impl Stack {
    async fn start(python: &Path) -> Self {
        let server = Server::start(python, "mockpost_server.py", &[]).await;
        let url = &server.url;
        let channels = format!(
            "[channels.wa]\nkind = \"whatsapp\"\nbase_url = \"{url}/whatsapp/v25.0\"\naccess_token = \"any\"\n\
             phone_number_id = \"{PHONE_NUMBER_ID}\"\napp_secret = \"{APP_SECRET}\"\n\
             [channels.tg]\nkind = \"telegram\"\nbase_url = \"{url}/telegram\"\nbot_token = \"{BOT_TOKEN}\"\n"
        );
        let mut cluster = Cluster::with(&(config("", "") + &channels));
        let process = cluster.start(&ROLES).await;
        let api = Api::new(cluster.url(process, "api"));
        Self { cluster, api, mockpost: Api::new(url.clone()), _server: server }
    }

    /// Sends a message; its only delivery once that has this status.
    async fn send(&self, to: &str, message: &Value, status: &str) -> Value {
        let mut message = message.clone();
        (message["to"], message["conversation_id"]) = (to.into(), "order-42".into());
        let answer = self.api.post("/v1/messages", &message).await.expect("an answer");
        assert_eq!(answer.status, 202, "{}", answer.text);
        self.reaches(answer.json()["message_id"].as_str().expect("an id"), status).await
    }

    async fn reaches(&self, id: &str, status: &str) -> Value {
        until_async(&format!("`{status}` of {id}"), LIMIT, || async {
            let mut delivery = self.api.show(id).await?["deliveries"].get(0)?.clone();
            delivery["message_id"] = id.into();
            (delivery["status"] == status).then_some(delivery)
        })
        .await
    }

    /// What mockpost kept last of a channel, read from its own API.
    async fn kept(&self, channel: &str) -> Value {
        let path = format!("/api/messages?limit=1&channel={channel}");
        let mut row = self.mockpost.get(&path).await.expect("an answer").json()[0].take();
        for field in ["raw_payload", "meta"] {
            row[field] = row[field].as_str().map_or(Value::Null, |text| serde_json::from_str(text).expect("JSON"));
        }
        row
    }

    /// Posts a callback; the status answered.
    async fn call_back(&self, body: &str, signature: &str) -> u16 {
        let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().expect("a client");
        let request = client.post(self.api.url("/v1/callbacks/wa")).header("content-type", "application/json");
        let request = request.header("x-hub-signature-256", signature).body(body.to_owned());
        request.send().await.expect("an answer").status().as_u16()
    }
}

/// Each message of `sends.json` goes to the channels that have an entry there: what mockpost has to keep of it.
///
/// Mockpost 0.3 does not judge WhatsApp's `recipient_type`, `context`, `biz_opaque_callback_data`, video, audio and stickers: it
/// takes them unseen. It has no `sendVideo`, `sendAudio`, `sendVoice` and `sendAnimation` of Telegram, and no numeric ids for
/// chats with a public name.
#[test]
fn mockpost_takes_what_we_send() {
    let _turn = turn::beside_others();
    let Some(python) = python() else { return };
    run(async {
        let mut stack = Stack::start(python).await;
        let sends: Vec<Value> =
            serde_json::from_slice(&fs::read(script("sends.json")).expect("our file")).expect("JSON");
        for (channel, to, sender) in [
            ("whatsapp", format!("wa:+{NUMBER}"), format!("whatsapp:{PHONE_NUMBER_ID}")),
            ("telegram", "tg:42".to_owned(), format!("bot:{BOT_TOKEN}")),
        ] {
            for (number, send) in sends.iter().filter(|send| send.get(channel).is_some()).enumerate() {
                let delivery = stack.send(&to, &send["send"], "sent").await;
                let kept = stack.kept(channel).await;
                assert_eq!(kept["raw_payload"], send[channel]);
                assert_eq!(kept["sender"], sender);
                // For Telegram it keeps no ids; they count from 1000.
                let id = kept["meta"]["wamid"].as_str().map_or(format!("42:{}", 1_000 + number), str::to_owned);
                assert_eq!(delivery["provider_id"], id);
            }
        }
        // It knows no user ids yet and refuses them, and we believe it.
        let refused = stack.send("wa:BR.1502576394655843", &sends[0]["send"], "failed").await;
        assert_eq!(refused["reason"], "message_rejected", "{refused}");
        stack.cluster.terminate_all().await;
    });
}

#[test]
fn pywa_takes_what_the_simulator_signs() {
    let _turn = turn::beside_others();
    let Some(python) = python() else { return };
    run(async {
        let mut pywa = Server::start(python, "pywa_receiver.py", &[APP_SECRET]).await;
        let whatsapp = WhatsApp::start(Duration::from_millis(10));
        whatsapp.put("/callbacks", &json!({"base": pywa.url})).await;
        let graph = whatsapp.http.clone().with_key(ACCESS_TOKEN);
        let mut judged = async |read: Value| {
            let judged: Value = serde_json::from_str(&pywa.line().await).expect("JSON");
            let expected = json!({"ascii": true, "signed": true, "signed_if_changed": false, "read": [read]});
            assert_eq!(judged, expected);
        };
        for (to, statuses) in [(NUMBER, &["sent", "delivered", "read"][..]), ("998131047", &["failed"])] {
            let body = json!({"messaging_product": "whatsapp", "recipient_type": "individual", "to": to, "type": "text",
                "text": {"body": TEXT}, "biz_opaque_callback_data": TEXT});
            let answer = graph.post(&format!("/v25.0/{PHONE_NUMBER_ID}/messages"), &body).await.expect("an answer");
            let id = &answer.json()["messages"][0]["id"];
            for status in statuses {
                let code = (*status == "failed").then_some(131_047);
                judged(json!({"status": status, "of": id, "from": PHONE_NUMBER_ID, "tracker": TEXT, "code": code}))
                    .await;
            }
        }
        let reply_to = "wamid.HBgM";
        let inbound = json!({"from": NUMBER, "text": TEXT, "reply_to": reply_to});
        let id = &graph.post("/inbound/whatsapp", &inbound).await.expect("an answer").json()["provider_id"];
        judged(json!({"message": id, "from": NUMBER, "to": PHONE_NUMBER_ID, "text": TEXT, "reply_to": reply_to})).await;
    });
}

#[test]
fn what_python_signs_is_taken_and_what_was_changed_is_refused() {
    let _turn = turn::beside_others();
    let Some(python) = python() else { return };
    run(async {
        let mut stack = Stack::start(python).await;
        let text = json!({"content": {"type": "text", "text": TEXT}});
        let sent = stack.send(&format!("wa:+{NUMBER}"), &text, "sent").await;
        let status = json!({"id": sent["provider_id"], "status": "delivered", "timestamp": "1795300500",
            "recipient_id": NUMBER, "pricing": {"billable": true, "pricing_model": "PMP", "category": "service"}});
        let message = json!({"from": NUMBER, "from_user_id": "BR.1", "id": "wamid.HBgM/+==",
            "timestamp": "1795300501", "type": "text", "text": {"body": TEXT}});
        let metadata = json!({"display_phone_number": "15550000001", "phone_number_id": PHONE_NUMBER_ID});
        let said = json!([{"metadata": metadata, "statuses": [status]}, {"metadata": metadata, "messages": [message]}]);
        let mut command = Command::new(python);
        command.arg(script("sign_callbacks.py")).args([APP_SECRET, &said.to_string()]);
        let signed = output(&mut command, LIMIT).await.expect("the script runs");
        for signed in serde_json::from_str::<Vec<Value>>(&signed).expect("JSON") {
            let [body, signature] = ["body", "signature"].map(|field| signed[field].as_str().expect("text"));
            assert_eq!(stack.call_back(&flipped(body), signature).await, 401);
            assert_eq!(stack.call_back(body, &flipped(signature)).await, 401);
            assert_eq!(stack.call_back(body, signature).await, 200);
        }
        stack.reaches(sent["message_id"].as_str().expect("an id"), "delivered").await;
        let history = until_async("the message to us", LIMIT, || async {
            let page = stack.api.get("/v1/conversations/order-42/messages").await.ok()?.json();
            (page["messages"].as_array()?.len() == 2).then_some(page)
        });
        let received = history.await["messages"][0].take();
        assert_eq!((&received["status"], &received["content"]["text"]), (&json!("received"), &json!(TEXT)));
        stack.cluster.terminate_all().await;
    });
}

/// With one bit of its last digit turned over, so that JSON stays JSON.
fn flipped(text: &str) -> String {
    let mut bytes = text.as_bytes().to_owned();
    let digit = bytes.iter().rposition(u8::is_ascii_digit).expect("a digit");
    bytes[digit] ^= 1;
    String::from_utf8(bytes).expect("a digit became a digit")
}
