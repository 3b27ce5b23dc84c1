//! The engine: finds the agent of an event, lets every detector look, and keeps the timers.

use std::collections::HashMap;
use std::time::Duration;

use paramedic_model::{AgentId, AlertChange, Event, Fact, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alert::{Told, Who};
use crate::catalogue::{Moment, States};
use crate::config::Settings;
use crate::course::{self, Course};
use crate::error::DetectError;
use crate::metrics::Metrics;

/// Version of what [`Detectors::save`] writes.
const SAVED_VERSION: u32 = 1;
/// How long nothing may have been heard of an agent, by the timer's clock, before time alone ends its alerts.
const SETTLE: Duration = Duration::from_secs(60);
/// When there are too many agents, one in so many goes at once: the sweep is then cheap per agent.
const EVICTED_SHARE: usize = 16;

/// All detectors of all agents.
#[derive(Debug, Default)]
pub struct Detectors {
    settings: Settings,
    metrics: Metrics,
    /// Agents in the order in which they were first seen, with holes.
    agents: Vec<Option<Agent>>,
    free: Vec<usize>,
    slots: HashMap<AgentId, usize>,
    /// The agent of the last event: records come agent by agent.
    latest: usize,
    last_tick: Option<Timestamp>,
}

/// One agent as the detectors know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Agent {
    who: Who,
    course: Course,
    states: States,
    /// The last sign of work that the timer has looked at.
    ticked_at: Timestamp,
    /// When the timer saw that sign first. A record that is being read is old by its own times and still has news.
    #[serde(default)]
    heard_at: Timestamp,
    /// That sign was fresh when the timer saw it: the agent runs now, it is not read from an old record.
    live: bool,
    /// Its open alerts were ended because nothing is heard of it.
    abandoned: bool,
}

#[derive(Serialize)]
struct Saved<'a> {
    version: u32,
    last_tick: Option<Timestamp>,
    agents: Vec<&'a Agent>,
}

#[derive(Deserialize)]
struct Loaded {
    last_tick: Option<Timestamp>,
    agents: Vec<Agent>,
}

#[derive(Deserialize)]
struct LoadedVersion {
    version: u32,
}

impl Detectors {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Takes one event in and appends what follows from it to `out`. Events of one agent come in time order; an event
    /// that is older than the one before it counts as simultaneous. Further news about a model call may be handed in
    /// too: they are told apart by the message's id.
    pub fn observe(&mut self, event: &Event, out: &mut Vec<AlertChange>) {
        self.metrics.events.inc();
        let Some(id) = &event.agent else {
            self.metrics.events_without_agent.inc();
            return;
        };
        let from = out.len();
        let slot = self.slot(id, event, out);
        if let Some(agent) = self.agents[slot].as_mut() {
            agent.observe(event, &self.settings, self.last_tick, out);
        }
        self.metrics.count(&out[from..]);
    }

