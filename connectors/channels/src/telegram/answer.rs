//! What an answer means: what its body says, and only where it says nothing its status.

use std::fmt;
use std::time::Duration;

use chat4all_proto::Timestamp;
use chat4all_proto::envelope::{EXPIRY_MAX, OutcomeKind};
use chat4all_proto::outcome::{Outcome, Report};
use http::StatusCode;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::codes;
use crate::codes::is_outage_like;
use crate::{Answer, retry_after, silence};

pub(super) fn report(answer: &Answer, now: Timestamp) -> Report {
    match answer {
        Answer::Response { status, headers, body } => {
            let reply = Reply::read(body);
            let asked = retry_after::read(headers, now).max(reply.retry_after());
            of_reply(*status, &reply, asked)
        }
        Answer::Silence(silence) => silence::report(*silence),
    }
}

/// The chat that the message must be sent to instead.
pub(super) fn moved_to(answer: &Answer) -> Option<i64> {
    let Answer::Response { status, body, .. } = answer else { return None };
    if status.is_success() {
        return None; // most answers: spares reading it again
    }
    let reply = Reply::read(body);
    reply.migrate_to_chat_id.filter(|_| reply.error_code(*status) == StatusCode::BAD_REQUEST.as_u16())
}

fn of_reply(status: StatusCode, reply: &Reply, asked: Option<Duration>) -> Report {
    let code = reply.error_code(status);
    if reply.ok == Some(true) || (200..=299).contains(&code) {
        return of_success(status, reply);
    }
    if (300..=399).contains(&code) {
        let outcome = Outcome::Transient { after: asked, attempts_max: None };
        let detail = "answered with a redirect, which is never followed".to_owned();
        return Report::new(outcome, Some(code.to_string()), Some(detail));
    }
    let row = codes::find(code, &reply.description);
    let class = row.map_or_else(|| codes::class_of_unknown(code), |row| row.class);
    let outcome = class.outcome(asked);
    let outage_like = is_outage_like(code) && outcome.kind() == OutcomeKind::Transient;
    let (code, detail) = match row {
        Some(row) => (format!("{code} {}", row.word), row.detail.to_owned()),
        None => (code.to_string(), format!("answered {code} for a reason that is not known here")),
    };
    Report { outcome, code: Some(code), detail: Some(detail), code_is_unknown: row.is_none(), outage_like }
}

fn of_success(status: StatusCode, reply: &Reply) -> Report {
    let (outcome, detail) = match (reply.ok, reply.chat_id, reply.message_id) {
        (Some(true), Some(chat), Some(id)) => (Outcome::Accepted { provider_id: Some(format!("{chat}:{id}")) }, None),
        // The answer to the probe: a user, ourselves.
        (Some(true), ..) if reply.is_user => (Outcome::Accepted { provider_id: None }, None),
        _ => (Outcome::Ambiguous, Some("answered neither with a message's id nor with an error".to_owned())),
    };
    Report::new(outcome, Some(status.as_str().to_owned()), detail)
}

/// What counts of an answer's body. It may be cut off within the text that it repeats, which is up to 24 KiB long with
/// its `\u` escapes: what stands before the cut is taken all the same.
#[derive(Default)]
struct Reply {
    ok: Option<bool>,
    error_code: Option<u16>,
    description: String,
    retry_after_secs: Option<u64>,
    migrate_to_chat_id: Option<i64>,
    message_id: Option<i64>,
    chat_id: Option<i64>,
    is_user: bool,
}

impl Reply {
    fn read(body: &[u8]) -> Self {
        let mut reply = Self::default();
        // A number at the very end may be half of one.
        let end = body.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |last| last + 1);
        let object = Object { place: Place::Top, reply: &mut reply };
        // Not JSON, cut off or of another shape: then the fields that were not reached are missing.
        let _ = object.deserialize(&mut serde_json::Deserializer::from_slice(&body[..end]));
        reply
    }

    fn error_code(&self, status: StatusCode) -> u16 {
        self.error_code.filter(|code| codes::ERROR_CODES.contains(code)).unwrap_or(status.as_u16())
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after_secs.map(|secs| Duration::from_secs(secs).min(EXPIRY_MAX))
    }
}

/// Writes the fields of one object into `reply` as they are read.
struct Object<'a> {
    place: Place,
    reply: &'a mut Reply,
}

