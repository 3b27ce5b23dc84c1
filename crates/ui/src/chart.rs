//! Charts as SVG from the server: time left to right, direct labels, and the same numbers as a table.
//!
//! Positions along the time axis are percentages, so that a chart is as wide as its place and its words keep their size.

use maud::{Markup, html};
use paramedic_model::Timestamp;

use crate::format::absolute;

/// Height of the drawing without its labels, in pixels.
const PLOT_HEIGHT: u32 = 80;
/// Room above the drawing for the words about its highest value.
const HEAD_HEIGHT: u32 = 15;
const BOTTOM: u32 = HEAD_HEIGHT + PLOT_HEIGHT;
/// The widest bar, of 1000 across: two days are not two walls.
const BAR_WIDTH_MAX: f64 = 60.0;
/// Rows in the table of numbers; longer series are thinned, and the table says so.
const TABLE_ROWS_MAX: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Something that has a size at every time.
    Line,
    /// Something that is counted per interval.
    Bars,
}

/// One quantity over time.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) shape: Shape,
    pub(crate) points: &'a [(Timestamp, f64)],
    /// A second quantity drawn inside the bars, as the bad part of them.
    pub(crate) bad: Option<(&'a str, &'a [(Timestamp, f64)])>,
    pub(crate) limit: Option<(f64, String)>,
    pub(crate) show: fn(f64) -> String,
    /// What the last value means: "now", "in all".
    pub(crate) note: String,
}

impl Chart<'_> {
    pub(crate) fn render(&self) -> Markup {
        let Some((from, to)) = self.range() else {
            return html! { figure { figcaption { b { (self.title) } span { (self.note) } } p class="faint" { "no numbers yet" } } };
        };
        let peak = self.points.iter().map(|point| point.1).fold(0.0, f64::max);
        let limit = self.limit.as_ref().filter(|(value, _)| *value <= peak * 4.0 || peak == 0.0);
        let top = limit.map_or(peak, |(value, _)| peak.max(*value)).max(f64::MIN_POSITIVE) * 1.06;
        let label = format!("{}: highest {}, {}", self.title, (self.show)(peak), self.note);
        html! {
            figure {
                figcaption { b { (self.title) } span { (self.note) } }
                svg class="chart" height=(BOTTOM + 18) role="img" aria-label=(label) {
                    @match self.shape {
                        Shape::Line => (self.draw_line(from, to, top)),
                        Shape::Bars => (self.draw_bars(from, to, top)),
                    }
                    @if let Some((value, words)) = limit {
                        @let y = f64::from(HEAD_HEIGHT) + f64::from(PLOT_HEIGHT) * (1.0 - value / top);
                        line class="limit" x1="0" x2="100%" y1=(px(y)) y2=(px(y)) {}
                        text x="100%" y=(px(y - 4.0)) text-anchor="end" { (words) }
                    }
                    line class="axis" x1="0" x2="100%" y1=(BOTTOM) y2=(BOTTOM) {}
                    text x="0" y="10" { (self.peak_label(peak, limit.is_some())) }
                    text x="0" y=(BOTTOM + 14) { (axis_time(from, from, to)) }
                    text x="100%" y=(BOTTOM + 14) text-anchor="end" { (axis_time(to, from, to)) }
                }
                (self.table())
            }
        }
    }

    fn peak_label(&self, peak: f64, has_limit: bool) -> String {
        if has_limit || self.points.len() < 2 { String::new() } else { format!("highest {}", (self.show)(peak)) }
    }

    fn range(&self) -> Option<(Timestamp, Timestamp)> {
        let (first, last) = (self.points.first()?.0, self.points.last()?.0);
        (self.points.len() > 1 && last > first).then_some((first, last))
    }

    fn draw_line(&self, from: Timestamp, to: Timestamp, top: f64) -> Markup {
        let mut line = String::new();
        for (at, value) in self.points {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&format!("{:.0},{:.1}", share(*at, from, to) * 1000.0, 100.0 * (1.0 - value / top)));
        }
        html! {
            svg x="0" y=(HEAD_HEIGHT) width="100%" height=(PLOT_HEIGHT) viewBox="0 0 1000 100" preserveAspectRatio="none" {
                polygon class="area" points=(format!("0,100 {line} 1000,100")) {}
                polyline class="line" points=(line) vector-effect="non-scaling-stroke" {}
            }
        }
    }

    fn draw_bars(&self, from: Timestamp, to: Timestamp, top: f64) -> Markup {
        // One path per quantity: a bar is a few characters, and hundreds of bars stay small.
        let width = (1000.0 / as_f64(self.points.len())).min(BAR_WIDTH_MAX);
        let path = |points: &[(Timestamp, f64)]| {
            let mut path = String::new();
            for (at, value) in points.iter().filter(|point| point.1 > 0.0) {
                let x = share(*at, from, to) * (1000.0 - width);
                let height = (100.0 * value / top).max(1.5);
                let w = width * 0.8;
                path.push_str(&format!("M{x:.0} {:.1}h{w:.1}V100h-{w:.1}z", 100.0 - height));
            }
            path
        };
        html! {
            svg x="0" y=(HEAD_HEIGHT) width="100%" height=(PLOT_HEIGHT) viewBox="0 0 1000 100" preserveAspectRatio="none" {
                path class="bar" d=(path(self.points)) {}
                @if let Some((_, bad)) = self.bad { path class="bad" d=(path(bad)) {} }
            }
        }
    }

    fn table(&self) -> Markup {
        let every = self.points.len().div_ceil(TABLE_ROWS_MAX).max(1);
        html! {
            details class="numbers" {
                summary { "numbers" }
                table {
                    caption class="sr" { (self.title) @if every > 1 { ", every " (every) "th value" } }
                    thead { tr { th { "time (UTC)" } th class="num" { (self.title) } @if let Some((name, _)) = self.bad { th class="num" { (name) } } } }
                    tbody {
                        @for (i, (at, value)) in self.points.iter().enumerate().rev().step_by(every) {
                            tr {
                                td { (absolute(*at).trim_end_matches(" UTC")) }
                                td class="num" { ((self.show)(*value)) }
                                @if let Some((_, bad)) = self.bad { td class="num" { (bad.get(i).map_or_else(String::new, |point| (self.show)(point.1))) } }
                            }
                        }
                    }
                }
                @if every > 1 { p class="faint" { "Every " (every) "th of " (self.points.len()) " values." } }
            }
        }
    }
}

/// Where `at` lies between `from` and `to`, 0 to 1.
pub(crate) fn share(at: Timestamp, from: Timestamp, to: Timestamp) -> f64 {
    let whole = to.since(from).as_secs_f64();
    if whole <= 0.0 { 0.0 } else { (at.since(from).as_secs_f64() / whole).clamp(0.0, 1.0) }
}

/// A label on the time axis: as much of the time as tells the ends apart.
pub(crate) fn axis_time(at: Timestamp, from: Timestamp, to: Timestamp) -> String {
    let midnight = |at: Timestamp| at.as_secs().rem_euclid(86_400) == 0;
    if from.date() != to.date() && midnight(from) && midnight(to) {
        return at.date();
    }
    let clock = at.time_of_day();
    let clock = if to.since(from).as_secs() > 600 { &clock[..5] } else { &clock };
    if from.date() == to.date() { clock.to_owned() } else { format!("{} {clock}", &at.date()[5..]) }
}

pub(crate) fn percent_of(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

#[expect(clippy::cast_precision_loss, reason = "a number of points")]
fn as_f64(number: usize) -> f64 {
    number as f64
}
