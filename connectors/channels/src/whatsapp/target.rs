//! Whom a WhatsApp address may name.

use serde::Serialize;

use crate::Unfit;

/// The recipient, as a field of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Target<'a> {
    /// The digits of a phone number.
    #[serde(rename = "to")]
    Phone(&'a str),
    /// Somebody without a number to show: an id that only our business knows them by.
    #[serde(rename = "recipient")]
    User(&'a str),
}

/// Reads the target of an address: a phone number as E.164 writes it, with its `+`, or a business-scoped user id: the
/// country's two letters, a full stop, letters, digits and more full stops.
pub(super) fn parse(target: &str) -> Result<Target<'_>, Unfit> {
    if let Some(digits) = target.strip_prefix('+').filter(|digits| is_phone(digits)) {
        return Ok(Target::Phone(digits));
    }
    if is_user_id(target) {
        return Ok(Target::User(target));
    }
    let detail = "a WhatsApp target must be a phone number with `+`, country code and 7 to 15 digits in all, \
                  or a business-scoped user id such as `US.1349`";
    Err(Unfit::new("to", detail))
}

fn is_phone(digits: &str) -> bool {
    // No country code begins with 0: that is a number as it is dialled at home.
    (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0')
}

fn is_user_id(text: &str) -> bool {
    text.split_once('.').is_some_and(|(country, id)| {
        country.len() == 2
            && country.bytes().all(|byte| byte.is_ascii_uppercase())
            && (1..=USER_ID_BYTES_MAX).contains(&id.len())
            && id.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    })
}

/// After the country.
const USER_ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, expected: Option<Target<'_>>) {
        let parsed = parse(target);
        assert_eq!(parsed.as_ref().ok(), expected.as_ref(), "{target}");
        assert!(parsed.err().is_none_or(|unfit| unfit.field == "to" && unfit.detail.contains("7 to 15 digits")));
    }

    #[test]
    fn a_phone_number_is_written_with_its_plus() {
        check("+5562996991812", Some(Target::Phone("5562996991812")));
        check("+1234567", Some(Target::Phone("1234567")));
        check("+123456789012345", Some(Target::Phone("123456789012345")));
        for other in [
            "5562996991812",
            "+123456",
            "+1234567890123456",
            "+",
            "",
            "++1234567",
            "+0562996991812",
            "+55 62 996991812",
            "+55-62996991812",
            "+5562996991812 ",
            "+５５６２９９６９９１８１２",
            "+55629969918a",
            "ana",
        ] {
            check(other, None);
        }
    }

    #[test]
    fn a_user_id_begins_with_its_country() {
        check("US.abc", Some(Target::User("US.abc")));
        check("BR.13491208655302741918", Some(Target::User("BR.13491208655302741918")));
        check("US.ENT.11815799212886844830", Some(Target::User("US.ENT.11815799212886844830")));
        let longest = format!("US.{}", "a".repeat(128));
        check(&longest, Some(Target::User(&longest)));
        for other in [
            "US.",
            "US",
            "us.abc",
            "USA.abc",
            "U.abc",
            ".abc",
            "US.a..b",
            "US.a.",
            "US.a b",
            "US.é",
            &format!("{longest}a"),
        ] {
            check(other, None);
        }
    }
}
