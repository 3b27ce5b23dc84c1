//! Queries: at a moment, over a range; and expressions as text and as a tree.

use std::io::Write;
use std::sync::Arc;

use paramedic_promql::parse::parse as parse_expression;
use paramedic_promql::{Range, Value};
use serde_json::json;

use super::encode::write_value;
use super::params::Params;
use super::{Answer, answer};
use crate::context::Context;
use crate::query::{Answered, Query, QueryRefusal};

/// The most points of one series, as in Prometheus.
const POINTS_MAX: i64 = 11_000;

pub(super) fn engine(context: &Context) -> Result<Arc<dyn Query>, QueryRefusal> {
    context.instruments.query.clone().ok_or_else(QueryRefusal::no_engine)
}

pub(super) async fn instant(context: Arc<Context>, params: Params) -> Answer {
    let engine = engine(&context)?;
    let at_ms = params.time_ms_or("time", context.now().as_millis())?;
    let (limits, limit) = (params.limits()?, params.limit("limit")?);
    let answered = engine.instant(params.get("query"), at_ms, limits).await?;
    Ok(send(answered, at_ms, limit, params.get("stats")))
}

pub(super) async fn range(context: Arc<Context>, params: Params) -> Answer {
    let engine = engine(&context)?;
    let range = range_of(&params)?;
    let (limits, limit) = (params.limits()?, params.limit("limit")?);
    let answered = engine.range(params.get("query"), range, limits).await?;
    Ok(send(answered, range.end_ms, limit, params.get("stats")))
}

fn range_of(params: &Params) -> Result<Range, QueryRefusal> {
    let (start_ms, end_ms) = (params.time_ms("start")?, params.time_ms("end")?);
    if end_ms < start_ms {
        return Err(QueryRefusal::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ms = params.duration_ms("step")?;
    if step_ms <= 0 {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(QueryRefusal::parameter("step", why));
    }
    if (end_ms - start_ms) / step_ms > POINTS_MAX {
        let why = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
        return Err(QueryRefusal::new(crate::query::RefusalKind::BadData, why));
    }
    Ok(Range { start_ms, end_ms, step_ms })
}

/// Cuts an answer to `limit` series and sends it.
fn send(mut answered: Answered, at_ms: i64, limit: usize, stats: &str) -> axum::response::Response {
    let cut = match &mut answered.value {
        Value::Vector(samples) if samples.len() > limit => {
            samples.truncate(limit);
            true
        }
        Value::Matrix(series) if series.len() > limit => {
            series.truncate(limit);
            true
        }
        _ => false,
    };
    if cut {
        answered.warnings.push("results truncated due to limit".to_owned());
    }
    let stats = (!stats.is_empty()).then(|| stats_of(&answered));
    let Answered { value, warnings, infos, .. } = answered;
    answer::stream(warnings, infos, move |out: &mut dyn Write| {
        write_value(out, &value, at_ms)?;
        if let Some(stats) = stats {
            write!(out, ",\"stats\":{stats}")?;
        }
        out.write_all(b"}")
    })
}

fn stats_of(answered: &Answered) -> serde_json::Value {
    let (queued, evaluated) = (answered.queued.as_secs_f64(), answered.evaluated.as_secs_f64());
    json!({
        "timings": {
            "evalTotalTime": evaluated,
            "resultSortTime": 0,
            "queryPreparationTime": 0,
            "innerEvalTime": evaluated,
            "execQueueTime": queued,
            "execTotalTime": queued + evaluated,
        },
        "samples": { "totalQueryableSamples": answered.samples_peak, "peakSamples": answered.samples_peak },
    })
}

pub(super) async fn format(_: Arc<Context>, params: Params) -> Answer {
    let expression = parse_expression(params.get("query"), true).map_err(|error| QueryRefusal::parameter("query", error))?;
    answer::data(&expression.to_string().into())
}

pub(super) async fn parse(_: Arc<Context>, params: Params) -> Answer {
    let expression = parse_expression(params.get("query"), true).map_err(|error| QueryRefusal::parameter("query", error))?;
    answer::data(&super::tree::tree(&expression))
}
