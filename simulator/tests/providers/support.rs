//! A simulator with a client, and a receiver for what it calls back with.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chat4all_simulator::{Options, Simulator, credentials};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Far longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const RECEIPT_DELAY: Duration = Duration::from_millis(40);

pub struct Bench {
    pub simulator: Simulator,
    client: Client,
}

impl Bench {
    pub fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = Options { listen: ([127, 0, 0, 1], 0).into(), callbacks: None, receipt_delay: RECEIPT_DELAY };
        let simulator = Simulator::start(options).unwrap();
        let client = Client::builder().no_proxy().timeout(PATIENCE).retry(reqwest::retry::never()).build().unwrap();
        Self { simulator, client }
    }

    /// One whose callbacks are received.
    pub async fn with_receiver() -> (Self, Receiver) {
        let (bench, receiver) = (Self::new(), Receiver::start().await);
        bench.simulator.set_callbacks(receiver.base.clone());
        (bench, receiver)
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> reqwest::Result<(u16, Value)> {
        let url = format!("http://{}{path}", self.simulator.addr());
        let request = self.client.request(method, url).body(body.to_owned());
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// A call that sets something up or looks.
    pub async fn control(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, None, &body.to_string()).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        answer
    }

    pub async fn fault(&self, name: &str, fault: Value) {
        self.control(Method::PUT, &format!("/faults/{name}"), fault).await;
    }

    pub async fn graph(&self, account: &str, body: Value) -> (u16, Value) {
        let path = format!("/v25.0/{account}/messages");
        self.call(Method::POST, &path, Some(credentials::ACCESS_TOKEN), &body.to_string()).await.unwrap()
    }

    pub async fn whatsapp(&self, to: &str) -> (u16, Value) {
        self.graph(credentials::PHONE_NUMBER_ID, whatsapp_text(to, "hi")).await
    }

    pub async fn bot(&self, method: &str, body: Value) -> (u16, Value) {
        let path = format!("/bot{}/{method}", credentials::BOT_TOKEN);
        self.call(Method::POST, &path, None, &body.to_string()).await.unwrap()
    }

    pub async fn inbox(&self, name: &str) -> Vec<Value> {
        let mut list = self.control(Method::GET, &format!("/inbox/{name}"), Value::Null).await;
        serde_json::from_value(list["messages"].take()).unwrap()
    }

    /// `GET /callbacks`, as soon as nothing waits.
    pub async fn settled(&self) -> Value {
        let settled = async {
            loop {
                let shown = self.control(Method::GET, "/callbacks", Value::Null).await;
                if shown["waiting"] == 0 {
                    return shown;
                }
            }
        };
        timeout(PATIENCE, settled).await.unwrap()
    }
}

pub fn whatsapp_text(to: &str, text: &str) -> Value {
    json!({
        "messaging_product": "whatsapp", "recipient_type": "individual", "to": to, "type": "text",
        "text": {"body": text}, "biz_opaque_callback_data": "dlv_1",
    })
}

pub struct Received {
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub raw: Vec<u8>,
    pub body: Value,
}

impl Received {
    /// The one status in it.
    pub fn status(&self) -> &Value {
        &self.body["entry"][0]["changes"][0]["value"]["statuses"][0]
    }

    pub fn assert_signed(&self) {
        let mut mac = Hmac::<Sha256>::new_from_slice(credentials::APP_SECRET.as_bytes()).unwrap();
        mac.update(&self.raw);
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(self.headers["x-hub-signature-256"], format!("sha256={hex}"));
        assert!(self.raw.is_ascii());
    }
}

/// Takes callbacks and answers them.
pub struct Receiver {
    pub base: String,
    received: mpsc::UnboundedReceiver<Received>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1/callbacks", listener.local_addr().unwrap());
        let (sender, received) = mpsc::unbounded_channel();
        let answers = Arc::<Mutex<VecDeque<u16>>>::default();
        let shared = answers.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, sender.clone(), shared.clone()));
            }
        });
        Self { base, received, answers }
    }

    /// What the next calls are answered with; 0 cuts the connection. Afterwards it is 200.
    pub fn answer(&self, statuses: &[u16]) {
        self.answers.lock().unwrap().extend(statuses);
    }

    pub async fn next(&mut self) -> Received {
        timeout(PATIENCE, self.received.recv()).await.expect("nobody called back").unwrap()
    }

    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }
}

async fn serve(mut stream: TcpStream, sender: mpsc::UnboundedSender<Received>, answers: Arc<Mutex<VecDeque<u16>>>) {
    let mut bytes = Vec::new();
    loop {
        let Some((received, rest)) = parse(&bytes) else {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        bytes.drain(..rest);
        let status = answers.lock().unwrap().pop_front().unwrap_or(200);
        let _ = sender.send(received);
        if status == 0 {
            return;
        }
        let answer = format!("HTTP/1.1 {status} Told\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// A whole request and how many bytes it had.
fn parse(bytes: &[u8]) -> Option<(Received, usize)> {
    let head_bytes = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = str::from_utf8(&bytes[..head_bytes]).unwrap();
    let (line, rest) = head.split_once("\r\n").unwrap();
    let pairs = rest.lines().filter_map(|line| line.split_once(": "));
    let headers: HashMap<_, _> = pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let end = head_bytes + headers["content-length"].parse::<usize>().unwrap();
    let raw = bytes.get(head_bytes..end)?.to_vec();
    let body = serde_json::from_slice(&raw).unwrap();
    Some((Received { path: line.split(' ').nth(1).unwrap().to_owned(), headers, raw, body }, end))
}
