//! Where the spans of traces go.

use std::collections::BTreeMap;

use reqwest::header::{HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use url::Url;

use super::load::Invalid;
use super::secret::Secret;

/// The path of traces below the collector's address, by the standard.
const TRACES: &str = "/v1/traces";
const QUEUE_MAX: usize = 1_000_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tracing {
    /// The collector's address. Empty: no tracing.
    pub otlp_endpoint: String,
    /// Of the messages that bring no trace of their own.
    pub sample_ratio: f64,
    /// Most spans that wait to be exported, in one process.
    pub queue: usize,
    /// Sent along with each request to the collector.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
}

impl Default for Tracing {
    fn default() -> Self {
        Self { otlp_endpoint: String::new(), sample_ratio: 1.0, queue: 8_192, headers: BTreeMap::new() }
    }
}

impl Tracing {
    /// Where spans are posted to. `None`: tracing is off.
    pub fn traces_url(&self) -> Option<Url> {
        let mut url = Url::parse(&self.otlp_endpoint).ok()?;
        let path = url.path().trim_end_matches('/').to_owned();
        if !path.ends_with(TRACES) {
            url.set_path(&format!("{path}{TRACES}"));
        }
        Some(url)
    }

    /// The first thing wrong, by its key.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let refuse =
            |key: &str, problem: &str| Err(Invalid { key: format!("tracing.{key}"), problem: problem.to_owned() });
        if !self.otlp_endpoint.is_empty() {
            let url = Url::parse(&self.otlp_endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let Some(url) = url else {
                return refuse("otlp_endpoint", "must be a URL, like `http://127.0.0.1:4318`, or empty");
            };
            if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
                let problem = "may have no user, password or query: it is logged; use `tracing.headers`";
                return refuse("otlp_endpoint", problem);
            }
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return refuse("sample_ratio", &format!("must be from 0 to 1, and it is `{}`", self.sample_ratio));
        }
        if !(1..=QUEUE_MAX).contains(&self.queue) {
            return refuse("queue", &format!("must be from 1 to {QUEUE_MAX}, and it is `{}`", self.queue));
        }
        for (name, secret) in &self.headers {
            let key = format!("headers.{name}");
            if name.parse::<HeaderName>().is_err() {
                return refuse(&key, "is no name of an HTTP header");
            }
            if HeaderValue::from_str(secret.value().expose_secret()).is_err() {
                return refuse(&key, "must be printable ASCII, since it travels in a header");
            }
        }
        Ok(())
    }
}
