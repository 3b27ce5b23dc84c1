//! Targets in Prometheus's shape: scraped exporters, and what Paramedic probes itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use paramedic_model::target::TargetKind;
use paramedic_model::{Target, TargetHealth};
use paramedic_promql::number::format_general;
use serde_json::{Value, json};

use super::params::Params;
use super::queries::engine;
use super::rules::time_json;
use super::{Answer, answer};
use crate::context::Context;
use crate::query::QueryRefusal;

pub(super) async fn targets(context: Arc<Context>, params: Params) -> Answer {
    let state = params.get("state").to_ascii_lowercase();
    if !matches!(state.as_str(), "" | "any" | "active" | "dropped") {
        return Err(QueryRefusal::parameter("state", format!("{state:?} is not one of active, dropped, any")));
    }
    let pool = params.get("scrapePool");
    let active: Vec<Value> = context
        .instruments
        .all_targets()
        .iter()
        .filter(|target| state != "dropped" && (pool.is_empty() || target.pool == pool))
        .map(target_json)
        .collect();
    // A target that relabelling drops is not kept.
    answer::data(&json!({ "activeTargets": active, "droppedTargets": [], "droppedTargetCounts": {} }))
}

fn target_json(target: &Target) -> Value {
    let health = match target.health {
        TargetHealth::Unknown => "unknown",
        TargetHealth::Up => "up",
        TargetHealth::Down => "down",
    };
    let url = match target.kind {
        TargetKind::Scrape => target.address.clone(),
        TargetKind::Probe if target.address.contains("://") => target.address.clone(),
        TargetKind::Probe => format!("probe://{}/{}", target.pool, target.address),
    };
    json!({
        "discoveredLabels": target.discovered_labels,
        "labels": target.labels,
        "scrapePool": target.pool,
        "scrapeUrl": url,
        "globalUrl": url,
        "lastError": target.last_error,
        "lastScrape": time_json(target.last_at),
        "lastScrapeDuration": target.last_duration_s,
        "health": health,
        "scrapeInterval": seconds(target.interval_s),
        "scrapeTimeout": seconds(target.timeout_s),
    })
}

fn seconds(seconds: f64) -> String {
    format!("{}s", format_general(seconds))
}

/// What is known about metrics does not say from which target it came; so it is told once, without one.
pub(super) async fn metadata(context: Arc<Context>, params: Params) -> Answer {
    let metric = Some(params.get("metric")).filter(|metric| !metric.is_empty());
    let found = engine(&context)?.metadata(metric, params.limit("limit")?).await?;
    let all: Vec<Value> = found
        .into_iter()
        .map(|(name, about)| json!({ "target": {}, "metric": name, "type": about.kind, "help": about.help, "unit": about.unit }))
        .collect();
    answer::data(&all.into())
}

pub(super) async fn pools(context: Arc<Context>, _: Params) -> Answer {
    let pools: BTreeSet<String> = context.instruments.all_targets().into_iter().map(|target| target.pool).collect();
    answer::data(&json!({ "scrapePools": pools }))
}
