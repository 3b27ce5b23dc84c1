//! How fast incidents are noticed, answered, mitigated and resolved: median and 90th percentile with their counts,
//! because a mean of a few long ones says nothing. Pure.

use std::time::Duration;

use paramedic_model::{IncidentKind, IncidentState, IncidentType, MitigatedBy, Severity, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::incident::Incident;

/// Which incidents count. Cancelled and merged ones never do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Onsets from here on.
    pub since: Option<Timestamp>,
    /// Onsets before this.
    pub until: Option<Timestamp>,
    pub severity: Option<Severity>,
    pub incident_type: Option<IncidentType>,
    /// Default: real ones and those of history; no drills.
    pub kinds: Vec<IncidentKind>,
}

impl Default for Filter {
    fn default() -> Self {
        let kinds = vec![IncidentKind::Real, IncidentKind::Backfill];
        Self { since: None, until: None, severity: None, incident_type: None, kinds }
    }
}

impl Filter {
    #[must_use]
    pub fn takes(&self, incident: &Incident) -> bool {
        !matches!(incident.state, IncidentState::Cancelled | IncidentState::Merged)
            && self.kinds.contains(&incident.kind)
            && self.since.is_none_or(|since| incident.started_at >= since)
            && self.until.is_none_or(|until| incident.started_at < until)
            && self.severity.is_none_or(|severity| incident.severity == severity)
            && self.incident_type.is_none_or(|one| incident.incident_type == one)
    }
}

/// One duration over the incidents that have it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Measure {
    /// Incidents that have both ends of it.
    pub n: usize,
    /// Seconds; of an even number the mean of the two in the middle.
    pub median_s: Option<f64>,
    /// Seconds; by nearest rank.
    pub p90_s: Option<f64>,
}

/// Mitigation and resolution of those that ended the same way.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Split {
    pub ttm: Measure,
    pub ttr: Measure,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Statistics {
    /// Incidents counted.
    pub incidents: usize,
    /// Of these, still open.
    pub open: usize,
    /// Of the open ones, not acknowledged although the time for it is over.
    pub late: usize,
    /// Detected minus started.
    pub ttd: Measure,
    /// Acknowledged minus detected; nobody was called for those of history.
    pub tta: Measure,
    /// Of the acknowledged ones, those within the time that their severity gives.
    pub acknowledged_in_time: usize,
    /// Mitigated minus started.
    pub ttm: Measure,
    /// Resolved minus started.
    pub ttr: Measure,
    /// Mitigated by a runbook that nobody had to approve.
    pub auto: Split,
    pub by_person: Split,
    /// Ended before anybody worked on them.
    pub by_itself: Split,
}

impl Statistics {
    #[must_use]
    pub fn of<'a>(incidents: impl IntoIterator<Item = &'a Incident>, filter: &Filter, now: Timestamp) -> Self {
        let taken: Vec<&Incident> = incidents.into_iter().filter(|incident| filter.takes(incident)).collect();
        let called = |incident: &&&Incident| incident.kind != IncidentKind::Backfill;
        let acknowledged = |incident: &Incident| incident.acknowledged_at.map(|at| at.since(incident.detected_at));
        let in_time = |incident: &&&Incident| acknowledged(incident).is_some_and(|took| took <= incident.severity.acknowledge_within());
        let ended = |by: MitigatedBy| {
            let these = || taken.iter().filter(|incident| incident.mitigated_by == Some(by));
            Split {
                ttm: Measure::of(these().filter_map(|one| to_mitigate(one))),
                ttr: Measure::of(these().filter_map(|one| to_resolve(one))),
            }
        };
        Self {
            incidents: taken.len(),
            open: taken.iter().filter(|incident| incident.state.is_open()).count(),
            late: taken.iter().filter(|incident| incident.acknowledgement_due().is_some_and(|due| now > due)).count(),
            ttd: Measure::of(taken.iter().map(|incident| incident.detected_at.since(incident.started_at))),
            tta: Measure::of(taken.iter().filter(called).filter_map(|incident| acknowledged(incident))),
            acknowledged_in_time: taken.iter().filter(called).filter(in_time).count(),
            ttm: Measure::of(taken.iter().filter_map(|incident| to_mitigate(incident))),
            ttr: Measure::of(taken.iter().filter_map(|incident| to_resolve(incident))),
            auto: ended(MitigatedBy::Auto),
            by_person: ended(MitigatedBy::Person),
            by_itself: ended(MitigatedBy::Itself),
        }
    }
}

fn to_mitigate(incident: &Incident) -> Option<Duration> {
    Some(incident.mitigated_at?.since(incident.started_at))
}

fn to_resolve(incident: &Incident) -> Option<Duration> {
    Some(incident.resolved_at?.since(incident.started_at))
}

impl Measure {
    #[must_use]
    pub fn of(durations: impl Iterator<Item = Duration>) -> Self {
        let mut seconds: Vec<f64> = durations.map(|duration| duration.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        let n = seconds.len();
        if n == 0 {
            return Self::default();
        }
        let median = f64::midpoint(seconds[(n - 1) / 2], seconds[n / 2]);
        let rank = (n * 9).div_ceil(10).max(1);
        Self { n, median_s: Some(median), p90_s: Some(seconds[rank - 1]) }
    }
}
