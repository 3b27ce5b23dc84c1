//! What the fleet says about agents, every few seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::Timestamp;

use crate::catalogue::Metric;
use crate::ledger::{Ledger, lock};
use crate::meter::Meter;
use crate::names::Kind;
use crate::passing::last_end;
use crate::requests::End;

/// The job that agents' processes are under.
const JOB: &str = "agent";

/// One agent as the fleet sees it now.
#[derive(Debug, Clone, Copy)]
pub struct AgentGauge<'a> {
    pub agent: &'a str,
    pub is_subagent: bool,
    pub project: Option<&'a str>,
    /// The fleet's word: `stuck`, `failed`, `silent`, `waiting`, `working`, `done`.
    pub state: &'a str,
    pub context_tokens: u64,
    pub context_limit: Option<u64>,
    pub last_event_at: Timestamp,
    pub process: Option<ProcessGauge>,
}

/// The last report about an agent's process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessGauge {
    pub alive: bool,
    pub rss_bytes: Option<u64>,
    pub at: Timestamp,
}

/// A queue of jobs for agents that somebody looked at.
#[derive(Debug, Clone, Copy)]
pub struct QueueGauge<'a> {
    pub queue: &'a str,
    pub depth: u64,
    /// Jobs that are worked on for too long, where that is known.
    pub stale_jobs: Option<u64>,
}

/// Gauges that are set anew at each look.
const SET_ANEW: &[Metric] = &[
    Metric::SessionsActive,
    Metric::Heartbeat,
    Metric::AgentsByState,
    Metric::ContextTokens,
    Metric::ContextLimit,
    Metric::Up,
    Metric::AgentUp,
    Metric::ProcessRss,
    Metric::ProcessMemory,
    Metric::AgentRss,
    Metric::TurnCount,
    Metric::McpState,
    Metric::McpClient,
    Metric::McpServers,
    Metric::McpConnections,
];

