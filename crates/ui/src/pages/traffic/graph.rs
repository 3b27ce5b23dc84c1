//! The last hour of calls, minute by minute, and when switches were set or ended.

use maud::{Markup, html};
use paramedic_gateway::traffic::{Step, Sum};
use paramedic_model::Timestamp;

use super::{Seen, as_f64, board_of};
use crate::chart::{axis_time, percent_of, share};
use crate::format::{absolute, count, money, short, tokens};
use crate::pages::switches::value;

const HEIGHT: u32 = 96;
/// Room above the bars for the numbers of the marks.
const HEAD: u32 = 16;
const BOTTOM: u32 = HEAD + HEIGHT;
/// Changes that are marked, the latest.
const MARKS_MAX: usize = 9;
/// Share of the width below which two labels would touch.
const APART: f64 = 0.03;
const MINUTE_S: u64 = 60;

/// What was changed, and when.
struct Mark {
    at: Timestamp,
    switch: String,
    what: &'static str,
    words: String,
    by: String,
}

/// One part of the bars: its name, its class, its size.
type Part = (&'static str, &'static str, fn(&Sum) -> u64);

/// From the ground up.
const PARTS: [Part; 3] =
    [("answered", "bar", |sum| sum.answered), ("failed", "bad", |sum| sum.failed), ("refused", "refused", |sum| sum.refused)];

pub(super) fn last_hour(seen: &Seen<'_>) -> Markup {
    let minutes = seen.gateway.traffic().hour(seen.now);
    let Some((first, last)) = minutes.first().zip(minutes.last()) else { return html! {} };
    let (from, to) = (first.at, last.at.after(std::time::Duration::from_secs(MINUTE_S)));
    let marks = marks(seen, from);
    let size = |sum: &Sum| PARTS.iter().map(|(_, _, of)| of(sum)).sum::<u64>();
    let top = minutes.iter().map(|minute| size(&minute.sum)).max().unwrap_or(0);
    let mut whole = Sum::default();
    for Step { sum, .. } in &minutes {
        whole.calls += sum.calls;
        whole.refused += sum.refused;
        whole.failed += sum.failed;
    }
    let words = format!("the last hour: {} calls, {} failed, {} refused", count(whole.calls), count(whole.failed), count(whole.refused));
    html! {
        figure class="wide" {
            figcaption { b { "Calls a minute" } span { @for (name, class, _) in PARTS { span class="nowrap" { (swatch(class)) (name) } " " } } }
            svg class="chart" height=(BOTTOM + 18) role="img" aria-label=(words) {
                svg x="0" y=(HEAD) width="100%" height=(HEIGHT) viewBox="0 0 1000 100" preserveAspectRatio="none" {
                    @for (class, path) in paths(&minutes, top) { path class=(class) d=(path) {} }
                }
                line class="axis" x1="0" x2="100%" y1=(BOTTOM) y2=(BOTTOM) {}
                text x="0" y=(HEAD + 10) { "highest " (count(top)) }
                @for mark in &marks {
                    @let x = percent_of(share(mark.at, from, to));
                    line class="mark" x1=(x) x2=(x) y1=(HEAD - 2) y2=(BOTTOM) { title { (mark.at.time_of_day()) " " (mark.words) " " (mark.what) } }
                }
                @for (x, words) in labels(&marks.iter().map(|mark| share(mark.at, from, to)).collect::<Vec<_>>()) {
                    text class="strong" x=(percent_of(x)) y="11" text-anchor=(if x > 0.97 { "end" } else { "middle" }) { (words) }
                }
                text x="0" y=(BOTTOM + 14) { (axis_time(from, from, to)) }
                text x="100%" y=(BOTTOM + 14) text-anchor="end" { (axis_time(to, from, to)) " UTC" }
            }
            @if !marks.is_empty() {
                ol class="marks small" { @for mark in &marks {
                    li { time datetime=(mark.at) title=(absolute(mark.at)) { (mark.at.time_of_day()) } " " a href=(board_of(&mark.switch)) { (mark.words) } " " (mark.what) " by " (mark.by) }
                } }
            }
            (numbers(&minutes))
        }
    }
}

fn swatch(class: &str) -> Markup {
    html! { svg class="swatch" width="10" height="10" aria-hidden="true" { rect class=(class) width="10" height="10" rx="2" {} } }
}

