//! Which IP addresses a message may be sent to. The channels ask at accept time, for targets that spell out an address;
//! the HTTP client asks before it dials, for whatever a name resolved to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `ip` is a host on the public internet. Loopback, private, link-local (the metadata services of clouds),
/// shared, multicast, documentation, benchmarking and reserved ranges are not, in whatever IPv6 form an IPv4 address
/// is wrapped.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224.., _, _)
    );
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    match s {
        // NAT64: what counts is the address behind the translator.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_public_v4(v4(high, low)),
        // 6to4 carries an IPv4 address after its prefix.
        [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // Only 2000::/3 is handed out: this leaves no room for `::`, `::1`, mapped and compatible IPv4, local-use
        // NAT64, unique local, link-local, site-local and multicast.
        [first, ..] if first & 0xe000 != 0x2000 => false,
        // IETF protocol assignments (Teredo, ORCHID, benchmarking): none is a web server.
        [0x2001, 0..=0x1ff, ..] => false,
        // Documentation.
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        _ => true,
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addresses: &[&str], expected: bool) {
        for text in addresses {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn hosts_of_the_internet_are_public() {
        check(
            &["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.1.1.1", "128.0.0.0"],
            true,
        );
        check(&["169.253.1.1", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.167.1.1", "192.169.0.0"], true);
        check(&["192.0.1.1", "198.17.255.255", "198.20.0.0", "198.51.99.1", "203.0.112.1", "223.255.255.255"], true);
        check(&["2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888", "2001:200::1", "3ffe::1"], true);
        check(&["64:ff9b::1.1.1.1", "2002:0101:0101::1"], true);
    }

    #[test]
    fn local_and_reserved_ranges_are_not() {
        check(
            &["0.0.0.0", "0.1.2.3", "10.0.0.1", "127.0.0.1", "127.255.255.255", "172.16.0.1", "172.31.255.255"],
            false,
        );
        check(&["192.168.0.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.88.99.1"], false);
        check(&["192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "198.19.255.255"], false);
        check(&["224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"], false);
    }

    #[test]
    fn ipv6_ranges_and_wrapped_ipv4_are_not() {
        check(&["::", "::1", "fe80::1", "febf::1", "fec0::1", "fc00::1", "fd12::1", "ff02::1", "100::1"], false);
        check(&["2001:db8::1", "3fff::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1"], false);
        check(&["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::10.0.0.1", "::ffff:0:127.0.0.1"], false);
        check(
            &["64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1.1.1.1", "2002:7f00:1::", "2002:c0a8:1::1"],
            false,
        );
        check(&["2001:0:4136:e378:8000:63bf:3fff:fdd2"], false);
    }

    #[test]
    fn a_public_ipv4_in_mapped_form_is_refused_too() {
        // Nobody publishes such records; dialling them is a way around checks.
        check(&["::ffff:1.1.1.1"], false);
    }
}
