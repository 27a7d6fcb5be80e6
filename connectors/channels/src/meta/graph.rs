//! What an answer of the Graph API means. The error's code decides, then the HTTP status, never the error's text,
//! which is not even kept.

use std::fmt;
use std::time::Duration;

use chat4all_proto::Timestamp;
use chat4all_proto::envelope::{EXPIRY_MAX, OutcomeKind};
use chat4all_proto::outcome::{Outcome, Report, Scope};
use chat4all_proto::receipt::Failure;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::codes::GRAPH;
use crate::codes::{self, Class, Code};
use crate::{Answer, retry_after, silence};

/// Sorts an answer received at `now`. `own` is the channel's table, asked before the graph-wide one; `provider_id`
/// finds the id in an acceptance. `is_account` knows the answer to a probe.
pub(crate) fn report(
    answer: &Answer,
    now: Timestamp,
    own: &'static [Code],
    is_account: impl FnOnce(&Value) -> bool,
    provider_id: impl FnOnce(&Value) -> Option<&str>,
) -> Report {
    let (status, headers, body) = match answer {
        Answer::Response { status, headers, body } => (*status, headers, body),
        Answer::Silence(silence) => return silence::report(*silence),
    };
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    match body.get("error").filter(|error| !error.is_null()).map(ErrorCode::read) {
        None if status.is_success() => of_acceptance(status, &body, is_account, provider_id),
        // It may have been taken: nothing says why not.
        Some(None) if status.is_success() => ambiguous(status),
        error => of_refusal(status, error.flatten(), asked(headers, now), own),
    }
}

/// What a receipt's error means for the message, and whether its code is in neither table.
pub(crate) fn failure(error: &Value, own: &'static [Code]) -> (Failure, bool) {
    let code = ErrorCode::read(error);
    let row = code.and_then(|code| code.find(own));
    let outcome = row.map_or(OutcomeKind::MessageRejected, |row| row.class.kind());
    let is_unknown = code.is_some() && row.is_none();
    (Failure { outcome, code: code.map(|code| code.to_string()) }, is_unknown)
}

/// Printed as `code` or `code/subcode`.
#[derive(Debug, Clone, Copy)]
struct ErrorCode {
    code: i64,
    subcode: Option<i64>,
}

impl ErrorCode {
    fn read(error: &Value) -> Option<Self> {
        Some(Self { code: integer(&error["code"])?, subcode: integer(&error["error_subcode"]) })
    }

    fn find(self, own: &'static [Code]) -> Option<&'static Code> {
        [own, GRAPH].into_iter().find_map(|table| codes::find(table, self.code, self.subcode))
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        self.subcode.map_or(Ok(()), |subcode| write!(f, "/{subcode}"))
    }
}

fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn of_acceptance(
    status: StatusCode,
    body: &Value,
    is_account: impl FnOnce(&Value) -> bool,
    provider_id: impl FnOnce(&Value) -> Option<&str>,
) -> Report {
    let provider_id = provider_id(body).filter(|id| !id.is_empty()).map(str::to_owned);
    if provider_id.is_none() && !is_account(body) {
        return ambiguous(status);
    }
    Report::new(Outcome::Accepted { provider_id }, Some(status.as_str().to_owned()), None)
}

fn ambiguous(status: StatusCode) -> Report {
    let detail = format!("answered {} without the message's id", status.as_str());
    Report::new(Outcome::Ambiguous, Some(status.as_str().to_owned()), Some(detail))
}

fn of_refusal(status: StatusCode, code: Option<ErrorCode>, asked: Option<Duration>, own: &'static [Code]) -> Report {
    let row = code.and_then(|code| code.find(own));
    let (class, detail) = match row {
        Some(row) if status != StatusCode::TOO_MANY_REQUESTS || matches!(row.class, Class::Throttled { .. }) => {
            (row.class, row.detail.to_owned())
        }
        _ => (class_of(status), detail_of(status)),
    };
    let outcome = class.outcome(asked);
    Report {
        outage_like: codes::is_outage_like(status.as_u16()) && outcome.kind() == OutcomeKind::Transient,
        outcome,
        code: Some(code.map_or_else(|| status.as_str().to_owned(), |code| code.to_string())),
        detail: Some(detail),
        code_is_unknown: code.is_some() && row.is_none(),
    }
}

/// What a status means by itself.
fn class_of(status: StatusCode) -> Class {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Class::Throttled { wait_secs: 0, scope: Scope::Account },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Class::AccountProblem,
        // A 200 comes here with an error of unknown code: refused it was.
        _ if status.is_client_error() || status.is_success() => Class::MessageRejected,
        _ => Class::Transient { wait_secs: 0 },
    }
}

