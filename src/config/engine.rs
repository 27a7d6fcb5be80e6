//! Where the log or the status store lives.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The engine behind a port. Later versions add Kafka and Cassandra.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// SQLite files in this folder, which several processes of one machine may share. Relative to the current folder.
    Embedded(PathBuf),
}

impl Default for Engine {
    fn default() -> Self {
        Self::Embedded("./data".into())
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(folder) => write!(f, "embedded:{}", folder.display()),
        }
    }
}

impl Serialize for Engine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Engine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text may hold credentials: no error repeats it.
        let text = String::deserialize(deserializer)?;
        match text.split_once(':') {
            Some(("embedded", "")) => Err(D::Error::custom("`embedded:` needs a folder: write `embedded:DIR`")),
            Some(("embedded", folder)) => Ok(Self::Embedded(folder.into())),
            Some((scheme @ ("kafka" | "cassandra"), _)) => {
                Err(D::Error::custom(format!("`{scheme}` is not built in this version; use `embedded:DIR`")))
            }
            _ => Err(D::Error::custom("names no engine; write `embedded:DIR`")),
        }
    }
}
