//! `paramedic incidents`, `incident`, `alerts`.

mod change;

mod response;

use anyhow::Result;
use clap::Parser as _;
use paramedic_api::operations::incidents::{Changed, IncidentDetail, IncidentPage};
use paramedic_model::{Clock as _, IncidentKind, IncidentType, Severity, SystemClock, Timestamp};
use paramedic_respond::{Incident, IncidentCounts};
use serde_json::{Value, json};

use super::agents::many;
use crate::args::{Common, IncidentArgs, IncidentVerb, IncidentsArgs};
use crate::exit::{Exit, Failure};
use crate::face::Face;
use crate::show;

pub(super) async fn incidents(common: &Common, args: &IncidentsArgs) -> Result<Exit> {
    if args.statistics {
        return response::statistics(common, args).await;
    }
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

pub(super) async fn incident(common: &Common, verb: IncidentVerb) -> Result<Exit> {
    match verb {
        IncidentVerb::Open { title, incident_type, severity, agents, started_at, drill } => {
            let incident_type = IncidentType::from_name(&incident_type).ok_or_else(|| {
                let names = IncidentType::ALL.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ");
                Failure::new(Exit::Failed, format!("{incident_type:?} is not an incident type"), format!("one of {names}"))
            })?;
            let started_at = started_at.as_deref().map(time).transpose()?;
            let input = json!({"title": title, "type": incident_type, "severity": severity.parse::<Severity>()?, "agents": agents, "started_at": started_at});
            if !drill {
                return change(common, "incident.open", input).await;
            }
            let face = Face::open_running(common).await?;
            let (opened, _) = face.post::<Changed>("incident.open", &input).await?;
            change(common, "incident.kind", json!({"id": opened.incident.id, "kind": "drill", "reason": "opened as a drill"})).await
        }
        IncidentVerb::Of(words) => {
            let args = match IncidentArgs::try_parse_from(words) {
                Ok(args) => args,
                Err(error) => error.exit(),
            };
            let common = over(common, &args.common);
            match &args.change {
                None => show_incident(&common, &args.id).await,
                Some(change) => change::change_incident(&common, &args.id, change).await,
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

async fn change(common: &Common, operation: &str, input: Value) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (changed, value) = face.post::<Changed>(operation, &input).await?;
    if common.json {
        show::json(&value)?;
    } else {
        let incident = changed.incident;
        show::line(&format!(
            "{} {} {}: {}",
            incident.id,
            incident.severity,
            incident.state.title().to_lowercase(),
            show::clean(&incident.title)
        ))?;
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
    if let Some(words) = acknowledged(incident) {
        state.push_str(&format!(", {words}"));
    } else if let Some(due) = detail.acknowledge_by {
        let due = if due.date() == now.date() { due.time_of_day() } else { due.to_string() };
        state.push_str(&format!(", to be acknowledged by {due}"));
    }
    show::line(&state)?;
    show::line(&format!("since     {} ({})", incident.started_at, show::ago(incident.started_at, now)))?;
    show::line(&format!("detected  {} ({} later)", incident.detected_at, show::span(incident.detected_at.since(incident.started_at))))?;
    for (name, at) in [("quiet", incident.mitigated_at), ("resolved", incident.resolved_at)] {
        if let Some(at) = at {
            show::line(&format!("{name:<9} {at} (after {})", show::span(at.since(incident.started_at))))?;
        }
    }
    show::line(&format!("impact    {}", impact(&incident.counts)))?;
    response::people_and_clocks(&detail)?;
    show::line("\nEvidence")?;
    let mut days = Days::of(incident.started_at, now);
    for episode in incident.episodes.iter().rev().take(5) {
        days.turn(episode.started_at)?;
        show::line(&format!("  {}  {}", episode.started_at.time_of_day(), show::clean(&episode.reason)))?;
        for evidence in episode.evidence.iter().take(3) {
            show::line(&format!("            {}  {}", evidence.at.time_of_day(), show::clean(&evidence.text)))?;
        }
    }
    response::runs(&detail)?;
    show::line("\nTimeline")?;
    match detail.timeline_left_out {
        0 => {}
        1 => show::line("  (1 earlier entry: paramedic journal show)")?,
        left_out => show::line(&format!("  ({} earlier entries: paramedic journal show)", show::count(left_out)))?,
    }
    let mut days = Days::of(incident.started_at, now);
    for item in &detail.timeline {
        days.turn(item.at)?;
        show::line(&format!("  {}  {:<10} {}", item.at.time_of_day(), show::clean(&item.actor), show::clean(&item.text)))?;
    }
    Ok(Exit::Done)
}

/// Who took it, how long after it was detected, and whether that was soon enough.
fn acknowledged(incident: &Incident) -> Option<String> {
    let (by, at) = (incident.acknowledged_by.as_deref()?, incident.acknowledged_at?);
    let words = format!("acknowledged by {} after {}", show::clean(by), show::span(at.since(incident.detected_at)));
    let due = incident.acknowledge_by();
    Some(match incident.kind {
        // Nobody was called for what was read from history, so nobody was late.
        IncidentKind::Backfill => words,
        _ if at <= due => format!("{words}, in time"),
        _ => format!("{words}, late by {}", show::span(at.since(due))),
    })
}

fn impact(counts: &IncidentCounts) -> String {
    let mut parts = vec![many(counts.agents as u64, "agent"), many(counts.sessions as u64, "session")];
    if counts.users > 0 {
        parts.push(many(counts.users as u64, "user"));
    }
    match counts.retries {
        0 => {}
        1 => parts.push("1 retry".to_owned()),
        retries => parts.push(format!("{} retries", show::count(retries))),
    }
    if counts.terminal_failures > 0 {
        parts.push(format!("{} failed for good", many(counts.terminal_failures, "call")));
    }
    if let Some(rate) = counts.error_rate {
        parts.push(format!("{:.0} % of tries failed", rate * 100.0));
    }
    if counts.flaps > 0 {
        parts.push(format!("fired {} times", show::count(counts.flaps + 1)));
    }
    parts.join(", ")
}

/// Times of day say which day they are of: once for each day, and not at all while all is of today.
struct Days {
    shown: Option<String>,
}

impl Days {
    fn of(started_at: Timestamp, now: Timestamp) -> Self {
        let today = now.date();
        Self { shown: (started_at.date() == today).then_some(today) }
    }

    /// The line that comes before what happened then, if there must be one.
    fn line_before(&mut self, at: Timestamp) -> Option<String> {
        let day = at.date();
        (self.shown.as_deref() != Some(&day)).then(|| self.shown.insert(day).clone())
    }

    fn turn(&mut self, at: Timestamp) -> Result<()> {
        self.line_before(at).map_or(Ok(()), |day| show::line(&format!("  {day}")))
    }
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
        _ => {
            Err(Failure::new(Exit::Failed, format!("{text:?} is not a time"), "use 2026-01-14T10:41:23Z, or 15m, 2h, 3d for that long ago")
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        let counts = |agents, failures| IncidentCounts {
            agents,
            sessions: agents,
            terminal_failures: failures,
            retries: failures,
            ..IncidentCounts::default()
        };
        assert_eq!(impact(&counts(1, 1)), "1 agent, 1 session, 1 retry, 1 call failed for good");
        assert_eq!(impact(&counts(1_200, 2)), "1,200 agents, 1,200 sessions, 2 retries, 2 calls failed for good");
    }

    #[test]
    fn a_day_is_said_once() {
        let at = |text: &str| Timestamp::parse(text).expect("a time");
        let check = |now: &str, times: &[&str], lines: &[Option<&str>]| {
            let mut days = Days::of(at(times[0]), at(now));
            let shown: Vec<Option<String>> = times.iter().map(|time| days.line_before(at(time))).collect();
            assert_eq!(shown.iter().map(Option::as_deref).collect::<Vec<_>>(), lines, "{now}");
        };
        let night = ["2026-03-09T23:50:00Z", "2026-03-09T23:59:59Z", "2026-03-10T00:01:00Z", "2026-03-10T00:02:00Z"];
        check("2026-03-10T15:00:00Z", &night, &[Some("2026-03-09"), None, Some("2026-03-10"), None]);
        check("2026-03-10T15:00:00Z", &night[2..], &[None, None]);
    }

    #[test]
    fn an_acknowledgement_says_whether_it_was_in_time() {
        let stored = |kind: &str, minutes: u64| {
            let mut one = serde_json::json!({
                "id": "INC-1", "number": 1, "type": "timeout", "kind": kind, "cause": "", "severity": "SEV2", "severity_by_hand": false,
                "state": "investigating", "title": "x", "started_at": "2026-03-10T14:00:00Z", "detected_at": "2026-03-10T14:00:00Z",
                "acknowledged_by": "ann", "reopened": 0, "agents": [], "sessions": [], "users": [], "episodes": [],
                "counts": IncidentCounts::default(), "notes": 0, "last_seq": 1, "last_recorded_at": "2026-03-10T14:00:00Z",
            });
            let detected = Timestamp::parse("2026-03-10T14:00:00Z").expect("a time");
            one["acknowledged_at"] = detected.after(std::time::Duration::from_secs(minutes * 60)).to_string().into();
            serde_json::from_value::<Incident>(one).expect("an incident")
        };
        let within = Severity::Sev2.acknowledge_within().as_secs() / 60;
        let said = |kind, minutes| acknowledged(&stored(kind, minutes)).expect("words");
        assert_eq!(said("real", 2), "acknowledged by ann after 2 min, in time");
        assert_eq!(said("real", within + 10), format!("acknowledged by ann after {} min, late by 10 min", within + 10));
        assert_eq!(said("backfill", 600), "acknowledged by ann after 10 h 0 min");
    }

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