    /// Lets the time pass, live: agents that are running now can fall silent, and alerts of agents that nothing is
    /// heard of any more end. Changes nothing else, however often it is called.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<AlertChange>) {
        let before = self.last_tick.replace(now);
        if before.is_some_and(|before| now < before) {
            return;
        }
        let from = out.len();
        for slot in 0..self.agents.len() {
            let Some(agent) = self.agents[slot].as_mut() else { continue };
            agent.tick(now, before, &self.settings, out);
            if agent.abandoned
                && agent.is_settled(now)
                && now.since(agent.course.last_at) > Duration::from_secs(self.settings.forget_after_s)
            {
                self.forget(slot);
            }
        }
        self.metrics.count(&out[from..]);
    }

    /// All history there was has been read: alerts of agents that have been quiet for long by now end, and agents that
    /// have been quiet for longer are forgotten, as if the timer had run all the while.
    pub fn end_history(&mut self, now: Timestamp, out: &mut Vec<AlertChange>) {
        let from = out.len();
        for slot in 0..self.agents.len() {
            let Some(agent) = self.agents[slot].as_mut() else { continue };
            let quiet = now.since(agent.course.last_at);
            if quiet > Duration::from_secs(self.settings.abandon_after_s) {
                agent.abandon(Some(now), &self.settings, out);
            }
            if agent.abandoned && quiet > Duration::from_secs(self.settings.forget_after_s) {
                self.forget(slot);
            }
        }
        self.metrics.count(&out[from..]);
    }

    /// The record ends here for every agent: alerts that are still on end at their agent's last event.
    pub fn finish(&mut self, out: &mut Vec<AlertChange>) {
        let from = out.len();
        for agent in self.agents.iter_mut().flatten() {
            agent.abandon(None, &self.settings, out);
        }
        self.metrics.count(&out[from..]);
    }

    /// Changes the thresholds from the next event on; what was learnt stays.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Everything that was learnt from events, without the settings.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let saved = Saved { version: SAVED_VERSION, last_tick: self.last_tick, agents: self.agents.iter().flatten().collect() };
        // Plain structs with string keys cannot fail to serialise.
        serde_json::to_vec(&saved).unwrap_or_default()
    }

    /// Reads back what [`save`](Self::save) wrote.
    pub fn load(bytes: &[u8], settings: Settings) -> Result<Self, DetectError> {
        let LoadedVersion { version } = serde_json::from_slice(bytes).map_err(DetectError::Unreadable)?;
        if version != SAVED_VERSION {
            return Err(DetectError::Version { found: version, known: SAVED_VERSION });
        }
        let loaded: Loaded = serde_json::from_slice(bytes).map_err(DetectError::Unreadable)?;
        let mut detectors = Self { last_tick: loaded.last_tick, ..Self::new(settings) };
        for agent in loaded.agents {
            detectors.slots.insert(agent.who.agent.clone(), detectors.agents.len());
            detectors.agents.push(Some(agent));
        }
        detectors.metrics.agents.set(i64::try_from(detectors.slots.len()).unwrap_or(i64::MAX));
        Ok(detectors)
    }

    #[inline]
    fn slot(&mut self, id: &AgentId, event: &Event, out: &mut Vec<AlertChange>) -> usize {
        if let Some(Some(agent)) = self.agents.get(self.latest)
            && agent.who.agent == *id
        {
            return self.latest;
        }
        self.latest = match self.slots.get(id) {
            Some(slot) => *slot,
            None => self.admit(id, event, out),
        };
        self.latest
    }

    fn admit(&mut self, id: &AgentId, event: &Event, out: &mut Vec<AlertChange>) -> usize {
        if self.slots.len() >= self.settings.agents_max.max(1) {
            self.evict(out);
        }
        let agent = Agent::new(id.clone(), event.at);
        let slot = self.free.pop().unwrap_or(self.agents.len());
        if slot == self.agents.len() {
            self.agents.push(Some(agent));
        } else {
            self.agents[slot] = Some(agent);
        }
        self.slots.insert(id.clone(), slot);
        self.metrics.agents.inc();
        slot
    }

    fn forget(&mut self, slot: usize) {
        if let Some(agent) = self.agents[slot].take() {
            self.slots.remove(&agent.who.agent);
            self.free.push(slot);
            self.metrics.agents.dec();
        }
    }

    /// Makes room: the agents that have been quiet for longest go.
    fn evict(&mut self, out: &mut Vec<AlertChange>) {
        let quiet_since = |slot: usize, agent: &Option<Agent>| agent.as_ref().map(|agent| (agent.course.last_at, slot));
        let mut quiet: Vec<_> = self.agents.iter().enumerate().filter_map(|(slot, agent)| quiet_since(slot, agent)).collect();
        quiet.sort_unstable();
        quiet.truncate((quiet.len() / EVICTED_SHARE).max(1));
        for (_, slot) in quiet {
            if let Some(agent) = self.agents[slot].as_mut() {
                // That there is no room for it says nothing about what became of it.
                agent.course.owes_result = false;
                agent.abandon(None, &self.settings, out);
            }
            self.forget(slot);
            self.metrics.agents_evicted.inc();
        }
    }
}

impl Agent {
    fn new(id: AgentId, at: Timestamp) -> Self {
        let course = Course::new(at);
        let who = Who { agent: id, session: None, user: None };
        Self { who, course, states: States::default(), ticked_at: Timestamp::EPOCH, heard_at: at, live: false, abandoned: false }
    }

