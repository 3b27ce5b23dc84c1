//! The limits as operators see them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::gate::{Gate, Rule};
use super::state::State;

/// Limits that are shown: those where most wait, then those that held most.
pub const VIEW_GATES_MAX: usize = 200;

/// One limit, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateView {
    /// `rate_limit_per_user@user:ana`, `adaptive_concurrency@anthropic/claude-opus-5-5`.
    pub id: String,
    /// `requests`, `concurrent`, `adaptive`, `provider`.
    pub what: String,
    /// What it is set to; none while it holds nobody.
    pub count: Option<u64>,
    /// What a call could take now. Of rates what the bucket holds, below zero a debt; of calls at the same time the places
    /// that are free; of a provider's limits the share that is left, 0 to 1.
    pub level: Option<f64>,
    pub waiting: u64,
    pub admitted: u64,
    pub held: u64,
}

pub(super) fn view(state: &mut State, now: Instant) -> Vec<GateView> {
    let places = state.places();
    let rank = |gate: &Gate| std::cmp::Reverse((gate.backlog.calls, gate.held, gate.admitted));
    let mut ranked: Vec<_> = places.into_iter().map(|place| (rank(state.gate(place)), place)).collect();
    ranked.sort_unstable();
    ranked.truncate(VIEW_GATES_MAX);
    ranked.into_iter().map(|(_, place)| one(state.gate(place), now)).collect()
}

fn one(gate: &mut Gate, now: Instant) -> GateView {
    let count = gate.count();
    let free = |open: u64| count.map(|count| count as f64 - open as f64);
    let (what, level) = match &mut gate.rule {
        Rule::Rate(what, bucket) => (name(*what), count.is_some().then(|| bucket.level(now))),
        Rule::Places { open, .. } => ("concurrent", free(*open)),
        Rule::Callers { open, .. } => ("concurrent-agents", free(open.len() as u64)),
        Rule::Adaptive(adaptive) => ("adaptive", free(adaptive.open)),
        Rule::Pace(pace) => ("provider", pace.left(now)),
    };
    let (id, what) = (gate.id.to_string(), what.to_owned());
    GateView { id, what, count, level, waiting: gate.backlog.calls, admitted: gate.admitted, held: gate.held }
}

fn name(what: super::What) -> &'static str {
    match what {
        super::What::Requests => "requests",
        super::What::InputTokens => "input-tokens",
        super::What::OutputTokens => "output-tokens",
        super::What::Tokens => "tokens",
        super::What::Concurrent => "concurrent",
        super::What::ConcurrentAgents => "concurrent-agents",
    }
}
