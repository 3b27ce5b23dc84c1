//! What changed, in as few words as a page needs to know that it should look again.

use paramedic_model::{AgentId, IncidentId, IncidentState, Severity};
use schemars::JsonSchema;
use serde::Serialize;

/// One message of the live stream. On the wire it carries `seq`, counted per connection.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type")]
pub enum Live {
    #[serde(rename = "agent.updated")]
    AgentUpdated { agent: AgentId, state: String },
    #[serde(rename = "incident.updated")]
    IncidentUpdated { incident: IncidentId, state: IncidentState, severity: Severity, title: String },
    #[serde(rename = "alert.updated")]
    AlertUpdated { detector: String, agent: Option<AgentId>, firing: bool, reason: String, incident: Option<IncidentId> },
    /// Something about a run of a runbook changed, or a step of it said something.
    #[serde(rename = "run.updated")]
    RunUpdated { run: String, incident: Option<IncidentId>, step: Option<String> },
    /// Something new was stored. `stored` is its position, `count` how many came with it.
    #[serde(rename = "event")]
    Event { stored: u64, count: u64, agent: Option<AgentId>, kind: String },
    /// The last message: the server closes the connection after it.
    #[serde(rename = "server_shutdown")]
    Shutdown { message: String },
}
