//! A server on a free port, a client, a log with faults on demand, a channel with limits.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chat4all_api::{ChannelInfo, Options, Parts, Server};
use chat4all_channels::{
    Answer, Callbacks, Channel, Event, InboundMessage, Malformed, Outgoing, ReceiptOf, Request, Unfit, Unverified,
};
use chat4all_proto::http::{ClusterView, Problem, ProcessView};
use chat4all_proto::outcome::Report;
use chat4all_proto::{Content, DeliveryStatus, Generation, Message, Outbound, Timestamp, Topic};
use chat4all_runtime::Shutdown;
use chat4all_storage::Log;
use chat4all_storage::log::{
    AppendError, Appended, Error, Fingerprint, Guarantees, LatestValues, NewRecord, Subscription, TopicSpec,
};
use chat4all_storage::status::memory::MemoryStatus;
use serde_json::Value;
use tokio::sync::{Notify, watch};

pub const PARTITIONS: u32 = 2;
pub const ROUTER: &str = "router";
pub const RECORDER: &str = "recorder";
/// Longest text that the test channel takes, in characters.
pub const TEXT_MAX: usize = 1_000;

/// A running API and all it stands on.
pub struct Harness {
    pub server: Option<Server>,
    pub log: Arc<TestLog>,
    pub status: Arc<MemoryStatus>,
    pub client: reqwest::Client,
    pub base: String,
}

impl Harness {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::on(TestLog::new(true), change)
    }

    fn on(log: Arc<TestLog>, change: impl FnOnce(&mut Options)) -> Self {
        let status = MemoryStatus::new();
        let mut options = Options::new("127.0.0.1:0".parse().unwrap(), ROUTER, RECORDER);
        change(&mut options);
        let channels = vec![
            info("hook", TestChannel),
            info("sms", TestChannel),
            info("chat", ChatChannel { account: "1", secret: Some("chat-secret") }),
            info("chat-two", ChatChannel { account: "2", secret: Some("chat-secret") }),
            info("chat-other-app", ChatChannel { account: "3", secret: Some("other-secret") }),
            info("chat-unset", ChatChannel { account: "4", secret: None }),
        ];
        let port: Arc<dyn Log> = log.clone();
        let control = chat4all_runtime::control::follow(&port, &Shutdown::new());
        let parts = Parts { log: port, status: Arc::clone(&status) as _, channels, control };
        let server = chat4all_api::bind(options, parts).unwrap();
        let base = format!("http://{}", server.addr());
        Self { server: Some(server), log, status, client: client(), base }
    }

    /// On a log that appends each time, as Kafka does.
    pub fn with_claims(change: impl FnOnce(&mut Options)) -> Self {
        Self::on(TestLog::new(false), change)
    }

    pub fn addr(&self) -> std::net::SocketAddr {
        self.server.as_ref().unwrap().addr()
    }

    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub fn post(&self, path: &str, body: impl Into<String>) -> reqwest::RequestBuilder {
        let request = self.client.post(format!("{}{path}", self.base));
        request.header("content-type", "application/json").body(body.into())
    }

    pub async fn send(&self, body: impl Into<String>) -> Reply {
        Reply::of(self.post("/v1/messages", body)).await
    }
}

pub fn client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

/// A message that every test channel takes.
pub fn hello() -> String {
    r#"{"to":"hook:ana","content":{"type":"text","text":"hi"}}"#.into()
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Reply {
    pub async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The problem that this answer is; checks what is the same for all of them.
    pub fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: Problem = serde_json::from_str(&self.text).unwrap();
        assert_eq!(problem.status, self.status);
        assert_eq!(self.header("x-request-id"), Some(problem.request_id.as_str()));
        assert_eq!(self.header("retry-after").is_some(), self.status == 503, "{self:?}");
        problem
    }

    #[track_caller]
    pub fn expect(&self, status: u16, code: &str) -> Problem {
        let problem = self.problem();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{problem:?}");
        problem
    }
}

/// What the log does with the next appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Write,
    Unavailable,
    Unknown,
    Refuse,
    /// Answers only when told so.
    Hang,
}

/// A log in memory whose faults and positions the test sets.
pub struct TestLog {
    writes_once: bool,
    state: Mutex<State>,
    /// The topic `control`.
    control: watch::Sender<Arc<LatestValues>>,
    pub processes: Mutex<Vec<ProcessView>>,
    pub silent: AtomicBool,
    pub looks: AtomicUsize,
    released: Notify,
    pub appending: Notify,
}

struct State {
    mode: Mode,
    oldest: Option<Duration>,
    records: Vec<NewRecord>,
    ends: Vec<u64>,
    committed: HashMap<String, Vec<u64>>,
    once: HashMap<uuid::Uuid, (Fingerprint, Timestamp)>,
    appends: usize,
}

impl TestLog {
    pub fn new(writes_once: bool) -> Arc<Self> {
        Arc::new(Self {
            writes_once,
            state: Mutex::new(State {
                mode: Mode::Write,
                oldest: None,
                records: Vec::new(),
                ends: vec![0; PARTITIONS as usize],
                committed: HashMap::new(),
                once: HashMap::new(),
                appends: 0,
            }),
            control: watch::Sender::default(),
            processes: Mutex::default(),
            silent: AtomicBool::new(false),
            looks: AtomicUsize::new(0),
            released: Notify::new(),
            appending: Notify::new(),
        })
    }

