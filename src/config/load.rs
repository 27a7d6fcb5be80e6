//! Reads the configuration in layers: defaults, file, environment, command line. Every refusal names the key and the
//! layer it came from.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::error::Kind as Fault;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::{Channel, Config, Kind, validate};

/// The file that is read from the current folder when none is named.
pub const FILE_NAME: &str = "chat4all.toml";

const ENV_PREFIX: &str = "CHAT4ALL_";
/// OpenTelemetry's own variable.
const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Variables of the command line's own, of `dev/services` and of the tests: they are no settings.
const ENV_OF_OTHERS: [&str; 10] = [
    "CHAT4ALL_URL",
    "CHAT4ALL_API_KEY",
    "CHAT4ALL_SERVICES_DIR",
    "CHAT4ALL_TEST_KAFKA",
    "CHAT4ALL_TEST_CASSANDRA",
    "CHAT4ALL_TEST_SERVICES",
    "CHAT4ALL_LONG",
    "CHAT4ALL_SEED",
    "CHAT4ALL_KEEP",
    "CHAT4ALL_BINARY",
];

/// Where the configuration comes from. Tests make their own; a process uses [`Sources::of_process`].
#[derive(Clone)]
pub struct Sources {
    /// The file named by `--config`. It must exist.
    pub file: Option<PathBuf>,
    /// Searched for `chat4all.toml` when no file is named.
    pub folder: PathBuf,
    pub env: BTreeMap<String, String>,
    pub overrides: Vec<Override>,
}

/// A setting from the command line.
#[derive(Clone)]
pub struct Override {
    /// What the user typed, to be named in errors: `--set`, `--data`.
    pub flag: &'static str,
    /// With dots: `api.listen`.
    pub key: String,
    pub value: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the configuration file `{}` cannot be read: {error}", file.display())]
    File { file: PathBuf, error: std::io::Error },
    #[error("`{}`, line {line}: {message}", file.display())]
    Syntax { file: PathBuf, line: usize, message: String },
    /// `problem` repeats no secret.
    #[error("configuration key `{key}` {origin}: {problem}")]
    Key { key: String, origin: String, problem: String },
}

/// A key that cannot stay as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub key: String,
    pub problem: String,
}

impl Invalid {
    /// With the table that the key is in.
    pub fn below(self, table: &str) -> Self {
        Self { key: format!("{table}.{}", self.key), ..self }
    }
}

impl Sources {
    /// Those of this process. Variables that are not UTF-8 are read as far as they are.
    pub fn of_process(file: Option<PathBuf>, overrides: Vec<Override>) -> Self {
        let env = env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Self { file, folder: PathBuf::from("."), env, overrides }
    }

    /// The whole configuration, checked. Reads files, opens nothing else.
    pub fn load(&self) -> Result<Config, Error> {
        let file = self.existing_file()?;
        let layers = self.layers(file.as_deref())?;
        let mut config: Config = layers.extract_lossy().map_err(refused)?;
        let secrets_folder = file.as_deref().and_then(Path::parent).unwrap_or(&self.folder);
        config
            .tell_secrets()
            .and_then(|()| self.refuse_secrets_in_flags(&config))
            .and_then(|()| self.resolve_secrets(&mut config, secrets_folder))
            .and_then(|()| {
                config.add_default_channels();
                validate::check(&config)
            })
            .map_err(|Invalid { key, problem }| Error::Key { origin: origin(&layers, &key), key, problem })?;
        Ok(config)
    }

    fn existing_file(&self) -> Result<Option<PathBuf>, Error> {
        if let Some(file) = &self.file {
            return Ok(Some(file.clone()));
        }
        let file = self.folder.join(FILE_NAME);
        match fs::metadata(&file) {
            Ok(_) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::File { file, error }),
        }
    }

    fn layers(&self, file: Option<&Path>) -> Result<Figment, Error> {
        let mut layers = Figment::new();
        // Where the surroundings say it to everybody. What says it to us alone comes after that.
        if let Some(endpoint) = self.env.get(OTLP_ENDPOINT).filter(|endpoint| !endpoint.is_empty()) {
            let origin = format!("from the environment variable `{OTLP_ENDPOINT}`");
            layers = layers.merge(Layer::of(origin, "tracing.otlp_endpoint", endpoint));
        }
        if let Some(file) = file {
            layers = layers.merge(Layer { origin: format!("in `{}`", file.display()), values: parse(file)? });
        }
        for (name, value) in &self.env {
            if let Some(key) = name.strip_prefix(ENV_PREFIX).filter(|_| !ENV_OF_OTHERS.contains(&name.as_str())) {
                let key = key.to_ascii_lowercase().replace("__", ".");
                layers = layers.merge(Layer::of(format!("from the environment variable `{name}`"), &key, value));
            }
        }
        for Override { flag, key, value } in &self.overrides {
            layers = layers.merge(Layer::of(format!("from `{flag}`"), key, value));
        }
        Ok(layers)
    }

    /// Every user of the machine sees command lines.
    fn refuse_secrets_in_flags(&self, config: &Config) -> Result<(), Invalid> {
        let mut config = config.clone();
        for (key, secret) in config.secrets() {
            if secret.is_inline() && self.overrides.iter().any(|given| given.key == key) {
                let problem = "a secret on a command line is no secret: use `{ file = \"…\" }` or `{ env = \"…\" }`";
                return Err(Invalid { key, problem: problem.into() });
            }
        }
        Ok(())
    }

    fn resolve_secrets(&self, config: &mut Config, folder: &Path) -> Result<(), Invalid> {
        for (key, secret) in config.secrets() {
            secret
                .resolve(folder, |name| self.env.get(name).cloned())
                .map_err(|problem| Invalid { key: key.clone(), problem })?;
            if secret.is_empty() {
                return Err(Invalid { key, problem: "is empty".into() });
            }
        }
        Ok(())
    }
}

