//! What do the samples say?

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::prometheus::float_text;
use paramedic_api::query::{Answered, Limits, Query, QueryRefusal, Selection};
use paramedic_api::unit::{Unit, unit_of};
use paramedic_api::{ApiError, Context};
use paramedic_model::Timestamp;
use paramedic_promql::parse::{ValueType, parse};
use paramedic_promql::{Labels, MatrixSeries, Point, Range, Value};
use serde::Deserialize;

use crate::format::{absolute, encode, many, short, span};
use crate::forms;
use crate::page::{Tab, within};
use crate::pages::{answer, query_of};
use crate::plot::{LINES_MAX, Line, Plot, swatch};

/// Ranges that are offered, in seconds.
const RANGES: [(&str, &str); 7] =
    [("15m", "15 min"), ("1h", "1 h"), ("3h", "3 h"), ("6h", "6 h"), ("24h", "1 day"), ("3d", "3 days"), ("7d", "7 days")];
const RANGE_DEFAULT: &str = "1h";
/// Points that a line has where the step is not told.
const POINTS: i64 = 180;
/// Bytes of the table's rows.
const ROWS_BYTES_MAX: usize = 20_000;
/// Metrics named on the empty page.
const NAMES_MAX: usize = 120;
/// How long a page waits for an answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    query: String,
    /// `1h`, `90m`.
    range: Option<String>,
    /// `15s`, or seconds.
    step: Option<String>,
    /// The end: RFC 3339 or seconds since 1970; now where it is not told.
    time: Option<String>,
}

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let result = show(&context, query.as_deref().unwrap_or("")).await;
    answer(&context, Tab::Query, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>, query: &str) -> Result<(String, Markup), ApiError> {
    let asked: Asked = query_of(query)?;
    let expression = asked.query.trim();
    let title = if expression.is_empty() { "Query".to_owned() } else { short(expression, 80) };
    let found = match context.instruments.query.clone() {
        None => {
            html! { p class="empty" { "This instance keeps no samples, so there is nothing to ask. " code { "paramedic up" } " keeps them unless " code { "[samples]" } " turns them off." } }
        }
        Some(engine) if expression.is_empty() => empty(&*engine, context.now()).await,
        Some(engine) => evaluated(&*engine, &asked, context.now()).await,
    };
    let body = html! {
        h1 { "Query" }
        (form(&asked))
        (found)
    };
    Ok((title, body))
}

fn form(asked: &Asked) -> Markup {
    let range = asked.range.as_deref().unwrap_or(RANGE_DEFAULT);
    // A field of one line swallows line ends.
    let expression = asked.query.replace(['\n', '\r'], " ");
    html! {
        form method="get" action="/query" role="search" {
            label for="expression" { "Expression " span class="faint" { "(PromQL)" } }
            input id="expression" class="expression" name="query" value=(expression) data-key="search" autocomplete="off" autocapitalize="off" spellcheck="false" placeholder="up";
            div class="inline" {
                label { "Range" select name="range" {
                    @for (value, name) in RANGES { option value=(value) selected[range == value] { (name) } }
                    @if !RANGES.iter().any(|(value, _)| *value == range) { option value=(range) selected { (short(range, 20)) } }
                } }
                label { "Step" input name="step" value=(asked.step.as_deref().unwrap_or("")) placeholder="by itself" size="9"; }
                label { "Until" input name="time" value=(asked.time.as_deref().unwrap_or("")) placeholder="now" size="20"; }
                button class="primary" { "Evaluate" }
            }
        }
    }
}

/// The moments that are asked for.
fn range_of(asked: &Asked, now: Timestamp) -> Result<Range, String> {
    let read = |name: &str, text: &str| {
        paramedic_api::prometheus::parse_duration_ms(text)
            .filter(|ms| *ms > 0)
            .ok_or_else(|| format!("{name} {text:?} is not a duration such as 90s or 1h30m"))
    };
    let length = read("range", asked.range.as_deref().unwrap_or(RANGE_DEFAULT))?;
    let end_ms = match asked.time.as_deref() {
        None => now.as_millis(),
        Some(text) => {
            paramedic_api::prometheus::parse_time_ms(text).ok_or_else(|| format!("{text:?} is not a time such as 2026-03-10T15:00:00Z"))?
        }
    };
    let step_ms = match asked.step.as_deref() {
        Some(text) => read("step", text)?,
        None => step_for(length),
    };
    Ok(Range { start_ms: end_ms - length, end_ms, step_ms })
}

