//! Which addresses a process opens.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use chat4all_api::Server;
use chat4all_api::ops::{self, Readiness};
use secrecy::SecretString;

use super::{Error, Role};
use crate::config::Config;

/// How many ports above its own a worker tries, so that several run on one host.
const NEXT_PORTS: u16 = 100;

/// Whether the addresses that must be had are free. Asked before anything is made; another process may still be quicker.
pub fn check(config: &Config, roles: &BTreeSet<Role>, with_simulator: bool) -> Result<(), Error> {
    if roles.contains(&Role::Api) {
        free("api", config.api.listen, "api.listen")?;
    }
    if with_simulator {
        free("simulator", config.simulator.listen, "simulator.listen")?;
    }
    Ok(())
}

fn free(what: &'static str, address: SocketAddr, key: &'static str) -> Result<(), Error> {
    TcpListener::bind(address).map(drop).map_err(|error| Error::Port { what, address, key, error })
}

/// Opens health and metrics of a role: at its address or, where another worker has that, at the next free port.
pub fn bind_ops(
    config: &Config,
    role: Role,
    api_key: Option<&SecretString>,
    readiness: &Arc<dyn Readiness>,
) -> Result<Server, Error> {
    let (wanted, key) = match role {
        Role::Api => (config.api.listen, "api.listen"),
        Role::Router => (config.router.listen, "router.listen"),
        Role::Connectors => (config.connectors.listen, "connectors.listen"),
        Role::Recorder => (config.recorder.listen, "recorder.listen"),
    };
    let last = if wanted.port() == 0 { 0 } else { wanted.port().saturating_add(NEXT_PORTS) };
    let mut address = wanted;
    loop {
        match ops::bind(address, api_key, Arc::clone(readiness)) {
            Ok(server) => return Ok(server),
            Err(error) if error.kind() == ErrorKind::AddrInUse && address.port() < last => {
                address.set_port(address.port() + 1);
            }
            Err(error) => return Err(Error::Port { what: role.as_str(), address: wanted, key, error }),
        }
    }
}
