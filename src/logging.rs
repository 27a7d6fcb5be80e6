//! Logs go to stderr; stdout is for answers.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// The web server tells at every start what we tell in better words. Cassandra's driver tells at every connection that it
/// is no ScyllaDB, and at every try what is wrong, which we tell once. A directive of the user's for them wins.
const QUIET: &str = "actix_server=warn,scylla=warn,scylla::cluster::metadata=off";

/// Starts logging as configured. Once a process.
pub fn start(config: &Config) {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", config.log_level)).expect("validation has read it");
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match config.log_format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
