//! A server with logins, as `dev/services up --secure` makes it and `dev/services env` names it.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// How to get in: an engine's URL (`kafka://HOST:PORT,…?…`, `cassandra://HOST:PORT/KEYSPACE?…`) taken apart.
#[derive(Debug, Clone)]
pub struct Server {
    /// `host:port` each.
    pub hosts: Vec<String>,
    parameters: BTreeMap<String, String>,
}

impl Server {
    /// The one whose URL is in the environment variable `name`; `None`, after saying so, if it is not set.
    /// Panics if it is no such URL.
    pub fn in_env(name: &str) -> Option<Self> {
        let Ok(url) = std::env::var(name) else {
            println!("SKIPPED secure server: `{name}` is not set, `dev/services env` prints it");
            return None;
        };
        let (_, location) = url.split_once("://").expect("a URL");
        let (location, query) = location.split_once('?').expect("parameters in the URL");
        let (hosts, _) = location.split_once('/').unwrap_or((location, ""));
        let parameters = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Some(Self { hosts: hosts.split(',').map(str::to_owned).collect(), parameters })
    }

    /// The authorities to trust, if it speaks TLS.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.parameters.get("ca_file").map(PathBuf::from)
    }

    pub fn user(&self) -> String {
        self.parameters["user"].clone()
    }

    /// Panics if its file cannot be read.
    pub fn password(&self) -> String {
        let file = &self.parameters["password_file"];
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("`{file}`: {error}"));
        text.trim_end().to_owned()
    }
}
