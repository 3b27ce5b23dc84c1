//! An incident on its time axis: when each alert was active, and the marks between onset and end.

use std::collections::BTreeMap;

use maud::{Markup, html};
use paramedic_model::{Severity, Timestamp};
use paramedic_respond::{Episode, Incident};

use crate::chart::{axis_time, percent_of, share};
use crate::format::{absolute, short};
use crate::pages::incident::Names;

/// Rows drawn: one per detector and agent. The table below names all.
const ROWS_MAX: usize = 12;
const ROW_HEIGHT: usize = 30;
const LABEL_HEIGHT: usize = 14;
/// Marks closer than this share of the axis get their words on different lines.
const LABEL_SHARE: f64 = 0.17;

/// The drawing of an incident's alert episodes. `now` ends the axis while it is not over.
pub(crate) fn episodes(incident: &Incident, names: &Names, now: Timestamp) -> Markup {
    let marks = marks(incident);
    let last = incident.episodes.iter().filter_map(|episode| episode.ended_at).chain(marks.iter().map(|mark| mark.1)).max();
    let open = incident.firing().next().is_some() || incident.resolved_at.is_none() && incident.state.is_open();
    let last = if open { now } else { last.unwrap_or(now) };
    let (from, to) = padded(incident.started_at, last);
    let rows = rows(incident, names);
    let (labels, levels) = placed(&marks, from, to);
    let top = levels * LABEL_HEIGHT + 6;
    let shown = rows.len().min(ROWS_MAX);
    let bottom = top + shown * ROW_HEIGHT;
    let words: Vec<String> = marks.iter().map(|(name, at)| format!("{name} {}", at.time_of_day())).collect();
    html! {
        svg class="chart" height=(bottom + 20) role="img" aria-label=(format!("Time axis: {}", words.join(", "))) {
            rect class="window" x=(percent_of(share(incident.started_at, from, to))) y=(top - 4) height=(bottom + 4 - top)
                width=(percent_of(share(incident.mitigated_at.unwrap_or(last), from, to) - share(incident.started_at, from, to))) {}
            @for (i, ((detector, agent), episodes)) in rows.iter().take(ROWS_MAX).enumerate() {
                @let y = top + i * ROW_HEIGHT;
                text x="2" y=(y + 11) { (short(detector, 40)) " · " (short(agent, 40)) @if episodes.len() > 1 { " · " (episodes.len()) " times" } }
                rect class="track" x="0" y=(y + 15) width="100%" height="10" {}
                @for episode in episodes { (bar(episode, y + 15, from, to, last)) }
            }
            @for ((name, at), level) in marks.iter().zip(&labels) {
                @let x = share(*at, from, to);
                @let y = level * LABEL_HEIGHT + 10;
                line class="mark" x1=(percent_of(x)) x2=(percent_of(x)) y1=(y + 3) y2=(bottom) { title { (name) " " (absolute(*at)) } }
                text class="strong" x=(percent_of(x)) y=(y) dx=(if x > 0.8 { "-3" } else { "3" }) text-anchor=(if x > 0.8 { "end" } else { "start" }) {
                    (name) " " (at.time_of_day())
                }
            }
            line class="axis" x1="0" x2="100%" y1=(bottom + 2) y2=(bottom + 2) {}
            text x="0" y=(bottom + 16) { (axis_time(from, from, to)) }
            text x="100%" y=(bottom + 16) text-anchor="end" { (axis_time(to, from, to)) @if open { " (now)" } " UTC" }
        }
        @if rows.len() > ROWS_MAX { p class="faint" { "Drawn: " (ROWS_MAX) " of " (rows.len()) " alerts; the table has all." } }
    }
}

fn bar(episode: &Episode, y: usize, from: Timestamp, to: Timestamp, last: Timestamp) -> Markup {
    let class = match episode.severity {
        None => "epn",
        Some(Severity::Sev1) => "ep1",
        Some(Severity::Sev2) => "ep2",
        Some(Severity::Sev3) => "ep3",
        Some(Severity::Sev4) => "ep4",
    };
    let end = episode.ended_at.unwrap_or(last);
    let (start, width) = (share(episode.started_at, from, to), share(end, from, to) - share(episode.started_at, from, to));
    let ended = episode.ended_at.map_or_else(|| "still active".to_owned(), |at| at.time_of_day());
    html! {
        rect class=(class) x=(percent_of(start)) y=(y) width=(percent_of(width.max(0.006))) height="10" {
            title { (episode.started_at.time_of_day()) " to " (ended) ": " (short(&episode.reason, 160)) }
        }
    }
}

/// The marks that are known, in order of time.
fn marks(incident: &Incident) -> Vec<(&'static str, Timestamp)> {
    let mut marks = vec![("onset", incident.started_at), ("detected", incident.detected_at)];
    marks.extend(incident.acknowledged_at.map(|at| ("acknowledged", at)));
    marks.extend(incident.mitigated_at.map(|at| ("mitigated", at)));
    marks.extend(incident.resolved_at.map(|at| ("resolved", at)));
    marks.sort_by_key(|mark| mark.1);
    marks
}

/// On which line each mark's words stand so that none overlap, and how many lines that takes.
fn placed(marks: &[(&str, Timestamp)], from: Timestamp, to: Timestamp) -> (Vec<usize>, usize) {
    let mut ends: Vec<f64> = Vec::new();
    let mut levels = Vec::new();
    for (_, at) in marks {
        let x = share(*at, from, to);
        let start = if x > 0.8 { x - LABEL_SHARE * 1.6 } else { x };
        let level = ends.iter().position(|end| *end <= start).unwrap_or(ends.len());
        let end = if x > 0.8 { x + 0.01 } else { x + LABEL_SHARE * 1.6 };
        if level == ends.len() {
            ends.push(end)
        } else {
            ends[level] = end
        }
        levels.push(level);
    }
    (levels, ends.len())
}

fn rows<'a>(incident: &'a Incident, names: &Names) -> Vec<((String, String), Vec<&'a Episode>)> {
    let mut rows: BTreeMap<(String, String), Vec<&Episode>> = BTreeMap::new();
    for episode in &incident.episodes {
        let who = match (&episode.agent, &episode.rule) {
            (Some(agent), _) => names.of(agent),
            (None, Some(rule)) => rule.subject(),
            (None, None) => String::new(),
        };
        rows.entry((episode.name().to_owned(), who)).or_default().push(episode);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, episodes)| episodes.iter().map(|episode| episode.started_at).min());
    rows
}

/// A little room before the onset and after the end, so that their marks can be seen.
fn padded(from: Timestamp, to: Timestamp) -> (Timestamp, Timestamp) {
    let room = (to.since(from) / 30).max(std::time::Duration::from_secs(5));
    (from.before(room), to.max(from).after(room))
}