/// One path for each part, stacked.
fn paths(minutes: &[Step], top: u64) -> Vec<(&'static str, String)> {
    let width = 1_000.0 / as_f64(minutes.len().max(1) as u64);
    let unit = 100.0 / as_f64(top.max(1));
    let mut ground = vec![0.0; minutes.len()];
    let mut all = Vec::with_capacity(PARTS.len());
    for (_, class, of) in PARTS {
        let mut path = String::new();
        for (i, minute) in minutes.iter().enumerate().filter(|(_, minute)| of(&minute.sum) > 0) {
            let (x, height) = (as_f64(i as u64) * width, as_f64(of(&minute.sum)) * unit);
            let (upper, w) = (100.0 - ground[i] - height, width * 0.8);
            // One refused call among thousands is seen all the same.
            let height = height.max(1.0);
            path.push_str(&format!("M{x:.0} {upper:.1}h{w:.1}v{height:.1}h-{w:.1}z"));
            ground[i] += height;
        }
        all.push((class, path));
    }
    all
}

/// The changes since then, in their order.
fn marks(seen: &Seen<'_>, from: Timestamp) -> Vec<Mark> {
    let said = |switch: &paramedic_model::switch::Switch| {
        format!("{} {} for {}", short(&switch.switch, 60), value(switch), short(&switch.scope.to_string(), 60))
    };
    let set = |switch: &paramedic_model::switch::Switch| Mark {
        at: switch.set_at,
        switch: switch.switch.clone(),
        what: "set",
        words: said(switch),
        by: short(&switch.by, 40),
    };
    let end = |ended: &paramedic_action::switch::Ended| Mark {
        at: ended.ended_at,
        switch: ended.switch.switch.clone(),
        what: "ended",
        words: said(&ended.switch),
        by: short(&ended.by, 40),
    };
    let replaced = |ended: &&paramedic_action::switch::Ended| ended.end != paramedic_action::switch::End::Replaced;
    let mut marks: Vec<Mark> = seen.active.iter().map(set).collect();
    marks.extend(seen.ended.iter().map(|ended| set(&ended.switch)));
    marks.extend(seen.ended.iter().filter(replaced).map(end));
    marks.retain(|mark| mark.at >= from && mark.at <= seen.now);
    marks.sort_by_key(|mark| mark.at);
    marks.split_off(marks.len().saturating_sub(MARKS_MAX))
}

/// The marks' numbers; those of marks that stand close together are one label.
fn labels(places: &[f64]) -> Vec<(f64, String)> {
    let mut all: Vec<(f64, usize, usize)> = Vec::new();
    for (i, x) in places.iter().enumerate() {
        match all.last_mut() {
            Some((at, _, last)) if x - *at < APART => *last = i + 1,
            _ => all.push((*x, i + 1, i + 1)),
        }
    }
    all.into_iter().map(|(x, first, last)| (x, if first == last { first.to_string() } else { format!("{first}–{last}") })).collect()
}

fn numbers(minutes: &[Step]) -> Markup {
    let some = || minutes.iter().rev().filter(|minute| minute.sum.calls > 0);
    html! {
        details class="numbers" id="hour-numbers" {
            summary { "numbers" }
            div class="scroll" { table {
                thead { tr { th { "minute (UTC)" } @for name in ["calls", "answered", "failed", "refused", "tokens", "cost"] { th class="num" { (name) } } } }
                tbody { @for minute in some().take(20) {
                    @let sum = &minute.sum;
                    tr {
                        td { (&minute.at.time_of_day()[..5]) }
                        @for number in [sum.calls, sum.answered, sum.failed, sum.refused] { td class="num" { (count(number)) } }
                        td class="num" { (tokens(sum.input_tokens.saturating_add(sum.output_tokens))) }
                        td class="num" { (money(paramedic_gateway::budget::dollars(sum.cost_pico))) }
                    }
                } }
            } }
            @if some().count() > 20 { p class="faint" { "The latest 20 minutes with calls." } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_touch() {
        let said: Vec<_> = labels(&[0.1, 0.5, 0.51, 0.525, 0.9]).into_iter().map(|(_, words)| words).collect();
        assert_eq!(said, ["1", "2–4", "5"]);
        assert!(labels(&[]).is_empty());
    }

    #[test]
    fn parts_stand_on_one_another() {
        let sum = Sum { calls: 10, answered: 5, failed: 3, refused: 2, ..Sum::default() };
        let minutes = [Step { at: Timestamp::EPOCH, sum }, Step { at: Timestamp::from_secs(60), sum: Sum::default() }];
        let drawn = paths(&minutes, 10);
        let upper = |path: &str| path.split(' ').nth(1).and_then(|rest| rest.split('h').next()).map(str::to_owned);
        let tops: Vec<_> = drawn.iter().map(|(_, path)| upper(path).unwrap()).collect();
        assert_eq!(tops, ["50.0", "20.0", "0.0"], "{drawn:?}");
        assert!(drawn.iter().all(|(_, path)| path.matches('M').count() == 1), "an empty minute has no bar");
    }
}
