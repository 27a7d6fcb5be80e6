//! What Instagram's answer means.

use chat4all_proto::Timestamp;
use chat4all_proto::outcome::Report;

use super::codes::CODES;
use crate::Answer;
use crate::meta::graph;

pub(super) fn report(answer: &Answer, now: Timestamp, account_id: &str) -> Report {
    graph::report(answer, now, CODES, account_id, |body| body["message_id"].as_str())
}
