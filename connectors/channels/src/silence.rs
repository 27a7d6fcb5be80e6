//! What it means, on every channel, that no answer came.

use chat4all_proto::outcome::{Outcome, Report};

use crate::Silence;

pub fn report(silence: Silence) -> Report {
    let (outcome, code, detail) = match silence {
        Silence::ForbiddenTarget => (
            Outcome::MessageRejected,
            Some("forbidden_target".to_owned()),
            "the target is not on the public internet; `allow_private_targets` would allow it".to_owned(),
        ),
        Silence::NoConnection => (Outcome::TRANSIENT, None, "no connection could be made".to_owned()),
        Silence::TimedOut { after } => (Outcome::Ambiguous, None, format!("no answer within {after:?}")),
        Silence::Broken => (Outcome::Ambiguous, None, "the connection broke, or the answer was not HTTP".to_owned()),
    };
    let outage_like = silence != Silence::ForbiddenTarget;
    Report { outage_like, ..Report::new(outcome, code, Some(detail)) }
}
