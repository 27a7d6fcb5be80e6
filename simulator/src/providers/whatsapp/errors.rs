//! The errors of the Cloud API: each can be had with the numbers `+999…` and `+998…`.

use crate::providers::meta::{Errors, Row};

pub const ERRORS: Errors = Errors { rows: ROWS, internal: 131_000, throttled: 130_429 };

#[rustfmt::skip] // a table
const ROWS: &[Row] = &[
    Row::new(0, 401, "Authentication failed"),
    Row::new(1, 500, "Unknown API error"),
    Row::new(2, 503, "API service unavailable"),
    Row::new(3, 403, "Capability or permission missing"),
    Row::new(4, 400, "Too many calls of the app"),
    Row::new(10, 403, "Permission denied"),
    Row::new(17, 400, "Too many calls of the user"),
    Row::new(100, 400, "Invalid parameter"),
    Row::new(190, 401, "Access token expired"),
    Row::new(200, 403, "Permission not granted"),
    Row::new(368, 403, "Temporarily blocked for policy violations"),
    Row::new(613, 400, "Custom rate limit reached"),
    Row::new(80_007, 400, "Business account rate limit reached"),
    Row::new(130_429, 429, "Number's throughput reached"),
    Row::new(130_472, 400, "Recipient is part of an experiment"),
    Row::new(130_497, 403, "Country restricted"),
    Row::new(131_000, 500, "Something went wrong"),
    Row::new(131_005, 403, "Access denied"),
    Row::new(131_008, 400, "Required parameter missing"),
    Row::new(131_009, 400, "Parameter value invalid"),
    Row::new(131_016, 500, "Service unavailable"),
    Row::new(131_021, 400, "Recipient is the sender"),
    Row::new(131_026, 400, "Message undeliverable"),
    Row::new(131_030, 400, "Recipient not on the test list"),
    Row::new(131_031, 403, "Account locked"),
    Row::new(131_037, 400, "Display name not approved"),
    Row::new(131_042, 400, "Payment problem"),
    Row::new(131_045, 400, "Certificate problem"),
    Row::new(131_047, 400, "24 hours have passed"),
    Row::new(131_048, 429, "Spam rate limit reached"),
    Row::new(131_049, 400, "Not delivered by Meta's choice"),
    Row::new(131_050, 400, "Recipient stopped marketing messages"),
    Row::new(131_051, 400, "Message type not supported"),
    Row::new(131_052, 400, "Media download failed"),
    Row::new(131_053, 400, "Media upload failed"),
    Row::new(131_056, 400, "Too many messages to this recipient"),
    Row::new(131_057, 503, "Account in maintenance"),
    Row::new(131_062, 400, "Parameter not allowed here"),
    Row::new(131_063, 403, "Marketing messages switched off"),
    Row::new(131_064, 400, "Messaging limit reached"),
    Row::new(132_000, 400, "Template parameter count wrong"),
    Row::new(132_001, 404, "Template does not exist"),
    Row::new(132_005, 400, "Template text too long"),
    Row::new(132_007, 400, "Template violates a policy"),
    Row::new(132_008, 400, "Template parameter invalid"),
    Row::new(132_012, 400, "Template parameter format wrong"),
    Row::new(132_015, 400, "Template paused"),
    Row::new(132_016, 400, "Template disabled"),
    Row::new(132_068, 400, "Flow blocked"),
    Row::new(132_069, 400, "Flow throttled"),
    Row::new(133_004, 503, "Server temporarily unavailable"),
    Row::new(133_010, 400, "Number not registered"),
    Row::new(135_000, 400, "Generic user error"),
    Row::new(137_000, 400, "Recipient's identity changed"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_number() {
        let doc = include_str!("../../../../docs/SIMULATOR.md");
        for Row { code, status, message, .. } in ROWS {
            let row = format!("| `+999{code:06}` | {status} | {message} |");
            assert!(doc.contains(&row), "{row}");
        }
    }
}
