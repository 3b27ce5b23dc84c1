//! Which rules are there, which fire, and which never can?

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::operations::alerts::Nothing;
use paramedic_api::operations::rules::{WhyQuery, list, why};
use paramedic_api::rules::{GroupView, RuleHealth, RuleKind, RuleParts, RuleState, RuleView, WhyView};
use paramedic_api::unit::{Unit, unit_of};
use paramedic_api::{ApiError, Context};
use paramedic_model::Timestamp;
use serde::Deserialize;

use crate::format::{ago, count, encode, line, many, short, span};
use crate::forms;
use crate::page::{Tab, more, row_key, within};
use crate::pages::{answer, query_of, reader};

const ROWS_BYTES_MAX: usize = 38_000;
/// Bytes of an alert's expression taken apart.
const WHY_BYTES_MAX: usize = 6_000;
/// Rules of one name that are explained.
const EXPLAINED_MAX: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Which {
    Active,
    NoData,
    Failing,
    Recording,
    Waiting,
}

impl Which {
    const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Active, "active", "firing or pending"),
        (Self::NoData, "no-data", "never had data"),
        (Self::Failing, "failing", "cannot be evaluated"),
        (Self::Recording, "recording", "recording"),
        (Self::Waiting, "waiting", "embedded, wait for their metrics"),
    ];

    fn wants(self, group: &GroupView, rule: &RuleView) -> bool {
        match self {
            Self::Waiting => group.waits(rule),
            Self::Active => matches!(rule.state, RuleState::Firing | RuleState::Pending) && rule.kind == RuleKind::Alerting,
            Self::NoData => !rule.missing.is_empty() && !group.waits(rule),
            Self::Failing => rule.health == RuleHealth::Err,
            Self::Recording => rule.kind == RuleKind::Recording && !group.waits(rule),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    which: Option<Which>,
    text: Option<String>,
    /// The alert whose expression is taken apart.
    why: Option<String>,
    after: Option<usize>,
}

impl Asked {
    /// Embedded rules whose metrics nobody sends are shown only when they are asked for.
    fn wants(&self, group: &GroupView, rule: &RuleView) -> bool {
        let text = self.text.as_deref().unwrap_or("").to_lowercase();
        let contains = |field: &str| field.to_lowercase().contains(&text);
        self.which.map_or(!group.waits(rule) || !text.is_empty(), |which| which.wants(group, rule))
            && (text.is_empty() || contains(&rule.name) || contains(&rule.query))
    }

    fn parameters(&self) -> String {
        let which = Which::ALL.iter().find(|(which, ..)| Some(*which) == self.which).map(|(_, value, _)| *value);
        let pairs = [("which", which), ("text", self.text.as_deref())];
        pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}&", encode(value?)))).collect()
    }
}

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let result = show(&context, query.as_deref().unwrap_or("")).await;
    answer(&context, Tab::Rules, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>, query: &str) -> Result<(String, Markup), ApiError> {
    let asked: Asked = query_of(query)?;
    let rules = list(Arc::clone(context), reader(), Nothing {}).await?;
    let told = match &asked.why {
        Some(alert) => Some(why(Arc::clone(context), reader(), WhyQuery { alert: alert.clone() }).await?),
        None => None,
    };
    let all: Vec<(&GroupView, &RuleView)> =
        rules.groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule))).collect();
    let of = |which: Which| all.iter().filter(|(group, rule)| which.wants(group, rule)).count();
    let firing = all.iter().filter(|(_, rule)| rule.state == RuleState::Firing).count();
    let title = match firing {
        _ if all.is_empty() => "No rules".to_owned(),
        0 => "No rule fires".to_owned(),
        1 => "1 rule fires".to_owned(),
        firing => format!("{firing} rules fire"),
    };
    let now = context.now();
    let body = html! {
        div id="head" data-live {
            h1 { (title) }
            @if !all.is_empty() { (summary(&rules.groups, &of)) }
        }
        @if all.is_empty() { (empty(rules.enabled)) } @else {
            @if let Some(told) = &told { @for rule in told.rules.iter().take(EXPLAINED_MAX) { (explanation(rule, now)) } }
            (filter(&asked))
            div id="rules" data-live { (lines(&rules.groups, &asked, now)) }
        }
    };
    Ok((title, body))
}

