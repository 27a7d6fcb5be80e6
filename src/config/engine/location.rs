//! `//host:port,…[/path][?name=value&…]`, taken apart. Refusals repeat no value: one may be a secret in the wrong place.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::Secret;

/// What stands behind the scheme of an engine's URL. Parameters are taken out one by one; [`Location::end`] refuses what is left.
#[derive(Debug)]
pub(super) struct Location {
    text: String,
    /// `host:port` each.
    pub hosts: Vec<String>,
    pub path: Option<String>,
    params: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

/// As it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written(String);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const NO_PASSWORD: &str = "a password in a URL would be seen in logs: name its file with `password_file=…`, or its \
                           environment variable with `password_env=…`";

impl Location {
    pub fn parse(text: &str, port: u16) -> Result<Self, String> {
        let rest = text.strip_prefix("//").ok_or("is no URL: two slashes are missing behind the scheme")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, path) = rest.split_once('/').map_or((rest, None), |(hosts, path)| (hosts, Some(path.to_owned())));
        if hosts.contains('@') {
            return Err(NO_PASSWORD.into());
        }
        let hosts = hosts.split(',').map(|host| with_port(host, port)).collect::<Result<_, _>>()?;
        let mut params = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if name == "password" {
                return Err(NO_PASSWORD.into());
            }
            if params.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(format!("the parameter `{name}` is given twice"));
            }
        }
        Ok(Self { text: text.to_owned(), hosts, path, params, known: Vec::new() })
    }

    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        self.params.remove(name)
    }

    pub fn file(&mut self, name: &'static str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    pub fn parsed<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Result<Option<T>, String> {
        let value = self.text(name).map(|text| text.parse());
        value.transpose().map_err(|_| format!("the parameter `{name}` must be {expected}"))
    }

    pub fn flag(&mut self, name: &'static str) -> Result<bool, String> {
        Ok(self.parsed(name, "true or false")?.unwrap_or(false))
    }

    /// One of `choices`, by its name.
    pub fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Result<Option<T>, String> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let chosen = choices.iter().find(|(choice, _)| *choice == text);
        let names = || choices.iter().map(|(choice, _)| *choice).collect::<Vec<_>>().join(", ");
        chosen
            .map(|(_, value)| Some(*value))
            .ok_or_else(|| format!("the parameter `{name}` must be one of {}", names()))
    }

    /// `user` with `password_file` or `password_env`, all or nothing.
    pub fn login(&mut self) -> Result<(Option<String>, Option<Secret>), String> {
        let user = self.text("user");
        let secret = match (self.file("password_file"), self.text("password_env")) {
            (Some(file), None) => Some(Secret::in_file(file)),
            (None, Some(name)) => Some(Secret::in_env(name)),
            (None, None) => None,
            (Some(_), Some(_)) => return Err("`password_file` and `password_env` are both given".into()),
        };
        match (&user, &secret) {
            (Some(_), None) => Err("`user` needs `password_file` or `password_env`".into()),
            (None, Some(_)) => Err("a password needs the parameter `user`".into()),
            _ => Ok((user, secret)),
        }
    }

    /// Refuses parameters that nobody took.
    pub fn end(self) -> Result<Written, String> {
        match self.params.keys().next() {
            Some(name) => Err(format!("there is no parameter `{name}`; there are {}", self.known.join(", "))),
            None => Ok(Written(self.text)),
        }
    }
}

fn with_port(host: &str, port: u16) -> Result<String, String> {
    // An IPv6 address stands in brackets.
    let name_end = host.rfind(']').map_or(0, |end| end + 1);
    let (name, given) = match host[name_end..].rfind(':') {
        Some(colon) => (&host[..name_end + colon], Some(&host[name_end + colon + 1..])),
        None => (host, None),
    };
    let port = given.map_or(Ok(port), str::parse);
    match port {
        Ok(port) if !name.is_empty() && port != 0 && !name.contains(char::is_whitespace) => {
            Ok(format!("{name}:{port}"))
        }
        _ => Err("must name hosts as `HOST:PORT`, separated by commas".into()),
    }
}
