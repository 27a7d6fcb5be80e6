//! How Meta asks, with a `GET`, whether a callback's address is really ours.

use std::borrow::Cow;

use hmac::digest::Output;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What we told Meta to say. Keeps a digest only; has no `Debug`.
pub(super) struct VerifyToken(Output<Hmac<Sha256>>);

impl VerifyToken {
    pub fn new(token: &str) -> Self {
        Self(mac(token).finalize().into_bytes())
    }

    /// In constant time.
    fn is(&self, given: &str) -> bool {
        mac(given).verify(&self.0).is_ok()
    }
}

/// The challenge, for whoever knows the token.
pub(super) fn answer(token: &VerifyToken, query: &[(Cow<'_, str>, Cow<'_, str>)]) -> Option<String> {
    let get = |wanted: &str| query.iter().find(|(key, _)| key == wanted).map(|(_, value)| value);
    let known = get("hub.mode")? == "subscribe" && token.is(get("hub.verify_token")?);
    known.then(|| get("hub.challenge").map(|challenge| challenge.to_string()))?
}

/// Compared are digests: they have the same length, and tell nothing about the texts.
fn mac(text: &str) -> Hmac<Sha256> {
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(b"verify_token").expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &[(&str, &str)], expected: Option<&str>) {
        let pairs: Vec<_> = query.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        assert_eq!(answer(&VerifyToken::new("tökén"), &pairs).as_deref(), expected, "{query:?}");
    }

    #[test]
    fn the_challenge_goes_back_to_whoever_knows_the_token() {
        let (mode, token, challenge) =
            (("hub.mode", "subscribe"), ("hub.verify_token", "tökén"), ("hub.challenge", "1158201444"));
        check(&[mode, token, challenge], Some("1158201444"));
        check(&[("other", "1"), challenge, token, mode], Some("1158201444"));
        for incomplete in [&[token, challenge][..], &[mode, challenge], &[mode, token], &[]] {
            check(incomplete, None);
        }
        check(&[("hub.mode", "unsubscribe"), token, challenge], None);
        for other in ["", "token", "tökén ", "tökén\0", "Tökén"] {
            check(&[mode, ("hub.verify_token", other), challenge], None);
        }
    }
}
