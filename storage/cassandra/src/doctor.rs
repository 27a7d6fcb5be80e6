//! What `chat4all doctor` wants to know of a Cassandra cluster. Reads only: neither a table nor a row is made.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chat4all_proto::Timestamp;
use chat4all_storage::diagnosis::reach::Server;
use chat4all_storage::diagnosis::{ClockReading, Finding};
use chat4all_storage::status::Error;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::value::{CqlTimestamp, CqlValue, Row};

use crate::options::{Options, Replication};
use crate::schema::{self, VERSION};
use crate::{failure, store};

/// Known by the answer to OPTIONS, which needs no login: SUPPORTED, or an error.
const CASSANDRA: Server = Server {
    name: "Cassandra",
    hello: b"\x04\0\0\0\x05\0\0\0\0",
    is_answer: |answer| {
        answer.first().is_some_and(|version| version & 0x80 != 0) && matches!(answer.get(4), Some(0 | 6))
    },
};

const CONNECT_MAX: Duration = Duration::from_secs(10);

const CLOCK: &str = "SELECT totimestamp(now()) FROM system.local";
const REPLICATION: &str = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";

/// Finds out whether the status store of `options` can be used. Makes and changes nothing. Some 10 s for each question that
/// is not answered.
pub async fn examine(options: &Options) -> Vec<Finding> {
    if let Err(error) = options.validate() {
        return vec![Finding::problem(error)];
    }
    let reached = CASSANDRA.reach(&options.nodes).await;
    let Some(address) = reached.addresses.first() else {
        return reached.problems.into_iter().map(Finding::problem).collect();
    };
    let mut findings: Vec<Finding> = reached.problems.into_iter().map(Finding::note).collect();
    match connect(options).await {
        Ok(session) => findings.extend(Examination::of(&session, options).await.findings()),
        Err(refused @ Error::Refused(_)) => findings.push(Finding::problem(refused)),
        Err(error) => {
            let text = CASSANDRA.explain(address, options.tls.is_some()).await;
            findings.push(Finding::problem(text.unwrap_or_else(|| error.to_string())));
        }
    }
    findings
}

async fn connect(options: &Options) -> Result<Session, Error> {
    let late = |_| Error::Unavailable(format!("no session within {} s", CONNECT_MAX.as_secs()));
    tokio::time::timeout(CONNECT_MAX, store::connect(options)).await.map_err(late)?
}

/// What is known of a cluster that lets us in.
struct Examination<'a> {
    session: &'a Session,
    options: &'a Options,
    nodes: usize,
    /// In words.
    tables: String,
    clock: Option<ClockReading>,
    /// Notes and problems.
    remarks: Vec<Finding>,
}

impl<'a> Examination<'a> {
    async fn of(session: &'a Session, options: &'a Options) -> Self {
        let nodes = session.get_cluster_state().get_nodes_info().len();
        let mut known = Self { session, options, nodes, tables: String::new(), clock: None, remarks: Vec::new() };
        let looked = known.look().await;
        known.remarks.extend(looked.err().map(Finding::problem));
        known
    }

    /// An error ends it: what comes after would fail alike.
    async fn look(&mut self) -> Result<(), Error> {
        self.clock = Some(self.read_clock().await?);
        let keyspace = &self.options.keyspace;
        let has_keyspace = schema::has_keyspace(self.session, self.options).await?;
        let version = if has_keyspace { schema::version(self.session, self.options).await? } else { None };
        self.tables = match (has_keyspace, version) {
            (false, _) => format!("keyspace `{keyspace}` will be made at the first start"),
            (true, None) => "the tables will be made at the first start".into(),
            (true, Some(version)) => format!("tables of version {version}"),
        };
        if let Some(other) = version.filter(|version| *version != VERSION) {
            self.remarks.push(Finding::problem(schema::other_version(self.options, other)));
        }
        if has_keyspace {
            self.compare_copies().await?;
        } else if self.nodes == 1 {
            self.remarks
                .push(Finding::note("there is one node: statuses will have one copy, and are away while that node is"));
        }
        self.check_rights(has_keyspace, version.is_some()).await;
        Ok(())
    }

    async fn read_clock(&self) -> Result<ClockReading, Error> {
        // The first answer pays for the way; the second one's is short.
        self.rows::<(CqlTimestamp,)>(CLOCK, ()).await?;
        let asked_at = now();
        let said = self.rows::<(CqlTimestamp,)>(CLOCK, ()).await?;
        let (CqlTimestamp(server_ms),) =
            said.first().ok_or_else(|| Error::Refused("`system.local` is empty: is this Cassandra?".into()))?;
        let server = Timestamp::from_millis(u64::try_from(*server_ms).unwrap_or(0));
        Ok(ClockReading { asked_at, server, answered_at: now() })
    }