    pub fn set_mode(&self, mode: Mode) {
        self.state.lock().unwrap().mode = mode;
    }

    pub fn set_oldest(&self, age: Duration) {
        self.state.lock().unwrap().oldest = Some(age);
    }

    /// Lets one append that hangs go on.
    pub fn release(&self) {
        self.set_mode(Mode::Write);
        self.released.notify_one();
    }

    /// How often `append` was called.
    pub fn appends(&self) -> usize {
        self.state.lock().unwrap().appends
    }

    pub fn records(&self) -> Vec<NewRecord> {
        self.state.lock().unwrap().records.clone()
    }

    pub fn messages(&self) -> Vec<Message> {
        self.records().iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
    }

    /// What the topic `control` holds.
    pub fn control(&self) -> Arc<LatestValues> {
        self.control.borrow().clone()
    }

    /// As another process would.
    pub async fn put(&self, key: &str, value: &'static str) {
        self.put_latest(&Topic::Control, key, Some(Bytes::from(value))).await.unwrap();
    }

    /// Makes `group` finish everything that is there.
    pub fn commit_all(&self, group: &str) {
        let mut state = self.state.lock().unwrap();
        let ends = state.ends.clone();
        state.committed.insert(group.into(), ends);
    }
}

impl State {
    fn write(&mut self, record: NewRecord, writes_once: bool) -> Appended {
        if let Some(fingerprint) = record.once.filter(|_| writes_once) {
            match self.once.get(&record.id.uuid) {
                Some((first, at)) if *first == fingerprint => return Appended::Repeated { first_at: *at },
                Some(_) => return Appended::Conflict,
                None => {
                    let value: Value = serde_json::from_slice(&record.value).unwrap();
                    let first_at = Timestamp::from_millis(value["accepted_at"].as_u64().unwrap_or_default());
                    self.once.insert(record.id.uuid, (fingerprint, first_at));
                }
            }
        }
        let partition = record.key.partition(PARTITIONS);
        let offset = self.ends[partition as usize];
        self.ends[partition as usize] += 1;
        self.records.push(record);
        Appended::At { partition, offset }
    }
}

#[async_trait]
impl Log for TestLog {
    fn guarantees(&self) -> Guarantees {
        Guarantees { writes_once: self.writes_once, ..Guarantees::default() }
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<Vec<Appended>, AppendError> {
        let mode = {
            let mut state = self.state.lock().unwrap();
            state.appends += 1;
            state.mode
        };
        self.appending.notify_one();
        match mode {
            Mode::Write => {}
            Mode::Unavailable => return Err(AppendError::Unavailable("secret-of-the-log".into())),
            Mode::Unknown => return Err(AppendError::Unknown("secret-of-the-log".into())),
            Mode::Refuse => return Err(AppendError::Refused("secret-of-the-log".into())),
            Mode::Hang => self.released.notified().await,
        }
        let mut state = self.state.lock().unwrap();
        Ok(records.into_iter().map(|record| state.write(record, self.writes_once)).collect())
    }

    fn oldest_unacknowledged(&self) -> Option<Duration> {
        self.state.lock().unwrap().oldest
    }

    async fn ends(&self, topic: &Topic) -> Result<Vec<u64>, Error> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        if self.silent.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("it is silent".into()));
        }
        // Nobody parks anything.
        Ok(match topic {
            Topic::Parked(_) => vec![0; PARTITIONS as usize],
            _ => self.state.lock().unwrap().ends.clone(),
        })
    }

    async fn committed(&self, group: &str, _topic: &Topic) -> Result<Vec<u64>, Error> {
        let zeros = vec![0; PARTITIONS as usize];
        Ok(self.state.lock().unwrap().committed.get(group).cloned().unwrap_or(zeros))
    }

    async fn cluster(&self) -> Result<ClusterView, Error> {
        Ok(ClusterView { processes: self.processes.lock().unwrap().clone(), groups: Vec::new() })
    }

    async fn ensure_topics(&self, _topics: &[TopicSpec]) -> Result<(), Error> {
        Ok(())
    }

    async fn subscribe(&self, _group: &str, _topics: &[Topic]) -> Result<Subscription, Error> {
        unimplemented!("the api joins no group")
    }

    async fn put_latest(&self, topic: &Topic, key: &str, value: Option<Bytes>) -> Result<(), AppendError> {
        assert_eq!(*topic, Topic::Control);
        match self.state.lock().unwrap().mode {
            Mode::Write => {}
            Mode::Unavailable => return Err(AppendError::Unavailable("secret-of-the-log".into())),
            Mode::Unknown | Mode::Hang => return Err(AppendError::Unknown("secret-of-the-log".into())),
            Mode::Refuse => return Err(AppendError::Refused("secret-of-the-log".into())),
        }
        self.control.send_modify(|values| {
            let values = Arc::make_mut(values);
            match value {
                Some(value) => drop(values.insert(key.to_owned(), value)),
                None => drop(values.remove(key)),
            }
        });
        Ok(())
    }

    async fn follow_latest(&self, _topic: &Topic) -> Result<watch::Receiver<Arc<LatestValues>>, Error> {
        Ok(self.control.subscribe())
    }

    fn process(&self) -> &str {
        "ours"
    }

    async fn announce(&self, _roles: Vec<String>, _listens: Vec<String>) -> Result<(), Error> {
        Ok(())
    }

    async fn enforce_retention(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) {}
}

