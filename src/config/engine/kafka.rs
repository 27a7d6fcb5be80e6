//! `kafka://HOST:9092,…?PARAMETERS`

use chat4all_kafka::{Mechanism, Options, Sasl, Tls};

use super::location::{Location, Written};
use crate::config::Secret;

/// Where Kafka is and how it lets us in.
#[derive(Debug, Clone)]
pub struct Kafka {
    pub(super) location: Written,
    brokers: String,
    tls: Option<Tls>,
    login: Option<(Mechanism, String)>,
    pub(super) password: Option<Secret>,
    prefix: String,
    replication: Option<u16>,
}

const MECHANISMS: [(&str, Mechanism); 3] =
    [("plain", Mechanism::Plain), ("scram-sha-256", Mechanism::ScramSha256), ("scram-sha-512", Mechanism::ScramSha512)];

impl Kafka {
    pub(super) fn parse(mut location: Location) -> Result<Self, String> {
        if location.path.as_ref().is_some_and(|path| !path.is_empty()) {
            return Err("Kafka has no path: a `prefix` for topics and groups is a parameter".into());
        }
        let brokers = location.hosts.join(",");
        let tls = tls(&mut location)?;
        let mechanism = location.choice("sasl", &MECHANISMS)?;
        let (user, password) = location.login()?;
        let login = match (mechanism, user) {
            (mechanism, Some(user)) => Some((mechanism.unwrap_or(Mechanism::ScramSha512), user)),
            (Some(_), None) => return Err("`sasl` needs `user` and a password".into()),
            (None, None) => None,
        };
        let prefix = location.text("prefix").unwrap_or_default();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if prefix.len() > 100 || !prefix.bytes().all(is_plain) {
            return Err("the parameter `prefix` may have letters, digits, `.`, `_` and `-` only, at most 100".into());
        }
        let replication = location.parsed("replication", "a number of copies")?;
        if replication == Some(0) {
            return Err("the parameter `replication` must be at least 1".into());
        }
        Ok(Self { brokers, tls, login, password, prefix, replication, location: location.end()? })
    }

    /// As the adapter takes it.
    pub fn options(&self) -> Options {
        let password = self.password.as_ref().map(|password| password.value().clone());
        let sasl = self.login.clone().zip(password);
        Options {
            tls: self.tls.clone(),
            sasl: sasl.map(|((mechanism, user), password)| Sasl { mechanism, user, password }),
            topic_prefix: self.prefix.clone(),
            group_prefix: self.prefix.clone(),
            replication: self.replication,
            ..Options::new(&self.brokers)
        }
    }
}

fn tls(location: &mut Location) -> Result<Option<Tls>, String> {
    let is_on = location.flag("tls")?;
    let tls = Tls {
        ca_file: location.file("ca_file"),
        certificate_file: location.file("certificate_file"),
        key_file: location.file("key_file"),
    };
    if tls.certificate_file.is_some() != tls.key_file.is_some() {
        return Err("`certificate_file` and `key_file` need each other".into());
    }
    if !is_on && (tls.ca_file.is_some() || tls.certificate_file.is_some()) {
        return Err("certificates are for TLS: add `tls=true`".into());
    }
    Ok(is_on.then_some(tls))
}
