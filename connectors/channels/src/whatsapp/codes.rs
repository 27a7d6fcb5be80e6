//! WhatsApp's own codes; the graph-wide ones are in `meta`. They come in answers and, more often, in receipts.

use crate::codes::Class::{AccountProblem, MessageRejected, RecipientGone, Throttled, Transient, TransientAtMost};
use crate::codes::Code;
use chat4all_proto::outcome::Scope::{Account, Recipient};

pub(super) const CODES: &[Code] = &[
    Code::new(130_429, Throttled { wait_secs: 1, scope: Account }, "our number sends faster than it may"),
    Code::new(131_056, Throttled { wait_secs: 4, scope: Recipient }, "too many messages to the same recipient"),
    Code::new(
        131_048,
        Throttled { wait_secs: LONG_SECS, scope: Account },
        "our number is held back: too many called its messages spam",
    ),
    Code::new(
        131_064,
        Throttled { wait_secs: LONG_SECS, scope: Account },
        "the business reached its daily number of recipients",
    ),
    Code::new(131_000, Transient { wait_secs: 0 }, "the provider had an internal error"),
    Code::new(131_016, Transient { wait_secs: 0 }, "the provider is overloaded"),
    Code::new(133_004, Transient { wait_secs: 0 }, "the provider is not available for the moment"),
    Code::new(131_057, Transient { wait_secs: 60 }, "our account is being maintained or upgraded"),
    Code::new(131_052, TransientAtMost { attempts: 3 }, "the media could not be downloaded"),
    Code::new(131_053, TransientAtMost { attempts: 3 }, "the media could not be uploaded"),
    Code::new(131_026, RecipientGone, "the recipient cannot be reached"),
    Code::new(131_030, RecipientGone, "the recipient is not on the list of this test number"),
    Code::new(137_000, RecipientGone, "the recipient's identity has changed"),
    Code::new(131_050, RecipientGone, "the recipient wants no more marketing from us"),
    Code::new(131_049, MessageRejected, "the provider chose not to deliver this"),
    Code::new(130_472, MessageRejected, "the recipient is part of an experiment that gets no such messages"),
    Code::new(131_047, MessageRejected, "24 h since the recipient's last message have passed: send a template"),
    Code::new(131_008, MessageRejected, "a parameter is missing"),
    Code::new(131_009, MessageRejected, "a parameter's value was not accepted"),
    Code::new(131_021, MessageRejected, "the recipient is our own number"),
    Code::new(131_051, MessageRejected, "such a message was not accepted"),
    Code::new(131_062, MessageRejected, "such a message cannot go to this kind of recipient"),
    Code::new(135_000, MessageRejected, "a parameter was not accepted"),
    Code::new(132_000, MessageRejected, "the template has another number of variables"),
    Code::new(132_001, MessageRejected, "there is no such template in this language, or it is not approved"),
    Code::new(132_005, MessageRejected, "the template is too long with these variables"),
    Code::new(132_007, MessageRejected, "the template breaks a rule on its characters or content"),
    Code::new(132_008, MessageRejected, "a variable of the template is missing"),
    Code::new(132_012, MessageRejected, "a variable of the template has another format"),
    Code::new(132_015, MessageRejected, "the template is paused for low quality"),
    Code::new(132_016, MessageRejected, "the template is switched off for good for low quality"),
    Code::new(132_068, MessageRejected, "the template's flow is blocked"),
    Code::new(132_069, MessageRejected, "the template's flow is throttled"),
    Code::new(131_005, AccountProblem, "the access token lacks a permission"),
    Code::new(131_031, AccountProblem, "the business account is locked"),
    Code::new(131_037, AccountProblem, "our number's display name is not approved"),
    Code::new(131_042, AccountProblem, "the business account's payment has a problem"),
    Code::new(131_045, AccountProblem, "our number's certificate has a problem"),
    Code::new(131_063, AccountProblem, "our account may send no marketing"),
    Code::new(130_497, AccountProblem, "our business may not send to the recipient's country"),
    Code::new(133_010, AccountProblem, "our number is not registered"),
];

/// These last for hours: asking once a minute is enough.
const LONG_SECS: u64 = 60;

