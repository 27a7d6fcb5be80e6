//! What a receiver's answer means. Only its status and `Retry-After` count; its body is anybody's text.

use std::time::Duration;

use chat4all_proto::Timestamp;
use chat4all_proto::envelope::OutcomeKind;
use chat4all_proto::outcome::{Outcome, Report, Scope};
use http::StatusCode;

use crate::{Answer, codes, retry_after, silence};

pub(super) fn report(answer: &Answer, now: Timestamp) -> Report {
    match answer {
        Answer::Response { status, headers, .. } => of_status(*status, retry_after::read(headers, now)),
        Answer::Silence(silence) => silence::report(*silence),
    }
}

fn of_status(status: StatusCode, after: Option<Duration>) -> Report {
    let throttled = Outcome::Throttled { after, scope: Scope::Account };
    let (outcome, detail) = match status {
        _ if status.is_success() => (Outcome::Accepted { provider_id: None }, None),
        StatusCode::GONE => (Outcome::RecipientGone, Some("the receiver says that it is gone for good".to_owned())),
        StatusCode::TOO_MANY_REQUESTS => (throttled, Some("asked to slow down".to_owned())),
        StatusCode::SERVICE_UNAVAILABLE if after.is_some() => {
            (throttled, Some("not available, and said for how long".to_owned()))
        }
        _ if status.is_redirection() => (
            Outcome::Transient { after, attempts_max: None },
            Some("answered with a redirect, which is never followed".to_owned()),
        ),
        _ => (Outcome::Transient { after, attempts_max: None }, Some(refusal(status))),
    };
    let outage_like = codes::is_outage_like(status.as_u16()) && outcome.kind() == OutcomeKind::Transient;
    Report { outage_like, ..Report::new(outcome, Some(status.as_str().to_owned()), detail) }
}

fn refusal(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("answered {} {reason}", status.as_str()),
        None => format!("answered {}", status.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silence;
    use bytes::Bytes;
    use chat4all_proto::envelope::OutcomeKind::*;
    use http::HeaderMap;
    use http::header::RETRY_AFTER;

    const NOW: Timestamp = Timestamp::from_millis(1_795_300_424_000); // 2026-11-21T22:33:44Z

    fn check(status: u16, retry_after: Option<&str>, expected: (OutcomeKind, Option<u64>)) {
        let answer = Answer::Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: retry_after.map(|value| (RETRY_AFTER, value.parse().unwrap())).into_iter().collect::<HeaderMap>(),
            body: Bytes::from_static(b"text of the receiver"),
        };
        let report = report(&answer, NOW);
        let after = match &report.outcome {
            Outcome::Throttled { after, .. } | Outcome::Transient { after, .. } => *after,
            _ => None,
        };
        assert_eq!((report.outcome.kind(), after.map(|after| after.as_secs())), expected, "{status} {retry_after:?}");
        assert_eq!(report.code, Some(status.to_string()));
        assert_eq!(report.detail.is_none(), report.outcome.kind() == Accepted);
        assert!(!format!("{report:?}").contains("text of the receiver"));
    }

    #[test]
    fn the_status_decides() {
        for status in [200, 201, 202, 204, 299] {
            check(status, None, (Accepted, None));
        }
        check(410, None, (RecipientGone, None));
        check(429, None, (Throttled, None));
        check(429, Some("7"), (Throttled, Some(7)));
        check(429, Some("Sat, 21 Nov 2026 22:34:14 GMT"), (Throttled, Some(30)));
        check(429, Some("soon"), (Throttled, None));
        check(503, Some("7"), (Throttled, Some(7)));
        check(503, Some("soon"), (Transient, None));
        for status in [101, 301, 302, 307, 308, 400, 401, 403, 404, 409, 422, 500, 501, 502, 503, 504, 599, 999] {
            check(status, None, (Transient, None));
        }
        check(500, Some("7"), (Transient, Some(7)));
    }

    #[test]
    fn silence_tells_what_is_known() {
        let check = |silence, expected, code: Option<&str>| {
            let report = report(&Answer::Silence(silence), NOW);
            assert_eq!((report.outcome.kind(), report.code.as_deref()), (expected, code), "{silence:?}");
        };
        check(Silence::ForbiddenTarget, MessageRejected, Some("forbidden_target"));
        check(Silence::NoConnection, Transient, None);
        check(Silence::TimedOut { after: Duration::from_secs(15) }, Ambiguous, None);
        check(Silence::Broken, Ambiguous, None);
    }
}
