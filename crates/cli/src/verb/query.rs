//! `paramedic query 'EXPRESSION'`.

use anyhow::Result;
use paramedic_api::prometheus::{parse_duration_ms, parse_time_ms, time_text};
use paramedic_api::unit::{Unit, unit_of};
use paramedic_model::{Clock as _, SystemClock, Timestamp};
use serde_json::Value;

use crate::args::{Common, QueryArgs};
use crate::exit::{Exit, Failure, message};
use crate::face::Face;
use crate::plot::{self, Points};
use crate::show;

/// The range of a drawing where none is given.
const PLOT_RANGE_MS: i64 = 3_600_000;
/// Rows of a table; the rest is a number.
const ROWS_MAX: usize = 200;

/// The moments that are asked for, in milliseconds; no step is a single one.
struct When {
    start_ms: i64,
    end_ms: i64,
    step_ms: Option<i64>,
}

pub(super) async fn query(common: &Common, args: &QueryArgs) -> Result<Exit> {
    let when = when(args, SystemClock.now())?;
    let face = Face::open_running(common).await?;
    let (end, start, step);
    let answer = match when.step_ms {
        None => {
            end = time_text(when.end_ms);
            face.prometheus("/api/v1/query", &[("query", &args.expression), ("time", &end)]).await
        }
        Some(step_ms) => {
            (start, end, step) = (time_text(when.start_ms), time_text(when.end_ms), time_text(step_ms));
            face.prometheus("/api/v1/query_range", &[("query", &args.expression), ("start", &start), ("end", &end), ("step", &step)]).await
        }
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            point_at(&args.expression);
            return Err(error);
        }
    };
    if common.json {
        show::json(&answer)?;
        return Ok(Exit::Done);
    }
    for kind in ["warnings", "infos"] {
        answer[kind].as_array().into_iter().flatten().filter_map(Value::as_str).for_each(|text| message(&show::clean(text)));
    }
    let unit = unit_of(&args.expression);
    if args.plot {
        draw(&answer["data"], &when, unit)?
    } else {
        table(&answer["data"], &when, unit)?
    }
    Ok(Exit::Done)
}

fn when(args: &QueryArgs, now: Timestamp) -> Result<When> {
    let wrong = |option: &str, text: &str, hint: &str| Failure::new(Exit::Failed, format!("--{option} {text:?} cannot be read"), hint);
    let duration = |option: &str, text: &str| {
        parse_duration_ms(text).filter(|ms| *ms > 0).ok_or_else(|| wrong(option, text, "a duration such as 30s, 15m or 1h30m"))
    };
    let end_ms = match &args.time {
        None => now.as_millis(),
        Some(text) => parse_time_ms(text)
            .or_else(|| parse_duration_ms(text.trim_end_matches(" ago")).map(|ago| now.as_millis() - ago))
            .ok_or_else(|| wrong("time", text, "RFC 3339 (2026-03-10T15:00:00Z), seconds since 1970, or how long ago (2h)"))?,
    };
    let range = args.range.as_deref().map(|text| duration("range", text)).transpose()?.or(args.plot.then_some(PLOT_RANGE_MS));
    let step = args.step.as_deref().map(|text| duration("step", text)).transpose()?;
    let Some(range) = range else {
        if step.is_some() {
            return Err(Failure::new(Exit::Failed, "--step needs --range", "for example: --range 1h --step 15s").into());
        }
        return Ok(When { start_ms: end_ms, end_ms, step_ms: None });
    };
    let columns = i64::try_from(show::width().saturating_sub(12)).unwrap_or(80);
    Ok(When { start_ms: end_ms - range, end_ms, step_ms: Some(step.unwrap_or((range / columns / 1_000).max(1) * 1_000)) })
}

/// Shows where the expression is wrong, if it is.
fn point_at(expression: &str) {
    let Err(error) = paramedic_promql::parse::parse(expression, true) else { return };
    let line = expression.lines().nth(error.line - 1).unwrap_or("");
    let before: String = line.chars().take(line.get(..error.column - 1).map_or(0, |before| before.chars().count())).map(|_| ' ').collect();
    message(&format!("  {}", show::clean(line)));
    message(&format!("  {before}^"));
}

/// A label set as the query language writes it.
fn series_name(metric: &Value) -> String {
    let empty = serde_json::Map::new();
    let labels = metric.as_object().unwrap_or(&empty);
    let name = labels.get("__name__").and_then(Value::as_str).unwrap_or("");
    let pairs: Vec<String> = labels
        .iter()
        .filter(|(key, _)| *key != "__name__")
        .map(|(key, value)| format!("{key}={:?}", value.as_str().unwrap_or("")))
        .collect();
    match (name, pairs.is_empty()) {
        (name, true) if !name.is_empty() => name.to_owned(),
        (name, _) => format!("{name}{{{}}}", pairs.join(", ")),
    }
}

