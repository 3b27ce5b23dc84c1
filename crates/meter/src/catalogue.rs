//! Every metric that is derived from agents: the one list that the ledger, the tests and the reference are made from.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets, `+Inf` left out.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The word that metadata uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Description {
    pub name: &'static str,
    pub kind: Kind,
    /// All label names it can have; a label whose value is not known is left out.
    pub labels: &'static [&'static str],
    /// Empty: a plain number.
    pub unit: &'static str,
    pub help: &'static str,
    /// Which events it comes from.
    pub from: &'static str,
    /// Who uses the name.
    pub origin: &'static str,
}

impl Description {
    /// One of its labels names a single agent, so its series end when that agent is forgotten.
    #[must_use]
    pub fn is_per_agent(&self) -> bool {
        self.labels.iter().any(|label| matches!(*label, "agent_id" | "session_id" | "instance"))
    }

    /// Whether a scraping Prometheus gets it. `up` and `process_*` are names that a scrape gives to the scraped program
    /// itself, and that is not the agent.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.name != "up" && !self.name.starts_with("process_")
    }

    /// Counters without labels exist from the first write on, as zero: an expression that divides by one finds it.
    #[must_use]
    pub fn is_preset(&self) -> bool {
        self.kind == Kind::Counter && self.labels.is_empty()
    }
}

