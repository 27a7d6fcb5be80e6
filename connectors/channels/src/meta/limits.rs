//! How the channels check lengths and links before a message is accepted. The limits themselves are theirs.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use url::Url;

use crate::Unfit;

/// Refuses `field` unless `count` is within `allowed`. `what` and `unit` are for people: `the text`, `characters`.
pub(crate) fn within(
    field: impl Into<Cow<'static, str>>,
    what: &str,
    (count, unit): (usize, &str),
    allowed: RangeInclusive<usize>,
) -> Result<(), Unfit> {
    if allowed.contains(&count) {
        return Ok(());
    }
    let (min, max) = allowed.into_inner();
    Err(Unfit::new(field, format!("{what} has {count} {unit}; {min} to {max} are allowed")))
}

/// As people count them, near enough: what Meta means by characters is not documented, and this never refuses what
/// UTF-16 units would let pass.
pub(crate) fn characters(text: &str) -> (usize, &'static str) {
    (text.chars().count(), "characters")
}

pub(crate) fn bytes(text: &str) -> (usize, &'static str) {
    (text.len(), "bytes of UTF-8")
}

/// Reads an absolute URL that begins with `http://` or `https://`. The error says what is wrong, goes on after the
/// name of the text, and repeats nothing of it.
pub(crate) fn http_url(text: &str) -> Result<Url, &'static str> {
    // `Url` would quietly repair `http:host` and `http:\\host`.
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return Err("must be an absolute URL that begins with `http://` or `https://`");
    }
    Url::parse(text).map_err(|_| "cannot be read as a URL")
}

/// The link of a media content.
pub(crate) fn media_url(text: &str) -> Result<Url, Unfit> {
    http_url(text).map_err(|problem| Unfit::new("content.url", format!("the media's URL {problem}")))
}
