//! A client of the REST API.

use std::sync::{Arc, LazyLock, RwLock};
use std::time::Duration;

use serde_json::{Value, json};

static PROVIDER: LazyLock<()> = LazyLock::new(|| {
    // Another test may have been quicker.
    let _ = rustls::crypto::ring::default_provider().install_default();
});

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Calls one api process, which may move to another port. Clones share the address.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base: Arc<RwLock<String>>,
    key: Option<String>,
}

impl Api {
    pub fn new(base: String) -> Self {
        LazyLock::force(&PROVIDER);
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client");
        Self { http, base: Arc::new(RwLock::new(base)), key: None }
    }

    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// The process was restarted, and has another port now.
    pub fn moved(&self, base: String) {
        *self.base.write().expect("no panic under the lock") = base;
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base.read().expect("no panic under the lock"))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, String> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let response = request.send().await.map_err(|error| error.to_string())?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.map_err(|error| error.to_string())?;
        Ok(Answer { status, headers, text })
    }

    pub async fn get(&self, path: &str) -> Result<Answer, String> {
        self.send(self.http.get(self.url(path))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, String> {
        self.send(self.http.post(self.url(path)).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Result<Answer, String> {
        self.send(self.http.delete(self.url(path))).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer, String> {
        self.send(self.http.put(self.url(path)).json(body)).await
    }

    pub async fn post_raw(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Answer, String> {
        self.send(self.http.post(self.url(path)).header("content-type", content_type).body(body)).await
    }

    /// With one more header.
    pub async fn post_as(&self, path: &str, header: &str, value: &str, body: &'static str) -> Result<Answer, String> {
        self.send(self.http.post(self.url(path)).header(header, value).body(body)).await
    }

    /// With a trace of the client's.
    pub async fn post_traced(&self, body: &Value, traceparent: &str) -> Result<Answer, String> {
        self.send(self.http.post(self.url("/v1/messages")).header("traceparent", traceparent).json(body)).await
    }

    pub async fn post_keyed(&self, body: &Value, key: &str) -> Result<Answer, String> {
        self.send(self.http.post(self.url("/v1/messages")).header("idempotency-key", key).json(body)).await
    }

    /// Sends one text that must be accepted; its id.
    pub async fn accepted(&self, to: &str, conversation: &str, text: &str) -> String {
        let answer = self.post("/v1/messages", &message(to, conversation, text)).await.expect("an answer");
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()["message_id"].as_str().expect("an id").to_owned()
    }

    /// Sends a message that is given so many seconds to arrive; its id.
    pub async fn accepted_for(&self, seconds: u64, to: &str, conversation: &str) -> String {
        let mut message = message(to, conversation, "hi");
        message["expires_in_seconds"] = seconds.into();
        let answer = self.post("/v1/messages", &message).await.expect("an answer");
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()["message_id"].as_str().expect("an id").to_owned()
    }

    /// The message as GET shows it.
    pub async fn show(&self, id: &str) -> Option<Value> {
        let answer = self.get(&format!("/v1/messages/{id}")).await.ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Waits until GET shows that the message has ended.
    pub async fn ended(&self, id: &str, limit: Duration) -> Value {
        super::until_async(&format!("the end of {id}"), limit, || async {
            let view = self.show(id).await?;
            let status = view["status"].as_str().unwrap_or_default();
            (!["accepted", "queued", "sending", "retrying", ""].contains(&status)).then_some(view)
        })
        .await
    }

    /// Waits until `/health/ready` says so.
    pub async fn ready(&self, limit: Duration) {
        super::until_async("readiness", limit, || async {
            let answer = self.get("/health/ready").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

pub fn message(to: &str, conversation: &str, text: &str) -> Value {
    json!({"to": [to], "conversation_id": conversation, "content": {"type": "text", "text": text}})
}
