//! What an operator may set.

use serde::{Deserialize, Serialize};

/// How agents' events become samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether samples are derived from agents at all. Default true.
    pub enabled: bool,
    /// Seconds between two writes of all series. Default 15.
    pub interval_s: u64,
    /// Whether changes of alerts are written at once and not only with the next interval. Default true.
    pub alerts_at_once: bool,
    /// Seconds: an event that happened longer ago than this when it is told is history. Counters do not count it; the cost of
    /// the day does. Default 300.
    pub history_s: u64,
    /// Whether history is counted nevertheless: for looking at a record of the past. Default false.
    pub count_history: bool,
    /// Dollars that the fleet may cost per day, for `agent_daily_budget_dollars`; 0 for no budget and no such metric. Default 0.
    pub daily_budget_dollars: f64,
    /// What `agent_request_duration_seconds` and `agent_response_seconds` measure: "answer", from the request to the agent's
    /// first answer, or "turn", to the end of all work on it. Default "answer".
    pub request_duration: RequestDuration,
    /// Names of spans that are one request to an agent. Default ["agent.execute"].
    pub request_spans: Vec<String>,
    /// Seconds that `up` stays 0 for an agent whose process died in the middle of its work; then the series ends. Default 900.
    pub down_s: u64,
    /// Seconds without an event after which the series of one agent end. Default 21600 (6 hours).
    pub forget_agents_after_s: u64,
    /// Seconds without a change after which any other labelled series ends. Default 604800 (7 days).
    pub forget_after_s: u64,
    /// Agents with series of their own; further ones are counted as `other`. Default 200.
    pub agents_max: usize,
    /// Users told apart; further ones are counted as `other`. Default 200.
    pub users_max: usize,
    /// Tools told apart; further ones are counted as `other`. Default 100.
    pub tools_max: usize,
    /// Models told apart; further ones are counted as `other`. Default 50.
    pub models_max: usize,
    /// Projects told apart; further ones are counted as `other`. Default 100.
    pub projects_max: usize,
    /// MCP servers told apart; further ones are counted as `other`. Default 50.
    pub mcp_servers_max: usize,
    /// Agents and sub-agents whose work is followed; beyond it the longest silent one is forgotten. Default 10000.
    pub followed_max: usize,
    /// Model calls remembered to count only what a later telling adds. Default 16384.
    pub calls_max: usize,
    /// Active alerts remembered. Default 10000.
    pub alerts_max: usize,
}

/// What the duration of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestDuration {
    /// Until the agent's first answer: what a person waits for. A coding agent then works for minutes, which is no trouble.
    #[default]
    Answer,
    /// Until the agent has handed the turn back.
    Turn,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_s: 15,
            alerts_at_once: true,
            history_s: 300,
            count_history: false,
            daily_budget_dollars: 0.0,
            request_duration: RequestDuration::Answer,
            request_spans: vec!["agent.execute".to_owned()],
            down_s: 900,
            forget_agents_after_s: 21_600,
            forget_after_s: 604_800,
            agents_max: 200,
            users_max: 200,
            tools_max: 100,
            models_max: 50,
            projects_max: 100,
            mcp_servers_max: 50,
            followed_max: 10_000,
            calls_max: 16_384,
            alerts_max: 10_000,
        }
    }
}