/// Which of the objects.
#[derive(Clone, Copy)]
enum Place {
    Top,
    Result,
    Chat,
    Parameters,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { place, reply } = self;
        while let Some(key) = map.next_key::<String>()? {
            match (place, key.as_str()) {
                (Place::Top, "ok") => reply.ok = Some(map.next_value()?),
                (Place::Top, "error_code") => reply.error_code = Some(map.next_value()?),
                (Place::Top, "description") => reply.description = map.next_value()?,
                (Place::Top, "result") => map.next_value_seed(Object { place: Place::Result, reply })?,
                (Place::Top, "parameters") => map.next_value_seed(Object { place: Place::Parameters, reply })?,
                (Place::Parameters, "retry_after") => reply.retry_after_secs = Some(map.next_value()?),
                (Place::Parameters, "migrate_to_chat_id") => reply.migrate_to_chat_id = Some(map.next_value()?),
                (Place::Result, "message_id") => reply.message_id = Some(map.next_value()?),
                (Place::Result, "chat") => map.next_value_seed(Object { place: Place::Chat, reply })?,
                (Place::Result, "is_bot") => reply.is_user = map.next_value()?,
                (Place::Chat, "id") => reply.chat_id = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{TOKEN, delivery, telegram};
    use super::*;
    use crate::{Channel, Silence};
    use bytes::Bytes;
    use chat4all_proto::envelope::OutcomeKind::*;
    use http::HeaderMap;
    use http::header::RETRY_AFTER;

    const NOW: Timestamp = Timestamp::from_millis(1_795_300_424_000); // 2026-11-21T22:33:44Z

    fn answer(status: u16, retry_after: Option<&str>, body: &str) -> Answer {
        Answer::Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: retry_after.map(|value| (RETRY_AFTER, value.parse().unwrap())).into_iter().collect::<HeaderMap>(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn error(code: u16, description: &str, parameters: &str) -> String {
        format!(r#"{{"ok":false,"error_code":{code},"description":"{description}","parameters":{parameters}}}"#)
    }

    /// `expected`: the outcome, how long to wait in seconds, the report's code. A code without a word is an unknown one.
    fn check_answer(answer: &Answer, expected: (OutcomeKind, Option<u64>, &str)) {
        let report = telegram().report(answer, NOW);
        let after = match &report.outcome {
            Outcome::Throttled { after, .. } | Outcome::Transient { after, .. } => *after,
            _ => None,
        };
        let got =
            (report.outcome.kind(), after.map(|after| after.as_secs()), report.code.as_deref().unwrap_or_default());
        assert_eq!(got, expected, "{answer:?}");
        assert_eq!(report.detail.is_none(), report.outcome.kind() == Accepted, "{answer:?}");
    }

    fn check(code: u16, description: &str, expected: (OutcomeKind, &str)) {
        let (kind, word) = expected;
        let body = error(code, description, "{}");
        check_answer(&answer(code, None, &body), (kind, None, word));
        check_answer(&answer(200, None, &body), (kind, None, word));
        let report = telegram().report(&answer(code, None, &body), NOW);
        assert_eq!(report.code_is_unknown, !word.contains(' '), "{description}");
        assert!(!format!("{report:?}").contains(description), "repeats the provider's text: {report:?}");
    }

    #[test]
    fn every_refusal_that_is_known_has_its_class() {
        check(429, "Too Many Requests: retry after 5", (Throttled, "429 throttled"));
        check(401, "Unauthorized", (AccountProblem, "401 token"));
        check(401, "Unauthorized: invalid token specified", (AccountProblem, "401 token"));
        check(404, "Not Found", (AccountProblem, "404 token"));
        check(421, "Misdirected Request: unallowed token specified", (AccountProblem, "421 token"));
        check(400, "Logged out", (AccountProblem, "400 logged_out"));
        check(
            409,
            "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first",
            (AccountProblem, "409 conflict"),
        );
        check(403, "Forbidden: bot was blocked by the user", (RecipientGone, "403 blocked"));
        check(403, "Forbidden: user is deactivated", (RecipientGone, "403 deactivated"));
        check(403, "Forbidden: bot was kicked from the group chat", (RecipientGone, "403 kicked"));
        check(403, "Forbidden: bot was kicked from the supergroup chat", (RecipientGone, "403 kicked"));
        check(403, "Forbidden: bot is not a member of the channel chat", (RecipientGone, "403 not_member"));
        check(403, "Forbidden: bot can't initiate conversation with a user", (RecipientGone, "403 not_started"));
        check(403, "Forbidden: bot can't send messages to bots", (RecipientGone, "403 is_bot"));
        check(403, "Forbidden: bots can't send messages to bots", (RecipientGone, "403 is_bot"));
        check(403, "Forbidden: the group chat was deleted", (RecipientGone, "403 deleted"));
        check(400, "Bad Request: chat not found", (RecipientGone, "400 chat_not_found"));
        check(400, "Bad Request: user not found", (RecipientGone, "400 user_not_found"));
        check(400, "Bad Request: PEER_ID_INVALID", (RecipientGone, "400 peer_id_invalid"));
        check(400, "Bad Request: group is deactivated", (RecipientGone, "400 deactivated"));
        check(400, "Bad Request: CHAT_WRITE_FORBIDDEN", (RecipientGone, "400 no_rights"));
        check(400, "Bad Request: have no rights to send a message", (RecipientGone, "400 no_rights"));
        check(
            400,
            "Bad Request: not enough rights to send text messages to the chat",
            (RecipientGone, "400 no_rights"),
        );
        check(400, "Bad Request: need administrator rights in the channel chat", (RecipientGone, "400 no_rights"));
        check(400, "Bad Request: group chat was upgraded to a supergroup chat", (RecipientGone, "400 moved"));
        check(
            400,
            "Bad Request: can't parse entities: Can't find end of the entity starting at byte offset 3",
            (MessageRejected, "400 entities"),
        );
        check(400, "Bad Request: message is too long", (MessageRejected, "400 too_long"));
        check(400, "Bad Request: message caption is too long", (MessageRejected, "400 too_long"));
        check(400, "Bad Request: message text is empty", (MessageRejected, "400 empty"));
        check(400, "Bad Request: text must be non-empty", (MessageRejected, "400 empty"));
        check(400, "Bad Request: wrong file identifier/HTTP URL specified", (MessageRejected, "400 media"));
        check(400, "Bad Request: failed to get HTTP URL content", (MessageRejected, "400 media"));
        check(400, "Bad Request: wrong type of the web page content", (MessageRejected, "400 media"));
        check(400, "Bad Request: BUTTON_URL_INVALID", (MessageRejected, "400 button"));
        check(400, "Bad Request: BUTTON_DATA_INVALID", (MessageRejected, "400 button"));
        check(400, "Bad Request: message to be replied not found", (MessageRejected, "400 reply_to"));
        check(413, "Request Entity Too Large", (MessageRejected, "413 too_large"));
        check(500, "Internal Server Error", (Transient, "500 server"));
        check(502, "Bad Gateway", (Transient, "502 server"));
        check(504, "Gateway Timeout", (Transient, "504 server"));
    }

    #[test]
    fn the_case_of_a_description_does_not_matter_and_its_prefix_may_be_missing() {
        check(400, "Bad Request: Chat Not Found", (RecipientGone, "400 chat_not_found"));
        check(400, "chat not found", (RecipientGone, "400 chat_not_found"));
        check(403, "FORBIDDEN: Bot was blocked by the user", (RecipientGone, "403 blocked"));
        check(400, "Bad Request: the chat not found", (MessageRejected, "400"));
    }

    #[test]
    fn an_unknown_refusal_is_judged_by_its_code_and_counted() {
        check(400, "Bad Request: SOMETHING_NEW", (MessageRejected, "400"));
        check(400, "Forbidden: bot was blocked on a Tuesday", (MessageRejected, "400"));
        check(401, "Who are you", (AccountProblem, "401"));
        check(403, "Forbidden: something new", (MessageRejected, "403"));
        check(404, "Nowhere", (AccountProblem, "404"));
        check(418, "I'm a teapot", (MessageRejected, "418"));
        check(429, "Slow down", (Throttled, "429"));
        check(507, "Insufficient Storage", (Transient, "507"));
    }

    #[test]
    fn an_answer_without_a_body_of_telegrams_is_judged_by_its_status() {
        let check = |status, expected| {
            let (kind, code) = expected;
            for body in ["", "<html>hunter2</html>", "[]", "null", r#"{"ok":false}"#, r#"{"error_code":7}"#] {
                check_answer(&answer(status, None, body), (kind, None, code));
            }
        };
        check(400, (MessageRejected, "400"));
        check(403, (MessageRejected, "403"));
        check(404, (AccountProblem, "404"));
        check(413, (MessageRejected, "413 too_large"));
        check(429, (Throttled, "429"));
        check(502, (Transient, "502 server"));
        check(599, (Transient, "599"));
        check(999, (Transient, "999"));
        check(200, (Ambiguous, "200"));
        for (redirect, code) in [(301, "301"), (302, "302"), (307, "307"), (308, "308")] {
            check(redirect, (Transient, code));
        }
    }

    #[test]
    fn the_longest_wait_that_is_asked_for_counts() {
        let check = |header, parameters: &str, expected| {
            let body = error(429, "Too Many Requests: retry after 5", parameters);
            check_answer(&answer(429, header, &body), (Throttled, expected, "429 throttled"));
        };
        check(None, "{}", None);
        check(None, r#"{"retry_after":5}"#, Some(5));
        check(Some("3"), r#"{"retry_after":5}"#, Some(5));
        check(Some("7"), r#"{"retry_after":5}"#, Some(7));
        check(Some("Sat, 21 Nov 2026 22:34:14 GMT"), r#"{"retry_after":5}"#, Some(30));
        check(Some("soon"), r#"{"retry_after":5}"#, Some(5));
        check(None, r#"{"retry_after":-1}"#, None);
        check(None, r#"{"retry_after":18446744073709551615}"#, Some(EXPIRY_MAX.as_secs()));
        check_answer(&answer(503, Some("9"), ""), (Transient, Some(9), "503 server"));
    }

    #[test]
    fn a_success_is_known_by_chat_and_message() {
        let check = |body: &str, expected: Outcome| {
            assert_eq!(telegram().report(&answer(200, None, body), NOW).outcome, expected, "{body}");
        };
        let accepted = |id: &str| Outcome::Accepted { provider_id: Some(id.to_owned()) };
        let sent = r#"{"ok":true,"result":{"message_id":7,"from":{"id":1,"is_bot":true,"first_name":"b"},"chat":{"id":-1001234567890,"title":"a","type":"supergroup"},"date":1795300424,"text":"hi"}}"#;
        check(sent, accepted("-1001234567890:7"));
        check(r#"{"result":{"chat":{"id":42},"message_id":7},"ok":true}"#, accepted("42:7"));
        check(r#"{"ok":true,"result":{"chat":{"id":42}}}"#, Outcome::Ambiguous);
        check(r#"{"ok":true,"result":{"message_id":7}}"#, Outcome::Ambiguous);
        check(r#"{"ok":true,"result":{"message_id":"7","chat":{"id":42}}}"#, Outcome::Ambiguous);
        check(r#"{"ok":true,"result":true}"#, Outcome::Ambiguous);
        check(r#"{"ok":true}"#, Outcome::Ambiguous);
        check(r#"{"result":{"chat":{"id":42},"message_id":7}}"#, Outcome::Ambiguous);
    }

    #[test]
    fn a_success_that_is_cut_off_within_its_text_is_known_all_the_same() {
        let sent =
            r#"{"ok":true,"result":{"message_id":7,"chat":{"id":42,"type":"private"},"date":1,"text":"\u043f\u04"#;
        let expected = Outcome::Accepted { provider_id: Some("42:7".to_owned()) };
        assert_eq!(telegram().report(&answer(200, None, sent), NOW).outcome, expected);
        let too_early = r#"{"ok":true,"result":{"message_id":7,"chat":{"id":4"#;
        assert_eq!(telegram().report(&answer(200, None, too_early), NOW).outcome, Outcome::Ambiguous);
    }

    #[test]
    fn the_answer_to_the_probe_is_an_account() {
        let me = r#"{"ok":true,"result":{"id":123456,"is_bot":true,"first_name":"b","username":"b_bot"}}"#;
        assert_eq!(telegram().report(&answer(200, None, me), NOW).outcome, Outcome::Accepted { provider_id: None });
        check(404, "Not Found", (AccountProblem, "404 token"));
    }

    #[test]
    fn a_group_that_moved_is_followed_once() {
        let delivery = delivery("-42", r#"{"type":"text","text":"hi"}"#, None);
        let upgraded = "Bad Request: group chat was upgraded to a supergroup chat";
        let moved = answer(400, None, &error(400, upgraded, r#"{"migrate_to_chat_id":-1001234567890}"#));
        let request = telegram().moved(&delivery, &moved, NOW).unwrap();
        assert_eq!(request.url.path(), format!("/bot{TOKEN}/sendMessage"));
        assert_eq!(request.body, br#"{"chat_id":-1001234567890,"text":"hi"}"#[..]);
        // The answer to that request says so again: the connector does not ask twice, and reports it.
        check_answer(&moved, (RecipientGone, None, "400 moved"));
    }

    #[test]
    fn nothing_else_asks_for_another_request() {
        let delivery = delivery("-42", r#"{"type":"text","text":"hi"}"#, None);
        let check = |answer: &Answer| assert!(telegram().moved(&delivery, answer, NOW).is_none(), "{answer:?}");
        check(&answer(400, None, &error(400, "Bad Request: chat not found", "{}")));
        check(&answer(403, None, &error(403, "Forbidden", r#"{"migrate_to_chat_id":-1}"#)));
        check(&answer(200, None, r#"{"ok":true,"result":{"message_id":7,"chat":{"id":-42}}}"#));
        check(&Answer::Silence(Silence::Broken));
    }

    #[test]
    fn silence_tells_what_is_known() {
        let check = |silence, kind| check_answer(&Answer::Silence(silence), (kind, None, ""));
        check(Silence::NoConnection, Transient);
        check(Silence::TimedOut { after: Duration::from_secs(15) }, Ambiguous);
        check(Silence::Broken, Ambiguous);
    }
}
