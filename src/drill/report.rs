//! What a drill found: a table and figures for people, an object for programs, and one verdict.

use chat4all_proto::MessageId;
use serde::Serialize;
use serde_json::{Map, Value};

use super::paint::{Colour, Paint};
use super::timeline::{Event, Timeline};

/// So many ids stand in a report, and so many are shown.
const IDS_MAX: usize = 20;
const IDS_SHOWN: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// A promise, and what became of it.
#[derive(Debug, Serialize)]
pub struct Check {
    pub promise: &'static str,
    pub holds: bool,
    pub found: String,
}

/// What a scenario gathers.
#[derive(Debug, Default)]
pub struct Found {
    pub checks: Vec<Check>,
    pub figures: Map<String, Value>,
    pub lost: Vec<MessageId>,
}

impl Found {
    pub fn check(&mut self, promise: &'static str, holds: bool, found: String) {
        self.checks.push(Check { promise, holds, found });
    }

    pub fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }
}

/// One scenario that was played, or why it was not.
#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: &'static str,
    pub verdict: Verdict,
    pub engines: String,
    pub seed: u64,
    pub took_s: f64,
    /// Why it was skipped or could not be played to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub figures: Map<String, Value>,
    pub checks: Vec<Check>,
    /// Ids of messages that were accepted and never came: the first ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<MessageId>,
    pub events: Vec<Happened>,
}

#[derive(Debug, Serialize)]
pub struct Happened {
    at_s: f64,
    what: String,
}

impl Report {
    /// One that was played to its end.
    pub fn new(
        scenario: &'static str,
        engines: String,
        seed: u64,
        took_s: f64,
        found: Found,
        events: &[Event],
    ) -> Self {
        let holds = found.checks.iter().all(|check| check.holds);
        let happened = |event: &Event| Happened { at_s: tenths(event.at.as_secs_f64()), what: event.text.clone() };
        Self {
            scenario,
            verdict: if holds { Verdict::Passed } else { Verdict::Failed },
            engines,
            seed,
            took_s: tenths(took_s),
            reason: None,
            figures: found.figures,
            checks: found.checks,
            lost: found.lost.into_iter().take(IDS_MAX).collect(),
            events: events.iter().map(happened).collect(),
        }
    }

    /// One that was skipped, or broke off.
    pub fn without(scenario: &'static str, engines: String, seed: u64, verdict: Verdict, reason: String) -> Self {
        let mut report = Self::new(scenario, engines, seed, 0.0, Found::default(), &[]);
        (report.verdict, report.reason) = (verdict, Some(reason));
        report
    }

    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("every key is text")
    }

    /// The timeline, what happened, and what became of each promise.
    pub fn text(&self, timeline: Option<&Timeline>, paint: Paint) -> String {
        let mut lines = Vec::new();
        if let Some(timeline) = timeline {
            lines.extend([timeline.draw(paint), String::new()]);
        }
        let at = |at_s: f64| paint.with(Colour::Dim, format!("{at_s:6.1} s"));
        lines.extend(self.events.iter().map(|event| format!("{}  {}", at(event.at_s), event.what)));
        if !self.events.is_empty() {
            lines.push(String::new());
        }
        let width = self.checks.iter().map(|check| check.promise.chars().count()).max().unwrap_or(0);
        for Check { promise, holds, found } in &self.checks {
            let sign = if *holds { paint.with(Colour::Green, '✔') } else { paint.with(Colour::Red, '✘') };
            lines.push(format!("  {sign} {promise:width$}  {found}"));
        }
        lines.extend(self.lost.iter().take(IDS_SHOWN).map(|id| format!("      {id}")));
        lines.extend(self.reason.iter().map(|reason| format!("  {reason}")));
        lines.extend([String::new(), format!("  {}", self.verdict_line(paint))]);
        lines.join("\n")
    }

    fn verdict_line(&self, paint: Paint) -> String {
        let broken = self.checks.iter().filter(|check| !check.holds).count();
        match self.verdict {
            Verdict::Passed => {
                format!("{}  every promise held, {:.0} s", paint.with(Colour::Green, "PASSED"), self.took_s)
            }
            Verdict::Skipped => paint.with(Colour::Yellow, "SKIPPED"),
            Verdict::Failed if broken == 0 => paint.with(Colour::Red, "FAILED"),
            Verdict::Failed => {
                let promises = self.checks.len();
                format!("{}  {broken} of {promises} promises did not hold", paint.with(Colour::Red, "FAILED"))
            }
        }
    }

    /// What did not hold, for the last line of all.
    fn broken(&self) -> String {
        if let Some(reason) = &self.reason {
            return reason.lines().next().unwrap_or_default().to_owned();
        }
        let broken = self.checks.iter().filter(|check| !check.holds);
        broken.map(|check| format!("{}: {}", check.promise, check.found)).collect::<Vec<_>>().join("; ")
    }
}

fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

/// A row for each scenario.
pub fn summary(reports: &[Report], paint: Paint) -> String {
    let figure = |report: &Report, name: &str| match report.figures.get(name) {
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    };
    let bold = |line: String| paint.with(Colour::Bold, line);
    let columns = ["accepted", "lost", "reordered", "repeated", "dead"];
    let heads: String = columns.iter().map(|head| format!("{head:>10}")).collect();
    let mut lines = vec![bold(format!("  {:16}{heads}  verdict", "scenario"))];
    for report in reports {
        let names = ["accepted", "lost", "reordered", "duplicates", "dead_letters"];
        let cells: String = names.iter().map(|name| format!("{:>10}", figure(report, name))).collect();
        let verdict = match report.verdict {
            Verdict::Passed => paint.with(Colour::Green, "passed"),
            Verdict::Failed => paint.with(Colour::Red, "FAILED"),
            Verdict::Skipped => paint.with(Colour::Yellow, "skipped"),
        };
        lines.push(format!("  {:16}{cells}  {verdict}", report.scenario));
    }
    lines.join("\n")
}

/// The last line with `--json`.
pub fn summary_json(reports: &[Report]) -> String {
    let count = |verdict| reports.iter().filter(|report| report.verdict == verdict).count();
    let failed = count(Verdict::Failed);
    let verdict = if failed > 0 { Verdict::Failed } else { Verdict::Passed };
    let (passed, skipped) = (count(Verdict::Passed), count(Verdict::Skipped));
    serde_json::json!({"summary": {"verdict": verdict, "passed": passed, "failed": failed, "skipped": skipped}})
        .to_string()
}

/// What did not hold in any of them.
pub fn verdict(reports: &[Report]) -> Result<(), String> {
    let failed = reports.iter().filter(|report| report.verdict == Verdict::Failed);
    let words: Vec<String> = failed.map(|report| format!("{}: {}", report.scenario, report.broken())).collect();
    if words.is_empty() { Ok(()) } else { Err(words.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(holds: &[bool]) -> Report {
        let mut found = Found::default();
        for &holds in holds {
            found.check("nothing accepted is lost", holds, "3 of 100 are lost".into());
        }
        found.figure("lost", 3);
        Report::new("kill-workers", "embedded".into(), 7, 1.0, found, &[])
    }

    #[test]
    fn one_broken_promise_fails_everything_and_is_named() {
        let reports = [report(&[true, true]), report(&[true, false])];
        let words = verdict(&reports).unwrap_err();
        assert_eq!(words, "kill-workers: nothing accepted is lost: 3 of 100 are lost");
        assert!(summary_json(&reports).contains(r#""failed":1"#));
        assert!(reports[1].text(None, Paint::plain()).contains("FAILED  1 of 2"));
        assert!(reports[0].json().contains(r#""verdict":"passed""#));
    }

    #[test]
    fn a_skipped_one_says_why_and_fails_nothing() {
        let skipped = Report::without("log-away", String::new(), 7, Verdict::Skipped, "no such command".into());
        assert!(skipped.text(None, Paint::plain()).contains("no such command"));
        assert_eq!(verdict(&[skipped]), Ok(()));
    }
}
