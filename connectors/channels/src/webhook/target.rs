//! Which targets a webhook address may name.

use std::net::IpAddr;

use url::{Host, Url};

use crate::{Unfit, public_address};

/// Reads the target of an address. Refused are relative and foreign URLs, user names and passwords (they would end in
/// logs of proxies), fragments (never sent), and addresses outside the public internet unless `allow_private`.
pub(super) fn parse(target: &str, allow_private: bool) -> Result<Url, Unfit> {
    let unfit = |detail: &str| Unfit::new("to", detail);
    // `Url` would quietly repair `http:host` and `http:\\host`.
    let absolute = target.split_once("://").is_some_and(|(scheme, _)| is_http(scheme));
    if !absolute {
        return Err(unfit("a webhook's target must be an absolute URL that begins with `http://` or `https://`"));
    }
    let url = Url::parse(target).map_err(|error| unfit(&format!("the webhook's URL cannot be read: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(unfit("a webhook's URL must not hold a user name or password"));
    }
    if url.fragment().is_some() {
        return Err(unfit("a webhook's URL must not have a fragment (`#`)"));
    }
    match url.host() {
        None => Err(unfit("a webhook's URL must name a host")),
        Some(host) if !allow_private && literal(&host).is_some_and(|ip| !public_address::is_public(ip)) => {
            Err(unfit("the webhook's address is not on the public internet; `allow_private_targets` would allow it"))
        }
        Some(_) => Ok(url),
    }
}

/// The host and port of a target that `parse` has let pass, as they are written.
pub(super) fn host(target: &str) -> Option<&str> {
    let (_, rest) = target.split_once("://")?;
    rest.split(['/', '?', '\\']).next().filter(|host| !host.is_empty())
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// The address that a host spells out, in whatever notation.
fn literal(host: &Host<&str>) -> Option<IpAddr> {
    match *host {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, expected: Result<(), &str>) {
        match (parse(target, false), expected) {
            (Ok(_), Ok(())) => {}
            (Err(unfit), Err(words)) => {
                assert_eq!(unfit.field, "to");
                assert!(unfit.detail.contains(words), "{target}: {unfit}");
                assert!(!unfit.detail.contains("hunter2"), "repeats a password: {unfit}");
            }
            (got, expected) => panic!("{target}: {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_target_is_an_absolute_http_url() {
        check("https://example.com/inbox?key=1", Ok(()));
        check("HTTP://example.com:8080", Ok(()));
        check("http://bücher.example/", Ok(()));
        check("http://[2606:4700::1111]/", Ok(()));
        check("/inbox", Err("absolute URL"));
        check("example.com/inbox", Err("absolute URL"));
        check("http:example.com", Err("absolute URL"));
        check(r"http:\\example.com", Err("absolute URL"));
        check("ftp://example.com", Err("absolute URL"));
        check("file:///etc/passwd", Err("absolute URL"));
        check("http://", Err("cannot be read"));
        check("http://example.com:99999/", Err("cannot be read"));
        check("http://ana:hunter2@example.com/", Err("password"));
        check("http://ana@example.com/", Err("user name"));
        check("http://example.com/#part", Err("fragment"));
    }

    #[test]
    fn an_address_that_is_not_public_is_refused_in_every_notation() {
        let private = Err("public internet");
        for host in ["127.0.0.1", "2130706433", "0x7f.1", "017700000001", "127.1", "[::1]", "[::ffff:127.0.0.1]"] {
            check(&format!("http://{host}:8090/inbox/ana"), private);
        }
        check("http://169.254.169.254/latest/meta-data", private);
        check("http://10.1.2.3/", private);
        // A name is checked when it is dialled.
        check("http://localhost/", Ok(()));
    }

    #[test]
    fn private_addresses_can_be_allowed() {
        assert!(parse("http://127.0.0.1:8090/inbox/ana", true).is_ok());
    }
}