#[cfg(test)]
mod tests {
    use crate::whatsapp::{Config, WhatsApp};
    use crate::{Answer, Channel};
    use chat4all_proto::Timestamp;
    use chat4all_proto::envelope::OutcomeKind::{self, *};
    use chat4all_proto::outcome::{Outcome, Report};
    use http::{HeaderMap, StatusCode};

    fn report(status: u16, code: i64, subcode: Option<i64>) -> Report {
        let config = r#"{"phone_number_id":"1065","access_token":"EAAG"}"#;
        let channel = WhatsApp::new(serde_json::from_str::<Config>(config).unwrap()).ok().unwrap();
        let subcode = subcode.map_or(String::new(), |subcode| format!(r#","error_subcode":{subcode}"#));
        let body = format!(r#"{{"error":{{"message":"hunter2","code":{code}{subcode}}}}}"#).into();
        let status = StatusCode::from_u16(status).unwrap();
        channel.report(&Answer::Response { status, headers: HeaderMap::new(), body }, Timestamp::default())
    }

    fn check(codes: &[i64], subcode: Option<i64>, expected: OutcomeKind) {
        for &code in codes {
            for status in [200, 400, 403, 404, 500, 503] {
                let report = report(status, code, subcode);
                assert_eq!(report.outcome.kind(), expected, "{status} {code} {subcode:?}");
                let text = subcode.map_or(code.to_string(), |subcode| format!("{code}/{subcode}"));
                assert_eq!((report.code, report.code_is_unknown), (Some(text), false));
                assert!(report.detail.is_some_and(|detail| !detail.is_empty() && !detail.contains("hunter2")));
            }
            assert_eq!(report(429, code, subcode).outcome.kind(), Throttled, "{code}");
        }
    }

    /// Written from the reference, not from the table.
    #[test]
    fn every_code_of_the_reference_has_its_class() {
        check(&[130429, 131056, 131048, 131064], None, Throttled);
        check(&[131000, 131016, 133004, 131057, 131052, 131053], None, Transient);
        check(&[131026, 131030, 137000, 131050], None, RecipientGone);
        check(&[131049, 130472, 131047], None, MessageRejected);
        check(&[131008, 131009, 131021, 131051, 131062, 135000], None, MessageRejected);
        check(&[132000, 132001, 132005, 132007, 132008, 132012], None, MessageRejected);
        check(&[132015, 132016, 132068, 132069], None, MessageRejected);
        check(&[131005, 131031, 131037, 131042, 131045, 131063, 130497, 133010], None, AccountProblem);
        // Graph-wide.
        check(&[0, 190, 3, 10, 200, 201, 230, 298, 299, 368], None, AccountProblem);
        check(&[190], Some(463), AccountProblem);
        check(&[1, 2], None, Transient);
        check(&[4, 17, 32, 613, 80007], None, Throttled);
        check(&[100], Some(33), AccountProblem);
        check(&[100], None, MessageRejected);
        check(&[100], Some(2018001), MessageRejected);
    }

    #[test]
    fn a_code_beside_a_known_one_is_unknown() {
        for code in [-1, 5, 9, 11, 99, 101, 199, 300, 1200, 80006, 130428, 131001, 131054, 132002, 2147483647] {
            let report = report(400, code, None);
            assert_eq!((report.outcome.kind(), report.code_is_unknown), (MessageRejected, true), "{code}");
        }
    }

    #[test]
    fn waits_and_attempts_are_as_long_and_few_as_makes_sense() {
        let wait_secs = |code| match report(400, code, None).outcome {
            Outcome::Throttled { after, .. } | Outcome::Transient { after, .. } => after.map(|after| after.as_secs()),
            outcome => panic!("{code}: {outcome:?}"),
        };
        assert_eq!([130429, 131056].map(wait_secs), [Some(1), Some(4)]);
        assert_eq!([131048, 131064].map(wait_secs), [Some(60); 2]);
        assert_eq!([131000, 131057].map(wait_secs), [None, Some(60)]);
        for code in [131052, 131053] {
            let expected = Outcome::Transient { after: None, attempts_max: Some(3) };
            assert_eq!(report(400, code, None).outcome, expected);
        }
    }
}
