//! The simulator as provider of WhatsApp, in the test's own process, which nobody kills.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use chat4all_simulator::{Options, Simulator, credentials};
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::Api;
use crate::checker::{Accepted, Taken};

/// The channel's name in tests.
pub const CHANNEL: &str = "wa";

pub struct WhatsApp {
    simulator: Simulator,
    pub http: Api,
}

impl WhatsApp {
    /// Reports `delivered` after `receipt_delay`, and `read` after twice that.
    pub fn start(receipt_delay: Duration) -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let simulator = Simulator::start(Options { listen, callbacks: None, receipt_delay }).expect("a free port");
        let http = Api::new(format!("http://{}", simulator.addr()));
        Self { simulator, http }
    }

    /// The table of a channel whose provider this is.
    pub fn channel(&self, more: &str) -> String {
        format!(
            "[channels.{CHANNEL}]\nkind = \"whatsapp\"\nbase_url = \"http://{}/v25.0\"\nphone_number_id = \"{}\"\n\
             access_token = \"{}\"\napp_secret = \"{}\"\nverify_token = \"{}\"\n{more}\n",
            self.simulator.addr(),
            credentials::PHONE_NUMBER_ID,
            credentials::ACCESS_TOKEN,
            credentials::APP_SECRET,
            credentials::VERIFY_TOKEN,
        )
    }

    /// Receipts go to the api at `url` from now on, those that are tried again too.
    pub async fn reports_to(&self, url: &str) {
        let body = json!({"base": format!("{url}/v1/callbacks"), "channels": {"whatsapp": CHANNEL}});
        self.put("/callbacks", &body).await;
    }

    /// `PUT`s a setting, which must be taken.
    pub async fn put(&self, path: &str, body: &Value) {
        let answer = self.http.put(path, body).await.expect("the simulator answers");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }

    /// Receipts that wait, and those that were lost for ever.
    pub async fn receipts(&self) -> (u64, u64) {
        let settings = self.http.get("/callbacks").await.expect("the simulator answers").json();
        let count = |name: &str| settings[name].as_u64().expect("a count");
        (count("waiting"), count("given_up") + count("dropped"))
    }

    /// What was sent to a number, oldest first.
    pub async fn inbox(&self, number: &str) -> Vec<Value> {
        let path = format!("/inbox/whatsapp/{}", number.trim_start_matches('+'));
        let inbox = self.http.get(&path).await.expect("the simulator answers").json();
        inbox["messages"].as_array().cloned().unwrap_or_default()
    }

    /// The sends that were accepted to these numbers, for the checker. `accepted` went to `number(conversation)`.
    pub async fn taken(&self, accepted: &[Accepted], number: impl Fn(&str) -> String) -> Vec<Taken> {
        let mut messages: HashMap<String, &str> = HashMap::new();
        let mut numbers: Vec<String> = Vec::new();
        for Accepted { message_id, conversation } in accepted {
            let number = number(conversation);
            messages.insert(delivery_id(message_id, &number), message_id);
            numbers.push(number);
        }
        numbers.sort();
        numbers.dedup();
        let mut taken = Vec::new();
        for number in &numbers {
            let kept = self.inbox(number).await;
            taken.extend(kept.iter().filter(|one| one["status"] == 200).map(|one| take(one, &messages)));
        }
        taken
    }
}

fn take(kept: &Value, messages: &HashMap<String, &str>) -> Taken {
    let delivery_id = kept["body"]["biz_opaque_callback_data"].as_str().expect("our id").to_owned();
    let at = time::OffsetDateTime::parse(
        kept["received_at"].as_str().expect("a time"),
        &time::format_description::well_known::Rfc3339,
    );
    Taken {
        at: SystemTime::from(at.expect("a time")),
        message_id: messages.get(&delivery_id).copied().unwrap_or(&delivery_id).to_owned(),
        delivery_id,
    }
}

/// As the documentation says: UUIDv5 of message id and address.
fn delivery_id(message_id: &str, number: &str) -> String {
    let message: Uuid = message_id.trim_start_matches("msg_").parse().expect("an id");
    format!("dlv_{}", Uuid::new_v5(&message, format!("{CHANNEL}:{number}").as_bytes()))
}