fn detail_of(status: StatusCode) -> String {
    match status.canonical_reason() {
        _ if status == StatusCode::TOO_MANY_REQUESTS => "asked to slow down".to_owned(),
        _ if status.is_redirection() => "answered with a redirect, which is never followed".to_owned(),
        _ if status.is_success() => "refused for a reason unknown to this version".to_owned(),
        Some(reason) => format!("answered {} {reason}", status.as_str()),
        None => format!("answered {}", status.as_str()),
    }
}

/// How long the answer asks us to wait: the longest of all that it says.
fn asked(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let usage = ["x-app-usage", "x-business-use-case-usage"].into_iter().flat_map(|name| headers.get_all(name));
    let minutes =
        usage.filter_map(|value| serde_json::from_slice(value.as_bytes()).ok()).map(|usage| wait_mins(&usage));
    let wait =
        minutes.max().filter(|&minutes| minutes > 0).map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
    retry_after::read(headers, now).max(wait.map(|wait| wait.min(EXPIRY_MAX)))
}

/// Minutes until calls are taken again, the longest of all business accounts and uses that `usage` tells of.
fn wait_mins(usage: &Value) -> u64 {
    match usage {
        Value::Object(fields) => {
            let here = fields.get("estimated_time_to_regain_access").and_then(Value::as_u64);
            fields.values().map(wait_mins).chain(here).max().unwrap_or(0)
        }
        Value::Array(uses) => uses.iter().map(wait_mins).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silence;
    use bytes::Bytes;
    use chat4all_proto::envelope::OutcomeKind::{self, *};
    use http::HeaderName;

    const NOW: Timestamp = Timestamp::from_millis(1_795_300_424_000); // 2026-11-21T22:33:44Z
    const OWN: &[Code] = &[
        Code::with_subcode(10, 7, Class::RecipientGone, "own, with subcode"),
        Code::new(500, Class::TransientAtMost { attempts: 2 }, "own"),
        Code::new(600, Class::Throttled { wait_secs: 3_600, scope: Scope::Account }, "own, long"),
    ];

    fn report_of(status: u16, headers: &[(&str, &str)], body: &str) -> Report {
        let headers = headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        let (status, headers) = (StatusCode::from_u16(status).unwrap(), headers.collect());
        let answer = Answer::Response { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) };
        let report = report(&answer, NOW, OWN, |body| body["id"] == "1065", |body| body["message_id"].as_str());
        assert!(!format!("{report:?}").contains("hunter2"), "repeats the provider's text: {report:?}");
        assert_eq!(report.detail.is_none(), report.outcome.kind() == Accepted);
        report
    }

    fn check(status: u16, body: &str, expected: (OutcomeKind, &str, bool)) {
        let report = report_of(status, &[], body);
        let got = (report.outcome.kind(), report.code.as_deref().unwrap(), report.code_is_unknown);
        assert_eq!(got, expected, "{status} {body}");
    }

    fn error(code: &str) -> String {
        format!(r#"{{"error":{{"message":"hunter2","type":"OAuthException","code":{code},"fbtrace_id":"hunter2"}}}}"#)
    }

    #[test]
    fn a_code_of_the_tables_decides_whatever_the_status() {
        for status in [200, 302, 400, 401, 403, 404, 500, 503] {
            check(status, &error("190"), (AccountProblem, "190", false));
            check(status, &error(r#""190""#), (AccountProblem, "190", false));
            check(status, &error(r#"190,"error_subcode":463"#), (AccountProblem, "190/463", false));
            check(status, &error("2"), (Transient, "2", false));
            check(status, &error("500"), (Transient, "500", false));
            check(status, &error(r#"10,"error_subcode":7"#), (RecipientGone, "10/7", false));
            check(status, &error(r#"10,"error_subcode":8"#), (AccountProblem, "10/8", false));
            check(status, &error(r#"100,"error_subcode":33"#), (AccountProblem, "100/33", false));
            check(status, &error("100"), (MessageRejected, "100", false));
        }
    }

    #[test]
    fn the_status_decides_on_a_code_that_is_in_neither_table() {
        for (status, expected) in [
            (200, MessageRejected),
            (302, Transient),
            (400, MessageRejected),
            (401, AccountProblem),
            (403, AccountProblem),
            (404, MessageRejected),
            (429, Throttled),
            (500, Transient),
            (503, Transient),
            (999, Transient),
        ] {
            check(status, &error("987654"), (expected, "987654", true));
            check(status, &error("-1"), (expected, "-1", true));
            for without_code in
                ["", "<html>hunter2", "[]", r#"{"error":null}"#, r#"{"error":{"code":null}}"#, r#"{"error":"hunter2"}"#]
            {
                let expected = if status == 200 { Ambiguous } else { expected };
                check(status, without_code, (expected, &status.to_string(), false));
            }
        }
    }

    #[test]
    fn too_many_requests_are_throttled_whatever_the_code() {
        for code in ["190", "2", "100", "500", "600", "4"] {
            check(429, &error(code), (Throttled, code, false));
        }
        check(200, &error("4"), (Throttled, "4", false));
    }

    #[test]
    fn success_needs_the_messages_id() {
        let report = report_of(200, &[], r#"{"recipient_id":"1","message_id":"m_1","error":null}"#);
        assert_eq!(
            report,
            Report::new(Outcome::Accepted { provider_id: Some("m_1".into()) }, Some("200".into()), None)
        );
        for body in ["{}", "", r#"{"message_id":""}"#, r#"{"message_id":7}"#, r#"{"success":true}"#, r#"{"id":"1066"}"#]
        {
            check(200, body, (Ambiguous, "200", false));
        }
        check(200, r#"{"message_id":"m_1","error":{"code":190}}"#, (AccountProblem, "190", false));
    }

    #[test]
    fn the_answer_to_a_probe_is_our_own_id() {
        assert_eq!(report_of(200, &[], r#"{"id":"1065"}"#).outcome, Outcome::Accepted { provider_id: None });
        check(401, &error("190"), (AccountProblem, "190", false));
    }

    #[test]
    fn the_longest_wait_of_all_that_are_named_counts() {
        let check = |code: &str, headers: &[(&str, &str)], expected: Option<u64>| {
            let after = match report_of(400, headers, &error(code)).outcome {
                Outcome::Throttled { after, .. } | Outcome::Transient { after, .. } => after,
                outcome => panic!("{outcome:?}"),
            };
            assert_eq!(after.map(|after| after.as_secs()), expected, "{code} {headers:?}");
        };
        let business = r#"{"1":[{"type":"whatsapp","estimated_time_to_regain_access":2},{"estimated_time_to_regain_access":19}],"2":[{"call_count":99}]}"#;
        check("2", &[], None);
        check("2", &[("retry-after", "7")], Some(7));
        check("2", &[("retry-after", "Sat, 21 Nov 2026 22:34:14 GMT")], Some(30));
        check("500", &[("retry-after", "7")], Some(7));
        check("600", &[("retry-after", "7")], Some(3_600));
        check("600", &[("retry-after", "7200")], Some(7_200));
        check("2", &[("x-business-use-case-usage", business)], Some(19 * 60));
        check("2", &[("x-business-use-case-usage", business), ("retry-after", "7")], Some(19 * 60));
        check("2", &[("x-business-use-case-usage", business), ("retry-after", "7200")], Some(7_200));
        check("2", &[("x-app-usage", r#"{"call_count":28,"estimated_time_to_regain_access":1}"#)], Some(60));
        check(
            "2",
            &[("x-app-usage", r#"{"estimated_time_to_regain_access":18446744073709551615}"#)],
            Some(EXPIRY_MAX.as_secs()),
        );
        for nonsense in [
            "soon",
            "[]",
            "7",
            r#"{"estimated_time_to_regain_access":0}"#,
            r#"{"estimated_time_to_regain_access":"1"}"#,
        ] {
            check("2", &[("x-app-usage", nonsense)], None);
        }
    }

    #[test]
    fn what_is_known_to_help_seldom_is_tried_seldom() {
        let outcome = report_of(400, &[], &error("500")).outcome;
        assert_eq!(outcome, Outcome::Transient { after: None, attempts_max: Some(2) });
    }

    #[test]
    fn silence_is_sorted_as_on_every_channel() {
        for silence in [Silence::NoConnection, Silence::Broken, Silence::TimedOut { after: Duration::from_secs(15) }] {
            let report = report(&Answer::Silence(silence), NOW, OWN, |_| false, |_| None);
            assert_eq!(report, silence::report(silence));
        }
    }

    #[test]
    fn a_receipts_error_is_sorted_by_the_same_tables() {
        let check = |error: &str, outcome, code: Option<&str>, is_unknown| {
            let expected = (Failure { outcome, code: code.map(str::to_owned) }, is_unknown);
            assert_eq!(failure(&serde_json::from_str(error).unwrap(), OWN), expected, "{error}");
        };
        check(r#"{"code":190}"#, AccountProblem, Some("190"), false);
        check(r#"{"code":10,"error_subcode":7}"#, RecipientGone, Some("10/7"), false);
        check(r#"{"code":987654}"#, MessageRejected, Some("987654"), true);
        check(r#"{"title":"hunter2"}"#, MessageRejected, None, false);
        check("null", MessageRejected, None, false);
    }
}