/// A round step that gives about as many points as can be seen.
fn step_for(length_ms: i64) -> i64 {
    const STEPS: [i64; 13] = [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1_800, 3_600];
    let rough = length_ms / POINTS;
    STEPS.into_iter().map(|seconds| seconds * 1_000).find(|step| *step >= rough).unwrap_or(rough)
}

async fn evaluated(engine: &dyn Query, asked: &Asked, now: Timestamp) -> Markup {
    let range = match range_of(asked, now) {
        Ok(range) => range,
        Err(why) => return html! { p class="said bad" { (why) "." } },
    };
    let expression = asked.query.as_str();
    let limits = Limits { timeout: Some(PATIENCE), lookback_ms: None };
    let at_once = parse(expression, true).is_ok_and(|expr| matches!(expr.value_type(), ValueType::Matrix | ValueType::String));
    if at_once {
        return match engine.instant(expression, range.end_ms, limits).await {
            Ok(answered) => html! { (remarks(&answered)) (values(&answered.value, unit_of(expression), range.end_ms)) },
            Err(refusal) => refused(expression, &refusal),
        };
    }
    let ranged = match engine.range(expression, range, limits).await {
        Ok(answered) => answered,
        Err(refusal) => return refused(expression, &refusal),
    };
    let unit = unit_of(expression);
    // The legend has the values of what is drawn; a table is needed for what is not.
    let complete =
        matches!(&ranged.value, Value::Matrix(all) if all.len() <= LINES_MAX && all.iter().all(|series| series.histograms.is_empty()));
    let instant = if complete { None } else { engine.instant(expression, range.end_ms, limits).await.ok() };
    html! {
        (remarks(&ranged))
        (drawing(expression, &ranged.value, range, unit))
        @if let Some(instant) = instant { (values(&instant.value, unit, range.end_ms)) }
    }
}

/// What is wrong, with a mark under the place where it was seen.
fn refused(expression: &str, refusal: &QueryRefusal) -> Markup {
    let words = refusal.message.strip_prefix("invalid parameter \"query\": ").unwrap_or(&refusal.message);
    html! {
        p class="said bad wrap" { (short(words, 600)) }
        @if let Some((line, column)) = refusal.position.and_then(|at| place(expression, at)) {
            pre class="pointed" { (line) "\n" (" ".repeat(column)) "^" }
        }
        @if refusal.kind == paramedic_api::query::RefusalKind::Timeout { p class="soft" { "Ask for less: a shorter range, a larger step, or fewer series." } }
    }
}

