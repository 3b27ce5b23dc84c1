//! What others see of an agent and of the fleet.

use std::collections::BTreeMap;

use paramedic_model::{AgentId, Timestamp, Usage};
use schemars::JsonSchema;
use serde::Serialize;

use crate::agent::Agent;
use crate::cost::Cost;
use crate::fleet::Fleet;
use crate::prices::effective_limit;
use crate::series::Point;
use crate::state::State;

/// One agent, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AgentView {
    pub id: AgentId,
    pub session: Option<String>,
    /// The agent that a sub-agent works for.
    pub parent: Option<AgentId>,
    /// What kind of sub-agent it is.
    pub agent_type: Option<String>,
    pub subagents: Subagents,
    pub state: State,
    /// Why it is in this state: a sentence.
    pub state_reason: String,
    /// `permission`, `answer`, `next prompt` where it waits for a person.
    pub waiting_for: Option<String>,
    pub current_tool: Option<CurrentTool>,
    /// The model of the conversation's last call.
    pub model: Option<String>,
    /// Every model it called.
    pub models: Vec<String>,
    pub cwd: Option<String>,
    /// The last part of `cwd`.
    pub project: Option<String>,
    pub version: Option<String>,
    pub permission_mode: Option<String>,
    pub host: Option<String>,
    pub turns: u32,
    pub model_calls: u64,
    pub model_errors: u32,
    pub retries: u32,
    pub tool_calls: u32,
    pub tool_errors: u32,
    pub compactions: u32,
    pub usage: Usage,
    pub cost: Cost,
    /// Size of the conversation at its last call.
    pub context_tokens: u64,
    /// What the model's context holds; null for a model that is not known.
    pub context_limit: Option<u64>,
    pub started_at: Timestamp,
    pub last_event_at: Timestamp,
    /// What happened last: untrusted text.
    pub last_event: String,
    pub last_error: Option<LastError>,
    pub process: Option<ProcessView>,
    /// Events by the source that told them.
    pub sources: BTreeMap<String, u32>,
}

