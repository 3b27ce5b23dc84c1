//! Several quantities over time in one drawing: lines with gaps, a scale, and a legend that is a table of numbers.

use maud::{Markup, PreEscaped, html};
use paramedic_api::unit::Unit;
use paramedic_model::Timestamp;

use crate::chart::axis_time;
use crate::format::short;

/// Lines that are drawn, each in a colour and a dash of its own.
pub(crate) const LINES_MAX: usize = 8;
/// Pixels between the drawing and the top for the words of the highest line of the scale.
const HEAD: f64 = 16.0;

/// One quantity.
pub(crate) struct Line {
    pub(crate) name: String,
    /// Milliseconds and values, in order of time. What is not finite is a gap.
    pub(crate) points: Vec<(i64, f64)>,
}

/// A drawing of lines between two times (milliseconds).
pub(crate) struct Plot<'a> {
    pub(crate) label: &'a str,
    pub(crate) lines: &'a [Line],
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) unit: Unit,
    /// A value with its words, drawn across.
    pub(crate) limit: Option<(f64, String)>,
    pub(crate) height: u32,
}

/// The scale: its ends and the lines between.
struct Scale {
    low: f64,
    high: f64,
    marks: Vec<f64>,
}

impl Scale {
    /// Round marks around the values; zero belongs to it unless all values are far from it.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let mut low = values.clone().fold(f64::INFINITY, f64::min);
        let mut high = values.fold(f64::NEG_INFINITY, f64::max);
        if !low.is_finite() || !high.is_finite() {
            (low, high) = (0.0, 1.0);
        }
        let spread = high - low;
        if low > 0.0 && low < spread * 4.0 {
            low = 0.0;
        } else if high < 0.0 && -high < spread * 4.0 {
            high = 0.0;
        }
        if high <= low {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low, high) = if low > 0.0 && low < 10.0 { (0.0, high + room) } else { (low - room, high + room) };
            if low < 0.0 && high > 0.0 && high <= 1.0 {
                low = 0.0;
            }
        }
        let step = round_step((high - low) / 3.0);
        let first = (low / step).floor() * step;
        let mut marks = Vec::new();
        let mut mark = first;
        while mark < high + step * 0.999 && marks.len() < 12 {
            // The products of steps would show as 0.30000000000000004.
            marks.push((mark / step).round() * step);
            mark += step;
        }
        Self { low: first, high: marks.last().copied().unwrap_or(high).max(high), marks }
    }

    /// 0 at the top, 1 at the bottom.
    fn place(&self, value: f64) -> f64 {
        let whole = self.high - self.low;
        if whole > 0.0 { (1.0 - (value - self.low) / whole).clamp(0.0, 1.0) } else { 0.5 }
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.max(f64::MIN_POSITIVE).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough * 0.999);
    step.unwrap_or(power).max(f64::MIN_POSITIVE)
}

