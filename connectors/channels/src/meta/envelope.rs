//! The envelope that every call of Meta comes in, and the values that all its parts are made of. One call may tell of
//! many accounts and events, and one that cannot be read must not spoil the others.

use chat4all_proto::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Event, Malformed};

#[derive(Deserialize)]
struct Call<'a> {
    object: String,
    #[serde(borrow, default)]
    entry: Vec<&'a RawValue>,
}

/// Reads a call about `object`, entry by entry.
pub(crate) fn read<'a, E: Deserialize<'a>>(
    body: &'a [u8],
    object: &str,
    read_entry: impl Fn(E) -> Vec<Event>,
) -> Result<Vec<Event>, Malformed> {
    let call: Call<'_> = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    if call.object != object {
        return Ok(vec![Event::Ignored("object")]);
    }
    Ok(call.entry.into_iter().flat_map(|entry| part(entry, "entry", &read_entry)).collect())
}

/// Reads one part; `name` counts it if that cannot be done.
pub(crate) fn part<'a, T: Deserialize<'a>>(
    raw: &'a RawValue,
    name: &'static str,
    read: impl FnOnce(T) -> Vec<Event>,
) -> Vec<Event> {
    serde_json::from_str(raw.get()).map_or_else(|_| vec![Event::Ignored(name)], read)
}

/// An id: text, or the number that it may have been taken for. `None` when it is missing or empty.
pub(crate) fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Seconds or milliseconds, as number or text: both products have been seen using each other's. `now` for anything
/// else.
pub(crate) fn timestamp(value: &Value, now: Timestamp) -> Timestamp {
    match value.as_u64().or_else(|| value.as_str()?.parse().ok()) {
        Some(ms) if ms >= MS_MIN => Timestamp::from_millis(ms),
        Some(secs) => Timestamp::from_millis(secs * 1_000),
        None => now,
    }
}

/// As seconds the year 33658, as milliseconds 2001.
const MS_MIN: u64 = 1_000_000_000_000;

/// Tells where it went wrong, and repeats nothing: not even serde's text, which may quote the call.
fn malformed(error: &serde_json::Error) -> Malformed {
    let (line, column) = (error.line(), error.column());
    Malformed(format!("not an object with `object` and `entry`: see line {line}, column {column}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_300_424_123);

    #[test]
    fn a_time_is_understood_in_either_unit_and_form() {
        let check = |json: &str, expected: u64| {
            assert_eq!(timestamp(&serde_json::from_str(json).unwrap(), NOW).as_millis(), expected, "{json}");
        };
        for secs in ["1795300424", "\"1795300424\""] {
            check(secs, 1_795_300_424_000);
        }
        for ms in ["1795300424999", "\"1795300424999\""] {
            check(ms, 1_795_300_424_999);
        }
        check("999999999999", 999_999_999_999_000);
        check("1000000000000", 1_000_000_000_000);
        for unreadable in ["null", "\"\"", "\"2026-11-21T22:33:44Z\"", "-1", "1.5", "{}", "\"99999999999999999999\""] {
            check(unreadable, NOW.as_millis());
        }
    }

    #[test]
    fn what_is_no_call_is_malformed_and_not_repeated() {
        for body in [
            "",
            "hunter2",
            "[]",
            "{}",
            r#"{"object":["hunter2"]}"#,
            r#"{"object":"x","entry":"hunter2"}"#,
            "{\"object\":\"\u{e9}",
        ] {
            let error = read(body.as_bytes(), "x", |_: Value| vec![]).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{body}: {error}");
        }
        assert!(read(b"{\"object\":\"x\",\"entry\":[\"\xff\"]}", "x", |_: Value| vec![]).is_err());
    }

    #[test]
    fn a_call_about_something_else_is_passed_over() {
        let read = |body: &str| read(body.as_bytes(), "x", |_: Value| vec![Event::Ignored("read")]).unwrap();
        assert_eq!(read(r#"{"object":"page","entry":[{}]}"#), [Event::Ignored("object")]);
        assert_eq!(read(r#"{"object":"x","entry":[{},{}]}"#), [Event::Ignored("read"), Event::Ignored("read")]);
        assert_eq!(read(r#"{"object":"x","entry":[]}"#), []);
        assert_eq!(read(r#"{"object":"x"}"#), []);
    }
}
