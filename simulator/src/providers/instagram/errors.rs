//! The errors of messaging at Instagram: each can be had with the ids `999…`.

use crate::providers::meta::{Errors, Row};

pub const ERRORS: Errors = Errors { rows: ROWS, internal: 1, throttled: 4 };

#[rustfmt::skip] // a table
const ROWS: &[Row] = &[
    Row::new(0, 401, "Authentication failed"),
    Row::new(1, 500, "Unknown API error"),
    Row::new(2, 503, "API service unavailable"),
    Row::new(3, 403, "Capability or permission missing"),
    Row::new(4, 400, "Too many calls of the app"),
    Row::new(10, 403, "Permission denied"),
    Row::new(10, 403, "Outside the allowed window").with_subcode(2_018_278),
    Row::new(10, 403, "Outside the allowed window, no tag fits").with_subcode(2_018_065),
    Row::new(17, 400, "Too many calls of the user"),
    Row::new(32, 400, "Too many calls of the page"),
    Row::new(100, 400, "Invalid parameter"),
    Row::new(100, 400, "Object does not exist or cannot be seen").with_subcode(33),
    Row::new(100, 400, "No matching user").with_subcode(2_018_001),
    Row::new(100, 400, "Attachment upload failed").with_subcode(2_018_047),
    Row::new(190, 401, "Access token invalid"),
    Row::new(190, 401, "Access token expired").with_subcode(463),
    Row::new(200, 403, "Permission not granted"),
    Row::new(200, 403, "Recipient cannot be messaged").with_subcode(1_545_041),
    Row::new(230, 403, "Permission to message not granted"),
    Row::new(368, 403, "Temporarily blocked for policy violations"),
    Row::new(551, 400, "Recipient is not available"),
    Row::new(551, 400, "Recipient cannot be messaged").with_subcode(1_545_041),
    Row::new(613, 400, "Custom rate limit reached"),
    Row::new(1_200, 500, "Temporary send failure"),
    Row::new(36_000, 400, "Attachment cannot be fetched"),
    Row::new(80_006, 400, "Account rate limit reached"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_id() {
        let doc = include_str!("../../../../docs/SIMULATOR.md");
        for Row { code, subcode, status, message } in ROWS {
            let subcode = subcode.map(|subcode| subcode.to_string()).unwrap_or_default();
            let row = format!("| `999{code:05}{subcode}` | {status} | {message} |");
            assert!(doc.contains(&row), "{row}");
        }
    }
}
