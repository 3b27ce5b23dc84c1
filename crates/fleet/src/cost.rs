//! What it all cost: by day, by model, by agent. Unknown is said, never counted as nothing.

use std::collections::BTreeMap;

use paramedic_model::{Timestamp, Usage};
use schemars::JsonSchema;
use serde::Serialize;

use crate::agent::Agent;
use crate::fleet::Fleet;
use crate::tally::{DAY_OTHER, Tally};

/// Where a cost comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PricedBy {
    /// Our price list, for all of it.
    Prices,
    /// The source reported it, because the model is not in our list.
    Source,
    /// Some of each.
    Mixed,
    /// Nothing is known of it.
    Unknown,
}

/// What is known of a cost, and how much of it is not.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Cost {
    /// The known part in US dollars; null when nothing of it is known. A lower bound while `unpriced_tokens` is not 0.
    pub usd: Option<f64>,
    pub priced_by: PricedBy,
    /// Calls and tokens of models without a price.
    pub unpriced_calls: u64,
    pub unpriced_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unpriced_models: Vec<String>,
}

impl Cost {
    #[expect(clippy::cast_precision_loss, reason = "for showing; the sum is kept in whole picodollars")]
    pub(crate) fn of(tally: &Tally, unpriced_models: Vec<String>) -> Self {
        let unpriced = tally.unpriced_calls > 0 || tally.unpriced_tokens > 0;
        let priced_by = match tally.cost {
            0 if unpriced => PricedBy::Unknown,
            cost if tally.reported == 0 || cost == 0 => PricedBy::Prices,
            cost if tally.reported == cost => PricedBy::Source,
            _ => PricedBy::Mixed,
        };
        Self {
            usd: (priced_by != PricedBy::Unknown).then_some(tally.cost as f64 / 1e12),
            priced_by,
            unpriced_calls: tally.unpriced_calls,
            unpriced_tokens: tally.unpriced_tokens,
            unpriced_models,
        }
    }

    /// The known part, 0 where nothing is known. For sums and axes; show `usd`.
    #[must_use]
    pub fn usd_known(&self) -> f64 {
        self.usd.unwrap_or(0.0)
    }

    /// All of it is known.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.unpriced_calls == 0 && self.unpriced_tokens == 0
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CostLine {
    pub calls: u64,
    pub usage: Usage,
    pub cost: Cost,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DayCost {
    /// UTC, `2026-01-14`; `other` for days beyond the table's limit.
    pub day: String,
    pub sum: CostLine,
    pub by_model: Vec<ModelCost>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ModelCost {
    pub model: String,
    pub sum: CostLine,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AgentCost {
    pub agent: String,
    pub session: Option<String>,
    pub project: Option<String>,
    pub last_event_at: Timestamp,
    pub sum: CostLine,
}

/// Tokens whose cost is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unpriced {
    pub model: String,
    pub calls: u64,
    pub tokens: u64,
}

/// Everything that was counted.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CostReport {
    pub totals: CostLine,
    /// Oldest day first.
    pub by_day: Vec<DayCost>,
    /// Dearest first.
    pub by_model: Vec<ModelCost>,
    /// Dearest first.
    pub by_agent: Vec<AgentCost>,
    /// Agents that are no longer kept, together.
    pub dropped_agents: Option<CostLine>,
    pub unpriced: Vec<Unpriced>,
    pub prices_as_of: String,
}

impl Fleet {
    /// The report, from all that was counted so far.
    #[must_use]
    pub fn cost_report(&self) -> CostReport {
        let mut by_day: BTreeMap<i32, Vec<(u16, Tally)>> = BTreeMap::new();
        let mut by_model: BTreeMap<u16, Tally> = BTreeMap::new();
        for ((day, model), tally) in &self.books.cells {
            by_day.entry(*day).or_default().push((*model, *tally));
            let sum = by_model.entry(*model).or_default();
            *sum = sum.plus(*tally);
        }
        let by_model: Vec<(u16, Tally)> = by_model.into_iter().collect();
        let unpriced = by_model.iter().filter(|(_, tally)| is_unpriced(tally)).map(|(model, tally)| Unpriced {
            model: self.models.name(*model).to_owned(),
            calls: tally.unpriced_calls,
            tokens: tally.unpriced_tokens,
        });
        let mut agents: Vec<&Agent> = self.agents().filter(|agent| !agent.tally().is_nothing()).collect();
        agents.sort_by_key(|agent| (std::cmp::Reverse(agent.tally().cost), agent.id()));
        CostReport {
            totals: self.line(&by_model),
            unpriced: unpriced.collect(),
            by_day: by_day
                .iter()
                .map(|(day, models)| DayCost { day: day_name(*day), sum: self.line(models), by_model: self.model_lines(models) })
                .collect(),
            by_model: self.model_lines(&by_model),
            by_agent: agents.into_iter().map(|agent| self.agent_line(agent)).collect(),
            dropped_agents: (self.agents_dropped > 0).then(|| CostLine {
                calls: self.books.dropped.calls,
                usage: self.books.dropped.usage,
                cost: Cost::of(&self.books.dropped, Vec::new()),
            }),
            prices_as_of: self.prices.as_of().to_owned(),
        }
    }

    pub(crate) fn line(&self, models: &[(u16, Tally)]) -> CostLine {
        let sum = models.iter().fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally));
        let unpriced = models.iter().filter(|(_, tally)| is_unpriced(tally)).map(|(model, _)| self.models.name(*model).to_owned());
        CostLine { calls: sum.calls, usage: sum.usage, cost: Cost::of(&sum, unpriced.collect()) }
    }

    fn model_lines(&self, models: &[(u16, Tally)]) -> Vec<ModelCost> {
        let mut models = models.to_vec();
        models.sort_by_key(|(model, tally)| (std::cmp::Reverse(tally.cost), *model));
        models.iter().map(|share| ModelCost { model: self.models.name(share.0).to_owned(), sum: self.line(&[*share]) }).collect()
    }

    fn agent_line(&self, agent: &Agent) -> AgentCost {
        AgentCost {
            agent: agent.id().to_owned(),
            session: agent.session().map(str::to_owned),
            project: agent.cwd.as_deref().map(crate::view::project),
            last_event_at: agent.last_event_at(),
            sum: self.line(&agent.shares),
        }
    }
}

const fn is_unpriced(tally: &Tally) -> bool {
    tally.unpriced_calls > 0 || tally.unpriced_tokens > 0
}

fn day_name(day: i32) -> String {
    if day == DAY_OTHER { "other".to_owned() } else { Timestamp::from_secs(i64::from(day) * 86_400).date() }
}
