//! The fleet itself: takes each event once, gives its novelty, and keeps every table within its limit.

use paramedic_model::{AgentId, ApiErrorClass, Event, Fact, SessionId, Source, Timestamp, WaitReason};

use crate::agent::Agent;
use crate::calls::OpenCalls;
use crate::config::Settings;
use crate::key::{KeyMap, domain, key, mix};
use crate::metrics::Metrics;
use crate::prices::Prices;
use crate::seen::Seen;
use crate::session::Session;
use crate::settle;
use crate::state::{Reason, State, decide_state};
use crate::tally::{Books, Models};
use crate::told::{Kind, Telling, teller};
use crate::tools::OpenTools;

/// Two sources tell a prompt within this time of one another, by their own clocks.
const PROMPT_WINDOW_MS: i64 = 2_000;
/// Any other fact without an id.
pub(crate) const FACT_WINDOW_MS: i64 = 5_000;
/// A sub-agent begins and ends once; sources that watch it from afar are late.
const SUBAGENT_WINDOW_MS: i64 = 60_000;
/// Sub-agents listed per session.
const SUBAGENTS_MAX: usize = 1_000;

/// The record in which Claude Code's telemetry tells a failure the second time.
const RETRIES_EXHAUSTED: &str = "claude_code.api_retries_exhausted";
/// Its bit among the sources, above theirs.
const AFTERWORD: u16 = 1 << 8;

/// The sources that tell a sub-agent's failure under the name of its session.
const FROM_AFAR: u16 = AFTERWORD | teller(Source::OtlpLog);

/// Whether an event tells a fact that was not known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Novelty {
    /// Nobody told this before.
    New,
    /// It was told before; this adds to it (more tokens, a duration, a tool's arguments).
    Update,
    /// It was told before.
    Duplicate,
}

/// Every agent, counted once.
#[derive(Debug)]
pub struct Fleet {
    pub(crate) settings: Settings,
    pub(crate) prices: Prices,
    pub(crate) models: Models,
    pub(crate) agents: KeyMap<Box<Agent>>,
    pub(crate) sessions: KeyMap<Session>,
    pub(crate) books: Books,
    pub(crate) calls: OpenCalls,
    pub(crate) tools: OpenTools,
    pub(crate) seen: Seen,
    pub(crate) agents_dropped: u64,
    /// Token counts and costs that no call can have, cut to the possible.
    pub(crate) implausible: u64,
    pub(crate) newest: Timestamp,
    pub(crate) ticked: Option<Timestamp>,
    pub(crate) metrics: Metrics,
    /// The agent of the last event: events come in runs.
    last: Option<(AgentId, Place)>,
}

/// Where an event belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) agent: u64,
    pub(crate) session: u64,
}

impl Fleet {
    #[must_use]
    pub fn new(prices: Prices, settings: Settings) -> Self {
        Self {
            settings,
            models: Models::new(&[], &prices),
            prices,
            agents: KeyMap::default(),
            sessions: KeyMap::default(),
            books: Books::default(),
            calls: OpenCalls::default(),
            tools: OpenTools::default(),
            seen: Seen::new(settings.ids_max),
            agents_dropped: 0,
            implausible: 0,
            newest: Timestamp::EPOCH,
            ticked: None,
            metrics: Metrics::default(),
            last: None,
        }
    }

    /// Takes one event and says whether it tells something new. Constant time, bounded memory.
    pub fn observe(&mut self, event: &Event) -> Novelty {
        let novelty = self.take_in(event);
        self.metrics.count(novelty);
        novelty
    }

    fn take_in(&mut self, event: &Event) -> Novelty {
        if event.uid.is_some_and(|uid| !self.seen.insert(record_key(event, uid))) {
            return Novelty::Duplicate;
        }
        self.newest = self.newest.max(event.at);
        let Some(place) = self.place(event) else { return Novelty::New };
        if let Some(agent) = self.agents.get_mut(&place.agent) {
            agent.hear(event);
        }
        if let Some(session) = self.sessions.get_mut(&place.session)
            && event.source != Source::Process
        {
            session.last_us = session.last_us.max(event.at.as_micros());
        }
        match &event.fact {
            Fact::ModelCall { .. } => self.model_call(event, place),
            Fact::ToolCall { .. } => self.tool_call(event, place),
            Fact::ToolResult { .. } => self.tool_result(event, place),
            Fact::Measurement { .. } => self.measurement(event, place),
            Fact::Record if settle::is_account(event) => self.account(event, place),
            _ => self.plain_fact(event, place),
        }
    }

