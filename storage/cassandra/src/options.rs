//! How to reach a cluster and what to ask of it. Made by the binary from its configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chat4all_storage::status::Error;
use chat4all_storage::status::claims::OUTLIVES_MESSAGE_BY;
use secrecy::SecretString;

/// Most seconds that Cassandra takes as a TTL: 20 years.
const TTL_S_MAX: u64 = 20 * 365 * 24 * 3_600;
/// Least time that a claim on a message's id is kept.
const CLAIM_KEPT_MIN: Duration = Duration::from_secs(24 * 3_600);

/// One process's access to one keyspace.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` of some nodes; the others are found through them. At least one.
    pub nodes: Vec<String>,
    /// Made if it is missing. 1 to 48 letters, digits and `_`, a letter first; letters are lower case.
    pub keyspace: String,
    /// Of the keyspace when it is made; an existing one stays as it is. `None`: 3 copies, or as many as there are nodes if
    /// those are fewer. Default: `None`.
    pub replication: Option<Replication>,
    /// Default: no TLS.
    pub tls: Option<Tls>,
    pub credentials: Option<Credentials>,
    pub consistency: Consistency,
    /// How long a row is kept after it was written; the same for every process. Claims are kept for an hour longer, and for
    /// at least 24 h. `None`: until `purge`, and claims for ever. Default: 30 days.
    pub ttl: Option<Duration>,
    /// For one statement, driver's retries included. Default: 2 s.
    pub request_timeout: Duration,
    /// Most statements that one call has under way. At least 1. Default: 64.
    pub in_flight_max: usize,
}

/// TLS to the nodes. Certificates are always verified, and each must name its node's IP address: that is all that the
/// others tell of a node.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// PEM file of the authorities to trust. Default: the system's.
    pub ca_file: Option<PathBuf>,
}

/// Copies of each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// So many, anywhere: for one data centre.
    Simple(u32),
    /// By the names of data centres.
    DataCentres(BTreeMap<String, u32>),
}

/// How many copies must have answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Most of those in the data centre of the node asked: what is written is seen by every read.
    LocalQuorum,
    /// Any: keeps the port's promise where there is one copy only.
    One,
}

/// The text of the password is in no `Debug` output.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub user: String,
    pub password: SecretString,
}

impl Options {
    /// The defaults: no credentials, no TLS.
    pub fn new(nodes: Vec<String>, keyspace: &str) -> Self {
        Self {
            nodes,
            keyspace: keyspace.to_owned(),
            replication: None,
            tls: None,
            credentials: None,
            consistency: Consistency::LocalQuorum,
            ttl: Some(Duration::from_secs(30 * 24 * 3_600)),
            request_timeout: Duration::from_secs(2),
            in_flight_max: 64,
        }
    }

    /// `Refused` with what to change. The keyspace is written into statements as it is: here it is checked.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |text: String| Err(Error::Refused(text));
        if self.nodes.is_empty() {
            return refuse("no node of Cassandra is named".into());
        }
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let (length, starts) =
            (self.keyspace.len(), self.keyspace.starts_with(|first: char| first.is_ascii_lowercase()));
        if !starts || length > 48 || !self.keyspace.bytes().all(is_plain) {
            let rule = "a lower case letter, then at most 47 lower case letters, digits or `_`";
            return refuse(format!("`{}` cannot be a keyspace: {rule}", self.keyspace));
        }
        if let Some(ttl) = self.ttl.filter(|ttl| !(1..=TTL_S_MAX).contains(&ttl.as_secs())) {
            return refuse(format!("a TTL of `{}` s is not between 1 s and 20 years", ttl.as_secs()));
        }
        if matches!(&self.replication, Some(Replication::DataCentres(centres)) if centres.is_empty()) {
            return refuse("no data centre is named for the replication".into());
        }
        Ok(())
    }

    /// As statements take it: 0 is for ever.
    pub(crate) fn ttl_s(&self) -> i32 {
        self.ttl.map_or(0, seconds)
    }

    /// The same for claims, which nothing else deletes.
    pub(crate) fn claim_ttl_s(&self) -> i32 {
        self.ttl.map_or(0, |ttl| seconds(ttl.saturating_add(OUTLIVES_MESSAGE_BY).max(CLAIM_KEPT_MIN)))
    }
}

fn seconds(ttl: Duration) -> i32 {
    i32::try_from(ttl.as_secs().min(TTL_S_MAX)).expect("20 years of seconds fit")
}

impl Replication {
    /// As a CQL map.
    pub(crate) fn to_cql(&self) -> String {
        match self {
            Self::Simple(copies) => format!("{{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"),
            Self::DataCentres(centres) => {
                let copies = |(name, copies): (&String, &u32)| format!(", '{}': {copies}", name.replace('\'', "''"));
                let centres: String = centres.iter().map(copies).collect();
                format!("{{'class': 'NetworkTopologyStrategy'{centres}}}")
            }
        }
    }
}

impl From<Consistency> for scylla::statement::Consistency {
    fn from(consistency: Consistency) -> Self {
        match consistency {
            Consistency::LocalQuorum => Self::LocalQuorum,
            Consistency::One => Self::One,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Options), is_valid: bool) {
        let mut options = Options::new(vec!["127.0.0.1:9042".into()], "chat4all");
        change(&mut options);
        assert_eq!(options.validate().is_ok(), is_valid, "{options:?}");
    }

    #[test]
    fn what_cannot_work_is_refused_before_connecting() {
        check(|_| (), true);
        check(|options| options.nodes.clear(), false);
        for (keyspace, is_valid) in
            [("k", true), ("k_2", true), ("", false), ("2k", false), ("K", false), ("k;drop", false)]
        {
            check(|options| options.keyspace = keyspace.into(), is_valid);
        }
        check(|options| options.keyspace = "k".repeat(49), false);
        check(|options| options.ttl = None, true);
        check(|options| options.ttl = Some(Duration::ZERO), false);
        check(|options| options.ttl = Some(Duration::MAX), false);
        check(|options| options.replication = Some(Replication::DataCentres(BTreeMap::new())), false);
    }

    #[test]
    fn replication_is_written_as_a_map_whose_names_are_quoted() {
        assert_eq!(Replication::Simple(1).to_cql(), "{'class': 'SimpleStrategy', 'replication_factor': 1}");
        let centres = [("eu".to_owned(), 3), ("o'x".to_owned(), 2)].into();
        let expected = "{'class': 'NetworkTopologyStrategy', 'eu': 3, 'o''x': 2}";
        assert_eq!(Replication::DataCentres(centres).to_cql(), expected);
    }

    #[test]
    fn the_password_is_in_no_debug_output() {
        let mut options = Options::new(vec!["127.0.0.1:9042".into()], "chat4all");
        options.credentials = Some(Credentials { user: "app".into(), password: "planted".into() });
        assert!(!format!("{options:?}").contains("planted"));
    }
}
