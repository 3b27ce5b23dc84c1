//! `paramedic targets`.

use anyhow::Result;
use paramedic_api::operations::rules::Targets;
use paramedic_api::unit::Unit;
use paramedic_model::target::TargetKind;
use paramedic_model::{Clock as _, SystemClock, Target, TargetHealth};
use serde_json::json;

use crate::args::{Common, TargetsArgs};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) async fn targets(common: &Common, args: &TargetsArgs) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (page, _) = face.get::<Targets>("target.list", &json!({})).await?;
    let text = args.text.as_deref().unwrap_or("").to_lowercase();
    let contains = |field: &str| field.to_lowercase().contains(&text);
    let total = page.targets.len();
    let mut wanted: Vec<Target> = page
        .targets
        .into_iter()
        .filter(|target| !args.down || target.health == TargetHealth::Down)
        .filter(|target| contains(&target.pool) || contains(&target.address))
        .collect();
    wanted.sort_by_key(|target| (target.health != TargetHealth::Down, target.health == TargetHealth::Up));
    if common.json {
        show::json(&json!({ "targets": wanted }))?;
        return Ok(Exit::Done);
    }
    if wanted.is_empty() {
        show::line(match total {
            0 => "Nothing is scraped or probed. paramedic config shows how to name exporters and services.",
            _ if args.down => "No target is down.",
            _ => "No target matches.",
        })?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    show::table(
        &["health", "job", "target", "kind", "last look", "took", "samples", "error"],
        wanted.iter().map(|target| {
            let looked = target.last_at.is_some();
            vec![
                health(target.health).to_owned(),
                target.pool.clone(),
                target.address.clone(),
                if target.kind == TargetKind::Scrape { "scraped" } else { "probed" }.to_owned(),
                target.last_at.map_or_else(|| "never".to_owned(), |at| show::ago(at, now)),
                if looked { Unit::Seconds.show(target.last_duration_s) } else { String::new() },
                if looked { show::count(target.last_samples) } else { String::new() },
                target.last_error.clone(),
            ]
        }),
    )?;
    Ok(Exit::Done)
}

const fn health(health: TargetHealth) -> &'static str {
    match health {
        TargetHealth::Unknown => "not yet",
        TargetHealth::Up => "up",
        TargetHealth::Down => "DOWN",
    }
}