    /// Finds the event's agent, and makes it known when it is new. An event without agent and session has no place.
    fn place(&mut self, event: &Event) -> Option<Place> {
        if let (Some((last, place)), Some(id)) = (&self.last, &event.agent)
            && last == id
        {
            return Some(*place);
        }
        let id = event.agent.clone().or_else(|| event.session.as_ref().map(AgentId::of_session))?;
        let agent_key = key(domain::AGENT, id.as_str());
        let session = session_of(event, &id);
        let session_key = self.agents.get(&agent_key).map_or_else(|| key(domain::SESSION, &session), |agent| agent.session_key);
        let place = Place { agent: agent_key, session: session_key };
        if !self.agents.contains_key(&agent_key) {
            self.make_room();
            self.agents.insert(agent_key, Box::new(Agent::new(&id, event.session.as_ref(), session_key, event.at)));
            let members = &mut self.sessions.entry(session_key).or_default().agents;
            if members.len() < SUBAGENTS_MAX {
                members.push(agent_key);
            }
        }
        self.last = Some((id, place));
        Some(place)
    }

    /// Facts without an id of their own.
    fn plain_fact(&mut self, event: &Event, place: Place) -> Novelty {
        let Some(agent) = self.agents.get_mut(&place.agent) else { return Novelty::New };
        if matches!(event.fact, Fact::Prompt) {
            agent.source(event.source).prompts += 1;
        }
        match event.fact {
            Fact::ModelError { .. } => return self.model_error(event, place),
            Fact::ModelRetry { .. } => return self.model_retry(event, place),
            _ => {}
        }
        if let Some(telling) = telling(event)
            && !agent.told.is_new(&telling)
        {
            return Novelty::Duplicate;
        }
        agent.advance(event, 0);
        Novelty::New
    }

    /// A failure that is tried again. The gateway takes every failed call for one that may be.
    fn model_retry(&mut self, event: &Event, place: Place) -> Novelty {
        let Some(telling) = telling(event) else { return Novelty::New };
        let Some(agent) = self.agents.get_mut(&place.agent) else { return Novelty::New };
        if !agent.takes_failure(&telling, event) {
            return Novelty::Duplicate;
        }
        agent.advance(event, 0);
        Novelty::New
    }

    /// A failure that ended a turn. Telemetry tells a sub-agent's failures under the name of its session.
    fn model_error(&mut self, event: &Event, place: Place) -> Novelty {
        let Some(telling) = telling(event) else { return Novelty::New };
        let is_from_afar = is_about_subagent(event);
        if is_from_afar && self.told_by_subagent(&telling, place) {
            return Novelty::Duplicate;
        }
        let Some(agent) = self.agents.get_mut(&place.agent) else { return Novelty::New };
        if !agent.takes_failure(&telling, event) {
            return Novelty::Duplicate;
        }
        let parent = agent.parent_key();
        if is_from_afar {
            // The session itself goes on.
            agent.model_errors += 1;
        } else {
            agent.advance(event, 0);
        }
        let Fact::ModelError { class, status, .. } = &event.fact else { return Novelty::New };
        let status = status.map(|status| format!(" {status}")).unwrap_or_default();
        let text = if event.text.is_empty() { format!("{}{status}", class.title()) } else { event.text.to_string() };
        agent.error(event.at, &text);
        agent.sample(event.at);
        if let Some(parent) = parent.and_then(|key| self.agents.get_mut(&key))
            && parent.told.joins(&telling, FROM_AFAR)
        {
            parent.model_errors = parent.model_errors.saturating_sub(1);
            return Novelty::Duplicate;
        }
        Novelty::New
    }

