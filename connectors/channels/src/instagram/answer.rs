//! What Instagram's answer means.

use chat4all_proto::Timestamp;
use chat4all_proto::outcome::Report;

use super::codes::CODES;
use crate::Answer;
use crate::meta::graph;

/// An account shows some id of its own: which one depends on how it was logged in.
pub(super) fn report(answer: &Answer, now: Timestamp) -> Report {
    graph::report(answer, now, CODES, |body| body["id"].is_string(), |body| body["message_id"].as_str())
}
