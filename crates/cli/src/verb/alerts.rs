//! `paramedic alerts`.

use anyhow::Result;
use paramedic_api::operations::alerts::{AlertLine, AlertPage, Pending, PendingLine};
use paramedic_api::threshold::Threshold;
use paramedic_api::unit::{Unit, unit_of};
use paramedic_model::{Clock as _, SystemClock, Timestamp};
use serde_json::json;

use crate::args::{AlertsArgs, Common};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) async fn alerts(common: &Common, args: &AlertsArgs) -> Result<Exit> {
    let face = Face::open(common).await?;
    let (page, mut value) = face.get::<AlertPage>("alert.list", &json!({"limit": args.limit})).await?;
    let (pending, pending_value) = face.get::<Pending>("alert.pending", &json!({})).await?;
    if common.json {
        value["pending"] = pending_value["alerts"].clone();
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    if page.alerts.is_empty() && pending.alerts.is_empty() {
        show::line("No alerts so far. All quiet.")?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    let rows = pending.alerts.iter().map(|line| pending_row(line, now)).chain(page.alerts.iter().map(|line| row(line, now)));
    show::table(&["began", "state", "severity", "alert", "about", "value", "incident", "reason"], rows)?;
    if page.total > page.alerts.len() {
        show::line(&format!("{} of {}; more with --limit {}", page.alerts.len(), page.total, page.total))?;
    }
    Ok(Exit::Done)
}

fn row(line: &AlertLine, now: Timestamp) -> Vec<String> {
    let episode = &line.alert;
    let state = match (episode.ended_at.is_some(), episode.severity.is_some()) {
        (true, _) => "resolved",
        (false, true) => "firing",
        (false, false) => "holds",
    };
    let rule = episode.rule.as_ref();
    vec![
        show::ago(episode.started_at, now),
        state.to_owned(),
        episode.severity.map_or_else(|| "note".to_owned(), |severity| severity.to_string()),
        episode.name().to_owned(),
        match (&episode.agent, rule) {
            (Some(agent), _) => agent.to_string(),
            (None, Some(rule)) => rule.subject(),
            (None, None) => "-".to_owned(),
        },
        rule.map_or_else(String::new, |rule| measured(rule.value, line.threshold.as_ref(), unit_of(&rule.expression))),
        line.incident.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        episode.reason.clone(),
    ]
}

fn pending_row(line: &PendingLine, now: Timestamp) -> Vec<String> {
    let alert = &line.alert;
    let told = ["alertname", "severity", "category", "component"];
    let subject = alert.labels.iter().filter(|(name, _)| !told.contains(&name.as_str()));
    let wait = format!("fires after {}", Unit::Seconds.show(line.for_s));
    let summary = alert.annotations.get("summary").map_or_else(String::new, |summary| format!(": {summary}"));
    vec![
        alert.active_at.map_or_else(String::new, |at| show::ago(at, now)),
        "pending".to_owned(),
        alert.labels.get("severity").or_else(|| alert.labels.get("sev")).cloned().unwrap_or_else(|| "-".to_owned()),
        line.name.clone(),
        subject.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", "),
        measured(alert.value, line.threshold.as_ref(), unit_of(&line.expression)),
        "-".to_owned(),
        format!("{wait}{summary}"),
    ]
}

/// `30 % (> 5 %)`.
fn measured(value: Option<f64>, threshold: Option<&Threshold>, unit: Unit) -> String {
    let threshold = threshold.map(|threshold| format!(" ({} {})", threshold.op, unit.show(threshold.value))).unwrap_or_default();
    value.map_or_else(String::new, |value| format!("{}{threshold}", unit.show(value)))
}