    /// Whether a sub-agent of the session told this itself; in the order in which they were first seen.
    fn told_by_subagent(&mut self, telling: &Telling, place: Place) -> bool {
        let Some(session) = self.sessions.get(&place.session) else { return false };
        let (members, agents) = (&session.agents, &mut self.agents);
        members
            .iter()
            .filter(|key| **key != place.agent)
            .any(|key| agents.get_mut(key).is_some_and(|agent| agent.told.joins(telling, u16::MAX)))
    }

    /// Makes room for one more agent: finished ones go first, then the ones not heard of for longest.
    fn make_room(&mut self) {
        if self.agents.len() < self.settings.agents_max.max(1) {
            return;
        }
        let mut order: Vec<(bool, i64, u64)> =
            self.agents.iter().map(|(key, agent)| (self.state_of(agent).0 != State::Done, agent.last_us, *key)).collect();
        order.sort_unstable();
        // A sixteenth at once, so that the sorting is paid for by many newcomers.
        let mut dropped: Vec<u64> = order.into_iter().take(self.settings.agents_max / 16 + 1).map(|(_, _, key)| key).collect();
        dropped.sort_unstable();
        self.calls.close_agents(&dropped, &mut self.seen);
        for key in dropped {
            self.drop_agent(key);
        }
    }

    fn drop_agent(&mut self, key: u64) {
        let Some(agent) = self.agents.remove(&key) else { return };
        self.agents_dropped += 1;
        self.metrics.agents_dropped.inc();
        self.last = None;
        self.books.dropped = self.books.dropped.plus(agent.tally());
        if let Some(session) = self.sessions.get_mut(&agent.session_key) {
            session.agents.retain(|member| *member != key);
            if session.agents.is_empty() {
                self.sessions.remove(&agent.session_key);
            }
        }
    }

    /// A detector says that an agent is stuck, or that it no longer is.
    pub fn set_stuck(&mut self, agent: &AgentId, reason: Option<&str>) {
        if let Some(agent) = self.agents.get_mut(&key(domain::AGENT, agent.as_str())) {
            agent.stuck = reason.map(|reason| paramedic_model::text::head(reason, 512).into());
        }
    }

    /// Tells the time: agents fall silent or are done by time alone. Gives the agents whose state is another than at the
    /// last tick.
    pub fn tick(&mut self, now: Timestamp) -> Vec<AgentId> {
        self.ticked = Some(now);
        let states: Vec<(u64, State, bool)> = self
            .agents
            .iter()
            .map(|(key, agent)| (*key, self.state_of(agent).0, agent.compacted))
            .filter(|(key, state, compacted)| self.agents[key].state_shown != Some(*state) || (*state == State::Done && !compacted))
            .collect();
        let mut changed = Vec::new();
        for (key, state, _) in states {
            let Some(agent) = self.agents.get_mut(&key) else { continue };
            if agent.state_shown != Some(state) {
                agent.state_shown = Some(state);
                changed.push(AgentId::new(agent.id()));
            }
            if state == State::Done {
                agent.compact();
            }
        }
        self.metrics.set_agents(self);
        changed
    }

    /// The time that states are told for: the last tick or, where nobody ticks, the newest event.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.ticked.unwrap_or(self.newest)
    }

    /// The agent's state and why.
    #[must_use]
    pub fn state_of<'a>(&'a self, agent: &'a Agent) -> (State, Reason<'a>) {
        let session = self.sessions.get(&agent.session_key);
        // A session that waits for its sub-agents is as alive as they are; a sub-agent lives in its session's process.
        let last_sign_us = session.filter(|_| !agent.is_subagent()).map_or(agent.last_us, |session| session.last_us);
        let process = agent.process.as_ref().or_else(|| self.parent_of(agent)?.process.as_ref());
        decide_state(&agent.condition(last_sign_us, process), self.now(), &self.settings)
    }

    pub(crate) fn parent_of(&self, agent: &Agent) -> Option<&Agent> {
        self.agents.get(&agent.parent_key()?).map(|agent| &**agent)
    }

    /// Every agent, in no order.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values().map(|agent| &**agent)
    }

    /// One agent.
    #[must_use]
    pub fn get(&self, agent: &AgentId) -> Option<&Agent> {
        self.agents.get(&key(domain::AGENT, agent.as_str())).map(|agent| &**agent)
    }

    /// The prices in use.
    #[must_use]
    pub const fn prices(&self) -> &Prices {
        &self.prices
    }

    /// The fleet's own counters, to be registered.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Whether telemetry tells under the session's name what a sub-agent did.
