//! What WhatsApp's answer means.

use chat4all_proto::Timestamp;
use chat4all_proto::outcome::Report;

use super::codes::CODES;
use crate::Answer;
use crate::meta::graph;

/// Acceptance is not arrival: that, and many failures, come as a receipt.
pub(super) fn report(answer: &Answer, now: Timestamp, phone_number_id: &str) -> Report {
    graph::report(answer, now, CODES, |body| body["id"] == phone_number_id, |body| body["messages"][0]["id"].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use chat4all_proto::outcome::Outcome;
    use http::{HeaderMap, StatusCode};

    fn check(body: &'static str, expected: Outcome) {
        let body = Bytes::from_static(body.as_bytes());
        let answer = Answer::Response { status: StatusCode::OK, headers: HeaderMap::new(), body };
        assert_eq!(report(&answer, Timestamp::default(), "1065").outcome, expected, "{answer:?}");
    }

    #[test]
    fn acceptance_is_the_first_messages_id() {
        let accepted = |id: &str| Outcome::Accepted { provider_id: Some(id.into()) };
        check(
            r#"{"messaging_product":"whatsapp","contacts":[{"input":"15551234567","wa_id":"15551234567"}],
            "messages":[{"id":"wamid.HBgL","message_status":"accepted"}]}"#,
            accepted("wamid.HBgL"),
        );
        for body in [
            "{}",
            r#"{"messages":[]}"#,
            r#"{"messages":[{}]}"#,
            r#"{"messages":{"id":"a"}}"#,
            r#"{"success":true}"#,
            "OK",
        ] {
            check(body, Outcome::Ambiguous);
        }
        check(r#"{"id":"1065"}"#, Outcome::Accepted { provider_id: None });
    }
}
