//! From bytes to the types of `proto::http`, with errors that name the field. The fast way is serde_json alone; only
//! after a failure the text is read again to find out where it went wrong.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Code, Error};

/// Deepest nesting of JSON inside `content.body`, which is taken as it is; serde_json has the same limit elsewhere.
const DEPTH_MAX: usize = 128;

/// Reads a JSON object. Malformed: 400. Well-formed, but not a `T`: 422 with the path of the field.
pub fn json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    // serde would also take the fields as an array, by position.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(_) => Error::new(Code::InvalidField, "a JSON object is expected here"),
            Err(error) => Error::new(Code::MalformedJson, error.to_string()),
        });
    }
    serde_json::from_slice(bytes).map_err(|error| explain::<T>(bytes, error))
}

#[cold]
fn explain<'de, T: Deserialize<'de>>(bytes: &'de [u8], error: serde_json::Error) -> Error {
    // What is wrong may stand before the place where the text stops being JSON.
    if !error.is_data() {
        return Error::new(Code::MalformedJson, error.to_string());
    }
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(bytes) {
        return Error::new(Code::MalformedJson, error.to_string());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let (path, error) = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => (String::new(), error),
        Err(found) => (found.path().to_string(), found.into_inner()),
    };
    let detail = error.to_string();
    let mut field = if path == "." { String::new() } else { path };
    // serde names the field that is missing or unknown only in its text, and its parent in the path.
    if let Some(name) = named_field(&detail)
        && field != name
        && !field.ends_with(&format!(".{name}"))
    {
        if !field.is_empty() {
            field.push('.');
        }
        field.push_str(name);
    }
    let error = Error::new(Code::InvalidField, detail);
    if field.is_empty() { error } else { error.at(field.chars().take(200).collect::<String>()) }
}

/// The name in "missing field `name`", "unknown field `name`", "needs the field `name`".
fn named_field(detail: &str) -> Option<&str> {
    let (_, rest) = detail.split_once("field `")?;
    rest.split_once('`').map(|(name, _)| name)
}

/// Whether valid JSON nests deeper than we take.
pub fn is_too_deep(json: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_nest() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let quoted = format!(r#"["\"{}"]"#, "[".repeat(500));
        for (json, expected) in [(nested(128), false), (nested(129), true), (quoted, false)] {
            assert_eq!(is_too_deep(&json), expected, "{json}");
        }
    }
}