/// `[time, "value"]` as milliseconds and number.
fn point(pair: &Value) -> Option<(i64, f64)> {
    let ms = (pair[0].as_f64()? * 1_000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "a time within the API's bounds")]
    Some((ms as i64, pair[1].as_str()?.parse().ok()?))
}

/// A value with its unit, and the histogram's count and sum.
fn value_text(sample: &Value, unit: Unit) -> String {
    match point(&sample["value"]) {
        Some((_, value)) => unit.show(value),
        None => histogram_text(&sample["histogram"][1]),
    }
}

fn histogram_text(histogram: &Value) -> String {
    let text = |key: &str| histogram[key].as_str().unwrap_or("?").to_owned();
    let buckets = histogram["buckets"].as_array().map_or(0, Vec::len);
    format!("histogram: count {}, sum {}, {buckets} buckets", text("count"), text("sum"))
}

fn table(data: &Value, when: &When, unit: Unit) -> Result<()> {
    let empty = Vec::new();
    match data["resultType"].as_str().unwrap_or("") {
        "scalar" => show::line(&point(&data["result"]).map_or_else(String::new, |(_, value)| unit.show(value))),
        "string" => show::line(&show::clean(data["result"][1].as_str().unwrap_or(""))),
        kind => {
            let all = data["result"].as_array().unwrap_or(&empty);
            if all.is_empty() {
                return nothing(when);
            }
            let shown = all.iter().take(ROWS_MAX);
            if kind == "vector" {
                show::table(&["series", "value"], shown.map(|one| vec![series_name(&one["metric"]), value_text(one, unit)]))?;
            } else {
                show::table(&["series", "last", "lowest", "highest", "points", "course"], shown.map(|one| course(one, unit)))?;
            }
            if all.len() > ROWS_MAX {
                show::line(&format!("{ROWS_MAX} of {}; aggregate, or see all with --json", all.len()))
            } else {
                Ok(())
            }
        }
    }
}

fn nothing(when: &When) -> Result<()> {
    let at = Timestamp::from_millis(when.end_ms);
    show::line(&match when.step_ms {
        None => format!("No series matches at {at}."),
        Some(_) => format!("No series matches between {} and {at}.", Timestamp::from_millis(when.start_ms)),
    })?;
    message("see which metrics there are: paramedic query 'count by (__name__) ({__name__=~\".+\"})'; what is scraped: paramedic targets");
    Ok(())
}

/// A series over time in one row.
fn course(one: &Value, unit: Unit) -> Vec<String> {
    let points = points_of(one);
    let name = series_name(&one["metric"]);
    let Some((_, last)) = points.last() else {
        let histograms = one["histograms"].as_array().map_or(0, Vec::len);
        let last = one["histograms"][histograms.saturating_sub(1)][1].clone();
        return vec![name, histogram_text(&last), String::new(), String::new(), histograms.to_string(), String::new()];
    };
    let values = || points.iter().map(|point| point.1).filter(|value| value.is_finite());
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    vec![name, unit.show(*last), unit.show(low), unit.show(high), points.len().to_string(), sparkline(&points, low, high)]
}

fn points_of(one: &Value) -> Points {
    one["values"].as_array().into_iter().flatten().filter_map(point).collect()
}

/// Thirty cells of what a series did.
fn sparkline(points: &[(i64, f64)], low: f64, high: f64) -> String {
    const CELLS: usize = 30;
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let every = points.len().div_ceil(CELLS).max(1);
    let level = |value: f64| {
        let share = if high > low { (value - low) / (high - low) } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
        LEVELS[(share.clamp(0.0, 1.0) * 7.0).round() as usize]
    };
    let cell = |part: &[(i64, f64)]| {
        let highest = part.iter().map(|point| point.1).filter(|value| value.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        if highest.is_finite() { level(highest) } else { ' ' }
    };
    points.chunks(every).map(cell).collect()
}

fn draw(data: &Value, when: &When, unit: Unit) -> Result<()> {
    let empty = Vec::new();
    let mut all: Vec<(String, Points)> = data["result"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .map(|one| (series_name(&one["metric"]), points_of(one)))
        .filter(|(_, points)| !points.is_empty())
        .collect();
    if all.is_empty() {
        return nothing(when);
    }
    let last = |points: &Points| points.last().map_or(f64::NEG_INFINITY, |point| point.1);
    all.sort_by(|a, b| last(&b.1).total_cmp(&last(&a.1)));
    let total = all.len();
    all.truncate(plot::MARKS.len());
    let points: Vec<Points> = all.iter().map(|(_, points)| points.clone()).collect();
    for line in plot::draw(&points, when.start_ms, when.end_ms, unit, show::width()) {
        show::line(&line)?;
    }
    for ((name, points), mark) in all.iter().zip(plot::MARKS) {
        show::line(&format!("{mark} {}  {}", unit.show(last(points)), show::clean(name)))?;
    }
    if total > all.len() { show::line(&format!("drawn: the {} that end highest, of {total}", all.len())) } else { Ok(()) }
}