fn is_about_subagent(event: &Event) -> bool {
    let origin = event.attributes.get("query_source").and_then(serde_json::Value::as_str);
    event.source == Source::OtlpLog && origin.is_some_and(|origin| origin.starts_with("agent"))
}

/// The session that joins an agent with its sub-agents; a service or a log component is its own.
fn session_of(event: &Event, agent: &AgentId) -> String {
    match (agent.as_str().split_once('/'), &event.session) {
        (Some((session, _)), _) => session.to_owned(),
        (None, Some(session)) => SessionId::as_str(session).to_owned(),
        (None, None) => agent.as_str().to_owned(),
    }
}

/// One line can tell several facts; they share its uid but not their kind and tool.
fn record_key(event: &Event, uid: u64) -> u64 {
    let part = match &event.fact {
        Fact::ToolCall { id: Some(id), .. } | Fact::ToolResult { id: Some(id), .. } | Fact::ToolProgress { id: Some(id) } => {
            key(domain::TOOL, id)
        }
        Fact::Measurement { value, .. } => value.to_bits(),
        _ => 0,
    };
    mix(domain::RECORD, &[uid, event.source as u64, u64::from(event.fact.number()), part])
}

/// How to recognise the fact when another source tells it; `None` where every telling is a fact.
fn telling(event: &Event) -> Option<Telling> {
    let request = || event.correlation.request.as_deref().map_or(0, |id| key(domain::REQUEST, id));
    let fact = |kind, detail, window_ms| Telling { kind, source: teller(event.source), at: event.at, id: 0, detail, window_ms };
    Some(match &event.fact {
        Fact::Prompt => {
            let id = event.correlation.prompt.as_deref().map_or(0, |id| key(domain::PROMPT, id));
            Telling { id, ..fact(Kind::Prompt, 0, PROMPT_WINDOW_MS) }
        }
        Fact::TurnEnded { .. } => fact(Kind::TurnEnded, 0, FACT_WINDOW_MS),
        Fact::SessionStarted { .. } => fact(Kind::SessionStarted, 0, FACT_WINDOW_MS),
        Fact::SessionEnded { .. } => fact(Kind::SessionEnded, 0, FACT_WINDOW_MS),
        Fact::ModelError { class, .. } => {
            // What one source calls unknown, or an error of the server, may have a name in another.
            let is_vague = matches!(class, ApiErrorClass::Unknown | ApiErrorClass::Server) || event.source == Source::Gateway;
            let detail = if is_vague { 0 } else { *class as u32 + 1 };
            let told = Telling { id: request(), ..fact(Kind::ModelError, detail, FACT_WINDOW_MS) };
            // Telemetry tells the last failed try and then, in a record of its own, that it was the last.
            let source = if &*event.name == RETRIES_EXHAUSTED { AFTERWORD } else { told.source };
            Telling { source, ..told }
        }
        Fact::ModelRetry { attempt, .. } => {
            // The gateway sees no attempts of clients that do not number them.
            let detail = if event.source == Source::Gateway { 0 } else { attempt.saturating_add(1) };
            Telling { id: request(), ..fact(Kind::ModelRetry, detail, FACT_WINDOW_MS) }
        }
        Fact::Compaction { .. } => fact(Kind::Compaction, 0, FACT_WINDOW_MS),
        Fact::Waiting { reason } => {
            let detail = match reason {
                WaitReason::Permission => 1,
                WaitReason::Input => 2,
                WaitReason::Idle => 3,
            };
            fact(Kind::Waiting, detail, FACT_WINDOW_MS)
        }
        Fact::SubagentStarted { .. } => fact(Kind::SubagentStarted, 0, SUBAGENT_WINDOW_MS),
        Fact::SubagentEnded { .. } => fact(Kind::SubagentEnded, 0, SUBAGENT_WINDOW_MS),
        _ => return None,
    })
}
