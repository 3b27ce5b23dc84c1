//! Is this instance alive, started and able to serve? Checks are set by the server; this only keeps and shows them.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Reading its store; answers, but is not complete yet.
    #[default]
    Starting,
    Ready,
    /// Told to stop; finishes what it has.
    Draining,
}

/// One named check's last result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    pub ok: bool,
    /// Whether the instance is of no use while this fails.
    pub essential: bool,
    /// What was found, in words.
    pub detail: String,
    pub checked_at: Timestamp,
}

#[derive(Debug, Default)]
pub struct Health {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    checks: BTreeMap<String, Check>,
}

/// Checks kept; names come from our own code, the bound only guards against a mistake there.
const CHECKS_MAX: usize = 64;

impl Health {
    pub fn set_phase(&self, phase: Phase) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).phase = phase;
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state.read().unwrap_or_else(PoisonError::into_inner).phase
    }

    /// Records a check's result.
    pub fn report(&self, name: &str, check: Check) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.checks.len() < CHECKS_MAX || state.checks.contains_key(name) {
            state.checks.insert(name.to_owned(), check);
        }
    }

    #[must_use]
    pub fn checks(&self) -> BTreeMap<String, Check> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).checks.clone()
    }

    /// Ready to be sent traffic: started, not stopping, and no essential check fails.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.phase == Phase::Ready && state.checks.values().all(|check| check.ok || !check.essential)
    }

    /// Any check fails, essential or not.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).checks.values().any(|check| !check.ok)
    }
}
