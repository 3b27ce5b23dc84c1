//! What is known of one agent's work, as far as counting needs it.

use std::collections::BTreeMap;
use std::sync::Arc;

use paramedic_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::passing::Passing;

/// Tool calls of one agent that may wait for their result.
const TOOLS_MAX: usize = 64;
/// MCP servers of one session.
const SERVERS_MAX: usize = 64;

/// One request that the agent works on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub(crate) since: Timestamp,
    /// A prompt began it, so that it is known when. Other work was only noticed then.
    pub(crate) announced: bool,
    /// Its first answer came.
    pub(crate) answered: bool,
}

/// A tool that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Running {
    id: Box<str>,
    tool: Box<str>,
    since: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Course {
    /// The label of the main agent.
    pub(crate) label: Arc<str>,
    pub(crate) is_subagent: bool,
    pub(crate) user: Arc<str>,
    pub(crate) model: Arc<str>,
    pub(crate) turn: Option<Turn>,
    /// When the last turn ended: what happened before that begins none.
    pub(crate) closed_at: Option<Timestamp>,
    /// Its last answer or tool result.
    pub(crate) worked_at: Option<Timestamp>,
    /// When the model was last given something to answer.
    pub(crate) input_at: Option<Timestamp>,
    tools: Vec<Running>,
    pub(crate) turns: u64,
    pub(crate) events: u64,
    pub(crate) events_before: u64,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
    /// Some source tells its model calls one by one.
    pub(crate) tells_calls: bool,
    pub(crate) ended: bool,
    /// Somebody other than the gateway tells of its turns.
    #[serde(default)]
    pub(crate) is_told: bool,
    /// The conversation's own record does, which tells each failure too.
    #[serde(default)]
    pub(crate) is_recorded: bool,
    /// What the gateway saw fail, and the client has not told.
    #[serde(default)]
    pub(crate) passing: Passing,
    /// Whether each MCP server that it named is connected.
    servers: BTreeMap<Arc<str>, bool>,
}

impl Course {
    pub(crate) fn new(label: Arc<str>, is_subagent: bool, at: Timestamp) -> Self {
        Self {
            label,
            is_subagent,
            user: "".into(),
            model: "".into(),
            turn: None,
            closed_at: None,
            worked_at: None,
            input_at: None,
            tools: Vec::new(),
            turns: 0,
            events: 0,
            events_before: 0,
            first_at: at,
            last_at: at,
            tells_calls: false,
            ended: false,
            is_told: false,
            is_recorded: false,
            passing: Passing::default(),
            servers: BTreeMap::new(),
        }
    }

    /// Work that nobody announced (a wake-up, a prompt that was not told) is a request all the same.
    pub(crate) fn works_at(&mut self, at: Timestamp) {
        if self.turn.is_none() && self.closed_at.is_none_or(|closed| at > closed) {
            self.turn = Some(Turn { since: at, announced: false, answered: false });
            self.ended = false;
        }
    }

    pub(crate) fn begin_tool(&mut self, id: Option<&str>, tool: &str, at: Timestamp) {
        let Some(id) = id else { return };
        if self.tools.len() >= TOOLS_MAX {
            self.tools.remove(0);
        }
        self.tools.push(Running { id: id.into(), tool: tool.into(), since: at });
    }

    /// The tool that a result belongs to, and when it was called.
    pub(crate) fn end_tool(&mut self, id: Option<&str>) -> Option<(Box<str>, Timestamp)> {
        let place = self.tools.iter().position(|running| Some(&*running.id) == id)?;
        let running = self.tools.remove(place);
        Some((running.tool, running.since))
    }

    pub(crate) fn server(&mut self, server: Arc<str>, connected: bool) {
        if self.servers.len() < SERVERS_MAX || self.servers.contains_key(&server) {
            self.servers.insert(server, connected);
        }
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = (&Arc<str>, bool)> {
        self.servers.iter().map(|(server, connected)| (server, *connected))
    }

    /// The session is over.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.tools.clear();
        self.servers.clear();
    }
}

/// Seconds from one time to another; none when the other came first.
pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> Option<f64> {
    (to >= from).then(|| to.since(from).as_secs_f64())
}
