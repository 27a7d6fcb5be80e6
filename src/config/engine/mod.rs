//! Where the log and the status store live: `embedded:DIR`, or the URL of a cluster. No URL holds a secret, so that each
//! may be printed.

mod cassandra;
mod kafka;
mod location;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::Secret;
pub use cassandra::Cassandra;
pub use kafka::Kafka;
use location::Location;

/// The engine behind the log's port.
#[derive(Debug, Clone)]
pub enum LogEngine {
    /// SQLite files in this folder, which several processes of one machine may share. Relative to the current folder.
    Embedded(PathBuf),
    Kafka(Box<Kafka>),
}

/// The engine behind the status store's port.
#[derive(Debug, Clone)]
pub enum StatusEngine {
    /// As of the log; it may be the same folder.
    Embedded(PathBuf),
    Cassandra(Box<Cassandra>),
}

const FOLDER: &str = "./data";

impl Default for LogEngine {
    fn default() -> Self {
        Self::Embedded(FOLDER.into())
    }
}

impl Default for StatusEngine {
    fn default() -> Self {
        Self::Embedded(FOLDER.into())
    }
}

impl LogEngine {
    pub(super) fn secret(&mut self) -> Option<&mut Secret> {
        match self {
            Self::Embedded(_) => None,
            Self::Kafka(kafka) => kafka.password.as_mut(),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("embedded", folder)) => Ok(Self::Embedded(in_folder(folder)?)),
            Some(("kafka", rest)) => Ok(Self::Kafka(Box::new(Kafka::parse(Location::parse(rest, 9092)?)?))),
            Some(("cassandra", _)) => Err("Cassandra keeps statuses, it is no log".into()),
            _ => Err("names no engine; write `embedded:DIR` or `kafka://HOST:9092`".into()),
        }
    }
}

impl StatusEngine {
    pub(super) fn secret(&mut self) -> Option<&mut Secret> {
        match self {
            Self::Embedded(_) => None,
            Self::Cassandra(cassandra) => cassandra.password.as_mut(),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("embedded", folder)) => Ok(Self::Embedded(in_folder(folder)?)),
            Some(("cassandra", rest)) => Ok(Self::Cassandra(Box::new(Cassandra::parse(Location::parse(rest, 9042)?)?))),
            Some(("kafka", _)) => Err("Kafka is a log, it keeps no statuses".into()),
            _ => Err("names no engine; write `embedded:DIR` or `cassandra://HOST:9042/KEYSPACE`".into()),
        }
    }
}

fn in_folder(folder: &str) -> Result<PathBuf, String> {
    if folder.is_empty() {
        return Err("`embedded:` needs a folder: write `embedded:DIR`".into());
    }
    Ok(folder.into())
}

fn write_folder(f: &mut fmt::Formatter<'_>, folder: &Path) -> fmt::Result {
    write!(f, "embedded:{}", folder.display())
}

impl fmt::Display for LogEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(folder) => write_folder(f, folder),
            Self::Kafka(kafka) => write!(f, "kafka:{}", kafka.location),
        }
    }
}

impl fmt::Display for StatusEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(folder) => write_folder(f, folder),
            Self::Cassandra(cassandra) => write!(f, "cassandra:{}", cassandra.location),
        }
    }
}

impl Serialize for LogEngine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for StatusEngine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LogEngine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for StatusEngine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
