//! The clocks of an incident: when more people are called, and how long its phases take. Pure.
//!
//! Every timer fires once per round; a re-opened incident begins another round. What has fired is on record, so that a
//! restart neither repeats nor forgets a timer. Incidents of the past call nobody; drills call like real ones, marked.

use std::time::Duration;

use paramedic_model::{IncidentKind, IncidentState, Phase, Role, Severity, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::decide::impact;
use crate::incident::Incident;
use crate::incidents::Incidents;
use crate::record::Record;

/// A postmortem that was due longer ago than this is not brought up any more.
const POSTMORTEM_REMINDED_S: u64 = 7 * 24 * 3600;

/// What can run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Timer {
    /// The time in which somebody has to acknowledge.
    Acknowledge,
    /// The time without mitigation after which the secondary is called.
    Secondary,
    /// The time without mitigation after which a SEV2 is a SEV1.
    Severity,
    /// More are affected than the severity says that a person set.
    Impact,
    /// More people respond than one can lead.
    SpanOfControl,
}

/// Somebody more was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Escalation {
    pub timer: Timer,
    /// 1: on call, 2: secondary.
    pub level: u8,
    pub who: String,
    pub why: String,
    pub at: Timestamp,
    #[serde(default)]
    pub drill: bool,
}

/// How long a phase took, or has taken by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimeBox {
    pub phase: Phase,
    pub began_at: Timestamp,
    /// None while the phase is under way.
    pub ended_at: Option<Timestamp>,
    pub limit_s: u64,
    pub used_s: u64,
    /// Seconds over the limit.
    pub overrun_s: u64,
}

/// What the passing of time calls for: escalations, raised severities, warnings, overruns.
#[must_use]
pub fn decide_timers(incidents: &Incidents, now: Timestamp, settings: &Settings) -> Vec<Record> {
    let timed = |incident: &&Incident| {
        incident.kind != IncidentKind::Backfill && !matches!(incident.state, IncidentState::Cancelled | IncidentState::Merged)
    };
    let mut records = Vec::new();
    for incident in incidents.all().filter(timed) {
        records.extend(unacknowledged(incident, now));
        records.extend(secondary(incident, now, settings));
        records.extend(severity(incident, now, settings));
        records.extend(more_affected(incident, now, settings));
        records.extend(span_of_control(incident, now, settings));
        records.extend(overruns(incident, now, settings));
    }
    records
}

fn unacknowledged(incident: &Incident, now: Timestamp) -> Option<Record> {
    let due = incident.acknowledgement_due()?;
    (now >= due && !incident.round.fired.contains(&Timer::Acknowledge)).then(|| {
        let within = incident.severity.acknowledge_within();
        let why = format!("nobody acknowledged this {} within {}", incident.severity, span(within.as_secs()));
        escalated(incident, Timer::Acknowledge, (1, "on call"), why, now)
    })
}

fn secondary(incident: &Incident, now: Timestamp, settings: &Settings) -> Option<Record> {
    let after = Duration::from_secs(settings.secondary_after_s);
    let due = runs_out(incident, Timer::Secondary, after, now) && incident.severity >= Severity::Sev2;
    due.then(|| {
        let why = format!("this {} is not mitigated after {}", incident.severity, span(after.as_secs()));
        escalated(incident, Timer::Secondary, (2, "secondary"), why, now)
    })
}

fn severity(incident: &Incident, now: Timestamp, settings: &Settings) -> Option<Record> {
    let after = Duration::from_secs(settings.sev1_after_s);
    if incident.severity != Severity::Sev2 || !runs_out(incident, Timer::Severity, after, now) {
        return None;
    }
    let reason = format!("not mitigated after {}", span(after.as_secs()));
    if incident.severity_by_hand {
        let text = format!("{reason}: this SEV2 would be SEV1 now, but its severity was set by hand");
        return Some(Record::Warned { incident: incident.id.clone(), timer: Timer::Severity, text, at: now });
    }
    Some(Record::SeverityChanged {
        incident: incident.id.clone(),
        from: Severity::Sev2,
        to: Severity::Sev1,
        at: now,
        reason,
        by_hand: false,
    })
}

