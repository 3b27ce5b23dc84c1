//! Thresholds. The defaults were chosen from measured base rates: see `docs/benchmarks.md`.

use serde::{Deserialize, Serialize};

use crate::course::CALLS_KEPT;

/// Thresholds of all detectors. "Note" is recorded and shown but opens no incident; "critical" does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Names of detectors that stay quiet. Default: none.
    pub disabled: Vec<String>,

    /// Retries in a row from which a retry burst is worth an incident; fewer are a note. Default 3.
    pub api_retries_critical: u32,
    /// Turn-ending failures in a row from which an agent's own bad request weighs SEV3 instead of SEV4. Default 3.
    pub api_own_failures_critical: u32,

    /// Steps that failed in a row: a note. Calls of one model message count as one step. Default 4.
    pub tool_errors_note: u32,
    /// Steps that failed in a row: critical. Default 5.
    pub tool_errors_critical: u32,

    /// How many of an agent's last calls the repeat detectors look at (at most 30). Default 20.
    pub repeat_window_calls: usize,
    /// Same tool, arguments and result within the window: a note. Default 4.
    pub repeat_exact_note: usize,
    /// Same tool, arguments and result within the window: critical. Default 5.
    pub repeat_exact_critical: usize,
    /// Same tool and arguments, any result, within the window: a note. Default 5.
    pub repeat_call_note: usize,
    /// The same, and the note says that it is getting serious. Default 10.
    pub repeat_call_warn: usize,
    /// Same tool and arguments, any result, within the last 30 calls: critical. Default 20.
    pub repeat_call_critical: usize,
    /// Tools that are called again and again by design. They never count as a repeated call, and as an exact repeat
    /// only from `repeat_call_critical` on. Default: `BashOutput`, `TaskOutput`, `AgentOutput`, `AgentOutputTool`,
    /// `BashOutputTool`, `Monitor`, `Wait`, `Sleep`, `TaskGet`, `TaskList`.
    pub polling_tools: Vec<String>,

    /// Steps of A-B-A-B with the same results: a note. Default 4.
    pub ping_pong_note: usize,
    /// Steps of A-B-A-B with the same results: critical. Default 6.
    pub ping_pong_critical: usize,
    /// Times that a cycle of two to five calls is run through before it is critical. Default 3.
    pub cycle_critical: usize,
    /// Different calls in a row after which a loop counts as left. Default 5.
    pub loop_left_calls: u32,

    /// Model answers with the same text in a row, without a prompt between them: critical. Default 3.
    pub monologue_critical: u32,

    /// Seconds that the model may take to go on when no tool runs and nobody is asked: a note. Default 300.
    pub silence_note_s: u64,
    /// The same: critical. Default 900.
    pub silence_critical_s: u64,
    /// A gap between two timer ticks longer than this many seconds means that the machine slept; the time beyond it
    /// does not count as silence. Default 60.
    pub tick_gap_max_s: u64,

    /// Two automatic compactions closer together than this many seconds count as close. Default 600.
    pub compaction_close_s: u64,
    /// Compactions in a row, each close to the one before: critical; one less is a note. Default 3.
    pub compaction_close_critical: usize,
    /// More automatic compactions than this within an hour: critical. Default 3.
    pub compaction_hour_max: usize,

    /// US dollars spent by one agent within an hour: a note. Default 20.
    pub spend_note_usd_per_hour: f64,
    /// US dollars spent by one agent within an hour: critical. Default 50.
    pub spend_critical_usd_per_hour: f64,
    /// Times an agent's own median hour (of at least six hours with spending): a note, and critical when the hour is
    /// also above `spend_note_usd_per_hour`. Default 5.
    pub spend_median_factor: f64,
    /// Tokens that the context must gain within one turn before growth is looked at. Default 50,000.
    pub context_growth_tokens: u64,
    /// Times by which the context must grow within one turn: a note. Default 4.
    pub context_growth_factor: f64,
    /// Tokens that the context gains from one model call to the next: a note. Default 50,000.
    pub context_jump_tokens: u64,

    /// Seconds without any event of the agent after which its open alerts end as "no longer observed". Default 3600.
    pub abandon_after_s: u64,
    /// Seconds without any event after which an agent is forgotten; it starts afresh if it comes back. Default 86,400.
    pub forget_after_s: u64,
    /// Agents kept at most; the longest quiet ones go first. Default 20,000.
    pub agents_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let polling = ["BashOutput", "BashOutputTool", "TaskOutput", "AgentOutput", "AgentOutputTool", "Monitor", "Wait", "Sleep"];
        Self {
            disabled: Vec::new(),
            api_retries_critical: 3,
            api_own_failures_critical: 3,
            tool_errors_note: 4,
            tool_errors_critical: 5,
            repeat_window_calls: 20,
            repeat_exact_note: 4,
            repeat_exact_critical: 5,
            repeat_call_note: 5,
            repeat_call_warn: 10,
            repeat_call_critical: 20,
            polling_tools: polling.into_iter().chain(["TaskGet", "TaskList"]).map(str::to_owned).collect(),
            ping_pong_note: 4,
            ping_pong_critical: 6,
            cycle_critical: 3,
            loop_left_calls: 5,
            monologue_critical: 3,
            silence_note_s: 300,
            silence_critical_s: 900,
            tick_gap_max_s: 60,
            compaction_close_s: 600,
            compaction_close_critical: 3,
            compaction_hour_max: 3,
            spend_note_usd_per_hour: 20.0,
            spend_critical_usd_per_hour: 50.0,
            spend_median_factor: 5.0,
            context_growth_tokens: 50_000,
            context_growth_factor: 4.0,
            context_jump_tokens: 50_000,
            abandon_after_s: 3_600,
            forget_after_s: 86_400,
            agents_max: 20_000,
        }
    }
}

impl Settings {
    pub(crate) fn is_polling(&self, tool: &str) -> bool {
        self.polling_tools.iter().any(|one| one == tool)
    }

    pub(crate) fn window(&self) -> usize {
        self.repeat_window_calls.clamp(1, CALLS_KEPT)
    }
}
