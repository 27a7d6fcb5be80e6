//! Names to addresses, with the check that keeps messages from reaching inside our own network. It is made here because
//! the addresses that pass are the ones dialled: nothing resolves the name again afterwards.

use std::io;
use std::net::SocketAddr;

use chat4all_channels::public_address::is_public;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The system's resolver.
#[derive(Debug, Clone, Copy)]
pub struct Resolver {
    /// Whether one address outside the public internet makes the whole answer [`Forbidden`]: who mixes both is up to
    /// something.
    pub public_only: bool,
}

/// A name resolved to an address that may not be dialled.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to an address outside the public internet")]
pub struct Forbidden;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let public_only = self.public_only;
        Box::pin(async move {
            // Port 0 stands for the URL's.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(admit(found, public_only)?.into_iter()) as Addrs)
        })
    }
}

fn admit(
    found: Vec<SocketAddr>,
    public_only: bool,
) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
    }
    match public_only && found.iter().any(|address| !is_public(address.ip())) {
        true => Err(Forbidden.into()),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: &[&str], public_only: bool, admitted: bool) {
        let addresses = found.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        assert_eq!(admit(addresses, public_only).is_ok(), admitted, "{found:?}");
    }

    #[test]
    fn one_forbidden_address_spoils_the_answer() {
        check(&["1.1.1.1", "2606:4700::1111"], true, true);
        check(&["1.1.1.1", "127.0.0.1"], true, false);
        check(&["fe80::1", "1.1.1.1"], true, false);
        check(&["127.0.0.1"], false, true);
        check(&[], false, false);
    }
}