fn empty(enabled: bool) -> Markup {
    html! {
        p class="empty" {
            @if enabled { "No rule file is loaded. Put Prometheus rule files under " code { "rules.files" } " in the settings; " code { "paramedic rules check FILE" } " tells whether they load." }
            @else { "Rules are not evaluated here." }
        }
    }
}

fn summary(groups: &[GroupView], of: &dyn Fn(Which) -> usize) -> Markup {
    let rules: usize = groups.iter().map(|group| group.rules.len()).sum();
    html! {
        p class="strip-key" {
            a class="plain" href="/rules" { (many(rules as u64, "rule")) " in " (many(groups.len() as u64, "group")) }
            @for (which, value, words) in Which::ALL {
                @let number = of(which);
                @if number > 0 { a class=(if matches!(which, Which::NoData | Which::Failing) { "warned" } else { "" }) href=(format!("/rules?which={value}")) { (number) " " (words) } }
            }
        }
    }
}

fn filter(asked: &Asked) -> Markup {
    html! {
        form class="inline" method="get" action="/rules" data-filter role="search" {
            label { "Which" select name="which" {
                option value="" { "all" }
                @for (which, value, name) in Which::ALL { option value=(value) selected[asked.which == Some(which)] { (name) } }
            } }
            label { "Contains" input type="search" name="text" data-key="search" value=(asked.text.as_deref().unwrap_or("")); }
            button { "Filter" }
        }
    }
}

