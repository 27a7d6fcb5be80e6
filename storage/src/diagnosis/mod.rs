//! What an adapter finds out about its engine without changing it: [`Finding`]s for people, printed by `chat4all doctor`.
//! Each adapter crate has a function `examine` that returns them. What the adapters of servers share is here too: who
//! listens at an address ([`reach`]), and whether a server's clock can be relied on.

pub mod reach;

use std::time::Duration;

use chat4all_proto::Timestamp;

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Worth knowing; everything works all the same.
    Note,
    /// Somebody must act before the engine can be used, or relied on.
    Problem,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// One line, without secrets. That of a problem says what is wrong and what to do.
    pub text: String,
}

impl Finding {
    pub fn good(text: impl ToString) -> Self {
        Self { severity: Severity::Good, text: text.to_string() }
    }

    pub fn note(text: impl ToString) -> Self {
        Self { severity: Severity::Note, text: text.to_string() }
    }

    pub fn problem(text: impl ToString) -> Self {
        Self { severity: Severity::Problem, text: text.to_string() }
    }

    /// One problem for all of `errors`, which are the same of one topic each: the first one's text, and how many more.
    pub fn of_topics(errors: &[impl ToString]) -> Option<Self> {
        let first = errors.first()?.to_string();
        Some(Self::problem(match errors.len() - 1 {
            0 => first,
            1 => format!("{first}; it is the same with one more topic"),
            more => format!("{first}; it is the same with {more} more topics"),
        }))
    }
}

/// A part of what an engine is made of, as a migration left it: a topic, a keyspace, a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// For people: what it is, and its name in backticks.
    pub name: String,
    /// `false`: it was there.
    pub is_new: bool,
}

/// A server's clock may differ by this much from ours: more shows in `accepted_at`, expiries and TTLs.
const SKEW_MAX: Duration = Duration::from_secs(2);

/// What a server's clock said, and ours before and after it was asked.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading {
    pub asked_at: Timestamp,
    pub server: Timestamp,
    pub answered_at: Timestamp,
}

impl ClockReading {
    /// `clock 3 ms ahead`, as part of a line.
    pub fn describe(&self) -> String {
        format!("clock {}", self.difference())
    }

    /// A problem if the clocks differ by more than 2 s, whenever the server may have looked at its own.
    pub fn problem(&self) -> Option<Finding> {
        let unsure_ms = self.answered_at.as_millis().saturating_sub(self.asked_at.as_millis()) / 2;
        let surely_ms = self.ahead_ms().unsigned_abs().saturating_sub(unsure_ms);
        (u128::from(surely_ms) > SKEW_MAX.as_millis()).then(|| {
            let difference = self.difference();
            Finding::problem(format!(
                "its clock is {difference} of this machine's: times of acceptance, expiries and retention depend on \
                 both: set them by NTP"
            ))
        })
    }

    fn difference(&self) -> String {
        let ahead_ms = self.ahead_ms();
        let direction = if ahead_ms < 0 { "behind" } else { "ahead" };
        match ahead_ms.unsigned_abs() {
            ms @ ..1_000 => format!("{ms} ms {direction}"),
            ms => format!("{}.{} s {direction}", ms / 1_000, ms % 1_000 / 100),
        }
    }

    /// Of ours half-way between question and answer.
    fn ahead_ms(&self) -> i64 {
        let millis = |at: Timestamp| i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
        let (asked_at, answered_at) = (millis(self.asked_at), millis(self.answered_at));
        millis(self.server) - (asked_at + (answered_at - asked_at) / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_of_many_topics_is_one_line() {
        let text = |errors: &[&str]| Finding::of_topics(errors).map(|finding| finding.text);
        assert_eq!(text(&[]), None);
        assert_eq!(text(&["a is bad"]).as_deref(), Some("a is bad"));
        let expected = "a is bad; it is the same with 2 more topics";
        assert_eq!(text(&["a is bad", "b is bad", "c is bad"]).as_deref(), Some(expected));
    }

    fn check(asked_at: u64, server: u64, answered_at: u64, described: &str, is_problem: bool) {
        let [asked_at, server, answered_at] = [asked_at, server, answered_at].map(Timestamp::from_millis);
        let reading = ClockReading { asked_at, server, answered_at };
        assert_eq!(reading.describe(), described);
        let problem = reading.problem();
        assert_eq!(problem.is_some(), is_problem, "{problem:?}");
        let difference = described.trim_start_matches("clock ");
        assert!(problem.is_none_or(|problem| problem.text.contains(difference) && problem.text.contains("NTP")));
    }

    #[test]
    fn a_clock_is_compared_with_ours_half_way_through_the_question() {
        check(10_000, 10_010, 10_020, "clock 0 ms ahead", false);
        check(10_000, 10_013, 10_020, "clock 3 ms ahead", false);
        check(10_000, 9_990, 10_020, "clock 20 ms behind", false);
    }

    #[test]
    fn a_clock_more_than_2_s_off_is_a_problem() {
        check(10_000, 12_000, 10_000, "clock 2.0 s ahead", false);
        check(10_000, 12_001, 10_000, "clock 2.0 s ahead", true);
        check(10_000, 7_999, 10_000, "clock 2.0 s behind", true);
        check(10_000_000, 6_400_000, 10_000_000, "clock 3600.0 s behind", true);
    }

    #[test]
    fn what_a_slow_answer_may_explain_is_no_problem() {
        check(10_000, 13_500, 14_000, "clock 1.5 s ahead", false);
        check(10_000, 14_000, 14_000, "clock 2.0 s ahead", false);
        check(10_000, 16_500, 14_000, "clock 4.5 s ahead", true);
    }
}