    /// More copies than the keyspace has may be wanted by now.
    async fn compare_copies(&mut self) -> Result<(), Error> {
        let found = self.rows::<(HashMap<String, String>,)>(REPLICATION, (&self.options.keyspace,)).await?;
        let copies = |(replication,): &(HashMap<String, String>,)| {
            replication.iter().filter(|(key, _)| *key != "class").filter_map(|(_, copies)| copies.parse().ok()).min()
        };
        let Some(copies): Option<usize> = found.first().and_then(copies) else { return Ok(()) };
        let asked = match &self.options.replication {
            Some(Replication::Simple(asked)) => usize::try_from(*asked).unwrap_or(usize::MAX),
            Some(Replication::DataCentres(asked)) => asked.values().min().map_or(1, |asked| *asked as usize),
            None => self.nodes.clamp(1, 3),
        };
        if copies < asked {
            self.remarks.push(Finding::note(format!(
                "each row has {copies} cop{}, asked for are {asked}: a keyspace that is there stays as it is, `ALTER \
                 KEYSPACE` and `nodetool repair` add copies",
                if copies == 1 { "y" } else { "ies" }
            )));
        } else if copies == 1 {
            self.remarks.push(Finding::note("each row has one copy, and is away while its node is"));
        }
        Ok(())
    }

    /// As far as the cluster tells: without an authorizer everybody may do everything, and it does not.
    async fn check_rights(&mut self, has_keyspace: bool, has_tables: bool) {
        let Some(user) = self.options.credentials.as_ref().map(|login| &login.user) else { return };
        let quoted = format!("'{}'", user.replace('\'', "''"));
        let roles = self.named(&format!("LIST ROLES OF {quoted}"), ["super"]).await.unwrap_or_default();
        if roles.iter().any(|[is_superuser]| *is_superuser == Some(CqlValue::Boolean(true))) {
            return;
        }
        let list = format!("LIST ALL PERMISSIONS OF {quoted}");
        let Ok(permissions) = self.named(&list, ["permission", "resource"]).await else { return };
        let ours = ["<all keyspaces>".to_owned(), format!("<keyspace {}>", self.options.keyspace)];
        let places = if has_keyspace { &ours[..] } else { &ours[..1] };
        let wanted: &[&str] = match (has_keyspace, has_tables) {
            // Who makes a keyspace gets every right on it.
            (false, _) => &["CREATE"],
            (true, false) => &["CREATE", "SELECT", "MODIFY"],
            (true, true) => &["SELECT", "MODIFY"],
        };
        for right in wanted {
            let is_granted = |[granted, place]: &[Option<CqlValue>; 2]| {
                let text = |value: &Option<CqlValue>| value.as_ref().and_then(|value| value.as_text().cloned());
                text(granted).as_deref() == Some(right) && text(place).is_some_and(|place| places.contains(&place))
            };
            if !permissions.iter().any(is_granted) {
                let place =
                    if has_keyspace { format!("KEYSPACE {}", self.options.keyspace) } else { "ALL KEYSPACES".into() };
                self.remarks.push(Finding::problem(format!(
                    "our user lacks the right {right}: `GRANT {right} ON {place} TO {quoted}`"
                )));
            }
        }
    }

    /// The columns of these names. What LIST answers has others too, which differ from version to version.
    async fn named<const N: usize>(&self, cql: &str, names: [&str; N]) -> Result<Vec<[Option<CqlValue>; N]>, Error> {
        let answer = self.session.query_unpaged(cql, ()).await.map_err(|error| failure::of_statement(&error))?;
        if !answer.is_rows() {
            return Ok(Vec::new()); // so LIST says that there is nothing
        }
        let answer = answer.into_rows_result().map_err(failure::unreadable)?;
        let places = names.map(|name| answer.column_specs().iter().position(|column| column.name() == name));
        let rows = answer.rows::<Row>().map_err(failure::unreadable)?;
        let pick = |row: Row| places.map(|place| row.columns.get(place?).cloned().flatten());
        rows.map(|row| row.map(pick).map_err(failure::unreadable)).collect()
    }

    async fn rows<R>(&self, cql: &str, values: impl scylla::serialize::row::SerializeRow) -> Result<Vec<R>, Error>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let answer = self.session.query_unpaged(cql, values).await.map_err(|error| failure::of_statement(&error))?;
        let answer = answer.into_rows_result().map_err(failure::unreadable)?;
        let rows = answer.rows::<R>().map_err(failure::unreadable)?;
        rows.collect::<Result<_, _>>().map_err(failure::unreadable)
    }

    fn findings(mut self) -> Vec<Finding> {
        self.remarks.extend(self.clock.and_then(|clock| clock.problem()));
        let plural = if self.nodes == 1 { "" } else { "s" };
        let mut summary = format!("reached, {} node{plural}", self.nodes);
        let clock = self.clock.map(|clock| clock.describe());
        for part in [Some(self.tables), clock].into_iter().flatten().filter(|part| !part.is_empty()) {
            summary += &format!(", {part}");
        }
        [Finding::good(summary)].into_iter().chain(self.remarks).collect()
    }
}

fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since_1970.as_millis().try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_cassandra_is_known_by_version_and_opcode() {
        assert!((CASSANDRA.is_answer)(b"\x84\0\0\0\x06\0\0\0\x60"));
        assert!((CASSANDRA.is_answer)(b"\x85\0\0\0\0\0\0\0\x60"));
        for other in [&b""[..], b"\x84\0", b"HTTP/1.1 400 Bad", b"\x15\x03\x03\0\x02\x02\x28"] {
            assert!(!(CASSANDRA.is_answer)(other));
        }
    }
}