impl Meter {
    /// Takes all agents as they are now. Series of agents that are not among them, or have ended, end.
    pub fn agents(&mut self, agents: &[AgentGauge<'_>], now: Timestamp) {
        let now_ms = now.as_millis();
        for agent in agents {
            self.reconcile(agent, now);
        }
        let mut states: BTreeMap<&str, u64> = BTreeMap::new();
        let mut projects: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        let mut servers: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        let turns = self.turns();
        let mut active = 0u64;
        let ledger = Arc::clone(&self.ledger);
        lock(&ledger).begin(SET_ANEW);
        for agent in agents {
            *states.entry(agent.state).or_default() += 1;
            let is_active = agent.state != "done";
            if agent.is_subagent {
                continue;
            }
            // One that ended long ago must not take the room of one that works.
            if !is_active && agent.process.is_none() {
                continue;
            }
            let label = self.names.admit(Kind::Agent, agent.agent, now_ms);
            let project = self.names.admit(Kind::Project, agent.project.unwrap_or_default(), now_ms);
            let mut ledger = lock(&ledger);
            self.process(&mut ledger, agent, &label, now);
            if !is_active {
                continue;
            }
            active += 1;
            *projects.entry(project.clone()).or_default() += 1;
            conversation(&mut ledger, agent, &label, &project, now_ms);
            if let Some(turns) = turns.get(&label) {
                ledger.set(Metric::TurnCount, &[&label], *turns as f64, now_ms);
            }
            if let Some(course) = self.courses.get(agent.agent) {
                for (server, connected) in course.servers() {
                    *servers.entry(server.clone()).or_default() += u64::from(connected);
                }
            }
        }
        let mut ledger = lock(&ledger);
        for (state, count) in states {
            ledger.set(Metric::AgentsByState, &[state], count as f64, now_ms);
        }
        for (project, count) in projects {
            ledger.set(Metric::SessionsActive, &[&project], count as f64, now_ms);
        }
        ledger.set(Metric::SessionsActiveCount, &[], active as f64, now_ms);
        ledger.set(Metric::ActiveMonitors, &[], active as f64, now_ms);
        mcp(&mut ledger, &servers, now_ms);
        ledger.sweep(SET_ANEW);
        drop(ledger);
        self.count_active(now_ms);
    }

    /// Takes what is known of queues; series of queues that are not among them end.
    pub fn queues(&mut self, queues: &[QueueGauge<'_>], now: Timestamp) {
        let now_ms = now.as_millis();
        let metrics = [Metric::QueueDepth, Metric::StaleJobs];
        let names: Vec<_> = queues.iter().map(|queue| self.names.admit(Kind::Word, queue.queue, now_ms)).collect();
        let mut ledger = lock(&self.ledger);
        ledger.begin(&metrics);
        for (queue, name) in queues.iter().zip(&names) {
            ledger.set(Metric::QueueDepth, &[name], queue.depth as f64, now_ms);
            if let Some(stale) = queue.stale_jobs {
                ledger.set(Metric::StaleJobs, &[name], stale as f64, now_ms);
            }
        }
        ledger.sweep(&metrics);
    }

    /// Turns by the label of the main agent.
    fn turns(&self) -> BTreeMap<Arc<str>, u64> {
        let mut turns: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for course in self.courses.values().filter(|course| course.turns > 0) {
            *turns.entry(Arc::clone(&course.label)).or_default() += course.turns;
        }
        turns
    }

    /// A request of an agent that will not go on with it has ended.
    fn reconcile(&mut self, agent: &AgentGauge<'_>, now: Timestamp) {
        let has_died = agent.state == "failed" && agent.process.is_some_and(|process| !process.alive);
        if agent.state != "done" && !has_died {
            return;
        }
        let Some(mut course) = self.courses.remove(agent.agent) else { return };
        if let Some(turn) = course.turn {
            let failed = last_end(&course, turn.answered);
            let end = match (has_died, turn.answered, &failed) {
                (true, ..) => End::Error("process_died"),
                (false, true, _) => End::Success,
                (false, false, Some(class)) => End::Error(class),
                (false, false, None) => End::Cancelled,
            };
            let at = agent.process.map_or(agent.last_event_at, |process| process.at.max(agent.last_event_at));
            let live = at >= now.before(Duration::from_secs(self.settings.history_s));
            self.close_at(now.as_millis(), live, &mut course, end, at, None);
        }
        course.end();
        self.courses.insert(agent.agent.into(), course);
    }

    fn process(&self, ledger: &mut Ledger, agent: &AgentGauge<'_>, label: &str, now: Timestamp) {
        let Some(process) = agent.process else { return };
        let now_ms = now.as_millis();
        let is_missed = agent.state != "done" && now.since(process.at) < Duration::from_secs(self.settings.down_s);
        if process.alive || is_missed {
            let up = if process.alive { 1.0 } else { 0.0 };
            ledger.set(Metric::Up, &[JOB, label], up, now_ms);
            ledger.set(Metric::AgentUp, &[label], up, now_ms);
        }
        if let Some(rss) = process.rss_bytes.filter(|_| process.alive) {
            ledger.set(Metric::ProcessRss, &[JOB, label], rss as f64, now_ms);
            ledger.set(Metric::ProcessMemory, &[JOB, label, "rss"], rss as f64, now_ms);
            ledger.set(Metric::AgentRss, &[label], rss as f64, now_ms);
        }
    }
}

fn conversation(ledger: &mut Ledger, agent: &AgentGauge<'_>, label: &str, project: &str, now_ms: i64) {
    if agent.context_tokens > 0 {
        ledger.set(Metric::ContextTokens, &[label], agent.context_tokens as f64, now_ms);
        if let Some(limit) = agent.context_limit {
            ledger.set(Metric::ContextLimit, &[label], limit as f64, now_ms);
        }
    }
    let alive = agent.process.filter(|process| process.alive);
    // Nobody expects a sign of one that waits for a person.
    if alive.is_none() && agent.state == "waiting" {
        return;
    }
    let sign = alive.map_or(agent.last_event_at, |process| process.at.max(agent.last_event_at));
    ledger.set(Metric::Heartbeat, &[label, project], sign.as_millis() as f64 / 1e3, now_ms);
}

fn mcp(ledger: &mut Ledger, servers: &BTreeMap<Arc<str>, u64>, now_ms: i64) {
    if servers.is_empty() {
        return;
    }
    for (server, connections) in servers {
        let connected = if *connections > 0 { 1.0 } else { 0.0 };
        // No event says over which transport.
        ledger.set(Metric::McpState, &[server, ""], connected, now_ms);
        ledger.set(Metric::McpClient, &[server], connected, now_ms);
    }
    let connected = servers.values().filter(|connections| **connections > 0).count();
    ledger.set(Metric::McpServers, &[], connected as f64, now_ms);
    ledger.set(Metric::McpConnections, &[], servers.values().sum::<u64>() as f64, now_ms);
}
