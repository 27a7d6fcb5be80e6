//! The parts of Chat4All that can run as processes of their own.

use std::fmt;

use clap::ValueEnum;

/// A role, as `--role` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Role {
    /// Takes messages over HTTP and answers queries
    Api,
    /// Hands each message on to the channels it names
    Router,
    /// Calls the providers
    Connectors,
    /// Writes down what became of every message
    Recorder,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Api, Role::Router, Role::Connectors, Role::Recorder];

    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Api => "api",
            Role::Router => "router",
            Role::Connectors => "connectors",
            Role::Recorder => "recorder",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
