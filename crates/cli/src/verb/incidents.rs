//! `paramedic incidents`, `incident`, `alerts`.

use anyhow::Result;
use clap::Parser as _;
use paramedic_api::operations::alerts::AlertPage;
use paramedic_api::operations::incidents::{Changed, IncidentDetail, IncidentPage};
use paramedic_model::{Clock as _, IncidentState, IncidentType, Severity, SystemClock, Timestamp};
use serde_json::{Value, json};

use crate::args::{AlertsArgs, Common, IncidentArgs, IncidentChange, IncidentVerb, IncidentsArgs};
use crate::exit::{Exit, Failure};
use crate::face::Face;
use crate::show;

pub(super) async fn incidents(common: &Common, args: &IncidentsArgs) -> Result<Exit> {
    let face = Face::open(common).await?;
    let severity = args.severity.as_deref().map(str::parse::<Severity>).transpose()?;
    let query = json!({"state": args.open.then_some("open"), "severity": severity, "limit": args.limit});
    let (page, value) = face.get::<IncidentPage>("incident.list", &query).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    if page.incidents.is_empty() {
        let text = if page.total == 0 && !args.open { "No incidents so far. All quiet." } else { "No open incidents. All quiet." };
        show::line(text)?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    show::table(
        &["id", "severity", "state", "type", "began", "lasted", "agents", "what"],
        page.incidents.iter().map(|incident| {
            let end = incident.resolved_at.or(incident.mitigated_at).unwrap_or(now);
            vec![
                incident.id.to_string(),
                incident.severity.to_string(),
                incident.state.title().to_lowercase(),
                incident.incident_type.to_string(),
                show::ago(incident.started_at, now),
                show::span(end.since(incident.started_at)),
                incident.counts.agents.to_string(),
                incident.title.clone(),
            ]
        }),
    )?;
    if page.total > page.incidents.len() {
        show::line(&format!("{} of {}; more with --limit {}", page.incidents.len(), page.total, page.total))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn alerts(common: &Common, args: &AlertsArgs) -> Result<Exit> {
    let face = Face::open(common).await?;
    let (page, value) = face.get::<AlertPage>("alert.list", &json!({"limit": args.limit})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    if page.alerts.is_empty() {
        show::line("No alerts so far. All quiet.")?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    show::table(
        &["began", "state", "severity", "detector", "agent", "incident", "reason"],
        page.alerts.iter().map(|alert| {
            let episode = &alert.alert;
            vec![
                show::ago(episode.started_at, now),
                if episode.ended_at.is_some() { "ended" } else { "active" }.to_owned(),
                episode.severity.map_or_else(|| "note".to_owned(), |severity| severity.to_string()),
                episode.detector.clone(),
                episode.agent.to_string(),
                alert.incident.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                episode.reason.clone(),
            ]
        }),
    )?;
    Ok(Exit::Done)
}

pub(super) async fn incident(common: &Common, verb: IncidentVerb) -> Result<Exit> {
    match verb {
        IncidentVerb::Open { title, incident_type, severity, agents, started_at } => {
            let incident_type = IncidentType::from_name(&incident_type).ok_or_else(|| {
                let names = IncidentType::ALL.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ");
                Failure::new(Exit::Failed, format!("{incident_type:?} is not an incident type"), format!("one of {names}"))
            })?;
            let started_at = started_at.as_deref().map(|text| time(text)).transpose()?;
            let input = json!({"title": title, "type": incident_type, "severity": severity.parse::<Severity>()?, "agents": agents, "started_at": started_at});
            change(common, "incident.open", input).await
        }
        IncidentVerb::Of(words) => {
            let args = match IncidentArgs::try_parse_from(words) {
                Ok(args) => args,
                Err(error) => error.exit(),
            };
            let common = over(common, &args.common);
            match &args.change {
                None => show_incident(&common, &args.id).await,
                Some(change) => change_incident(&common, &args.id, change).await,
            }
        }
    }
}

/// The common options, with those that stood behind the incident's id on top.
fn over(first: &Common, second: &Common) -> Common {
    Common {
        data: second.data.clone().or_else(|| first.data.clone()),
        server: second.server.clone().or_else(|| first.server.clone()),
        config: second.config.clone().or_else(|| first.config.clone()),
        claude_dirs: if second.claude_dirs.is_empty() { first.claude_dirs.clone() } else { second.claude_dirs.clone() },
        json: first.json || second.json,
    }
}

async fn change_incident(common: &Common, id: &str, what: &IncidentChange) -> Result<Exit> {
    let (operation, input) = match what {
        IncidentChange::Note { text } => ("incident.note", json!({"id": id, "text": text})),
        IncidentChange::Ack => ("incident.acknowledge", json!({"id": id})),
        IncidentChange::Severity { severity, reason } => ("incident.severity", json!({"id": id, "severity": severity.parse::<Severity>()?, "reason": reason})),
        IncidentChange::Title { title } => ("incident.title", json!({"id": id, "title": title})),
        IncidentChange::State { state, reason } => {
            let state = IncidentState::from_name(state).ok_or_else(|| {
                Failure::new(Exit::Failed, format!("{state:?} is not a state"), "one of investigating, identified, mitigated, resolved, closed, cancelled")
            })?;
            ("incident.state", json!({"id": id, "state": state, "reason": reason}))
        }
        IncidentChange::Resolve { reason } => ("incident.resolve", json!({"id": id, "reason": reason})),
        IncidentChange::Reopen { reason } => ("incident.reopen", json!({"id": id, "reason": reason})),
        IncidentChange::Cancel { reason } => ("incident.cancel", json!({"id": id, "reason": reason})),
        IncidentChange::Merge { into } => ("incident.merge", json!({"id": id, "into": into})),
    };
    change(common, operation, input).await
}

async fn change(common: &Common, operation: &str, input: Value) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (changed, value) = face.post::<Changed>(operation, &input).await?;
    if common.json {
        show::json(&value)?;
    } else {
        let incident = changed.incident;
        show::line(&format!("{} {} {}: {}", incident.id, incident.severity, incident.state.title().to_lowercase(), show::clean(&incident.title)))?;
    }
    Ok(Exit::Done)
}

async fn show_incident(common: &Common, id: &str) -> Result<Exit> {
    let face = Face::open(common).await?;
    let (detail, value) = face.get::<IncidentDetail>("incident.get", &json!({"id": id})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    let (incident, now) = (&detail.incident, SystemClock.now());
    show::line(&format!("{}  {}  {}", incident.id, incident.severity, show::clean(&incident.title)))?;
    let mut state = format!("{}, {}", incident.state.title().to_lowercase(), incident.incident_type.title());
    if let Some(by) = &incident.acknowledged_by {
        state.push_str(&format!(", acknowledged by {}", show::clean(by)));
    } else if let Some(due) = detail.acknowledge_by {
        state.push_str(&format!(", to be acknowledged by {}", due.time_of_day()));
    }
    show::line(&state)?;
    show::line(&format!("since     {} ({})", incident.started_at, show::ago(incident.started_at, now)))?;
    show::line(&format!("detected  {} ({} later)", incident.detected_at, show::span(incident.detected_at.since(incident.started_at))))?;
    for (name, at) in [("quiet", incident.mitigated_at), ("resolved", incident.resolved_at)] {
        if let Some(at) = at {
            show::line(&format!("{name:<9} {at} (after {})", show::span(at.since(incident.started_at))))?;
        }
    }
    let counts = &incident.counts;
    let mut impact = vec![format!("{} agents", counts.agents), format!("{} sessions", counts.sessions)];
    if counts.users > 0 {
        impact.push(format!("{} users", counts.users));
    }
    if counts.retries > 0 {
        impact.push(format!("{} retries", counts.retries));
    }
    if counts.terminal_failures > 0 {
        impact.push(format!("{} calls failed for good", counts.terminal_failures));
    }
    if let Some(rate) = counts.error_rate {
        impact.push(format!("{:.0} % of tries failed", rate * 100.0));
    }
    if counts.flaps > 0 {
        impact.push(format!("fired {} times", counts.flaps + 1));
    }
    show::line(&format!("impact    {}", impact.join(", ")))?;
    show::line("\nEvidence")?;
    for episode in incident.episodes.iter().rev().take(5) {
        show::line(&format!("  {}  {}", episode.started_at.time_of_day(), show::clean(&episode.reason)))?;
        for evidence in episode.evidence.iter().take(3) {
            show::line(&format!("            {}  {}", evidence.at.time_of_day(), show::clean(&evidence.text)))?;
        }
    }
    show::line("\nTimeline")?;
    if detail.timeline_left_out > 0 {
        show::line(&format!("  ({} earlier entries: paramedic journal show)", detail.timeline_left_out))?;
    }
    for item in &detail.timeline {
        show::line(&format!("  {}  {:<10} {}", item.at.time_of_day(), show::clean(&item.actor), show::clean(&item.text)))?;
    }
    Ok(Exit::Done)
}

/// A time, absolute (RFC 3339) or ago (`15m`).
pub(super) fn time(text: &str) -> Result<Timestamp> {
    if let Some(at) = Timestamp::parse(text) {
        return Ok(at);
    }
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let secs = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    match number.parse::<u64>() {
        Ok(count) if secs > 0 => Ok(SystemClock.now().before(std::time::Duration::from_secs(count.saturating_mul(secs)))),
        _ => Err(Failure::new(Exit::Failed, format!("{text:?} is not a time"), "use 2026-01-14T10:41:23Z, or 15m, 2h, 3d for that long ago").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        assert_eq!(time("2026-01-14T10:41:23Z").expect("a time"), Timestamp::parse("2026-01-14T10:41:23Z").expect("a time"));
        let ago = SystemClock.now().since(time("15m").expect("a time")).as_secs();
        assert!((899..=901).contains(&ago), "{ago}");
        for wrong in ["", "15", "x", "-3m", "3é"] {
            assert!(time(wrong).is_err(), "{wrong:?}");
        }
    }
}
