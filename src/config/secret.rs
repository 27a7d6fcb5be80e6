//! A secret: given as it is, or by the file or environment variable that holds it. Its value is never printed.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Largest secret that is read from a file.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A secret of the configuration. Prints where it comes from, never its value.
#[derive(Clone)]
pub struct Secret {
    origin: Origin,
    /// Of an `Inline` secret from the beginning, of another once it is resolved.
    value: Option<SecretString>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Origin {
    #[serde(skip)]
    Inline,
    File(PathBuf),
    Env(String),
}

impl Secret {
    pub(super) fn in_file(file: PathBuf) -> Self {
        Self { origin: Origin::File(file), value: None }
    }

    pub(super) fn in_env(name: String) -> Self {
        Self { origin: Origin::Env(name), value: None }
    }

    /// The value. Panics before the configuration is loaded completely, which is before anybody else gets it.
    pub fn value(&self) -> &SecretString {
        self.value.as_ref().expect("loading resolves every secret")
    }

    /// Whether the value itself stands in the configuration.
    pub(super) fn is_inline(&self) -> bool {
        matches!(self.origin, Origin::Inline)
    }

    /// Fetches the value: a relative file is looked for in `folder`, a variable with `env`. Errors hold no secret.
    pub(super) fn resolve(&mut self, folder: &Path, env: impl Fn(&str) -> Option<String>) -> Result<(), String> {
        let text = match &self.origin {
            Origin::Inline => return Ok(()),
            Origin::File(file) => read(&folder.join(file))?,
            Origin::Env(name) => env(name).ok_or_else(|| format!("the environment variable `{name}` is not set"))?,
        };
        self.value = Some(text.into());
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.value().expose_secret().is_empty()
    }
}

fn read(file: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("its file `{}` cannot be read: {error}", file.display());
    if std::fs::metadata(file).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(format!("its file `{}` is larger than 64 KiB", file.display()));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Inline => f.write_str("hidden"),
            Origin::File(file) => write!(f, "file {}", file.display()),
            Origin::Env(name) => write!(f, "env {name}"),
        }
    }
}

impl Serialize for Secret {
    /// As it was written, but for a value, which prints as `(hidden)`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.origin {
            Origin::Inline => serializer.serialize_str("(hidden)"),
            Origin::File(file) => serializer.collect_map([("file", file.display().to_string())]),
            Origin::Env(name) => serializer.collect_map([("env", name)]),
        }
    }
}

/// What a secret must be.
pub(super) const EXPECTED: &str = "must be a string, `{ file = \"…\" }` or `{ env = \"…\" }`";

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrOrigin)
    }
}

/// Takes every type itself: serde's own errors would repeat the value.
struct TextOrOrigin;

impl<'de> Visitor<'de> for TextOrOrigin {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, `{ file = \"…\" }` or `{ env = \"…\" }`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret { origin: Origin::Inline, value: Some(text.into()) })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
        let origin = Origin::deserialize(MapAccessDeserializer::new(map)).map_err(|_| A::Error::custom(EXPECTED))?;
        Ok(Secret { origin, value: None })
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom("must be a string: put it in quotes"))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom("must be a string: put it in quotes"))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom("must be a string: put it in quotes"))
    }

    fn visit_char<E: serde::de::Error>(self, text: char) -> Result<Secret, E> {
        self.visit_str(text.encode_utf8(&mut [0; 4]))
    }
}
