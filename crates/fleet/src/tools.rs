//! Tool calls by id: called, answered, and how it went, whoever told it.

use std::collections::VecDeque;

use crate::key::KeyMap;
use crate::seen::Seen;
use paramedic_model::{Source, ToolOutcome};

/// What was told about one tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tool {
    pub(crate) agent: u64,
    pub(crate) session: u64,
    /// One bit for each source that told the call, or its result.
    pub(crate) called_by: u8,
    pub(crate) answered_by: u8,
    pub(crate) has_arguments: bool,
    pub(crate) has_duration: bool,
    pub(crate) exact: bool,
    pub(crate) outcome: Option<ToolOutcome>,
}

impl Tool {
    /// A sub-agent beats its session.
    pub(crate) const fn moves_to(&self, session: u64, exact: bool) -> bool {
        exact && !self.exact && self.session == session
    }

    pub(crate) const fn failed(&self) -> bool {
        matches!(self.outcome, Some(ToolOutcome::Error))
    }
}

/// A source that only knows "it failed" is corrected by one that knows why.
pub(crate) fn better_outcome(known: Option<ToolOutcome>, told: ToolOutcome) -> ToolOutcome {
    const fn rank(outcome: ToolOutcome) -> u8 {
        match outcome {
            ToolOutcome::Success => 0,
            ToolOutcome::Error => 1,
            ToolOutcome::SiblingError => 2,
            ToolOutcome::Interrupted => 3,
            ToolOutcome::Rejected => 4,
        }
    }
    known.filter(|known| rank(*known) >= rank(told)).unwrap_or(told)
}

/// The bit of a source. The gateway sees no tools run, and neither does the process table: they share the last one.
pub(crate) const fn bit(source: Source) -> u8 {
    match source {
        Source::Gateway => 1 << 7,
        _ => 1 << source as u8,
    }
}

/// Recent tool calls, oldest first; older ones are only remembered as counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenTools {
    by_id: KeyMap<Tool>,
    order: VecDeque<u64>,
}

impl OpenTools {
    pub(crate) fn get(&self, id: u64) -> Option<&Tool> {
        self.by_id.get(&id)
    }

    pub(crate) fn set(&mut self, id: u64, tool: Tool, open_max: usize, seen: &mut Seen) {
        if let Some(known) = self.by_id.get_mut(&id) {
            *known = tool;
            return;
        }
        while self.order.len() >= open_max.max(1) {
            if let Some(oldest) = self.order.pop_front() {
                self.by_id.remove(&oldest);
                seen.insert(oldest);
            }
        }
        self.order.push_back(id);
        self.by_id.insert(id, tool);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Tool)> {
        self.order.iter().filter_map(|id| self.by_id.get(id).map(|tool| (*id, *tool)))
    }

    pub(crate) fn restore(tools: Vec<(u64, Tool)>) -> Self {
        let order = tools.iter().map(|(id, _)| *id).collect();
        Self { by_id: tools.into_iter().collect(), order }
    }
}
