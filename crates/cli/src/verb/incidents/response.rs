//! How an incident is answered: people, clocks, checklist, runs, and statistics over many.

use std::time::Duration;

use anyhow::Result;
use paramedic_api::operations::incidents::IncidentDetail;
use paramedic_model::{Role, Severity};
use paramedic_respond::statistics::Measure;
use paramedic_respond::{ItemState, Statistics};
use serde_json::json;

use crate::args::{Common, IncidentsArgs};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) fn people_and_clocks(detail: &IncidentDetail) -> Result<()> {
    let incident = &detail.incident;
    let held = |role: &Role| {
        let holders = incident.holders(*role);
        (!holders.is_empty()).then(|| format!("{role} {}", show::clean(&holders.join(", "))))
    };
    let people: Vec<String> = Role::ALL.iter().filter_map(held).collect();
    show::line(&format!("people    {}", people.join("; ")))?;
    show::line(&format!("checklist {} of {} done", detail.checklist_done, detail.checklist_of))?;
    for one in &detail.time_boxes {
        let over = if one.overrun_s > 0 { format!(", {} over", show::span(Duration::from_secs(one.overrun_s))) } else { String::new() };
        let used = show::span(Duration::from_secs(one.used_s));
        let state = if one.ended_at.is_some() { "took" } else { "has taken" };
        show::line(&format!("{:<13} {state} {used} of {}{over}", one.phase.as_str(), show::span(Duration::from_secs(one.limit_s))))?;
    }
    for attachment in &incident.attachments {
        show::line(&format!("evidence  {} {} ({} bytes)", attachment.id, show::clean(&attachment.name), attachment.bytes))?;
    }
    Ok(())
}

pub(super) fn runs(detail: &IncidentDetail) -> Result<()> {
    if detail.runs.is_empty() {
        return Ok(());
    }
    show::line("\nRuns")?;
    for run in &detail.runs {
        let state = super::super::runs::state_of(run);
        show::line(&format!("  {}  {}: {}", run.id, show::clean(&run.runbook), show::clean(&state)))?;
    }
    Ok(())
}

pub(super) async fn checklist(common: &Common, id: &str) -> Result<Exit> {
    let face = Face::open(common).await?;
    let (detail, value) = face.get::<IncidentDetail>("incident.get", &json!({"id": id})).await?;
    if common.json {
        show::json(
            &json!({ "phase": value["phase"], "done": detail.checklist_done, "of": detail.checklist_of, "checklist": value["checklist"] }),
        )?;
        return Ok(Exit::Done);
    }
    let mut phase = None;
    for item in &detail.checklist {
        if phase != Some(item.phase) {
            phase = Some(item.phase);
            let now = if item.phase == detail.phase { "  (now)" } else { "" };
            show::line(&format!("{}{now}", item.phase.title()))?;
        }
        let (mark, why) = match &item.state {
            ItemState::Open if item.optional => (' ', "optional".to_owned()),
            ItemState::Open => (' ', String::new()),
            ItemState::TickedBySystem { why, .. } => ('x', why.clone()),
            ItemState::TickedByHand { by, .. } => ('x', format!("ticked by {by}")),
        };
        let why = if why.is_empty() { String::new() } else { format!("  - {}", show::clean(&why)) };
        show::line(&format!("  [{mark}] {:<18} {}{why}", item.id, item.text))?;
    }
    show::line(&format!("{} of {} done", detail.checklist_done, detail.checklist_of))?;
    Ok(Exit::Done)
}

pub(super) async fn statistics(common: &Common, args: &IncidentsArgs) -> Result<Exit> {
    let face = Face::open(common).await?;
    let severity = args.severity.as_deref().map(str::parse::<Severity>).transpose()?;
    let (all, value) = face.get::<Statistics>("incident.statistics", &json!({"severity": severity})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    show::line(&format!("{} incidents, {} open, {} of them late", all.incidents, all.open, all.late))?;
    let seconds =
        |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| show::span(Duration::from_secs_f64(number.max(0.0))));
    let row = |name: &str, one: &Measure| vec![name.to_owned(), one.n.to_string(), seconds(one.median_s), seconds(one.p90_s)];
    show::table(
        &["time to", "of", "median", "90 %"],
        [
            row("detect", &all.ttd),
            row("acknowledge", &all.tta),
            row("mitigate", &all.ttm),
            row("  by runbooks alone", &all.auto.ttm),
            row("  by people", &all.by_person.ttm),
            row("  by itself", &all.by_itself.ttm),
            row("resolve", &all.ttr),
        ],
    )?;
    Ok(Exit::Done)
}
