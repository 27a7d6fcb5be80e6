//! `cassandra://HOST:9042,…/KEYSPACE?PARAMETERS`

use std::collections::BTreeMap;
use std::str::FromStr;

use chat4all_cassandra::{Consistency, Credentials, Options, Replication, Tls};

use super::location::{Location, Written};
use crate::config::Secret;

/// Where Cassandra is and how it lets us in.
#[derive(Debug, Clone)]
pub struct Cassandra {
    pub(super) location: Written,
    nodes: Vec<String>,
    keyspace: String,
    tls: Option<Tls>,
    user: Option<String>,
    pub(super) password: Option<Secret>,
    replication: Option<Replication>,
    consistency: Consistency,
}

const CONSISTENCIES: [(&str, Consistency); 2] = [("local_quorum", Consistency::LocalQuorum), ("one", Consistency::One)];

impl Cassandra {
    pub(super) fn parse(mut location: Location) -> Result<Self, String> {
        let keyspace = location.path.take().filter(|keyspace| !keyspace.is_empty());
        let keyspace = keyspace.ok_or("names no keyspace: write `cassandra://HOST:9042/KEYSPACE`")?;
        let nodes = std::mem::take(&mut location.hosts);
        let (is_on, ca_file) = (location.flag("tls")?, location.file("ca_file"));
        if !is_on && ca_file.is_some() {
            return Err("`ca_file` is for TLS: add `tls=true`".into());
        }
        let tls = is_on.then_some(Tls { ca_file });
        let (user, password) = location.login()?;
        let replication = location
            .parsed::<Copies>("replication", "a number of copies, or `DATACENTRE:COPIES,…`")?
            .map(|Copies(replication)| replication);
        let consistency = location.choice("consistency", &CONSISTENCIES)?.unwrap_or(Consistency::LocalQuorum);
        let parsed = Self { nodes, keyspace, tls, user, password, replication, consistency, location: location.end()? };
        Options::new(parsed.nodes.clone(), &parsed.keyspace).validate().map_err(|error| error.to_string())?;
        Ok(parsed)
    }

    /// As the adapter takes it.
    pub fn options(&self) -> Options {
        let password = self.password.as_ref().map(|password| password.value().clone());
        let credentials = self.user.clone().zip(password);
        Options {
            tls: self.tls.clone(),
            credentials: credentials.map(|(user, password)| Credentials { user, password }),
            replication: self.replication.clone(),
            consistency: self.consistency,
            ..Options::new(self.nodes.clone(), &self.keyspace)
        }
    }
}

struct Copies(Replication);

impl FromStr for Copies {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let copies = |text: &str| text.parse().ok().filter(|copies| *copies > 0).ok_or(());
        if !text.contains(':') {
            return Ok(Self(Replication::Simple(copies(text)?)));
        }
        let centre = |centre: &str| {
            let (name, count) = centre.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or(())?;
            Ok((name.to_owned(), copies(count)?))
        };
        let centres = text.split(',').map(centre).collect::<Result<BTreeMap<_, _>, ()>>()?;
        Ok(Self(Replication::DataCentres(centres)))
    }
}