/// By itself the severity follows what the alerts measure; against a person's decision there is only a warning.
fn more_affected(incident: &Incident, now: Timestamp, settings: &Settings) -> Option<Record> {
    if !incident.severity_by_hand || !runs_out(incident, Timer::Impact, Duration::ZERO, now) {
        return None;
    }
    let (measured, reason) = impact(incident, settings).filter(|(measured, _)| *measured > incident.severity)?;
    let text = format!("{reason}: that would be {measured}, but the severity was set by hand to {}", incident.severity);
    Some(Record::Warned { incident: incident.id.clone(), timer: Timer::Impact, text, at: now })
}

fn span_of_control(incident: &Incident, now: Timestamp, settings: &Settings) -> Option<Record> {
    let people = incident.holders(Role::Responder).len();
    let due = incident.state.is_open() && people > settings.span_of_control && !incident.round.fired.contains(&Timer::SpanOfControl);
    due.then(|| {
        let text = format!("{people} people respond: one can lead {} at most, so split the work or the incident", settings.span_of_control);
        Record::Warned { incident: incident.id.clone(), timer: Timer::SpanOfControl, text, at: now }
    })
}

/// Whether a timer of an incident that somebody has to act on is over and has not fired in this round.
fn runs_out(incident: &Incident, timer: Timer, after: Duration, now: Timestamp) -> bool {
    let off = after.is_zero() && timer != Timer::Impact;
    !off && incident.state.is_active() && now >= incident.round.began_at.after(after) && !incident.round.fired.contains(&timer)
}

fn escalated(incident: &Incident, timer: Timer, (level, who): (u8, &str), why: String, at: Timestamp) -> Record {
    let drill = incident.kind == IncidentKind::Drill;
    Record::Escalated { incident: incident.id.clone(), timer, level, who: who.to_owned(), why, at, drill }
}

fn overruns(incident: &Incident, now: Timestamp, settings: &Settings) -> Vec<Record> {
    // Most incidents are over, and have nothing more to run out.
    let owed = incident.severity >= Severity::Sev2 && !incident.round.overran.contains(&Phase::Postmortem);
    let lives = incident.state.is_open() || (incident.state == IncidentState::Resolved && owed);
    if !lives {
        return Vec::new();
    }
    time_boxes(incident, now, settings)
        .into_iter()
        .filter(|one| one.overrun_s > 0 && one.ended_at.is_none() && !incident.round.overran.contains(&one.phase))
        .filter(|one| one.phase != Phase::Postmortem || one.overrun_s < POSTMORTEM_REMINDED_S)
        .map(|one| Record::Overran { incident: incident.id.clone(), phase: one.phase, limit_s: one.limit_s, at: now })
        .collect()
}

/// The phases that the incident is or was in since it was opened, or re-opened, each with its limit. A phase ends with
/// its own milestone or, where that was passed over, with a later one.
#[must_use]
pub fn time_boxes(incident: &Incident, now: Timestamp, settings: &Settings) -> Vec<TimeBox> {
    if incident.kind == IncidentKind::Backfill {
        // Nobody responded to what was read from history.
        return Vec::new();
    }
    let round = &incident.round;
    let milestones = [
        (Phase::Detection, round.acknowledged_at),
        (Phase::Investigation, round.identified_at),
        (Phase::Mitigation, incident.mitigated_at),
        (Phase::Resolution, incident.resolved_at),
        (Phase::Postmortem, incident.closed_at),
    ];
    let over = matches!(incident.state, IncidentState::Cancelled | IncidentState::Merged);
    let mut boxes = Vec::new();
    let mut began_at = round.began_at;
    for (i, (phase, _)) in milestones.iter().enumerate() {
        let ended_at = milestones[i..].iter().filter_map(|(_, at)| *at).min().map(|at| at.max(began_at));
        let ended_at = ended_at.or(over.then_some(incident.last_recorded_at.max(began_at)));
        let limit_s = settings.boxes(incident.kind).of(*phase);
        let due = limit_s > 0 && (*phase != Phase::Postmortem || incident.severity >= Severity::Sev2);
        if due {
            let used_s = ended_at.unwrap_or(now).since(began_at).as_secs();
            boxes.push(TimeBox { phase: *phase, began_at, ended_at, limit_s, used_s, overrun_s: used_s.saturating_sub(limit_s) });
        }
        match ended_at {
            Some(ended_at) if !over => began_at = ended_at,
            _ => break,
        }
    }
    boxes
}

/// `90 s`, `15 min`, `2 h`: the largest unit that divides it.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0 => "0 s".to_owned(),
        _ if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}
