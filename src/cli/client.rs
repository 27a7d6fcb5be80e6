//! The API as the commands see it: one call, one typed answer, and errors that say what to do.

use std::path::PathBuf;
use std::time::Duration;

use chat4all_proto::MessageId;
use chat4all_proto::http::{MessageView, Problem, Readiness};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use super::Failure;

const URL_DEFAULT: &str = "http://127.0.0.1:8080";
/// For one call, whatever it is.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// How the API is reached.
#[derive(Debug, clap::Args)]
pub struct ApiArgs {
    /// The API to call
    #[arg(long, env = "CHAT4ALL_URL", hide_env_values = true, value_name = "URL", default_value = URL_DEFAULT)]
    url: Url,
    /// File that holds the API key. Without it, the environment variable CHAT4ALL_API_KEY, if set
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

/// A client of one API.
pub struct Api {
    http: Client,
    base: Url,
    key: Option<SecretString>,
}

/// Why a call gave no answer of the wanted kind.
#[derive(Debug)]
pub enum Refusal {
    /// Nobody answered. The request may have arrived.
    Silence(String),
    /// The API said no, in its own words.
    Problem(Box<Problem>),
    /// Something answered that is not our API, or another version of it.
    Strange(String),
}

impl Refusal {
    /// Whether the same call may go better a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Refusal::Silence(_) => true,
            Refusal::Problem(problem) => matches!(problem.status, 429 | 503),
            Refusal::Strange(_) => false,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Silence(text) | Refusal::Strange(text) => Failure::failed(text),
            Refusal::Problem(problem) => Failure::failed(describe(&problem)),
        }
    }
}

fn describe(problem: &Problem) -> String {
    let mut text = problem.detail.clone();
    if let Some(field) = &problem.field {
        text.push_str(&format!("\n  field: {field}"));
    }
    if let Some(id) = problem.message_id.as_ref().filter(|_| problem.status == 503) {
        text.push_str(&format!("\n  it may have been accepted: `chat4all show {id}`"));
    }
    if problem.status == 401 {
        text.push_str("\n  give the key in CHAT4ALL_API_KEY or with --api-key-file");
    }
    format!("{text}\n  code: {} ({}), request {}", problem.code, problem.status, problem.request_id)
}

impl ApiArgs {
    /// Reads the key; calls nobody yet.
    pub fn connect(&self) -> Result<Api, Failure> {
        if !matches!(self.url.scheme(), "http" | "https") || self.url.cannot_be_a_base() {
            return Err(Failure::usage(format!("`--url {}` is not an http or https URL", self.url)));
        }
        let http = Client::builder().no_proxy().http1_only().redirect(reqwest::redirect::Policy::none());
        let http = http.timeout(CALL_DEADLINE).build().map_err(Failure::failed)?;
        Ok(Api { http, base: self.url.clone(), key: self.key()? })
    }

    fn key(&self) -> Result<Option<SecretString>, Failure> {
        let Some(file) = &self.api_key_file else {
            return Ok(std::env::var("CHAT4ALL_API_KEY").ok().filter(|key| !key.is_empty()).map(SecretString::from));
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("`--api-key-file {}`: {error}", file.display())))?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).into()))
    }
}

impl Api {
    /// `path` is relative, its parts not yet escaped; parameters without a value are left out.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        parameters: &[(&str, Option<&str>)],
    ) -> Result<T, Refusal> {
        self.call(self.http.request(Method::GET, self.url_with(path, parameters))).await
    }

    /// As `get`.
    pub async fn delete<T: DeserializeOwned>(
        &self,
        path: &[&str],
        parameters: &[(&str, Option<&str>)],
    ) -> Result<T, Refusal> {
        self.call(self.http.request(Method::DELETE, self.url_with(path, parameters))).await
    }

    /// Posts JSON, with an idempotency key if there is one.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl serde::Serialize,
        idempotency_key: Option<&str>,
    ) -> Result<T, Refusal> {
        let mut request = self.http.request(Method::POST, self.url(path)).json(body);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        self.call(request).await
    }

    pub async fn message(&self, id: MessageId) -> Result<MessageView, Refusal> {
        self.get(&["v1", "messages", &id.to_string()], &[]).await
    }

    /// Whether the process may be given work, and which of its parts it lacks.
    pub async fn readiness(&self) -> Result<Readiness, Refusal> {
        let request = self.http.request(Method::GET, self.url(&["health", "ready"]));
        let response = request.send().await.map_err(|error| self.silence(&error))?;
        match response.status() {
            StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE => self.read(response).await,
            status => Err(self.problem(status, response).await),
        }
    }

    fn url_with(&self, path: &[&str], parameters: &[(&str, Option<&str>)]) -> Url {
        let mut url = self.url(path);
        for (name, value) in parameters {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        url
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("connecting checked that it is a base").pop_if_empty().extend(path);
        url
    }

    async fn call<T: DeserializeOwned>(&self, mut request: RequestBuilder) -> Result<T, Refusal> {
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let response = request.send().await.map_err(|error| self.silence(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.problem(status, response).await);
        }
        self.read(response).await
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, Refusal> {
        let body = response.bytes().await.map_err(|error| self.silence(&error))?;
        serde_json::from_slice(&body).map_err(|error| {
            Refusal::Strange(format!("{} answered what this version does not understand: {error}", self.shown()))
        })
    }

    async fn problem(&self, status: StatusCode, response: Response) -> Refusal {
        let body = response.bytes().await.unwrap_or_default();
        match serde_json::from_slice(&body) {
            Ok(problem) => Refusal::Problem(Box::new(problem)),
            Err(_) => Refusal::Strange(format!("{} answered `{status}`: is this Chat4All's API?", self.shown())),
        }
    }

    fn silence(&self, error: &reqwest::Error) -> Refusal {
        let url = self.shown();
        Refusal::Silence(if error.is_timeout() {
            format!("no answer from {url} within {} s", CALL_DEADLINE.as_secs())
        } else if error.is_connect() {
            format!("no answer from {url}: is `chat4all serve` running?")
        } else {
            format!("the answer from {url} broke off")
        })
    }

    /// The base without what may be secret in it.
    fn shown(&self) -> String {
        self.base.origin().ascii_serialization()
    }
}
