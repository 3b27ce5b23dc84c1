//! `paramedic ratelimit`: the provider's limits, and our own.

use std::time::Duration;

use anyhow::Result;
use paramedic_api::operations::gateway::LimitsAnswer;
use paramedic_gateway::answer::LimitView;
use paramedic_gateway::limit::GateView;
use serde_json::json;

use super::agents::many;
use crate::args::Common;
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) async fn ratelimit(common: &Common) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (limits, value) = face.get::<LimitsAnswer>("gateway.limits", &json!({})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    show::line(&format!(
        "{} in the last minute: {} rate limited by the provider, {} refused here; {} waiting now",
        many(limits.calls_last_minute, "call"),
        show::count(limits.limited_last_minute),
        show::count(limits.refused_last_minute),
        show::count(limits.waiting as u64)
    ))?;
    show::line("\nThe provider's limits, as its answers told them")?;
    if limits.provider.is_empty() {
        show::line("None is known: no answer came through the gateway yet (paramedic traffic).")?;
    } else {
        let titles = ["key", "models", "calls/min", "limit", "of", "remaining", "used", "reset in", "used up in"];
        show::table(&titles, limits.provider.iter().flat_map(rows))?;
    }
    show::line("\nLimits here")?;
    if limits.own.is_empty() {
        show::line("None holds calls. Set one: paramedic switch set rate_limit_per_minute 100 --for 1h")?;
    } else {
        show::table(&["limit", "counts", "set to", "free now", "waiting", "let through", "held"], limits.own.iter().map(own))?;
    }
    Ok(Exit::Done)
}

fn seconds(seconds: Option<u64>) -> String {
    seconds.map_or_else(String::new, |seconds| show::span(Duration::from_secs(seconds)))
}

fn rows(view: &LimitView) -> Vec<Vec<String>> {
    let count = |count: Option<u64>| count.map_or_else(String::new, show::count);
    let percent = |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0));
    let begin = || vec![view.key.clone(), view.model_class.clone(), show::count(view.calls_last_minute)];
    let with = |rest: [String; 6]| begin().into_iter().chain(rest).collect::<Vec<_>>();
    let buckets = view.buckets.iter().map(|one| {
        let used_up = one.exhausted_in_s.map_or_else(|| "never, as it goes".to_owned(), |left| seconds(Some(left)));
        let rest = [one.name.as_str().to_owned(), count(one.limit), count(one.remaining), percent(one.used_share)];
        let [name, limit, remaining, used] = rest;
        with([name, limit, remaining, used, seconds(one.seconds_to_reset), used_up])
    });
    let windows = view.windows.iter().map(|one| {
        let status = one.status.clone().unwrap_or_default();
        with([
            format!("subscription {}", one.name),
            String::new(),
            status,
            percent(one.used_share),
            seconds(one.seconds_to_reset),
            String::new(),
        ])
    });
    let mut all: Vec<Vec<String>> = buckets.chain(windows).collect();
    if let Some(wait) = view.wait_s {
        all.push(with(["asked to wait".to_owned(), String::new(), String::new(), String::new(), seconds(Some(wait)), String::new()]));
    }
    if all.is_empty() {
        all.push(with(["none told".to_owned(), String::new(), String::new(), String::new(), String::new(), String::new()]));
    }
    all
}

fn own(gate: &GateView) -> Vec<String> {
    let level = gate
        .level
        .map_or_else(String::new, |level| if gate.what == "provider" { format!("{:.0} %", level * 100.0) } else { format!("{level:.1}") });
    vec![
        gate.id.clone(),
        gate.what.clone(),
        gate.count.map_or_else(String::new, show::count),
        level,
        show::count(gate.waiting),
        show::count(gate.admitted),
        show::count(gate.held),
    ]
}
