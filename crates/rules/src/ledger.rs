//! What the journal was told of which alert, so that it hears of changes and of nothing else.

use std::collections::{BTreeMap, BTreeSet};

use paramedic_model::{AlertChange, AlertState, Fingerprint, Timestamp};

/// Names a rule across reloads.
pub(crate) type RuleId = u64;

/// An alert that the journal holds for firing.
#[derive(Debug)]
struct Told {
    /// Rules for which it fires: two rules may make the same labels.
    holders: BTreeSet<RuleId>,
    change: AlertChange,
}

/// The alerts that fire, as the journal knows them.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    told: BTreeMap<Fingerprint, Told>,
}

impl Ledger {
    /// An alert fires: what to tell, if anything.
    pub(crate) fn fires(&mut self, holder: RuleId, change: AlertChange, repeat_ms: i64) -> Option<AlertChange> {
        let Some(told) = self.told.get_mut(&change.fingerprint) else {
            self.told.insert(change.fingerprint.clone(), Told { holders: BTreeSet::from([holder]), change: change.clone() });
            return Some(change);
        };
        told.holders.insert(holder);
        let value = |change: &AlertChange| change.rule.as_ref().and_then(|rule| rule.value).map(f64::to_bits);
        let before = &told.change;
        let other =
            before.severity != change.severity || before.incident_type != change.incident_type || before.started_at != change.started_at;
        let due = change.at.as_millis() - before.at.as_millis() >= repeat_ms;
        if !other && !(due && (value(before) != value(&change) || before.reason != change.reason)) {
            return None;
        }
        told.change = change.clone();
        Some(change)
    }

    /// An alert no longer fires for one rule: what to tell, unless it still fires for another.
    pub(crate) fn resolved(&mut self, holder: RuleId, change: AlertChange) -> Option<AlertChange> {
        let told = self.told.get_mut(&change.fingerprint)?;
        told.holders.remove(&holder);
        if !told.holders.is_empty() {
            return None;
        }
        let started_at = told.change.started_at;
        self.told.remove(&change.fingerprint);
        Some(AlertChange { state: AlertState::Resolved, started_at, ..change })
    }

    /// A rule is gone and with it its alert: what to tell, unless it still fires for another.
    pub(crate) fn end(&mut self, holder: RuleId, name: &Fingerprint, at: Timestamp) -> Option<AlertChange> {
        let change = self.told.get(name)?.change.clone();
        self.resolved(holder, AlertChange { at, ..change })
    }

    /// Takes over what the journal held for firing before the start.
    pub(crate) fn restore(&mut self, holder: Option<RuleId>, change: AlertChange) {
        let holders = holder.into_iter().collect();
        self.told.insert(change.fingerprint.clone(), Told { holders, change });
    }
}