/// A channel that refuses the target `nobody` and texts that are too long.
struct TestChannel;

fn info(name: &str, channel: impl Channel) -> ChannelInfo {
    ChannelInfo {
        name: name.parse().unwrap(),
        channel: Arc::new(channel),
        in_flight_max: 8,
        attempts_max: 5,
        group: format!("connectors-{name}"),
    }
}

impl Channel for TestChannel {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn check(&self, outgoing: &Outgoing<'_>) -> Result<(), Unfit> {
        if outgoing.target == "nobody" {
            return Err(Unfit::new("to", "nobody is there"));
        }
        match outgoing.content {
            Content::Text { text } if text.chars().count() > TEXT_MAX => {
                Err(Unfit::new("content.text", format!("at most {TEXT_MAX} characters")))
            }
            _ => Ok(()),
        }
    }

    fn accepted_status(&self) -> DeliveryStatus {
        DeliveryStatus::Delivered
    }

    fn dedupes(&self) -> bool {
        true
    }

    fn request(&self, _delivery: &Outbound, _now: Timestamp) -> Result<Request, Unfit> {
        unimplemented!("the api sends nothing")
    }

    fn report(&self, _answer: &Answer, _now: Timestamp) -> Report {
        unimplemented!("the api sends nothing")
    }
}

/// How often a secret was asked, over all tests.
pub static VERIFIED: AtomicUsize = AtomicUsize::new(0);

/// A channel whose provider calls back. A call is a JSON list; the header `x-chat-secret` says who calls.
struct ChatChannel {
    account: &'static str,
    secret: Option<&'static str>,
}

#[derive(serde::Deserialize)]
struct Called {
    account: String,
    id: String,
    status: Option<DeliveryStatus>,
    from: Option<String>,
    reply_to: Option<String>,
}

impl Channel for ChatChannel {
    fn kind(&self) -> &'static str {
        "chat"
    }

    fn check(&self, _outgoing: &Outgoing<'_>) -> Result<(), Unfit> {
        Ok(())
    }

    fn accepted_status(&self) -> DeliveryStatus {
        DeliveryStatus::Sent
    }

    fn highest_status(&self) -> DeliveryStatus {
        DeliveryStatus::Read
    }

    fn dedupes(&self) -> bool {
        false
    }

    fn request(&self, _delivery: &Outbound, _now: Timestamp) -> Result<Request, Unfit> {
        unimplemented!("the api sends nothing")
    }

    fn report(&self, _answer: &Answer, _now: Timestamp) -> Report {
        unimplemented!("the api sends nothing")
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        Some(self)
    }
}

impl Callbacks for ChatChannel {
    fn account(&self) -> Option<&str> {
        Some(self.account)
    }

    fn handshake(&self, query: &[(Cow<'_, str>, Cow<'_, str>)]) -> Option<String> {
        query.iter().find(|(name, _)| name == "challenge").map(|(_, value)| value.to_string())
    }

    fn admit(&self, headers: &http::HeaderMap) -> Result<(), Unverified> {
        self.verify(headers, b"")
    }

    fn verify(&self, headers: &http::HeaderMap, _body: &[u8]) -> Result<(), Unverified> {
        VERIFIED.fetch_add(1, Ordering::SeqCst);
        let secret = self.secret.ok_or(Unverified::NoSecret { key: "secret" })?;
        match headers.get("x-chat-secret") {
            None => Err(Unverified::Missing { header: "x-chat-secret" }),
            Some(value) if value == secret => Ok(()),
            Some(_) => Err(Unverified::Wrong { header: "x-chat-secret" }),
        }
    }

    fn read(&self, body: &[u8], now: Timestamp) -> Result<Vec<Event>, Malformed> {
        let calls: Vec<Called> = serde_json::from_slice(body).map_err(|error| Malformed(error.to_string()))?;
        Ok(calls.into_iter().map(|called| called.event(now)).collect())
    }
}

impl Called {
    fn event(self, now: Timestamp) -> Event {
        let account = Some(self.account);
        match (self.status, self.from) {
            (Some(status), _) => Event::Receipt(ReceiptOf {
                account,
                provider_id: self.id,
                delivery_id: None,
                generation: Generation(0),
                status,
                at: now,
                failure: None,
                code_is_unknown: false,
            }),
            (None, Some(from)) => Event::Inbound(InboundMessage {
                account,
                from,
                provider_id: self.id,
                reply_to: self.reply_to,
                content: Content::Text { text: "hello".into() },
                sent_at: now,
            }),
            (None, None) => Event::Ignored("nothing"),
        }
    }
}
