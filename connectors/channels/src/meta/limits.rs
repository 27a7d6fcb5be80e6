//! How the channels check lengths before a message is accepted. The limits themselves are theirs.

use std::borrow::Cow;
use std::ops::RangeInclusive;

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
