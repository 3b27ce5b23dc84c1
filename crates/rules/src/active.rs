//! The life of a rule's alerts: pending, firing, inactive. Pure.

use std::collections::BTreeMap;

use paramedic_promql::Labels;

/// How long an alert that has ended is kept: 15 minutes, as in Prometheus.
pub const RESOLVED_KEPT_MS: i64 = 15 * 60 * 1_000;

/// Where an alert is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Inactive,
    /// The condition holds, but not for long enough.
    Pending,
    Firing,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// What an evaluation found for one label set.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub annotations: BTreeMap<String, String>,
    pub value: f64,
}

/// One alert of a rule. Times are milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Active {
    pub annotations: BTreeMap<String, String>,
    pub value: f64,
    pub state: State,
    /// When the condition began to hold.
    pub active_at: i64,
    pub resolved_at: Option<i64>,
    /// Since when the condition no longer holds, while it keeps firing.
    pub keep_firing_since: Option<i64>,
}

/// How long a condition must hold, and how long it goes on firing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    pub for_ms: i64,
    pub keep_firing_for_ms: i64,
}

/// What an evaluation did to one alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It began to fire.
    Fired,
    /// It still fires.
    Fires,
    /// It fired and no longer does.
    Resolved,
}

/// A rule's alerts by their labels.
pub type Alerts = BTreeMap<Labels, Active>;

/// Takes the alerts of a rule from one evaluation to the next; gives what changed, and the label sets that are active.
///
/// More alerts than `limit` (when it is not 0) are an error, and then the rule has none: it gives the number of them.
pub fn step(
    alerts: &mut Alerts,
    found: BTreeMap<Labels, Found>,
    timing: Timing,
    limit: usize,
    at: i64,
) -> Result<Vec<(Labels, Change)>, usize> {
    let mut changes = Vec::new();
    let mut ended = Vec::new();
    let mut active = 0usize;
    for (labels, alert) in alerts.iter_mut() {
        if found.contains_key(labels) {
            continue;
        }
        if miss(alert, timing, at) {
            active += 1;
            changes.push((labels.clone(), Change::Fires));
        } else if alert.state == State::Firing {
            end(alert, at);
            changes.push((labels.clone(), Change::Resolved));
        } else if alert.state == State::Pending || alert.resolved_at.is_some_and(|resolved| at - resolved > RESOLVED_KEPT_MS) {
            ended.push(labels.clone());
        }
    }
    for labels in ended {
        alerts.remove(&labels);
    }
    for (labels, found) in found {
        active += 1;
        if let Some(change) = hit(alerts, &labels, found, timing, at) {
            changes.push((labels, change));
        }
    }
    if limit > 0 && active > limit {
        return Err(active);
    }
    Ok(changes)
}

/// The condition does not hold: whether the alert fires nevertheless.
fn miss(alert: &mut Active, timing: Timing, at: i64) -> bool {
    if alert.state != State::Firing {
        return false;
    }
    if timing.keep_firing_for_ms <= 0 {
        return false;
    }
    let since = *alert.keep_firing_since.get_or_insert(at);
    at - since < timing.keep_firing_for_ms
}

fn end(alert: &mut Active, at: i64) {
    alert.state = State::Inactive;
    alert.resolved_at = Some(at);
}