/// The buckets of the documents, and larger ones behind them: an alert that compares with 60 s needs a bucket above it.
const REQUEST: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const TURN: &[f64] = &[1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
const LLM: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0];
const API: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0];
const EXTERNAL: &[f64] = &[0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const TOOL: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
const MCP: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const PROCESSING: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
const LAG: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
const STREAM_TURN: &[f64] = &[0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
const DETECTION: &[f64] = &[0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
const MONITOR: &[f64] = &[10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0];
const SESSION_EVENTS: &[f64] = &[10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0];

macro_rules! catalogue {
    ($($id:ident: $kind:expr, $name:literal, $labels:expr, $unit:literal, $help:literal, $from:literal, $origin:literal;)+) => {
        /// A metric's place in the catalogue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Metric { $($id),+ }

        /// All derived metrics.
        pub const CATALOGUE: &[Description] = &[
            $(Description { name: $name, kind: $kind, labels: &$labels, unit: $unit, help: $help, from: $from, origin: $origin }),+
        ];
    };
}

use Kind::{Counter, Gauge, Histogram};

catalogue! {
    Requests: Counter, "agent_requests_total", ["status", "user_id"], "",
        "Requests to agents that ended, by how: success, error, cancelled",
        "the end of a turn of a main agent (turn ended, last answer, terminal model error, session ended), spans named in `request_spans`", "book ch. 3, ch. 10, App. E";
    Errors: Counter, "agent_errors_total", ["error_type", "user_id"], "",
        "Requests to agents that failed, by the class of the failure",
        "the same ends with status `error`; `error_type` is the model API's error class, `process_died`, or a span's `error.type`", "book ch. 3, ch. 10, App. E";
    RequestDuration: Histogram(REQUEST), "agent_request_duration_seconds", ["status"], "seconds",
        "Time from a request to its first answer (or, if so set, to the end of its turn), or to its failure",
        "prompts, model calls, terminal model errors, spans named in `request_spans`", "book ch. 3, App. E";
    Response: Histogram(REQUEST), "agent_response_seconds", ["status"], "seconds",
        "The observations of agent_request_duration_seconds under the other name that documents use",
        "as agent_request_duration_seconds", "book ch. 10";
    TurnDuration: Histogram(TURN), "agent_turn_duration_seconds", ["status"], "seconds",
        "Time from a request to the end of all work on it",
        "the end of a turn", "Paramedic";
    RequestsActive: Gauge, "agent_requests_active", [], "",
        "Requests that agents work on now",
        "prompts and ends of turns of main agents", "book ch. 3";
    Tokens: Counter, "agent_tokens_used_total", ["model", "token_type"], "",
        "Tokens of model calls; token_type is input, output, cache_read or cache_creation",
        "model calls, only what a later telling of a call adds", "book ch. 10, App. E";
    LlmTokens: Counter, "llm_tokens_total", ["model", "token_type"], "",
        "The numbers of agent_tokens_used_total under the other name that documents use",
        "as agent_tokens_used_total", "book ch. 3";
    Cost: Counter, "agent_cost_dollars_total", ["model", "user_id", "agent_id"], "dollars",
        "Cost of model calls; a sub-agent's cost is its main agent's",
        "model calls with a known price", "book ch. 10, App. E";
    LlmCost: Counter, "llm_cost_usd_total", ["model"], "dollars",
        "Cost of model calls",
        "model calls with a known price", "book ch. 3";
    CostToday: Gauge, "agent_cost_today_dollars", [], "dollars",
        "Exact cost of the model calls of this day (UTC), history included",
        "model calls with a known price", "Paramedic";
    DailyBudget: Gauge, "agent_daily_budget_dollars", [], "dollars",
        "What the fleet may cost per day; absent when no budget is set",
        "the setting `daily_budget_dollars`", "book ch. 10";
    LlmRequests: Counter, "llm_requests_total", ["model", "status"], "",
        "Tries of model calls, by success or error; each retried failure is a try of its own",
        "model calls, model retries, model errors", "book ch. 3";
    LlmDuration: Histogram(LLM), "llm_request_duration_seconds", ["model", "status"], "seconds",
        "Duration of model calls: as told, otherwise from the prompt or tool result before it to the answer's first record",
        "model calls, model errors", "book ch. 3";
    LlmErrors: Counter, "llm_errors_total", ["model", "error_type"], "",
        "Failed tries of model calls by class",
        "model retries, model errors", "self-hosted stack playbook";
    AnthropicRequests: Counter, "anthropic_requests_total", ["model", "status"], "",
        "Tries of calls of Anthropic's models, by success or error",
        "as llm_requests_total, models of other makers left out", "book ch. 10";
    ApiRequests: Counter, "agent_anthropic_api_requests_total", [], "",
        "Tries of calls of Anthropic's models",
        "model calls, model retries, model errors", "book App. E";
    ApiErrors: Counter, "agent_anthropic_api_errors_total", [], "",
        "Failed tries of calls of Anthropic's models",
        "model retries, model errors", "book App. E";
    ApiRateLimited: Counter, "agent_anthropic_api_rate_limited_total", [], "",
        "Tries that Anthropic's API refused because of a rate limit",
        "model retries and model errors of the class `rate_limit`", "book App. E";
    ApiDuration: Histogram(API), "agent_anthropic_api_duration_seconds", [], "seconds",
        "Duration of calls of Anthropic's models",
        "as llm_request_duration_seconds", "book App. E";
    ExternalRequests: Counter, "external_api_requests_total", ["api_name", "endpoint", "status"], "",
        "Tries of model calls as calls of an external API, by HTTP status (the error class where no status is known)",
        "model calls, model retries, model errors", "memory daemon";
    ExternalDuration: Histogram(EXTERNAL), "external_api_response_time_seconds", ["api_name", "endpoint"], "seconds",
        "Duration of model calls as calls of an external API",
        "as llm_request_duration_seconds", "memory daemon";
    Retries: Counter, "agent_retries_total", [], "",
        "Failed model calls that were tried again",
        "model retries", "book App. E";
    Timeouts: Counter, "agent_timeouts_total", [], "",
        "Model calls and runs of agents that timed out",
        "model retries and model errors of the class `timeout`", "book App. E";
    CacheHits: Counter, "agent_cache_hits_total", [], "",
        "Model calls that read at least one token from the prompt cache",
        "model calls", "book ch. 10";
    CacheMisses: Counter, "agent_cache_misses_total", [], "",
        "Model calls with a prompt that read nothing from the prompt cache",
        "model calls", "book ch. 10";
    AnyCacheHits: Counter, "cache_hits_total", ["cache_name"], "",
        "Hits by cache; the only one that events tell of is `prompt`",
        "model calls that read from the prompt cache", "memory daemon";
    AnyCacheRequests: Counter, "cache_requests_total", ["cache_name"], "",
        "Look-ups by cache; the only one that events tell of is `prompt`",
        "model calls with a prompt", "memory daemon";
    Moderated: Counter, "agent_content_moderated_total", [], "",
        "Answers that the model refused to give (stop reason `refusal`)",
        "model calls", "book App. E";
    ToolCalls: Counter, "tool_calls_total", ["tool_name", "status"], "",
        "Results of tools: success, error, rejected (by a person), interrupted, cancelled (with a failed sibling)",
        "tool results", "book ch. 3";
    ToolDuration: Histogram(TOOL), "tool_duration_seconds", ["tool_name", "status"], "seconds",
        "Duration of tools: as told, otherwise from the call to its result, time for a person's permission included",
        "tool calls and tool results", "book ch. 3";
    McpCalls: Counter, "mcp_tool_calls_total", ["server_name", "tool_name", "status"], "",
        "Results of tools of MCP servers",
        "results of tools named `mcp__<server>__<tool>`", "memory daemon";
    McpLatency: Histogram(MCP), "mcp_tool_latency_seconds", ["server_name", "tool_name"], "seconds",
        "Duration of tools of MCP servers",
        "as tool_duration_seconds", "memory daemon";
    McpState: Gauge, "mcp_connection_state", ["server_name", "transport"], "",
        "1 while an active session is connected to the server, 0 while none of those that name it is",
        "MCP server records, a session's list of servers", "memory daemon";
    McpClient: Gauge, "mcp_client_connected", ["server_name"], "",
        "As mcp_connection_state",
        "as mcp_connection_state", "memory daemon";
    McpServers: Gauge, "mcp_servers_connected", [], "",
        "MCP servers that at least one active session is connected to; absent while no active session names one",
        "as mcp_connection_state", "memory daemon";
    McpConnections: Gauge, "mcp_active_connections", [], "",
        "Connections of active sessions to MCP servers",
        "as mcp_connection_state", "memory daemon";
    SessionsActiveCount: Gauge, "sessions_active_count", [], "",
        "Sessions that have not ended",
        "the fleet's states of main agents", "memory daemon";
    SessionsActive: Gauge, "sessions_active", ["project"], "",
        "Sessions that have not ended, by project",
        "the fleet's states of main agents", "memory daemon";
    Heartbeat: Gauge, "session_last_heartbeat", ["session_id", "project"], "seconds",
        "Unix time of an active session's last sign of life: an event, or its process seen alive; absent for a session that waits for a person and whose process is not watched",
        "any event, process reports", "memory daemon";
    AgentsByState: Gauge, "agents_by_state", ["state"], "",
        "Agents by state, sub-agents included",
        "the fleet's states", "Paramedic";
    ContextTokens: Gauge, "agent_context_tokens", ["agent_id"], "",
        "Size of an active agent's conversation at its last model call",
        "model calls", "Paramedic";
    ContextLimit: Gauge, "agent_context_limit_tokens", ["agent_id"], "",
        "What the context of the agent's model holds",
        "model calls and the price list", "Paramedic";
    Compactions: Counter, "agent_compactions_total", ["trigger"], "",
        "Conversations that were compacted, by auto or manual",
        "compactions", "Paramedic";
    RateLimitUse: Gauge, "agent_rate_limit_utilization", ["limit"], "",
        "How much of a rate limit was used when the API last said so, 0 to 1",
        "rate limit records", "Paramedic";
    Up: Gauge, "up", ["job", "instance"], "",
        "With job=\"agent\": 1 while the agent's process lives; 0 for some minutes when it died in the middle of its work; then, as after a regular end, the series ends",
        "process reports and the fleet's states", "all documents";
    AgentUp: Gauge, "agent_up", ["agent_id"], "",
        "As up{job=\"agent\"}, for a scraping Prometheus",
        "as up", "Paramedic";
    ProcessRss: Gauge, "process_resident_memory_bytes", ["job", "instance"], "bytes",
        "With job=\"agent\": resident memory of the agent's process",
        "process reports", "memory daemon";
    ProcessMemory: Gauge, "process_memory_bytes", ["job", "instance", "type"], "bytes",
        "With job=\"agent\" and type=\"rss\": the same under the other name that documents use",
        "process reports", "memory daemon";
    AgentRss: Gauge, "agent_resident_memory_bytes", ["agent_id"], "bytes",
        "Resident memory of the agent's process, for a scraping Prometheus",
        "process reports", "Paramedic";
    QueueDepth: Gauge, "agent_queue_depth", ["queue"], "",
        "Jobs waiting in a queue that is watched; nothing is made up where none is",
        "queues that the server is told to watch", "book ch. 10";
    StaleJobs: Gauge, "agent_stale_jobs_count", ["queue"], "",
        "Jobs of a watched queue that are worked on for too long",
        "queues that the server is told to watch", "book ch. 10";
    Stuck: Gauge, "agent_stuck", ["agent_id", "reason"], "",
        "1 while a detector says that the agent makes no progress, 0 after it recovered",
        "alerts whose cause is a stuck agent", "stream monitor";
    ActiveMonitors: Gauge, "stream_active_monitors", [], "",
        "Main agents that are watched and have not ended",
        "the fleet's states", "stream monitor";
    Monitors: Counter, "stream_monitor_total", [], "",
        "Main agents that began to be watched",
        "an agent's first event", "stream monitor";
    MonitorDuration: Histogram(MONITOR), "stream_monitor_duration_seconds", ["agent_id", "exit_reason"], "seconds",
        "Time from an agent's first event to its end",
        "ends of sessions", "stream monitor";
    SessionEvents: Histogram(SESSION_EVENTS), "stream_session_events", ["agent_id"], "",
        "Events of an agent when its session ended",
        "ends of sessions", "stream monitor";
    ActiveStuck: Gauge, "stream_active_stuck_agents", [], "",
        "Agents that are judged stuck now",
        "alerts whose cause is a stuck agent", "stream monitor";
    StuckDetections: Counter, "stream_stuck_detections_total", ["agent_id", "reason", "priority"], "",
        "Times an agent was found stuck; reason in the stream monitor's words (consecutive_tool, consecutive_thinking, no_progress) where it has one",
        "alerts whose cause is a stuck agent, when they begin", "stream monitor";
    StuckRecoveries: Counter, "stream_stuck_recoveries_total", ["agent_id", "reason"], "",
        "Times a stuck agent went on",
        "alerts whose cause is a stuck agent, when they end", "stream monitor";
    StuckLatency: Histogram(DETECTION), "stream_stuck_detection_latency_seconds", ["agent_id", "reason"], "seconds",
        "Time from the onset of being stuck to its detection",
        "alerts whose cause is a stuck agent, when they begin", "stream monitor";
    Events: Counter, "stream_events_total", ["agent_id", "event_type", "priority"], "",
        "Events of agents in the stream monitor's types; priority from the record's level: high, medium, low",
        "every event of an agent that is news, except process reports, spans and measurements", "stream monitor";
    EventsProcessed: Counter, "stream_events_processed_total", ["agent_id", "event_type"], "",
        "Events of agents in the stream monitor's types",
        "as stream_events_total", "memory daemon";
    EventRate: Gauge, "stream_events_per_second", ["agent_id"], "",
        "Events per second since the write before",
        "as stream_events_total", "stream monitor";
    EventLatency: Histogram(PROCESSING), "stream_event_processing_latency_seconds", ["agent_id", "event_type"], "seconds",
        "Time from an event to when it was processed",
        "as stream_events_total, by the clock of whoever told it", "stream monitor";
    StreamLag: Histogram(LAG), "stream_lag_seconds", ["agent_id"], "seconds",
        "As stream_event_processing_latency_seconds, all types together",
        "as stream_events_total", "memory daemon";
    TurnCount: Gauge, "stream_turn_count", ["agent_id"], "",
        "Turns of an active agent so far, sub-agents included: one per tool result",
        "tool results", "stream monitor";
    TurnTotal: Counter, "stream_turn_total", ["agent_id"], "",
        "Turns of agents: one per tool result",
        "tool results", "stream monitor";
    TurnLatency: Histogram(STREAM_TURN), "stream_turn_latency_seconds", ["agent_id"], "seconds",
        "Time from the prompt or the tool result before to a tool result",
        "tool results", "stream monitor";
    Alerts: Counter, "stream_alerts_total", ["priority", "alert_type", "agent_id"], "",
        "Alerts of detectors that began; priority P0 to P3, or none for a note. Rules' alerts are in ALERTS",
        "alerts of detectors", "stream monitor";
    AlertsFiring: Gauge, "stream_alerts_firing", ["priority", "alert_type"], "",
        "Alerts of detectors that hold now",
        "alerts of detectors", "stream monitor";
}

impl Metric {
    #[must_use]
    pub(crate) const fn description(self) -> &'static Description {
        &CATALOGUE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_well_formed_and_told_once() {
        let mut names: Vec<&str> = CATALOGUE.iter().map(|described| described.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
        for described in CATALOGUE {
            assert_eq!(described.kind == Kind::Counter, described.name.ends_with("_total"), "{}", described.name);
            if let Kind::Histogram(bounds) = described.kind {
                assert!(bounds.is_sorted(), "{}", described.name);
            }
        }
        assert_eq!(Metric::AlertsFiring.description().name, "stream_alerts_firing");
    }
}