    fn observe(&mut self, event: &Event, settings: &Settings, last_tick: Option<Timestamp>, out: &mut Vec<AlertChange>) {
        let at = event.at.max(self.course.last_at);
        self.pass(event, at, settings, last_tick, out);
        self.abandoned = false;
        self.introduce(event);
        let step = self.course.observe(event, at);
        let moment = Moment { event, at, step: &step, course: &self.course, who: &self.who, settings };
        // A call that passed counts for what it cost; a failure that others tell better counts for nothing.
        if !step.passing || matches!(event.fact, Fact::ModelCall { .. }) {
            self.states.observe(&moment, out);
        }
        self.course.settle(event, &step);
    }

    /// The time between the last sign of work and this event.
    #[inline]
    fn pass(&mut self, event: &Event, at: Timestamp, settings: &Settings, last_tick: Option<Timestamp>, out: &mut Vec<AlertChange>) {
        let gap = at.since(self.course.last_at);
        if gap < Duration::from_secs(settings.silence_note_s.min(settings.abandon_after_s)) {
            return;
        }
        self.abandon(Some(at), settings, out);
        if course::is_activity(event) {
            // An event may be the first thing to happen after the machine slept, before the timer.
            if let Some(last_tick) = last_tick.filter(|_| self.live) {
                let unseen = at.since(last_tick.max(self.course.last_at));
                self.states.silence.shift(unseen.saturating_sub(Duration::from_secs(settings.tick_gap_max_s)));
            }
            self.states.silence.pass(&self.course, Told { who: &self.who, settings, at }, out);
        }
        if gap > Duration::from_secs(settings.forget_after_s) {
            self.abandon(None, settings, out);
            *self = Self::new(self.who.agent.clone(), at);
        }
    }

    fn tick(&mut self, now: Timestamp, before: Option<Timestamp>, settings: &Settings, out: &mut Vec<AlertChange>) {
        let last_at = self.course.last_at;
        if last_at != self.ticked_at || before.is_none() {
            self.ticked_at = last_at;
            self.heard_at = now;
            self.live = now.since(last_at) < Duration::from_secs(settings.silence_note_s);
        }
        // A sub-agent's last answer goes to its parent and is often missing in its own record: whether it fell silent or
        // has finished only its next event tells.
        if self.live && self.who.agent.subagent().is_none() {
            // Only the part of the gap in which the agent was already quiet can have been taken for silence.
            let unseen = now.since(before.unwrap_or(now).max(last_at));
            let slept = unseen.saturating_sub(Duration::from_secs(settings.tick_gap_max_s));
            if !slept.is_zero() {
                self.states.silence.shift(slept);
            }
            self.states.silence.pass(&self.course, Told { who: &self.who, settings, at: now }, out);
        }
        if !self.abandoned && self.is_settled(now) && now.since(last_at) > Duration::from_secs(settings.abandon_after_s) {
            self.abandon(Some(now), settings, out);
        }
    }

    /// Nothing new has been read about the agent for a moment: time may have its consequences.
    fn is_settled(&self, now: Timestamp) -> bool {
        now.since(self.heard_at) >= SETTLE
    }

    /// Ends the alerts of which nothing was heard until `now` for too long; all of them when there is no `now` any more.
    fn abandon(&mut self, now: Option<Timestamp>, settings: &Settings, out: &mut Vec<AlertChange>) {
        let told = Told { who: &self.who, settings, at: self.course.last_at };
        let after = Duration::from_secs(settings.abandon_after_s);
        self.abandoned = true;
        if self.course.owes_result && now.is_none_or(|now| now.since(told.at) > after) {
            self.course.owes_result = false;
            self.states.lost_subagent.vanish(told, out);
        }
        for (alert, info) in self.states.alerts() {
            let Some(heard_at) = alert.last_heard_at(told.at) else { continue };
            if now.is_none_or(|now| now.since(heard_at) > after) {
                alert.abandon(told, info, out);
            } else {
                self.abandoned = false;
            }
        }
    }

    /// Remembers what later alerts say about the agent.
    #[inline]
    fn introduce(&mut self, event: &Event) {
        if let Some(session) = &event.session
            && self.who.session.as_ref() != Some(session)
        {
            self.who.session = Some(session.clone());
        }
        if let Some(user) = &event.correlation.user
            && self.who.user.as_ref() != Some(user)
        {
            self.who.user = Some(user.clone());
        }
    }
}
