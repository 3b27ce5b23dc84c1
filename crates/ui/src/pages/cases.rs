//! The alerts of rules that hold now, each with its value drawn against its threshold.

use std::collections::BTreeMap;
use std::time::Duration;

use maud::{Markup, html};
use paramedic_api::Context;
use paramedic_api::query::Limits;
use paramedic_api::rules::{AlertView, RuleState, RuleView};
use paramedic_api::threshold::{Threshold, threshold_of};
use paramedic_api::unit::{Unit, unit_of};
use paramedic_model::Timestamp;
use paramedic_promql::{Labels, Range, Value};

use crate::format::{encode, line, running, short, span};
use crate::plot::{Line, Plot};

/// Alerts that are shown; the others are a number and a link.
const CASES_MAX: usize = 12;
/// Alerts that are drawn; each costs a query.
const DRAWN_MAX: usize = 6;
/// How long a drawing may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The shortest and the longest time that is drawn: what happened lately, and still the moment it began.
const WINDOW_MS: std::ops::RangeInclusive<i64> = 600_000..=86_400_000;
/// Points of a drawing.
const POINTS: i64 = 120;

/// All alerts of rules that fire or are pending: firing first, then the oldest.
pub(crate) fn active(context: &Context) -> Vec<(RuleView, AlertView)> {
    let groups = context.instruments.rules.as_ref().map(|rules| rules.groups()).unwrap_or_default();
    let mut all: Vec<(RuleView, AlertView)> = Vec::new();
    for mut rule in groups.into_iter().flat_map(|group| group.rules) {
        for alert in std::mem::take(&mut rule.alerts) {
            all.push((rule.clone(), alert));
        }
    }
    all.sort_by_key(|(_, alert)| (alert.state != RuleState::Firing, alert.active_at));
    all
}

pub(crate) async fn cases(context: &Context, all: &[(RuleView, AlertView)], now: Timestamp) -> Markup {
    let mut shown = Vec::new();
    for (i, (rule, alert)) in all.iter().take(CASES_MAX).enumerate() {
        let subject = Subject { name: &rule.name, expression: &rule.query, labels: &alert.labels };
        let drawn = if i < DRAWN_MAX { drawing(context, subject, alert.active_at.unwrap_or(now), now).await } else { None };
        shown.push(case(rule, alert, drawn, now));
    }
    html! {
        @if !shown.is_empty() {
            div class="cases" { @for case in &shown { (case) } }
            @if all.len() > CASES_MAX { p class="faint" { "and " (all.len() - CASES_MAX) " more: " a href="/rules?which=active" { "rules that fire" } } }
        }
    }
}

/// What is drawn: an alert's expression, and the labels that tell its series from others.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) expression: &'a str,
    pub(crate) labels: &'a BTreeMap<String, String>,
}

/// The measured side of an alert's comparison against its threshold, from before it began until `to`. None: the expression
/// compares with no number, or nothing was measured.
pub(crate) async fn drawing(context: &Context, subject: Subject<'_>, began: Timestamp, to: Timestamp) -> Option<Markup> {
    let threshold = threshold_of(subject.expression)?;
    let end_ms = to.as_millis();
    let window_ms = ((end_ms - began.as_millis()) * 2).clamp(*WINDOW_MS.start(), *WINDOW_MS.end());
    let range = Range { start_ms: end_ms - window_ms, end_ms, step_ms: (window_ms / POINTS).max(1_000) };
    let line = history(context, &threshold, subject.labels, range).await?;
    let unit = unit_of(subject.expression);
    let last = line.points.last().map_or(f64::NAN, |point| point.1);
    let limit = format!("fires at {} {}", threshold.op, unit.show(threshold.value));
    let label = format!("{} since {}: last {}, {limit}", short(subject.name, 100), Timestamp::from_millis(range.start_ms), unit.show(last));
    let plot = Plot {
        label: &label,
        lines: &[line],
        from_ms: range.start_ms,
        to_ms: end_ms,
        step_ms: range.step_ms,
        unit,
        limit: Some((threshold.value, limit)),
        height: 96,
    };
    Some(html! { figure { (plot.render()) } })
}

/// What the alert measures: the one series whose labels the alert carries.
async fn history(context: &Context, threshold: &Threshold, labels: &BTreeMap<String, String>, range: Range) -> Option<Line> {
    let engine = context.instruments.query.as_ref()?;
    let answered = engine.range(&threshold.measured, range, Limits { timeout: Some(PATIENCE), lookback_ms: None }).await.ok()?;
    let Value::Matrix(series) = answered.value else { return None };
    let only = series.len() == 1;
    let found = series.into_iter().find(|series| only || belongs(&series.labels, labels))?;
    (!found.floats.is_empty()).then_some(Line { name: String::new(), points: found.floats })
}

/// Whether every label of a series is one of the alert's; a rule may add labels, and takes the metric's name away.
fn belongs(series: &Labels, alert: &BTreeMap<String, String>) -> bool {
    series
        .iter()
        .filter(|label| &*label.name != "__name__")
        .all(|label| alert.get(&*label.name).is_some_and(|value| **value == *label.value))
}

fn case(rule: &RuleView, alert: &AlertView, drawn: Option<Markup>, now: Timestamp) -> Markup {
    let (unit, threshold) = (unit_of(&rule.query), threshold_of(&rule.query));
    let (class, words) = if alert.state == RuleState::Firing { ("r-firing", "firing") } else { ("r-pending", "pending") };
    let told = ["alertname", "severity", "sev", "cause"];
    html! {
        section class="case" {
            h3 {
                span class=(format!("state {class}")) { (words) } " "
                a href=(format!("/rules?why={}", encode(&rule.name))) { (short(&rule.name, 100)) }
                @if let Some(severity) = alert.labels.get("severity").or_else(|| alert.labels.get("sev")) { " " span class="faint small" { (short(severity, 30)) } }
            }
            p class="wrap" {
                @if let Some(summary) = alert.annotations.get("summary").or_else(|| alert.annotations.get("description")) { (line(summary)) }
            }
            p class="faint small wrap" { @for (name, value) in alert.labels.iter().filter(|(name, _)| !told.contains(&name.as_str())).take(8) { span class="hit" { (short(name, 40)) "=" (short(value, 80)) } } }
            p class="small" { (measured(alert, threshold.as_ref(), unit)) (since(rule, alert, now)) }
            @if let Some(drawn) = drawn { (drawn) }
        }
    }
}

fn measured(alert: &AlertView, threshold: Option<&Threshold>, unit: Unit) -> Markup {
    html! {
        @if let Some(value) = alert.value {
            "Now " b { (unit.show(value)) }
            @if let Some(threshold) = threshold { ", fires at " (threshold.op) " " (unit.show(threshold.value)) }
            "; "
        }
    }
}

fn since(rule: &RuleView, alert: &AlertView, now: Timestamp) -> Markup {
    let Some(began) = alert.active_at else { return html! {} };
    let after = Duration::try_from_secs_f64(rule.duration_s).unwrap_or_default();
    html! {
        "holds for " (running(began, now))
        @if alert.state == RuleState::Pending && !after.is_zero() { ", fires after " (span(after)) }
        @if alert.keep_firing_since.is_some() { ", kept firing" }
        "."
    }
}

/// How many are pending, in words.
pub(crate) fn pending(all: &[(RuleView, AlertView)]) -> Option<String> {
    let pending = all.iter().filter(|(_, alert)| alert.state == RuleState::Pending).count();
    (pending > 0).then(|| format!("{pending} pending"))
}
