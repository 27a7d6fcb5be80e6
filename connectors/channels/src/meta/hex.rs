//! Hexadecimal digits, as a signature's header and a URL have them.

/// The byte that two digits stand for.
pub(super) fn byte(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}
