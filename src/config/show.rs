//! The effective configuration as text, secrets hidden: what `chat4all config` prints.

use super::Config;

/// As a file that could be loaded again, but for secrets that were given as they are.
pub fn toml(config: &Config) -> String {
    toml::to_string(config).expect("a configuration has text keys only")
}

pub fn json(config: &Config) -> String {
    serde_json::to_string_pretty(config).expect("a configuration has text keys only")
}
