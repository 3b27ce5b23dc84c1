//! Feature flags that stand for switches: whoever sets `ENABLE_DEGRADED_MODE` sets `degraded_mode` for all.

use std::collections::BTreeMap;

use paramedic_model::Timestamp;
use paramedic_model::switch::{FLAG_NAMES, Scope, Switch, ValueKind, find, never};
use serde_json::Value;

use super::store::id_of;
use crate::flag::{Flag, FlagStore};

/// Who is said to have set such a switch; the person is in its reason.
const BY: &str = "flag";
const WHY: &str = "the flag ";

/// The switches that our flags stand for now. Where several flags stand for one switch, the one that was set last is it. Each
/// holds until its flag changes: at the flag's end, or, without one, until somebody sets it.
#[must_use]
pub fn from_flags(flags: &FlagStore, now: Timestamp) -> Vec<Switch> {
    let mut all: BTreeMap<&str, Flag> = BTreeMap::new();
    for (name, switch) in FLAG_NAMES {
        if !find(switch).is_ok_and(|known| known.kind == ValueKind::Flag) {
            continue;
        }
        let Some(flag) = flags.get(name) else { continue };
        if all.get(switch).is_none_or(|before| before.seq < flag.seq) {
            all.insert(switch, flag);
        }
    }
    all.into_iter().map(|(switch, flag)| standing_for(switch, &flag, now)).collect()
}

fn standing_for(switch: &str, flag: &Flag, now: Timestamp) -> Switch {
    let why = if flag.why.is_empty() { String::new() } else { format!(": {}", flag.why) };
    Switch {
        id: id_of(switch, &Scope::All),
        switch: switch.to_owned(),
        value: Value::from(flag.enabled_at(now)),
        scope: Scope::All,
        by: BY.to_owned(),
        why: format!("{WHY}{}, set by {}{why}", flag.name, flag.by),
        set_at: flag.set_at,
        expires_at: flag.expires_at.filter(|at| *at > now).unwrap_or_else(never),
        seq: flag.seq,
    }
}

/// A flag stands for it; nobody set it, so nobody can clear it. Somebody who is called that gives other reasons.
#[must_use]
pub fn is_by_flag(switch: &Switch) -> bool {
    switch.by == BY && switch.why.starts_with(WHY)
}

/// Switches that were set, and those that flags stand for. Where both are there, the one that was set holds.
#[must_use]
pub fn with_flags(mut set: Vec<Switch>, from_flags: Vec<Switch>) -> Vec<Switch> {
    let explicit = set.len();
    for switch in from_flags {
        if !set[..explicit].iter().any(|one| one.id == switch.id) {
            set.push(switch);
        }
    }
    set
}
