//! What happened when: a row of blocks for each series, kills and outages marked below.

use std::time::Duration;

use super::paint::{Colour, Paint};

/// Columns of the blocks: with names and highest values a line has 80.
const COLUMNS: usize = 56;
const LINE_COLUMNS: usize = 80;
/// Time that a column may stand for.
const STEPS_MS: [u64; 11] = [250, 500, 750, 1_000, 1_500, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000];
/// A sample this late still belongs to the column before.
const GRAIN: Duration = Duration::from_millis(125);
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Where nothing came during an outage.
const SHADE: char = '░';

/// Counters at a moment, since the load began.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    pub at: Duration,
    /// Answered 202 so far.
    pub accepted: u64,
    /// Answered otherwise, or not at all.
    pub refused: u64,
    /// Different messages taken so far, by channel.
    pub taken: Vec<u64>,
    /// Of the channel that is away, where it has one.
    pub breaker: Option<Breaker>,
    /// Records that the status store does not have yet, where that is looked at.
    pub unrecorded: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breaker {
    Closed,
    HalfOpen,
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Killed,
    Started,
    /// An outage begins, and ends.
    Away,
    Back,
}

#[derive(Debug, Clone)]
pub struct Event {
    pub at: Duration,
    pub mark: Mark,
    pub text: String,
}

#[derive(Debug, Default)]
pub struct Timeline {
    channels: Vec<String>,
    /// What is sent.
    per_second: u64,
    samples: Vec<Sample>,
    events: Vec<Event>,
}

/// A row: its values, one a column.
struct Row {
    name: String,
    values: Vec<u64>,
    /// A full block stands for this much or more.
    full: u64,
    /// Behind the highest value.
    unit: &'static str,
    /// Whether an outage shades it where nothing came.
    shaded: bool,
    colour: Colour,
}

impl Timeline {
    pub fn new(channels: Vec<String>, per_second: u32) -> Self {
        Self { channels, per_second: per_second.into(), samples: vec![Sample::default()], events: Vec::new() }
    }