fn lines(groups: &[GroupView], asked: &Asked, now: Timestamp) -> Markup {
    let wanted: Vec<(&GroupView, &RuleView, bool)> = groups
        .iter()
        .flat_map(|group| {
            group.rules.iter().filter(|rule| asked.wants(group, rule)).enumerate().map(move |(i, rule)| (group, rule, i == 0))
        })
        .collect();
    if wanted.is_empty() {
        return html! {
            p class="empty" {
                @if asked.which.is_none() && asked.text.is_none() { "All rules wait for their metrics. " a href="/rules?which=waiting" { "Show them" } "." }
                @else { "No rule matches. " a href="/rules" { "Show all" } "." }
            }
        };
    }
    let start = asked.after.unwrap_or(0).min(wanted.len());
    let mut first_row = true;
    let (rows, shown) = within(ROWS_BYTES_MAX, &wanted[start..], |(group, rule, first)| {
        let head = std::mem::take(&mut first_row) || *first;
        html! { @if head { (group_row(group, now)) } (row(rule, asked, now)) }
    });
    let end = start + shown;
    let parameters = asked.parameters();
    let next = (end < wanted.len()).then(|| format!("/rules?{parameters}after={end}"));
    let back = (start > 0).then(|| format!("/rules?{}", parameters.trim_end_matches('&')));
    html! {
        table class="cards rules" {
            thead { tr { th { "State" } th { "Rule" } th { "For" } th { "Evaluated" } th class="num" { "Took" } } }
            tbody { (rows) }
        }
        (more(shown, wanted.len(), back, next))
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn group_row(group: &GroupView, now: Timestamp) -> Markup {
    html! {
        tr class="group" {
            th colspan="5" scope="colgroup" {
                b { (short(&group.name, 120)) } " "
                span class="wrap" { (short(&group.file, 200)) " · every " (span(seconds(group.interval_s))) }
                @match group.last_at {
                    Some(at) => { " · " (ago(at, now)) " · took " (Unit::Seconds.show(group.evaluation_s)) }
                    None => { " · not evaluated yet" }
                }
                @if group.missed_evaluations > 0 { span class="lv-warn" { " · " (many(group.missed_evaluations, "missed evaluation")) } }
            }
        }
    }
}

fn state_of(rule: &RuleView) -> Markup {
    let (class, words) = match (rule.health, rule.kind, rule.state) {
        (RuleHealth::Err, ..) => ("r-err", "error"),
        (_, _, RuleState::Firing) => ("r-firing", "firing"),
        (_, _, RuleState::Pending) => ("r-pending", "pending"),
        (RuleHealth::Unknown, ..) => ("r-none", "not yet"),
        (_, RuleKind::Recording, _) => ("r-none", "records"),
        _ => ("r-none", "quiet"),
    };
    html! { span class=(format!("state {class}")) { (words) } }
}

fn row(rule: &RuleView, asked: &Asked, now: Timestamp) -> Markup {
    let path = format!("/rules?{}why={}", asked.parameters(), encode(&rule.name));
    html! {
        tr data-row=(row_key(&format!("{} {}", rule.name, rule.query))) {
            td class="in" { (state_of(rule)) @if rule.alerts.len() > 1 { span class="faint small" { " " (count(rule.alerts.len() as u64)) } } }
            td class="wrap" {
                b { (short(&rule.name, 120)) }
                @if let Some(severity) = rule.labels.get("severity").or_else(|| rule.labels.get("sev")) { " " span class="faint small" { (short(severity, 30)) } }
                @if rule.kind == RuleKind::Alerting { " " a class="small" href=(path) data-open { "why" } }
                div { a class="plain" href=(format!("/query?query={}", encode(&rule.query))) { code class="soft" { (short(&rule.query, 260)) } } }
                @if !rule.missing.is_empty() {
                    div class="lv-warn" {
                        "never had data: "
                        @for (i, missing) in rule.missing.iter().take(4).enumerate() { @if i > 0 { ", " } code { (short(&missing.selector, 120)) } }
                        @if rule.missing.len() > 4 { " and " (rule.missing.len() - 4) " more" }
                    }
                }
                @if let Some(error) = &rule.last_error { div class="lv-error" { (line(error)) } }
            }
            td data-th="for" class="nowrap" { @if rule.duration_s > 0.0 { (span(seconds(rule.duration_s))) } }
            td data-th="evaluated" class="nowrap" { @match rule.last_at { Some(at) => (ago(at, now)), None => span class="faint" { "never" } } }
            td data-th="took" class="num" { @if rule.last_at.is_some() { (Unit::Seconds.show(rule.evaluation_s)) } }
        }
    }
}

/// An expression taken apart, each part with its values now.
fn explanation(why: &RuleParts, now: Timestamp) -> Markup {
    let rule = &why.rule;
    let (parts, shown) = within(WHY_BYTES_MAX, &why.parts, part);
    html! {
        section class="why" id="why" {
            h2 { "Why " (short(&rule.name, 120)) " is " (state_of(rule)) }
            p class="soft" {
                "Group " (short(&why.group, 80))
                @if rule.duration_s > 0.0 { ", fires after " (span(seconds(rule.duration_s))) }
                @if let Some(at) = rule.last_at { ", evaluated " (ago(at, now)) }
                ". " a href="/rules" { "Close" }
            }
            @if let Some(threshold) = &why.threshold {
                p { "It compares " code { (short(&threshold.measured, 200)) } " with " b { (threshold.op) " " (unit_of(&rule.query).show(threshold.value)) } "." }
            }
            @for missing in &rule.missing { p class="lv-warn" { "No series in the last 24 h, when last looked: " code { (short(&missing.selector, 200)) } } }
            table {
                thead { tr { th { "Part" } th { "Series" } th class="num" { "Value now" } } }
                tbody { (parts) }
            }
            @if shown < why.parts.len() { p class="faint" { "and " (why.parts.len() - shown) " parts more: " code { "paramedic rules why " (short(&rule.name, 100)) } } }
        }
    }
}

/// Series of one part that are named.
const SAMPLES_MAX: usize = 5;

fn part(part: &WhyView) -> Markup {
    let unit = unit_of(&part.expression);
    let rows = part.samples.len().clamp(1, SAMPLES_MAX);
    let more = part.total.saturating_sub(part.samples.len().min(SAMPLES_MAX));
    html! {
        @for i in 0..rows {
            tr {
                @if i == 0 {
                    td class=(format!("wrap d{}", part.depth.min(6))) rowspan=(rows) { code { (short(&part.expression, 300)) } }
                }
                @match (&part.error, part.samples.get(i)) {
                    (Some(error), _) => td colspan="2" class="lv-error wrap" { (line(error)) },
                    (None, None) => td colspan="2" class="lv-warn" { "no series" },
                    (None, Some(sample)) => {
                        td class="wrap series small soft" { (short(&sample.labels, 200)) @if i + 1 == rows && more > 0 { " and " (count(more as u64)) " more" } }
                        td class="num" { (sample.value.parse::<f64>().map_or_else(|_| short(&sample.value, 80), |value| unit.show(value))) }
                    }
                }
            }
        }
    }
}