impl Config {
    fn add_default_channels(&mut self) {
        if self.channels.is_empty() {
            self.channels_by_default = true;
            self.simulate_channels(self.simulator.listen);
        }
    }

    /// Makes a channel for each kind whose provider is the simulator at this address.
    pub fn simulate_channels(&mut self, simulator: SocketAddr) {
        for kind in Kind::ALL {
            let name = kind.as_str().parse().expect("the kinds are channel names");
            self.channels.insert(name, Channel::simulated(kind, simulator));
        }
    }

    fn tell_secrets(&mut self) -> Result<(), Invalid> {
        self.channels.iter_mut().try_for_each(|(name, channel)| {
            channel.tell_secrets().map_err(|invalid| invalid.below(&format!("channels.{name}")))
        })
    }

    /// Every secret there is, with its key.
    fn secrets(&mut self) -> impl Iterator<Item = (String, &mut super::Secret)> {
        let of_api = self.api.api_key.iter_mut().map(|secret| ("api.api_key".to_owned(), secret));
        let of_log = self.log.secret().into_iter().map(|secret| ("log".to_owned(), secret));
        let of_status = self.status.secret().into_iter().map(|secret| ("status".to_owned(), secret));
        let of_channels = self.channels.iter_mut().flat_map(|(name, channel)| {
            channel.secrets().map(move |(key, secret)| (format!("channels.{name}.{key}"), secret))
        });
        let headers = self.tracing.headers.iter_mut();
        let of_tracing = headers.map(|(name, secret)| (format!("tracing.headers.{name}"), secret));
        of_log.chain(of_status).chain(of_api).chain(of_tracing).chain(of_channels)
    }
}

/// Reads a TOML file. Errors carry no text of the file, which may hold secrets.
fn parse(file: &Path) -> Result<Dict, Error> {
    let text = fs::read_to_string(file).map_err(|error| Error::File { file: file.into(), error })?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| Error::Syntax {
        file: file.into(),
        line: error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1),
        message: error.message().to_owned(),
    })?;
    let values = Value::serialize(table).expect("TOML fits into figment's values");
    Ok(values.into_dict().expect("a TOML file is a table"))
}

/// Values from one place, which errors name.
pub(super) struct Layer {
    pub origin: String,
    pub values: Dict,
}

impl Layer {
    /// A single setting. Lists and tables are written as in TOML; everything else is text, which numbers and booleans
    /// are read from where the key wants them.
    fn of(origin: String, key: &str, value: &str) -> Self {
        let structured = value.trim_start().starts_with(['{', '[']);
        let parsed = structured.then(|| toml::from_str::<toml::Table>(&format!("value = {value}")).ok()).flatten();
        let value = parsed
            .and_then(|mut table| table.remove("value"))
            .and_then(|value| Value::serialize(value).ok())
            .unwrap_or_else(|| Value::from(value));
        let values = figment::util::nest(key, value).into_dict().unwrap_or_default();
        Self { origin, values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The layer that set `key`, or the closest table around it.
fn origin(layers: &Figment, key: &str) -> String {
    let mut key = key;
    loop {
        if let Some(metadata) = layers.find_metadata(key) {
            return metadata.name.to_string();
        }
        match key.rsplit_once('.') {
            Some((parent, _)) => key = parent,
            None => return "by default".to_owned(),
        }
    }
}

/// How the refusal of an unknown key begins.
pub(super) const NO_SUCH_KEY: &str = "there is no such key";

fn refused(error: figment::Error) -> Error {
    let (path, problem) = fault(&error);
    let origin = error.metadata.map_or_else(|| "by default".to_owned(), |metadata| metadata.name.to_string());
    Error::Key { key: path.join("."), origin, problem }
}

/// Which key an error is about, and what is wrong with it; repeats no value.
pub(super) fn fault(error: &figment::Error) -> (Vec<String>, String) {
    let mut path = error.path.clone();
    let problem = match &error.kind {
        Fault::UnknownField(name, known) => {
            if path.last() != Some(name) {
                path.push(name.clone());
            }
            format!("{NO_SUCH_KEY}; there are {}", known.join(", "))
        }
        Fault::MissingField(name) => {
            path.push(name.to_string());
            "is missing".to_owned()
        }
        Fault::InvalidType(_, expected) if expected.starts_with("struct ") || expected == "a map" => {
            "must be a table".to_owned()
        }
        // Neither repeats the value: it may be a secret that stands in the wrong place.
        Fault::InvalidType(_, expected) | Fault::InvalidValue(_, expected) => format!("must be {expected}"),
        Fault::UnknownVariant(_, known) => format!("must be one of {}", known.join(", ")),
        other => other.to_string(),
    };
    (path, problem)
}
