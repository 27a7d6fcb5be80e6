//! Instagram's own codes, which are Messenger's; the graph-wide ones are in `meta`.

use crate::codes::Class::{MessageRejected, RecipientGone, Throttled, Transient, TransientAtMost};
use crate::codes::Code;
use chat4all_proto::outcome::Scope::Account;

pub(super) const CODES: &[Code] = &[
    Code::new(1_200, Transient { wait_secs: 0 }, "the provider could not send for the moment"),
    Code::new(80_006, Throttled { wait_secs: 60, scope: Account }, "our account made too many calls"),
    Code::with_subcode(100, 2_018_001, RecipientGone, "there is no such recipient"),
    Code::new(551, RecipientGone, "the recipient cannot be reached"),
    // With whatever code.
    Code {
        codes: (i64::MIN, i64::MAX),
        subcode: Some(1_545_041),
        class: RecipientGone,
        detail: "the recipient cannot be reached",
    },
    Code::with_subcode(10, 2_018_278, MessageRejected, OUTSIDE_WINDOW),
    Code::with_subcode(10, 2_018_065, MessageRejected, OUTSIDE_WINDOW),
    Code::with_subcode(100, 2_018_047, TransientAtMost { attempts: 2 }, UPLOAD_FAILED),
    Code::new(36_000, TransientAtMost { attempts: 2 }, UPLOAD_FAILED),
];

const OUTSIDE_WINDOW: &str = "the time to answer the recipient's last message has passed";
const UPLOAD_FAILED: &str = "the media could not be uploaded";

#[cfg(test)]
mod tests {
    use crate::instagram::{Config, Instagram};
    use crate::{Answer, Channel};
    use bytes::Bytes;
    use chat4all_proto::Timestamp;
    use chat4all_proto::envelope::OutcomeKind::{self, *};
    use chat4all_proto::outcome::{Outcome, Report};
    use http::{HeaderMap, StatusCode};

    fn report(status: u16, body: impl Into<Bytes>) -> Report {
        let config = r#"{"account_id":"1784","access_token":"EAAG"}"#;
        let channel = Instagram::new(serde_json::from_str::<Config>(config).unwrap()).ok().unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        channel.report(&Answer::Response { status, headers: HeaderMap::new(), body: body.into() }, Timestamp::default())
    }

    fn refusal(status: u16, code: i64, subcode: Option<i64>) -> Report {
        let subcode = subcode.map_or(String::new(), |subcode| format!(r#","error_subcode":{subcode}"#));
        report(status, format!(r#"{{"error":{{"message":"hunter2","code":{code}{subcode}}}}}"#))
    }

    fn check(codes: &[i64], subcode: Option<i64>, expected: OutcomeKind) {
        for &code in codes {
            for status in [200, 400, 403, 404, 500, 503] {
                let report = refusal(status, code, subcode);
                assert_eq!(report.outcome.kind(), expected, "{status} {code} {subcode:?}");
                let text = subcode.map_or(code.to_string(), |subcode| format!("{code}/{subcode}"));
                assert_eq!((report.code, report.code_is_unknown), (Some(text), false));
                assert!(report.detail.is_some_and(|detail| !detail.is_empty() && !detail.contains("hunter2")));
            }
            assert_eq!(refusal(429, code, subcode).outcome.kind(), Throttled, "{code}");
        }
    }

    /// Written from the reference, not from the table.
    #[test]
    fn every_code_of_the_reference_has_its_class() {
        check(&[1200, 1, 2], None, Transient);
        check(&[4, 32, 613, 80006], None, Throttled);
        check(&[100], Some(2018001), RecipientGone);
        check(&[551], None, RecipientGone);
        check(&[10, 100, 200, 551, 613, 1, 987654], Some(1545041), RecipientGone);
        check(&[10], Some(2018278), MessageRejected);
        check(&[10], Some(2018065), MessageRejected);
        check(&[100], None, MessageRejected);
        check(&[100], Some(7), MessageRejected);
        check(&[190, 200, 230, 10], None, AccountProblem);
        check(&[10], Some(7), AccountProblem);
        // Graph-wide.
        check(&[0, 3, 201, 299, 368], None, AccountProblem);
        check(&[190], Some(463), AccountProblem);
        check(&[100], Some(33), AccountProblem);
        check(&[17, 80007], None, Throttled);
        // Once more may help; the message is at fault otherwise.
        check(&[100], Some(2018047), Transient);
        check(&[36000], None, Transient);
        for failed in [refusal(400, 100, Some(2018047)), refusal(400, 36000, None)] {
            assert_eq!(failed.outcome, Outcome::Transient { after: None, attempts_max: Some(2) });
        }
    }

    #[test]
    fn a_code_beside_a_known_one_is_unknown() {
        for code in [-1, 5, 11, 101, 199, 300, 550, 1201, 36001, 80005, 131026] {
            let report = refusal(400, code, Some(7));
            assert_eq!((report.outcome.kind(), report.code_is_unknown), (MessageRejected, true), "{code}");
        }
    }

    #[test]
    fn acceptance_is_the_messages_id() {
        let accepted = report(200, r#"{"recipient_id":"842","message_id":"m_1"}"#).outcome;
        assert_eq!(accepted, Outcome::Accepted { provider_id: Some("m_1".into()) });
        assert_eq!(report(200, r#"{"recipient_id":"842"}"#).outcome, Outcome::Ambiguous);
        assert_eq!(report(200, r#"{"id":"1784"}"#).outcome, Outcome::Accepted { provider_id: None });
    }
}