/// How many sub-agents there are, and how many of them are at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Subagents {
    pub total: u32,
    pub active: u32,
    pub failed: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CurrentTool {
    pub name: String,
    pub since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LastError {
    pub at: Timestamp,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ProcessView {
    pub pid: u32,
    /// Clock ticks since boot at its start: with the pid it names one process for ever.
    pub started: Option<u64>,
    pub alive: bool,
    /// `busy` or `idle` as the agent itself says.
    pub status: Option<String>,
    pub rss_bytes: Option<u64>,
    pub at: Timestamp,
}

/// The fleet in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Totals {
    /// Agents kept, sub-agents included.
    pub agents: u64,
    pub subagents: u64,
    /// By the state's word.
    pub by_state: BTreeMap<String, u64>,
    /// Agents that are no longer kept; their calls are in the sums.
    pub agents_dropped: u64,
    pub calls: u64,
    pub usage: Usage,
    pub cost: Cost,
    pub turns: u64,
    pub tool_calls: u64,
    pub tool_errors: u64,
}

impl Fleet {
    /// One agent as others see it.
    #[must_use]
    pub fn agent(&self, agent: &AgentId) -> Option<AgentView> {
        self.get(agent).map(|agent| self.view(agent))
    }

    /// Every agent, the ones in trouble first, then the most recent.
    #[must_use]
    pub fn views(&self) -> Vec<AgentView> {
        let mut views: Vec<AgentView> = self.agents().map(|agent| self.view(agent)).collect();
        views.sort_by(|one, other| (one.state, other.last_event_at, &one.id).cmp(&(other.state, one.last_event_at, &other.id)));
        views
    }

    /// The sub-agents of an agent, oldest first.
    #[must_use]
    pub fn subagents(&self, agent: &AgentId) -> Vec<AgentView> {
        let Some(parent) = self.get(agent) else { return Vec::new() };
        let mut views: Vec<AgentView> = self.children(parent).map(|agent| self.view(agent)).collect();
        views.sort_by(|one, other| (one.started_at, &one.id).cmp(&(other.started_at, &other.id)));
        views
    }

    fn children<'a>(&'a self, parent: &'a Agent) -> impl Iterator<Item = &'a Agent> {
        let members = self.sessions.get(&parent.session_key).filter(|_| !parent.is_subagent());
        members
            .into_iter()
            .flat_map(|session| &session.agents)
            .filter_map(|key| self.agents.get(key).map(|agent| &**agent))
            .filter(|agent| agent.is_subagent())
    }

    /// An agent's curve over time, oldest point first, at most 120.
    #[must_use]
    pub fn series(&self, agent: &AgentId) -> Vec<Point> {
        self.get(agent).map(|agent| agent.series.points().collect()).unwrap_or_default()
    }

    /// The view of an agent of this fleet.
    #[must_use]
    pub fn view(&self, agent: &Agent) -> AgentView {
        let (state, reason) = self.state_of(agent);
        let line = self.line(&agent.shares);
        let model = (agent.model != crate::tally::MODEL_NONE).then(|| self.models.name(agent.model));
        let limit = model.and_then(|model| self.prices.context_limit(model));
        let owned = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        AgentView {
            id: AgentId::new(agent.id()),
            session: owned(&agent.session),
            parent: agent.id().split_once('/').map(|(parent, _)| AgentId::new(parent)),
            agent_type: owned(&agent.agent_type),
            subagents: self.count_subagents(agent),
            state,
            state_reason: reason.to_string(),
            waiting_for: reason.waiting_for().map(str::to_owned),
            current_tool: agent.current_tool().map(|(name, since)| CurrentTool { name: name.to_owned(), since }),
            model: model.map(str::to_owned),
            models: agent.shares.iter().map(|(model, _)| self.models.name(*model).to_owned()).collect(),
            cwd: owned(&agent.cwd),
            project: agent.cwd.as_deref().map(project),
            version: owned(&agent.version),
            permission_mode: owned(&agent.permission_mode),
            host: owned(&agent.host),
            turns: agent.turns(),
            model_calls: line.calls,
            model_errors: agent.model_errors,
            retries: agent.retries,
            tool_calls: agent.tool_calls(),
            tool_errors: agent.tool_failures(),
            compactions: agent.compactions,
            usage: line.usage,
            cost: line.cost,
            context_tokens: u64::from(agent.context),
            context_limit: effective_limit(limit, u64::from(agent.context_max)),
            started_at: Timestamp::from_micros(agent.started_us),
            last_event_at: agent.last_event_at(),
            last_event: agent.last_event.clone(),
            last_error: agent
                .last_error
                .as_ref()
                .map(|(at_us, text)| LastError { at: Timestamp::from_micros(*at_us), text: text.to_string() }),
            process: agent.process.as_ref().map(|process| ProcessView {
                pid: process.pid,
                started: process.started,
                alive: process.alive,
                status: owned(&process.status),
                rss_bytes: process.rss_bytes,
                at: Timestamp::from_micros(process.at_us),
            }),
            sources: agent.sources.iter().map(|count| (count.source.as_str().to_owned(), count.events)).collect(),
        }
    }

    fn count_subagents(&self, parent: &Agent) -> Subagents {
        let mut count = Subagents::default();
        for agent in self.children(parent) {
            let (state, _) = self.state_of(agent);
            count.total += 1;
            count.active += u32::from(!matches!(state, State::Done | State::Failed));
            count.failed += u32::from(state == State::Failed);
        }
        count
    }

    /// The fleet in numbers.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let unpriced = self.books.cells.iter().filter(|(_, tally)| tally.unpriced_calls > 0 || tally.unpriced_tokens > 0);
        let mut models: Vec<u16> = unpriced.map(|((_, model), _)| *model).collect();
        models.sort_unstable();
        models.dedup();
        let total = &self.books.total;
        let mut totals = Totals {
            agents: self.agents.len() as u64,
            subagents: 0,
            by_state: State::ALL.iter().map(|state| (state.as_str().to_owned(), 0)).collect(),
            agents_dropped: self.agents_dropped,
            calls: total.calls,
            usage: total.usage,
            cost: Cost::of(total, models.into_iter().map(|model| self.models.name(model).to_owned()).collect()),
            turns: 0,
            tool_calls: 0,
            tool_errors: 0,
        };
        for agent in self.agents() {
            totals.subagents += u64::from(agent.is_subagent());
            totals.turns += u64::from(agent.turns());
            totals.tool_calls += u64::from(agent.tool_calls());
            totals.tool_errors += u64::from(agent.tool_failures());
            if let Some(count) = totals.by_state.get_mut(self.state_of(agent).0.as_str()) {
                *count += 1;
            }
        }
        totals
    }
}

/// The last part of a path, whichever way its slashes lean.
pub(crate) fn project(cwd: &str) -> String {
    cwd.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(cwd).to_owned()
}
