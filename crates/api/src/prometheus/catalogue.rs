//! Which series there are: label sets, names and values of labels, and what exporters say about metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::encode::{write_labels, write_list, write_text};
use super::escaping::unescape;
use super::params::Params;
use super::queries::engine;
use super::{Answer, answer};
use crate::context::Context;
use crate::query::{Found, QueryRefusal, RefusalKind};

pub(super) async fn series(context: Arc<Context>, params: Params) -> Answer {
    let selection = params.selection()?;
    if selection.selectors.is_empty() {
        return Err(QueryRefusal::new(RefusalKind::BadData, "no match[] parameter provided"));
    }
    let Found { list, warnings } = engine(&context)?.series(selection).await?;
    Ok(answer::stream(warnings, Vec::new(), move |out| write_list(out, &list, |out, labels| write_labels(out, labels))))
}

pub(super) async fn labels(context: Arc<Context>, params: Params) -> Answer {
    let found = engine(&context)?.label_names(params.selection()?).await?;
    Ok(words(found))
}

pub(super) async fn label_values(context: Arc<Context>, params: Params) -> Answer {
    let name = unescape(params.path("name"));
    if name.is_empty() {
        return Err(QueryRefusal::new(RefusalKind::BadData, format!("invalid label name: {name:?}")));
    }
    let found = engine(&context)?.label_values(&name, params.selection()?).await?;
    Ok(words(found))
}

fn words(found: Found<String>) -> axum::response::Response {
    let Found { list, warnings } = found;
    answer::stream(warnings, Vec::new(), move |out| write_list(out, &list, |out, word| write_text(out, word)))
}

pub(super) async fn metadata(context: Arc<Context>, params: Params) -> Answer {
    let limit = params.limit("limit")?;
    let metric = Some(params.get("metric")).filter(|metric| !metric.is_empty());
    let found = engine(&context)?.metadata(metric, limit).await?;
    let all: BTreeMap<String, Value> = found
        .into_iter()
        .map(|(metric, about)| (metric, json!([{ "type": about.kind, "unit": about.unit, "help": about.help }])))
        .collect();
    answer::data(&json!(all))
}

/// Exemplars are counted when they come, and not kept.
pub(super) async fn exemplars(_: Arc<Context>, params: Params) -> Answer {
    paramedic_promql::parse::parse(params.get("query"), true).map_err(|error| QueryRefusal::parameter("query", error))?;
    answer::data(&json!([]))
}