    pub fn add(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    pub fn mark(&mut self, at: Duration, mark: Mark, text: String) {
        self.events.push(Event { at, mark, text });
    }

    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The last second, in one line.
    pub fn line(&self) -> String {
        let (Some(now), Some(before)) =
            (self.samples.last(), self.samples.iter().rev().nth(4).or(self.samples.first()))
        else {
            return String::new();
        };
        let mut line = format!("{:>5.1} s  accepted {}/s", now.at.as_secs_f64(), rate(now, before, |s| s.accepted));
        for (channel, name) in self.channels.iter().enumerate() {
            line += &format!("  {name} {}/s", rate(now, before, |s| count(s, channel)));
        }
        line += &format!("  waiting {}", waiting(now));
        if now.refused > before.refused {
            line += &format!("  refused {}/s", rate(now, before, |s| s.refused));
        }
        if let Some(unrecorded) = now.unrecorded {
            line += &format!("  not recorded {unrecorded}");
        }
        match now.breaker {
            Some(Breaker::Open) => line += "  breaker open",
            Some(Breaker::HalfOpen) => line += "  breaker half-open",
            Some(Breaker::Closed) | None => {}
        }
        if self.outages(now.at).iter().any(|(_, to)| *to == now.at) {
            line += "  outage";
        }
        line
    }

    /// At most 80 columns wide, without a line end at its end.
    pub fn draw(&self, paint: Paint) -> String {
        let end = self.samples.last().map_or(Duration::ZERO, |sample| sample.at);
        let end_ms = end.as_millis() as u64;
        let fits = |step: &&u64| end_ms.div_ceil(**step) <= COLUMNS as u64;
        let step = Duration::from_millis(*STEPS_MS.iter().find(fits).unwrap_or(&STEPS_MS[STEPS_MS.len() - 1]));
        let columns = (column(end.saturating_sub(Duration::from_nanos(1)), step) + 1).min(COLUMNS);
        let outages = self.outages(end);
        let is_away = |at: usize| {
            outages
                .iter()
                .any(|(from, to)| (column(*from, step)..column(*to, step).max(column(*from, step) + 1)).contains(&at))
        };
        let mut lines = Vec::new();
        for row in self.rows(columns, step) {
            let block = |(at, &value): (usize, &u64)| match value {
                // The last column may be too young to say.
                0 if row.shaded && is_away(at) && at + 1 < columns => paint.with(Colour::Dim, SHADE),
                0 => " ".to_owned(),
                value => {
                    let height = (value * BLOCKS.len() as u64 + row.full / 2) / row.full.max(1);
                    paint.with(row.colour, BLOCKS[height.clamp(1, BLOCKS.len() as u64) as usize - 1])
                }
            };
            let blocks: String = row.values.iter().enumerate().map(block).collect();
            let highest = format!("{}{}", grouped(row.values.iter().copied().max().unwrap_or(0)), row.unit);
            let room = " ".repeat(COLUMNS - columns);
            lines.push(format!("  {:11}{blocks}{room} {}", row.name, paint.with(Colour::Dim, highest)));
        }
        lines.extend(self.breaker(columns, step, paint));
        lines.extend(self.faults(columns, step, &is_away, paint));
        lines.push(paint.with(Colour::Dim, axis(step, columns)));
        lines.extend(self.legend(!outages.is_empty()).into_iter().map(|line| paint.with(Colour::Dim, line)));
        lines.join("\n")
    }

    fn rows(&self, columns: usize, step: Duration) -> Vec<Row> {
        let per_second = |name: &str, colour, nominal: u64, shaded, count: &dyn Fn(&Sample) -> u64| {
            let counts = self.at_ends(columns, step, count);
            let pairs = std::iter::once(&0).chain(&counts).zip(&counts);
            let rate = |(before, after): (&u64, &u64)| ((after - before) as f64 / step.as_secs_f64()).ceil() as u64;
            let values = pairs.map(rate).collect();
            Row { name: name.to_owned(), values, full: 2 * nominal, unit: "/s", shaded, colour }
        };
        let level = |name: &str, level: &dyn Fn(&Sample) -> u64| {
            let values = self.at_ends(columns, step, level);
            // A few are always on their way: they need not look like a mountain.
            let full = values.iter().copied().max().unwrap_or(0).max(self.per_second / 4);
            Row { name: name.to_owned(), values, full, unit: "", shaded: false, colour: Colour::Yellow }
        };
        let sent = self.per_second;
        let mut rows = vec![per_second("accepted", Colour::Cyan, sent, true, &|sample| sample.accepted)];
        if self.samples.iter().any(|sample| sample.refused > 0) {
            rows.push(per_second("refused", Colour::Red, sent, false, &|sample| sample.refused));
        }
        for (channel, name) in self.channels.iter().enumerate() {
            let share = sent / self.channels.len() as u64;
            rows.push(per_second(name, Colour::Green, share, true, &|sample| count(sample, channel)));
        }
        rows.push(level("waiting", &waiting));
        if self.samples.iter().any(|sample| sample.unrecorded.is_some()) {
            rows.push(level("unrecorded", &|sample| sample.unrecorded.unwrap_or(0)));
        }
        rows
    }

    /// A value at the end of each column.
    fn at_ends(&self, columns: usize, step: Duration, value: &dyn Fn(&Sample) -> u64) -> Vec<u64> {
        let mut samples = self.samples.iter().peekable();
        let mut last = 0;
        (1..=columns)
            .map(|column| {
                while let Some(sample) = samples.next_if(|sample| sample.at <= step * column as u32 + GRAIN) {
                    last = value(sample);
                }
                last
            })
            .collect()
    }

    fn breaker(&self, columns: usize, step: Duration, paint: Paint) -> Option<String> {
        let mut worst = vec![None; columns];
        for sample in &self.samples {
            let place = column(sample.at, step).min(columns - 1);
            worst[place] = worst[place].max(sample.breaker);
        }
        if worst.iter().all(Option::is_none) {
            return None;
        }
        let sign = |state: &Option<Breaker>| match state {
            None => " ".to_owned(),
            Some(Breaker::Closed) => paint.with(Colour::Dim, '─'),
            Some(Breaker::HalfOpen) => paint.with(Colour::Yellow, '◐'),
            Some(Breaker::Open) => paint.with(Colour::Red, '●'),
        };
        Some(format!("  {:11}{}", "breaker", worst.iter().map(sign).collect::<String>()))
    }

    fn faults(&self, columns: usize, step: Duration, is_away: &dyn Fn(usize) -> bool, paint: Paint) -> Option<String> {
        if self.events.is_empty() {
            return None;
        }
        let mut signs: Vec<String> =
            (0..columns).map(|at| if is_away(at) { paint.with(Colour::Red, '▒') } else { " ".to_owned() }).collect();
        for event in &self.events {
            let sign = match event.mark {
                Mark::Killed => paint.with(Colour::Red, '✖'),
                Mark::Started => paint.with(Colour::Green, '▲'),
                Mark::Away | Mark::Back => continue,
            };
            signs[column(event.at, step).min(columns - 1)] = sign;
        }
        Some(format!("  {:11}{}", "faults", signs.concat().trim_end()))
    }

    /// From and to; one that has not ended yet ends `now`.
    fn outages(&self, now: Duration) -> Vec<(Duration, Duration)> {
        let mut outages: Vec<(Duration, Duration)> = Vec::new();
        for event in &self.events {
            match event.mark {
                Mark::Away => outages.push((event.at, now)),
                Mark::Back => {
                    if let Some(last) = outages.last_mut() {
                        last.1 = event.at;
                    }
                }
                Mark::Killed | Mark::Started => {}
            }
        }
        outages
    }

    fn legend(&self, has_outage: bool) -> Vec<String> {
        let has = |mark| self.events.iter().any(|event| event.mark == mark);
        let mut parts = vec!["▄ as sent  █ twice that or more", "on the right: the highest"];
        if has(Mark::Killed) {
            parts.push("✖ kill -9  ▲ started again");
        }
        if has_outage {
            parts.push("▒ away  ░ nothing came");
        }
        if self.samples.iter().any(|sample| sample.breaker.is_some()) {
            parts.push("breaker ─ closed ◐ half-open ● open");
        }
        let mut lines = vec![String::new()];
        for part in parts {
            let last = lines.last_mut().expect("there is one");
            if last.chars().count() + 2 + part.chars().count() > LINE_COLUMNS {
                lines.push(String::new());
            }
            let last = lines.last_mut().expect("there is one");
            *last += &format!("  {part}");
        }
        lines
    }
}

fn column(at: Duration, step: Duration) -> usize {
    (at.as_nanos() / step.as_nanos()) as usize
}

fn count(sample: &Sample, channel: usize) -> u64 {
    sample.taken.get(channel).copied().unwrap_or(0)
}

/// Accepted and not yet taken. The receiver may be ahead of the 202.
fn waiting(sample: &Sample) -> u64 {
    sample.accepted.saturating_sub(sample.taken.iter().sum())
}

fn rate(now: &Sample, before: &Sample, count: impl Fn(&Sample) -> u64) -> u64 {
    let seconds = (now.at - before.at).as_secs_f64().max(0.1);
    ((count(now) - count(before)) as f64 / seconds).round() as u64
}

/// A time every ten columns.
fn axis(step: Duration, columns: usize) -> String {
    let mark = |tenth: u32| {
        let seconds = (step * (tenth * 10)).as_secs_f64();
        let text = if seconds < 120.0 { format!("{seconds} s") } else { format!("{} min", seconds / 60.0) };
        format!("{text:10}")
    };
    let marks: String = (0..columns.div_ceil(10) as u32).map(mark).collect();
    format!("  {:11}{}", "", marks.trim_end())
}

/// `12,345`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        let mut timeline = Timeline::new(vec!["webhook".into(), "telegram".into()], 200);
        for quarter in 1..=80_u64 {
            let at = Duration::from_millis(quarter * 250);
            let down = (20..=50).contains(&quarter);
            let breaker = Some(if down { Breaker::Open } else { Breaker::Closed });
            let telegram = if quarter <= 20 { quarter * 25 } else { 500 + quarter.saturating_sub(50) * 40 };
            timeline.add(Sample {
                at,
                accepted: quarter * 50,
                taken: vec![quarter * 25, telegram],
                breaker,
                ..Sample::default()
            });
        }
        timeline.mark(Duration::from_millis(2_100), Mark::Killed, "router-1 killed".into());
        timeline.mark(Duration::from_secs(5), Mark::Away, "telegram is away".into());
        timeline.mark(Duration::from_millis(12_500), Mark::Back, "telegram is back".into());
        timeline
    }

    #[test]
    fn a_drawing_fits_into_80_columns_and_shows_what_happened() {
        let drawing = timeline().draw(Paint::plain());
        assert!(drawing.lines().all(|line| line.chars().count() <= 80), "{drawing}");
        let row = |name: &str| drawing.lines().find(|line| line.trim_start().starts_with(name)).expect(name);
        assert!(row("accepted").contains("▄▄▄▄") && row("accepted").ends_with("200/s"), "{drawing}");
        assert_eq!(row("telegram").matches(SHADE).count(), 15, "{drawing}");
        assert_eq!(row("webhook").matches(SHADE).count(), 0, "{drawing}");
        assert_eq!((row("faults").matches('▒').count(), row("faults").matches('✖').count()), (15, 1), "{drawing}");
        assert!(row("breaker").contains('●') && row("breaker").contains('─'), "{drawing}");
    }

    #[test]
    fn nothing_yet_and_a_very_long_run_can_be_drawn_too() {
        assert!(Timeline::new(vec!["webhook".into()], 200).draw(Paint::plain()).contains("0 s"));
        let mut timeline = timeline();
        timeline.add(Sample { at: Duration::from_secs(40_000), accepted: 9_000, ..timeline.samples[80].clone() });
        let drawing = timeline.draw(Paint::plain());
        assert!(drawing.lines().all(|line| line.chars().count() <= 80), "{drawing}");
    }

    #[test]
    fn the_last_second_is_a_line() {
        let line = timeline().line();
        assert_eq!(line, " 20.0 s  accepted 200/s  webhook 100/s  telegram 160/s  waiting 300");
    }

    #[test]
    fn numbers_have_their_thousands_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
