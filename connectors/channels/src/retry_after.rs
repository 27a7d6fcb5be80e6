//! `Retry-After`, read the same way for every provider.

use std::time::Duration;

use chat4all_proto::Timestamp;
use chat4all_proto::envelope::EXPIRY_MAX;
use http::HeaderMap;
use http::header::RETRY_AFTER;

/// How long the answer asks us to wait, seen from `now`: seconds or an HTTP date; zero for a date that has passed, at
/// most the longest life of a message. `None` when there is no such header or it says neither.
pub fn read(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(EXPIRY_MAX, Duration::from_secs)
    } else {
        let at = httpdate::parse_http_date(text).ok()?;
        at.duration_since(std::time::UNIX_EPOCH).ok()?.saturating_sub(Duration::from_millis(now.as_millis()))
    };
    Some(wait.min(EXPIRY_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<u64>) {
        let now = Timestamp::parse_rfc3339("2026-11-21T22:33:44.000Z").unwrap();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        assert_eq!(read(&headers, now), expected.map(Duration::from_secs), "{value}");
    }

    #[test]
    fn seconds_and_dates_are_understood_and_bounded() {
        check("0", Some(0));
        check("120", Some(120));
        check(" 7 ", Some(7));
        check("Sat, 21 Nov 2026 22:34:14 GMT", Some(30));
        check("Sat, 21 Nov 2026 22:00:00 GMT", Some(0));
        check("99999999999999999999999", Some(EXPIRY_MAX.as_secs()));
        check("Sat, 21 Nov 2093 22:00:00 GMT", Some(EXPIRY_MAX.as_secs()));
        for nonsense in ["", "-1", "1.5", "soon", "Sat, 99 Nov 2026 22:34:14 GMT"] {
            check(nonsense, None);
        }
        assert_eq!(read(&HeaderMap::new(), Timestamp::default()), None);
    }
}