impl Plot<'_> {
    pub(crate) fn render(&self) -> Markup {
        let drawn = &self.lines[..self.lines.len().min(LINES_MAX)];
        let values = drawn.iter().flat_map(|line| line.points.iter().map(|point| point.1)).filter(|value| value.is_finite());
        let limit = self.limit.as_ref().map(|limit| limit.0);
        let scale = Scale::of(values.chain(limit));
        let height = f64::from(self.height);
        let y = |value: f64| format!("{:.1}", HEAD + height * scale.place(value));
        let bottom = HEAD + height;
        html! {
            svg class="chart plot" height=(self.height + 36) role="img" aria-label=(self.label) {
                @for mark in &scale.marks { line class="rule" x1="0" x2="100%" y1=(y(*mark)) y2=(y(*mark)) {} }
                svg x="0" y=(HEAD) width="100%" height=(self.height) viewBox="0 0 1000 100" preserveAspectRatio="none" {
                    @for (i, line) in drawn.iter().enumerate() { (self.draw(i, line, &scale)) }
                }
                @if let Some((value, words)) = &self.limit {
                    line class="limit" x1="0" x2="100%" y1=(y(*value)) y2=(y(*value)) {}
                    text class="strong" x="100%" y=(y(*value)) dy="-4" text-anchor="end" { (words) }
                }
                @for mark in &scale.marks { text x="0" y=(y(*mark)) dy="-3" { (self.unit.show(*mark)) } }
                @for (share, at, anchor) in self.times() {
                    text x=(format!("{:.1}%", share * 100.0)) y=(format!("{:.0}", bottom + 15.0)) text-anchor=(anchor) { (at) }
                }
            }
        }
    }

    /// One line: a path that is broken where there is no value.
    fn draw(&self, number: usize, line: &Line, scale: &Scale) -> Markup {
        let whole = span(self.to_ms - self.from_ms).max(1.0);
        let mut path = String::new();
        let mut before: Option<i64> = None;
        for (i, (ms, value)) in line.points.iter().enumerate() {
            if !value.is_finite() {
                before = None;
                continue;
            }
            let (x, y) = (span(ms - self.from_ms) / whole * 1000.0, scale.place(*value) * 100.0);
            let joined = before.is_some_and(|before| ms - before <= self.step_ms + self.step_ms / 2);
            let last = line.points.get(i + 1).is_none_or(|next| !next.1.is_finite() || next.0 - ms > self.step_ms + self.step_ms / 2);
            path.push_str(&format!("{}{x:.0} {y:.1}", if joined { 'L' } else { 'M' }));
            if !joined && last {
                // A value alone would have no length.
                path.push_str("h2");
            }
            before = Some(*ms);
        }
        html! { path class=(format!("line l{number}")) d=(path) vector-effect="non-scaling-stroke" { title { (short(&line.name, 200)) } } }
    }

    fn times(&self) -> Vec<(f64, String, &'static str)> {
        let (from, to) = (Timestamp::from_millis(self.from_ms), Timestamp::from_millis(self.to_ms));
        let at = |share: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "a part of the range")]
            let ms = self.from_ms + (span(self.to_ms - self.from_ms) * share) as i64;
            axis_time(Timestamp::from_millis(ms), from, to)
        };
        vec![(0.0, at(0.0), "start"), (0.5, at(0.5), "middle"), (1.0, format!("{} UTC", at(1.0)), "end")]
    }
}

#[expect(clippy::cast_precision_loss, reason = "a length of time for a drawing")]
fn span(ms: i64) -> f64 {
    ms as f64
}

/// The mark of a line in a legend.
pub(crate) fn swatch(number: usize) -> Markup {
    if number >= LINES_MAX {
        return html! {};
    }
    PreEscaped(format!(
        "<svg class=\"swatch\" width=\"22\" height=\"8\" aria-hidden=\"true\"><path class=\"line l{number}\" d=\"M0 4h22\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_round_marks_around_the_values() {
        for (values, low, high, marks) in [
            (vec![0.02, 0.31], 0.0, 0.4, 3),
            (vec![3.0, 3.0], 0.0, 4.0, 3),
            (vec![0.0, 0.0], 0.0, 1.0, 0),
            (vec![1000.0, 1010.0], 1000.0, 1010.0, 3),
            (vec![-5.0, 5.0], -5.0, 5.0, 3),
            (vec![], 0.0, 1.0, 3),
        ] {
            let scale = Scale::of(values.iter().copied());
            assert!(
                (scale.low - low).abs() < 1e-9 && (scale.high - high).abs() < high.abs() * 0.5 + 1e-9,
                "{values:?}: {} {} {:?}",
                scale.low,
                scale.high,
                scale.marks
            );
            assert!(scale.marks.len() >= marks && scale.marks.len() < 8, "{values:?}: {:?}", scale.marks);
        }
    }

    #[test]
    fn a_gap_is_not_drawn_over() {
        let line = Line { name: "x".into(), points: vec![(0, 1.0), (10, 2.0), (20, f64::NAN), (30, 1.0), (100, 1.0)] };
        let plot = Plot { label: "", lines: &[line], from_ms: 0, to_ms: 100, step_ms: 10, unit: Unit::Plain, limit: None, height: 100 };
        let text = plot.render().into_string();
        let path = text.split("d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(path.matches('M').count(), 3, "{path}");
        assert_eq!(path.matches('L').count(), 1, "{path}");
    }
}
