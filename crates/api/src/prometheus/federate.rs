//! `/federate`: the last samples of chosen series as text, for another server to scrape.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;

use axum::http::header;
use axum::response::IntoResponse;
use paramedic_promql::number::format_general;
use paramedic_promql::{Labels, Value};

use super::escaping::{is_plain, underscored};
use super::params::Params;
use super::queries::engine;
use super::{Answer, answer};
use crate::context::Context;
use crate::query::{Limits, Query, QueryRefusal};

/// The last sample (milliseconds, value) of each series, by metric.
type Families = BTreeMap<String, BTreeMap<Labels, (i64, f64)>>;

/// Native histograms have no place in the text form and are left out, as Prometheus does.
pub(super) async fn federate(context: Arc<Context>, params: Params) -> Answer {
    let engine = engine(&context)?;
    let now_ms = context.now().as_millis();
    let mut families = Families::new();
    for selector in params.all("match[]") {
        collect(&*engine, selector, now_ms, &mut families).await?;
    }
    let utf8 = params.accept.contains("escaping=allow-utf-8");
    let escaping = if utf8 { "allow-utf-8" } else { "underscores" };
    let kind = format!("text/plain; version=0.0.4; charset=utf-8; escaping={escaping}");
    let body = answer::streamed(move |out| families.iter().try_for_each(|(metric, series)| write_family(out, metric, series, utf8)));
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// Adds the series of a selector. A series that ended has no sample at the moment, but still has some in the range; so the
/// moment tells which series there are, and the range tells when their last sample was.
async fn collect(engine: &dyn Query, selector: &str, now_ms: i64, families: &mut Families) -> Result<(), QueryRefusal> {
    paramedic_promql::parse::parse_matchers(selector).map_err(|error| QueryRefusal::parameter("match[]", error))?;
    let limits = Limits::default();
    let Value::Vector(present) = engine.instant(selector, now_ms, limits).await?.value else { return Ok(()) };
    let range = format!("{selector}[{}ms]", engine.lookback().as_millis().max(1));
    let Value::Matrix(series) = engine.instant(&range, now_ms, limits).await?.value else { return Ok(()) };
    let last: HashMap<Labels, (i64, f64)> = series.into_iter().filter_map(|series| Some((series.labels, *series.floats.last()?))).collect();
    for sample in present {
        if let Some(last) = last.get(&sample.labels) {
            families.entry(sample.labels.metric_name().to_owned()).or_default().insert(sample.labels, *last);
        }
    }
    Ok(())
}

fn write_family(out: &mut dyn Write, metric: &str, series: &BTreeMap<Labels, (i64, f64)>, utf8: bool) -> io::Result<()> {
    let quoted = utf8 && !is_plain(metric, true);
    let name = if quoted { format!("\"{}\"", escaped(metric)) } else { underscored(metric, true) };
    writeln!(out, "# TYPE {name} untyped")?;
    for (labels, (ms, value)) in series {
        let mut parts = Vec::with_capacity(labels.len());
        if quoted {
            parts.push(name.clone());
        }
        for label in labels.iter().filter(|label| &*label.name != "__name__") {
            let key = match (utf8, is_plain(&label.name, false)) {
                (_, true) => label.name.to_string(),
                (true, false) => format!("\"{}\"", escaped(&label.name)),
                (false, false) => underscored(&label.name, false),
            };
            parts.push(format!("{key}=\"{}\"", escaped(&label.value)));
        }
        let head = if quoted { "" } else { &name };
        let braces = if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) };
        writeln!(out, "{head}{braces} {} {ms}", format_general(*value))?;
    }
    Ok(())
}

/// Text between quotes in the exposition format.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}
