//! The codes that mean the same on every product of the Graph API. A channel's own table is asked first.

use crate::codes::Class::{AccountProblem, MessageRejected, Throttled, Transient};
use crate::codes::Code;
use chat4all_proto::outcome::Scope::Account;

pub(super) const GRAPH: &[Code] = &[
    Code::new(0, AccountProblem, "the access token was not accepted"),
    Code::new(190, AccountProblem, "the access token is wrong, expired or withdrawn"),
    Code::new(3, AccountProblem, "the app may not use this API"),
    Code::new(10, AccountProblem, "the app lacks a permission"),
    Code::range((200, 299), AccountProblem, "the app lacks a permission"),
    Code::new(1, Transient { wait_secs: 0 }, "the provider had an internal error"),
    Code::new(2, Transient { wait_secs: 0 }, "the provider is not available for the moment"),
    Code::new(4, Throttled { wait_secs: USAGE_WAIT_SECS, scope: Account }, "the app made too many calls"),
    Code::new(
        17,
        Throttled { wait_secs: USAGE_WAIT_SECS, scope: Account },
        "the user of the token made too many calls",
    ),
    Code::new(32, Throttled { wait_secs: USAGE_WAIT_SECS, scope: Account }, "the page made too many calls"),
    Code::new(613, Throttled { wait_secs: USAGE_WAIT_SECS, scope: Account }, "too many calls of this kind"),
    Code::new(
        80_007,
        Throttled { wait_secs: USAGE_WAIT_SECS, scope: Account },
        "the WhatsApp Business account made too many calls",
    ),
    // A send's path holds our own id and no other.
    Code::with_subcode(100, 33, AccountProblem, "our account's id is unknown, or the token does not reach it"),
    Code::new(100, MessageRejected, "a parameter was not accepted"),
    Code::new(368, AccountProblem, "the account is blocked for breaking a policy"),
];

/// These limits count the calls of the last hour, and refused calls count too: ask again seldom.
const USAGE_WAIT_SECS: u64 = 60;