/// The line that holds a byte, cut to what fits, and the column in it.
fn place(expression: &str, at: usize) -> Option<(String, usize)> {
    const BEFORE: usize = 60;
    let at = expression.floor_char_boundary(at.min(expression.len()));
    let start = expression[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = expression[start..].lines().next().unwrap_or("");
    let column = expression[start..at].chars().count();
    let cut = column.saturating_sub(BEFORE);
    let shown: String = line.chars().skip(cut).take(BEFORE * 2).map(|c| if c.is_control() { ' ' } else { c }).collect();
    (!expression.trim().is_empty()).then_some((shown, column - cut))
}

fn remarks(answered: &Answered) -> Markup {
    html! {
        @for text in &answered.warnings { p class="said bad wrap small" { (short(text, 400)) } }
        @for text in &answered.infos { p class="said wrap small soft" { (short(text, 400)) } }
    }
}

/// A series as a line. Histograms have no place on a scale and are left out.
fn line_of(series: &MatrixSeries) -> Line {
    Line { name: name_of(&series.labels), points: series.floats.clone() }
}

fn name_of(labels: &Labels) -> String {
    let name = labels.metric_name();
    let text = labels.to_string();
    if name.is_empty() {
        return text;
    }
    // `{__name__="up", job="a"}` as `up{job="a"}`.
    let rest = labels.iter().filter(|label| &*label.name != "__name__").cloned().collect::<Labels>();
    if rest.is_empty() { name.to_owned() } else { format!("{name}{rest}") }
}

fn drawing(expression: &str, value: &Value, range: Range, unit: Unit) -> Markup {
    let Value::Matrix(all) = value else { return html! {} };
    let mut lines: Vec<Line> = all.iter().filter(|series| !series.floats.is_empty()).map(line_of).collect();
    if lines.is_empty() {
        return if all.is_empty() {
            nothing(range)
        } else {
            html! { p class="soft" { "Only native histograms: they have no line. The table has their values." } }
        };
    }
    let total = lines.len();
    // The lines that end highest are drawn; they are the likeliest to matter.
    let last = |line: &Line| line.points.iter().rev().map(|point| point.1).find(|value| value.is_finite()).unwrap_or(f64::NEG_INFINITY);
    lines.sort_by(|a, b| last(b).total_cmp(&last(a)));
    lines.truncate(LINES_MAX);
    let length = std::time::Duration::from_millis(u64::try_from(range.end_ms - range.start_ms).unwrap_or(0));
    let step = std::time::Duration::from_millis(u64::try_from(range.step_ms).unwrap_or(0));
    let label = format!("{}: {} over {}", short(expression, 200), many(total as u64, "line"), span(length));
    let plot = Plot {
        label: &label,
        lines: &lines,
        from_ms: range.start_ms,
        to_ms: range.end_ms,
        step_ms: range.step_ms,
        unit,
        limit: None,
        height: 220,
    };
    html! {
        figure class="wide" {
            figcaption { b { (total) " series" } span { (span(length)) ", a point each " (span(step)) } }
            (plot.render())
            table class="legend" {
                thead { tr { th { "Line" } th class="num" { "last" } th class="num" { "lowest" } th class="num" { "highest" } } }
                tbody { @for (i, line) in lines.iter().enumerate() { (legend(i, line, unit)) } }
            }
            @if total > LINES_MAX { p class="faint small" { "Drawn: the " (LINES_MAX) " that end highest, of " (total) ". " code { "topk(8, …)" } " or a narrower selector chooses others." } }
        }
    }
}

fn legend(number: usize, line: &Line, unit: Unit) -> Markup {
    let values = line.points.iter().map(|point| point.1).filter(|value| value.is_finite());
    let last = line.points.last().map_or(f64::NAN, |point| point.1);
    html! {
        tr {
            td class="wrap" { (swatch(number)) code { (short(&line.name, 160)) } }
            td class="num" title=(float_text(last)) { (unit.show(last)) }
            td class="num" { (unit.show(values.clone().fold(f64::INFINITY, f64::min))) }
            td class="num" { (unit.show(values.fold(f64::NEG_INFINITY, f64::max))) }
        }
    }
}

fn nothing(range: Range) -> Markup {
    html! {
        p class="empty" {
            "No series matches between " (absolute(Timestamp::from_millis(range.start_ms))) " and " (absolute(Timestamp::from_millis(range.end_ms))) ". "
            "Does the metric exist? " a href="/query" { "All metrics" } " · Is its source up? " a href="/targets" { "Targets" }
        }
    }
}

/// The values at the end of the range.
fn values(value: &Value, unit: Unit, at_ms: i64) -> Markup {
    let at = absolute(Timestamp::from_millis(at_ms));
    match value {
        Value::Scalar(number) => html! { p class="figure" { (unit.show(*number)) } p class="faint" { "scalar at " (at) } },
        Value::String(text) => html! { p class="figure wrap" { (short(text, 1_000)) } p class="faint" { "string" } },
        Value::Vector(samples) if samples.is_empty() => html! { p class="soft" { "No value at " (at) "." } },
        Value::Vector(samples) => {
            let (rows, shown) = within(ROWS_BYTES_MAX, samples, |sample| {
                let (text, exact) = match &sample.value {
                    Point::Float(value) => (unit.show(*value), float_text(*value)),
                    Point::Histogram(histogram) => (histogram.to_string(), String::new()),
                };
                row(&name_of(&sample.labels), &text, &exact)
            });
            table_of(&format!("Values at {at}"), rows, shown, samples.len())
        }
        Value::Matrix(series) => {
            let (rows, shown) = within(ROWS_BYTES_MAX, series, |series| {
                let points: Vec<String> = series
                    .floats
                    .iter()
                    .rev()
                    .take(10)
                    .map(|(ms, value)| format!("{} at {}", float_text(*value), Timestamp::from_millis(*ms).time_of_day()))
                    .collect();
                let count = series.floats.len() + series.histograms.len();
                row(
                    &name_of(&series.labels),
                    &format!("{} samples: {}{}", count, points.join(", "), if count > 10 { " …" } else { "" }),
                    "",
                )
            });
            table_of(&format!("Samples up to {at}, the last first"), rows, shown, series.len())
        }
    }
}

fn row(name: &str, text: &str, exact: &str) -> Markup {
    html! { tr { td class="wrap" { code { (short(name, 400)) } } td class="num wrap" title=[(!exact.is_empty()).then_some(exact)] { (short(text, 600)) } } }
}

fn table_of(title: &str, rows: Markup, shown: usize, total: usize) -> Markup {
    html! {
        h2 { (title) }
        table { thead { tr { th { "Series" } th class="num" { "Value" } } } tbody { (rows) } }
        @if shown < total { p class="faint" { (shown) " of " (total) " shown; aggregate or select more narrowly to see the others." } }
    }
}

/// The empty page: examples that give something here, and the metrics there are.
async fn empty(engine: &dyn Query, now: Timestamp) -> Markup {
    let day = 24 * 3_600_000;
    let selection = Selection { selectors: Vec::new(), from_ms: now.as_millis() - day, to_ms: now.as_millis(), limit: 10_000 };
    let names = engine.label_values("__name__", selection).await.map(|found| found.list).unwrap_or_default();
    let examples = examples(&names);
    let (list, shown) =
        within(12_000, names.iter().take(NAMES_MAX), |name| html! { li { a href=(path_of(name)) { code { (short(name, 120)) } } } });
    html! {
        @if names.is_empty() {
            p class="empty" { "No samples came in the last day. " a href="/targets" { "Targets" } " shows what is scraped and probed; " a href="/connect" { "Connect" } " how to send." }
        } @else {
            h2 { "For example" }
            ul class="rows" { @for (words, expression) in &examples { li { a href=(path_of(expression)) { code { (expression) } } div class="soft small" { (words) } } } }
            h2 { (many(names.len() as u64, "metric")) " in the last day" }
            ul class="names" { (list) }
            @if shown < names.len() { p class="faint" { "and " (names.len() - shown) " more" } }
        }
    }
}

fn path_of(expression: &str) -> String {
    format!("/query?query={}", encode(&quoted(expression)))
}

/// A metric's name that needs quotes, in them.
fn quoted(name: &str) -> String {
    let plain = parse(name, true).is_ok();
    if plain { name.to_owned() } else { format!("{{\"{}\"}}", name.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// Examples about metrics that exist.
fn examples(names: &[String]) -> Vec<(String, String)> {
    let has = |name: &str| names.binary_search_by(|one| one.as_str().cmp(name)).is_ok();
    let known = [
        ("Which targets are down?", "up", "up == 0"),
        (
            "Which agents cost most, by the hour?",
            "agent_cost_dollars_total",
            "topk(5, sum by (agent) (increase(agent_cost_dollars_total[1h])))",
        ),
        (
            "What share of the agents' requests fails?",
            "agent_errors_total",
            "sum(rate(agent_errors_total[5m])) / sum(rate(agent_requests_total[5m]))",
        ),
        ("How full is the memory?", "node_memory_MemAvailable_bytes", "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"),
    ];
    let mut all: Vec<(String, String)> = known
        .into_iter()
        .filter(|(_, metric, _)| has(metric))
        .map(|(words, _, expression)| (words.to_owned(), expression.to_owned()))
        .collect();
    let plain = |name: &&String| parse(name, false).is_ok();
    if let Some(counter) = names.iter().filter(plain).find(|name| name.ends_with("_total")) {
        all.push((format!("How fast does {counter} grow?"), format!("sum(rate({counter}[5m]))")));
    }
    if let Some(bucket) = names.iter().filter(plain).find(|name| name.ends_with("_bucket")) {
        all.push((
            "Below what do 95 % of the observations lie?".to_owned(),
            format!("histogram_quantile(0.95, sum by (le) (rate({bucket}[5m])))"),
        ));
    }
    all.push(("How many series has each metric?".to_owned(), "topk(10, count by (__name__) ({__name__=~\".+\"}))".to_owned()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_error_is_found() {
        assert_eq!(place("sum(\n  up{", 9), Some(("  up{".to_owned(), 4)));
        assert_eq!(place("é + {", 5), Some(("é + {".to_owned(), 4)));
        assert_eq!(place("up", 99), Some(("up".to_owned(), 2)));
        let long = format!("{}(", "a".repeat(500));
        let (line, column) = place(&long, 500).unwrap();
        assert!(line.len() <= 120 && column == 60);
    }

    #[test]
    fn steps_are_round() {
        for (minutes, seconds) in [(15, 5), (60, 20), (360, 120), (1_440, 600), (10_080, 3_600)] {
            assert_eq!(step_for(minutes * 60_000), seconds * 1_000, "{minutes} min");
        }
    }
}
