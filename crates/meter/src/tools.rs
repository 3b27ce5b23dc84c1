//! Tools and MCP servers.

use std::time::Duration;

use paramedic_model::ToolOutcome;

use crate::catalogue::Metric;
use crate::course::{Course, seconds};
use crate::ledger::lock;
use crate::meter::{Meter, Moment};
use crate::names::Kind;

const fn status(outcome: ToolOutcome) -> &'static str {
    match outcome {
        ToolOutcome::Success => "success",
        ToolOutcome::Error => "error",
        ToolOutcome::Rejected => "rejected",
        ToolOutcome::Interrupted => "interrupted",
        ToolOutcome::SiblingError => "cancelled",
    }
}

/// The server and the tool in `mcp__server__tool`.
pub(crate) fn mcp_tool(tool: &str) -> Option<(&str, &str)> {
    let (server, tool) = tool.strip_prefix("mcp__")?.split_once("__")?;
    (!server.is_empty() && !tool.is_empty()).then_some((server, tool))
}

impl Meter {
    pub(crate) fn tool_result(
        &mut self,
        moment: &Moment<'_>,
        course: &mut Course,
        (id, told): (Option<&str>, Option<&str>),
        outcome: ToolOutcome,
        duration: Option<Duration>,
    ) {
        let at = moment.event.at;
        let called = course.end_tool(id);
        let before = course.input_at.replace(at).or(course.turn.map(|turn| turn.since));
        course.worked_at = course.worked_at.max(Some(at));
        course.turns += 1;
        if !moment.live {
            return;
        }
        let tool = told.or(called.as_ref().map(|(tool, _)| &**tool)).unwrap_or("unknown");
        let took = duration.map(|took| took.as_secs_f64()).or_else(|| called.as_ref().and_then(|(_, since)| seconds(*since, at)));
        let (status, now_ms) = (status(outcome), moment.now_ms);
        let name = self.names.admit(Kind::Tool, tool, now_ms);
        let mcp = mcp_tool(tool).map(|(server, tool)| {
            (
                self.names.admit(Kind::McpServer, server, now_ms),
                if *name == *crate::names::OTHER { name.clone() } else { self.names.admit(Kind::Tool, tool, now_ms) },
            )
        });
        let mut ledger = lock(&self.ledger);
        ledger.inc(Metric::ToolCalls, &[&name, status], now_ms);
        if let Some(took) = took {
            ledger.observe(Metric::ToolDuration, &[&name, status], took, now_ms);
        }
        if let Some((server, tool)) = mcp {
            ledger.inc(Metric::McpCalls, &[&server, &tool, status], now_ms);
            if let Some(took) = took {
                ledger.observe(Metric::McpLatency, &[&server, &tool], took, now_ms);
            }
        }
        if course.label.is_empty() {
            return;
        }
        ledger.inc(Metric::TurnTotal, &[&course.label], now_ms);
        if let Some(latency) = before.and_then(|before| seconds(before, at)) {
            ledger.observe(Metric::TurnLatency, &[&course.label], latency, now_ms);
        }
    }

    pub(crate) fn mcp_server(&mut self, moment: &Moment<'_>, course: &mut Course, server: Option<&str>, status: &str) {
        let connected = match status {
            "connected" => true,
            // Not decided yet.
            "pending" | "connecting" | "unknown" => return,
            _ => false,
        };
        let server = self.names.admit(Kind::McpServer, server.unwrap_or("unknown"), moment.now_ms);
        course.server(server, connected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_in_the_tools_name() {
        for (tool, expected) in [
            ("mcp__github__create_issue", Some(("github", "create_issue"))),
            ("mcp__claude_ai__a__b", Some(("claude_ai", "a__b"))),
            ("mcp__x", None),
            ("mcp____x", None),
            ("Bash", None),
        ] {
            assert_eq!(mcp_tool(tool), expected, "{tool}");
        }
    }
}
