//! `X-Hub-Signature-256`: HMAC-SHA256 of a call's raw bytes under the app's secret.

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

use super::hex;
use crate::Unverified;

const HEADER: &str = "x-hub-signature-256";
const PREFIX: &[u8] = b"sha256=";

/// The app's secret, ready to check with. Has no `Debug`.
pub(super) struct AppSecret(Hmac<Sha256>);

impl AppSecret {
    pub fn new(secret: &str) -> Self {
        Self(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length"))
    }

    /// In constant time. `body` must be as it came: Meta escapes what is not ASCII, and JSON written again does not.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Unverified> {
        let signature = of(headers)?;
        let mut mac = self.0.clone();
        mac.update(body);
        mac.verify_slice(&signature).map_err(|_| WRONG)
    }
}

const WRONG: Unverified = Unverified::Wrong { header: HEADER };

/// The signature that a call shows, right or wrong.
pub(super) fn of(headers: &HeaderMap) -> Result<Vec<u8>, Unverified> {
    let header = headers.get(HEADER).ok_or(Unverified::Missing { header: HEADER })?;
    header.as_bytes().strip_prefix(PREFIX).and_then(decoded).ok_or(WRONG)
}

fn decoded(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|&[high, low]| hex::byte(high, low)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "d2f1c0ffee5ec4e7";
    const BODY: &[u8] = br#"{"object":"whatsapp_business_account","entry":[]}"#;
    // Each from Python's `hmac.new(secret, body, "sha256").hexdigest()`.
    const OF_BODY: &str = "sha256=eb5f22a0f6b9c9163132aa49f4e2413e8213df01c3c1519d9e61c3093934ef55";
    const ESCAPED: &[u8] = br#"{"text":"ol\u00e1 \ud83d\ude9a"}"#;
    const OF_ESCAPED: &str = "sha256=6398711e15e623b31dc2f25ce92029aba9a29db2adfa5dd000e19929565ee8a4";
    const RAW: &str = r#"{"text":"olá 🚚"}"#;
    const OF_RAW: &str = "sha256=80669907f41fba7cc0fa3f3eaa0e22f034a7f3c37673b2cda019dd1cb4b03ca1";

    fn check(secret: &str, header: Option<&str>, body: &[u8], expected: Result<(), Unverified>) {
        let headers = header.map(|value| (HEADER.parse().unwrap(), value.parse().unwrap())).into_iter();
        assert_eq!(AppSecret::new(secret).verify(&headers.collect(), body), expected, "{header:?}");
    }

    const WRONG: Result<(), Unverified> = Err(super::WRONG);

    #[test]
    fn it_is_what_another_implementation_computes() {
        check(SECRET, Some(OF_BODY), BODY, Ok(()));
        check(SECRET, Some(&OF_BODY.to_uppercase().replace("SHA256", "sha256")), BODY, Ok(()));
        check(SECRET, Some(OF_ESCAPED), ESCAPED, Ok(()));
        check(SECRET, Some(OF_RAW), RAW.as_bytes(), Ok(()));
    }

    #[test]
    fn the_same_json_in_other_bytes_is_another_body() {
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(ESCAPED).unwrap(),
            serde_json::from_str::<serde_json::Value>(RAW).unwrap()
        );
        check(SECRET, Some(OF_ESCAPED), RAW.as_bytes(), WRONG);
        check(SECRET, Some(OF_RAW), ESCAPED, WRONG);
    }

    #[test]
    fn any_flipped_bit_of_body_or_signature_shows() {
        for index in 0..BODY.len() {
            let mut body = BODY.to_vec();
            body[index] ^= 1;
            check(SECRET, Some(OF_BODY), &body, WRONG);
        }
        for index in PREFIX.len()..OF_BODY.len() {
            let mut header = OF_BODY.as_bytes().to_vec();
            header[index] = if header[index] == b'0' { b'1' } else { b'0' };
            check(SECRET, Some(str::from_utf8(&header).unwrap()), BODY, WRONG);
        }
    }

    #[test]
    fn a_wrong_secret_a_missing_and_a_malformed_header_are_refused() {
        check("d2f1c0ffee5ec4e8", Some(OF_BODY), BODY, WRONG);
        check(SECRET, None, BODY, Err(Unverified::Missing { header: HEADER }));
        let hex = OF_BODY.strip_prefix("sha256=").unwrap();
        for malformed in [
            "",
            "sha256=",
            "sha256=00",
            hex,
            &format!("sha1={hex}"),
            &format!("SHA256={hex}"),
            &format!("sha256= {hex}"),
            &format!("{OF_BODY}00"),
            &OF_BODY[..70],
            &OF_BODY[..69],
            &format!("sha256={}", hex.replace(|digit: char| digit.is_ascii_digit(), "g")),
            "sha256=é",
        ] {
            check(SECRET, Some(malformed), BODY, WRONG);
        }
    }
}