/// The condition holds.
fn hit(alerts: &mut Alerts, labels: &Labels, found: Found, timing: Timing, at: i64) -> Option<Change> {
    let Found { annotations, value } = found;
    let fresh = |annotations, value| Active {
        annotations,
        value,
        state: State::Pending,
        active_at: at,
        resolved_at: None,
        keep_firing_since: None,
    };
    let alert = match alerts.get_mut(labels) {
        Some(alert) if alert.state != State::Inactive => {
            alert.annotations = annotations;
            alert.value = value;
            alert.keep_firing_since = None;
            alert
        }
        Some(ended) => {
            *ended = fresh(annotations, value);
            ended
        }
        None => alerts.entry(labels.clone()).or_insert(fresh(annotations, value)),
    };
    if alert.state == State::Firing {
        return Some(Change::Fires);
    }
    if at - alert.active_at >= timing.for_ms {
        alert.state = State::Firing;
        return Some(Change::Fired);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    /// Walks one alert through evaluations a minute apart: `1` holds, `0` does not; gives `.` inactive or unknown,
    /// `p` pending, `f` firing.
    fn walk(holds: &str, for_minutes: i64, keep_minutes: i64) -> (String, String) {
        let timing = Timing { for_ms: for_minutes * MINUTE, keep_firing_for_ms: keep_minutes * MINUTE };
        let labels = Labels::from_pairs(&[("alertname", "A")]);
        let (mut alerts, mut states, mut told) = (Alerts::new(), String::new(), String::new());
        for (i, holds) in holds.chars().enumerate() {
            let found = (holds == '1').then(|| (labels.clone(), Found { annotations: BTreeMap::new(), value: i as f64 }));
            let changes = step(&mut alerts, found.into_iter().collect(), timing, 0, i as i64 * MINUTE).unwrap();
            states.push(match alerts.get(&labels).map(|alert| alert.state) {
                None | Some(State::Inactive) => '.',
                Some(State::Pending) => 'p',
                Some(State::Firing) => 'f',
            });
            told.push(match changes.first() {
                None => '.',
                Some((_, Change::Fired)) => 'F',
                Some((_, Change::Fires)) => 'f',
                Some((_, Change::Resolved)) => 'R',
            });
        }
        (states, told)
    }

    #[test]
    fn alerts_live_as_in_prometheus() {
        for (holds, for_minutes, keep_minutes, states, told) in [
            ("110", 0, 0, "ff.", "FfR"),
            ("011110", 2, 0, ".ppff.", "...FfR"),
            ("0110110", 2, 0, ".pp.pp.", "......."),
            ("1101111", 1, 0, "pf.pfff", ".FR.Fff"),
            ("100000", 0, 3, "ffff..", "FfffR."),
            ("1001000", 0, 3, "fffffff", "Fffffff"),
            ("100010", 0, 2, "fff.ff", "FffRFf"),
            ("", 0, 0, "", ""),
        ] {
            assert_eq!(
                walk(holds, for_minutes, keep_minutes),
                (states.to_owned(), told.to_owned()),
                "{holds} for {for_minutes} keep {keep_minutes}"
            );
        }
    }

    #[test]
    fn ended_alerts_stay_for_a_quarter_of_an_hour() {
        let labels = Labels::from_pairs(&[("alertname", "A")]);
        let mut alerts = Alerts::new();
        let found = BTreeMap::from([(labels.clone(), Found { annotations: BTreeMap::new(), value: 1.0 })]);
        step(&mut alerts, found, Timing::default(), 0, 0).unwrap();
        step(&mut alerts, BTreeMap::new(), Timing::default(), 0, MINUTE).unwrap();
        step(&mut alerts, BTreeMap::new(), Timing::default(), 0, 16 * MINUTE).unwrap();
        assert_eq!(alerts[&labels].state, State::Inactive);
        step(&mut alerts, BTreeMap::new(), Timing::default(), 0, 17 * MINUTE).unwrap();
        assert!(alerts.is_empty());
    }

    #[test]
    fn more_alerts_than_allowed_are_an_error() {
        let found: BTreeMap<Labels, Found> =
            (0..3).map(|i| (Labels::from_pairs(&[("i", &i.to_string())]), Found { annotations: BTreeMap::new(), value: 1.0 })).collect();
        assert_eq!(step(&mut Alerts::new(), found.clone(), Timing::default(), 2, 0), Err(3));
        assert_eq!(step(&mut Alerts::new(), found, Timing::default(), 3, 0).map(|changes| changes.len()), Ok(3));
    }
}
