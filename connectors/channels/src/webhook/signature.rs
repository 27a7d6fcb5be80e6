//! The symmetric signature of Standard Webhooks 1.0: HMAC-SHA256 over `{id}.{timestamp}.{body}`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// How long a secret may be, in bytes.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Some generators leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret, ready to sign with. Has no `Debug`.
pub(super) struct Key(Hmac<Sha256>);

/// Why a text is not a secret; repeats nothing of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("does not begin with `{PREFIX}`")]
    Prefix,
    #[error("is not base64 after `{PREFIX}`")]
    Base64,
    #[error("holds {0} bytes; 24 to 64 are allowed")]
    Length(usize),
}

impl Key {
    pub(super) fn parse(text: &str) -> Result<Self, Malformed> {
        let encoded = text.strip_prefix(PREFIX).ok_or(Malformed::Prefix)?;
        let bytes = BASE64.decode(encoded).map_err(|_| Malformed::Base64)?;
        if !BYTES.contains(&bytes.len()) {
            return Err(Malformed::Length(bytes.len()));
        }
        Ok(Self(Hmac::new_from_slice(&bytes).expect("HMAC takes a key of any length")))
    }

    /// Appends `v1,` and the signature.
    fn sign(&self, id: &str, timestamp: &str, body: &[u8], out: &mut String) {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        out.push_str("v1,");
        BASE64_STANDARD.encode_string(mac.finalize().into_bytes(), out);
    }
}

/// The value of `webhook-signature`: one signature for each key, in their order.
pub(super) fn header(keys: &[Key], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut out = String::with_capacity(keys.len() * 48);
    for key in keys {
        if !out.is_empty() {
            out.push(' ');
        }
        key.sign(id, timestamp, body, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn check(keys: &[&str], expected: &str) {
        let keys: Vec<_> = keys.iter().map(|key| Key::parse(key).ok().unwrap()).collect();
        let header = header(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(header, expected);
    }

    #[test]
    fn it_is_what_the_other_implementations_compute() {
        check(&[SECRET], SIGNATURE);
    }

    #[test]
    fn while_a_secret_changes_there_is_one_of_each() {
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let keys = [Key::parse(other).ok().unwrap()];
        let of_other = header(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_ne!(of_other, SIGNATURE);
        check(&[other, SECRET], &format!("{of_other} {SIGNATURE}"));
    }
}
