//! What all detectors share about one agent: its turn, its last calls, its retries since the last answer.

use std::collections::VecDeque;

use paramedic_model::{ApiErrorClass, Event, Fact, Source, Timestamp, ToolOutcome, Usage};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Calls remembered per agent.
pub(crate) const CALLS_KEPT: usize = 30;
/// Tool calls without a result that are remembered by id.
const PENDING_KEPT: usize = 64;
/// Tool names remembered per agent; further ones are told apart but not named.
const TOOLS_KEPT: usize = 64;
/// Model messages whose usage is remembered, because sources tell one message several times.
const MESSAGES_KEPT: usize = 4;

/// The entry in which a workflow's journal says that it started a sub-agent; another one has the sub-agent's result.
const JOURNAL_STARTED: &str = "journal/started";

/// Where an agent is in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Turn {
    /// No turn is open, or the model has answered and the turn may have ended with it.
    #[default]
    Idle,
    /// The model has been given something and owes an answer. Only here can an agent fall silent.
    AwaitingModel,
    /// A tool is running.
    AwaitingTool,
    /// A person is asked.
    AwaitingPerson,
}

/// One tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Tool and arguments; 0 where the source hides the arguments.
    pub(crate) key: u64,
    id: u64,
    tool: u8,
    /// The model message that asked for it.
    batch: u64,
    pub(crate) at: Timestamp,
    /// Content of the result; 0 until it is known, or where the source hides it.
    pub(crate) result: u64,
    pub(crate) outcome: Option<ToolOutcome>,
}

impl Call {
    /// A finished call that can be compared with others, result and all.
    pub(crate) const fn is_comparable(&self) -> bool {
        self.key != 0 && self.result != 0 && matches!(self.outcome, Some(ToolOutcome::Success | ToolOutcome::Error))
    }
}

/// Failed tries since the last answer, turn-ending failure or prompt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Burst {
    pub(crate) retries: u64,
    pub(crate) started_at: Timestamp,
    pub(crate) class: Option<ApiErrorClass>,
    pub(crate) status: Option<u16>,
    pub(crate) attempt: u32,
    pub(crate) attempts_max: Option<u32>,
}

/// What one event meant for the agent's course.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Step {
    /// A call was added: it is the last of `calls`.
    pub(crate) called: bool,
    /// The position in `calls` of the call that just got its result.
    pub(crate) completed: Option<usize>,
    /// The model message that the result's call belongs to; 0 when unknown.
    pub(crate) batch: u64,
    /// The model answered a new call (as opposed to further news about the same message).
    pub(crate) answered: bool,
    /// The model message's identity; 0 when the source gives none.
    pub(crate) message: u64,
    /// What this event adds to the usage known before.
    pub(crate) usage: Usage,
    /// What this event adds to the known cost, in millionths of a US dollar; 0 where no cost is known.
    pub(crate) spent: u64,
    /// The turn ended, or a new one began.
    pub(crate) turn_border: bool,
    /// The gateway tells it, and it says nothing of the agent's course: only what it cost counts.
    pub(crate) passing: bool,
    /// A failure that the gateway told first, and that was counted then: it is told better now.
    pub(crate) told_before: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Course {
    /// The last sign of work.
    pub(crate) last_at: Timestamp,
    pub(crate) turn: Turn,
    pub(crate) turn_started_at: Timestamp,
    pub(crate) calls: VecDeque<Call>,
    pub(crate) burst: Burst,
    pending: Vec<u64>,
    tools: Vec<Box<str>>,
    batch: u64,
    messages: VecDeque<(u64, Usage)>,
    /// The same messages' cost so far, in millionths of a US dollar.
    #[serde(default)]
    costs: VecDeque<(u64, u64)>,
    /// Of these, the ones that nobody but the gateway told.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    passed: VecDeque<u64>,
    /// Somebody other than the gateway tells of its turns.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_told: bool,
    /// The conversation's own record does, which tells each failure too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_recorded: bool,
    /// When the gateway told of failures that the record has not told yet: the record is read a little later.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    failed_at: VecDeque<Timestamp>,
    /// A workflow started the agent and waits for its result.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) owes_result: bool,
}

/// Failures that the gateway told and nobody else yet.
const FAILURES_KEPT: usize = 32;
/// The record tells a failure within so much of the gateway's telling.
const TOLD_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Millionths of a US dollar. An amount from outside may be anything.
pub(crate) fn micros(usd: Option<f64>) -> u64 {
    usd.filter(|usd| usd.is_finite() && *usd > 0.0).map_or(0, |usd| (usd * 1e6) as u64)
}

/// A short identity; never 0, so that 0 can mean "none".
fn hash(text: &str) -> u64 {
    xxh3_64(text.as_bytes()) | 1
}

/// Whether the event shows that the agent (not only somebody watching it) is doing something.
pub(crate) const fn is_activity(event: &Event) -> bool {
    match event.fact {
        Fact::Process { .. } | Fact::Measurement { .. } | Fact::Span { .. } | Fact::McpServer { .. } => false,
        Fact::Record => matches!(event.source, Source::Transcript | Source::Hook | Source::StreamJson),
        _ => true,
    }
}

impl Course {
    pub(crate) fn new(last_at: Timestamp) -> Self {
        Self { last_at, ..Self::default() }
    }

    /// Takes the event in. `at` is its time, never before the last one.
    pub(crate) fn observe(&mut self, event: &Event, at: Timestamp) -> Step {
        let mut step = Step::default();
        if event.source == Source::Gateway {
            step.passing = self.is_passing(event);
        } else {
            self.is_recorded |= matches!(event.source, Source::Transcript | Source::StreamJson);
            self.is_told |= self.is_recorded || matches!(event.source, Source::Hook | Source::OtlpLog);
        }
        if matches!(event.fact, Fact::ModelRetry { .. } | Fact::ModelError { .. }) {
            step.told_before = self.failed(event, &step, at);
        }
        match &event.fact {
            Fact::ModelCall { message, usage, cost_usd, .. } if step.passing => {
                self.pass(message.as_deref(), *usage, micros(*cost_usd), &mut step);
            }
            _ if step.passing => {}
            Fact::Prompt => {
                self.begin_turn(at);
                step.turn_border = true;
            }
            Fact::TurnEnded { .. } | Fact::SessionEnded { .. } | Fact::ModelError { .. } => {
                self.turn = Turn::Idle;
                self.pending.clear();
                step.turn_border = true;
            }
            Fact::SessionStarted { how, .. } if how.as_deref() != Some("compact") => {
                self.turn = Turn::Idle;
                self.pending.clear();
            }
            Fact::ModelCall { message, model, usage, cost_usd, .. } => {
                self.answer((message.as_deref(), model.as_deref()), *usage, micros(*cost_usd), &mut step);
            }
            Fact::ModelRetry { class, status, attempt, attempts_max, .. } => {
                // Whether the client comes again, the gateway cannot know: nobody is owed an answer.
                self.turn = if event.source == Source::Gateway { Turn::Idle } else { Turn::AwaitingModel };
                self.retry(at, *class, *status, (*attempt, *attempts_max), step.told_before);
            }
            Fact::ToolCall { id, tool, input_hash } => self.call(event, at, id.as_deref(), tool, *input_hash, &mut step),
            Fact::ToolResult { id, outcome, result_hash, .. } => self.result(id.as_deref(), *outcome, *result_hash, &mut step),
            Fact::Waiting { .. } => self.turn = Turn::AwaitingPerson,
            Fact::SubagentStarted { .. } if &*event.name == JOURNAL_STARTED => self.owes_result = true,
            Fact::SubagentEnded { .. } => self.owes_result = false,
            _ => {}
        }
        if is_activity(event) && !step.passing {
            self.last_at = at;
        }
        step
    }

    /// Whether the gateway tells what says nothing of the agent's course: an answer whose place in the turn others tell, as it
    /// may be a chore's in the background; one that did not come to its end; a failure that the record tells better; a refusal
    /// of its own, which is somebody's decision and no failure.
    fn is_passing(&self, event: &Event) -> bool {
        match event.fact {
            Fact::ModelCall { .. } => self.is_told || event.attributes.contains_key("unfinished"),
            Fact::ModelRetry { .. } | Fact::ModelError { .. } => self.is_recorded || event.attributes.contains_key("refused_by"),
            _ => false,
        }
    }

    /// A call that counts for what it cost, and for nothing else until the client tells it.
    fn pass(&mut self, message: Option<&str>, usage: Usage, cost: u64, step: &mut Step) {
        let id = message.map_or(0, hash);
        if id != 0 && self.messages.iter().any(|(known, _)| *known == id) {
            return;
        }
        (step.usage, step.spent) = (usage, cost);
        if id != 0 {
            self.remember(id, usage, cost);
            if self.passed.len() == MESSAGES_KEPT {
                self.passed.pop_front();
            }
            self.passed.push_back(id);
        }
    }

    fn remember(&mut self, id: u64, usage: Usage, cost: u64) {
        if self.messages.len() == MESSAGES_KEPT {
            self.messages.pop_front();
            self.costs.pop_front();
        }
        self.messages.push_back((id, usage));
        self.costs.push_back((id, cost));
    }

    /// After the detectors have seen the event: what ends a burst of retries.
    pub(crate) fn settle(&mut self, event: &Event, step: &Step) {
        if !step.passing && self.burst.retries > 0 && (step.answered || matches!(event.fact, Fact::Prompt | Fact::ModelError { .. })) {
            self.burst = Burst::default();
        }
        // A dead process owes nothing: what it left open is told by another detector than silence.
        if matches!(event.fact, Fact::Process { alive: false, .. }) {
            self.turn = Turn::Idle;
            self.pending.clear();
        }
    }

    pub(crate) fn tool(&self, call: &Call) -> &str {
        self.tools.get(usize::from(call.tool)).map_or("a tool", |name| name)
    }

    /// The calls that count as "the last `window`", oldest first.
    pub(crate) fn last_calls(&self, window: usize) -> impl Iterator<Item = &Call> {
        self.calls.iter().skip(self.calls.len().saturating_sub(window))
    }

    /// How many of the last calls equal the call `period` places before them, and how many of those have equal results.
    pub(crate) fn periodic(&self, period: usize) -> (usize, usize) {
        let (mut same_calls, mut same_results, mut results_equal) = (0, 0, true);
        for i in (period..self.calls.len()).rev() {
            let (later, earlier) = (&self.calls[i], &self.calls[i - period]);
            if later.key == 0 || later.key != earlier.key {
                break;
            }
            same_calls += 1;
            results_equal &= later.is_comparable() && later.result == earlier.result && earlier.is_comparable();
            same_results += usize::from(results_equal);
        }
        (same_calls, same_results)
    }

    fn begin_turn(&mut self, at: Timestamp) {
        self.turn = Turn::AwaitingModel;
        self.turn_started_at = at;
        self.pending.clear();
    }

    fn answer(&mut self, (message, model): (Option<&str>, Option<&str>), usage: Usage, cost: u64, step: &mut Step) {
        let id = message.map_or(0, hash);
        step.message = id;
        // The client writes lines of its own in the model's name; they are not answers.
        if model == Some("<synthetic>") {
            return;
        }
        if let Some((_, known)) = self.messages.iter_mut().find(|(known, _)| *known == id && id != 0) {
            let largest = known.largest(usage);
            step.usage = largest.minus(*known);
            *known = largest;
            let passed = self.passed.iter().position(|known| *known == id);
            // What the gateway said of the cost stands.
            if passed.is_none()
                && let Some((_, known)) = self.costs.iter_mut().find(|(known, _)| *known == id)
            {
                step.spent = cost.saturating_sub(*known);
                *known = cost.max(*known);
            }
            if let Some(i) = passed {
                self.passed.remove(i);
                self.answered(id, step);
            }
            return;
        }
        step.usage = usage;
        step.spent = cost;
        if id != 0 {
            self.remember(id, usage, cost);
        }
        self.answered(id, step);
    }

    /// The model answered the conversation itself.
    fn answered(&mut self, id: u64, step: &mut Step) {
        step.answered = true;
        // A new message means that the model has been given every result: what still seems to run was lost.
        if id != 0 {
            self.pending.clear();
        }
        if self.pending.is_empty() {
            self.turn = Turn::Idle;
        }
        self.batch = if id == 0 { self.batch.wrapping_add(2) | 1 } else { id };
    }

    /// Whether a failure is one that the gateway told before the record did.
    fn failed(&mut self, event: &Event, step: &Step, at: Timestamp) -> bool {
        match event.source {
            Source::Gateway if !step.passing => {
                if self.failed_at.len() == FAILURES_KEPT {
                    self.failed_at.pop_front();
                }
                self.failed_at.push_back(at);
                false
            }
            Source::Transcript | Source::StreamJson => {
                let near = |told: &Timestamp| at.since(*told).max(told.since(at)) <= TOLD_WITHIN;
                let place = self.failed_at.iter().position(near);
                place.is_some_and(|place| self.failed_at.remove(place).is_some())
            }
            _ => false,
        }
    }

    fn retry(&mut self, at: Timestamp, class: ApiErrorClass, status: Option<u16>, tries: (u32, Option<u32>), told_before: bool) {
        let (attempt, attempts_max) = tries;
        let burst = &mut self.burst;
        if burst.retries == 0 {
            burst.started_at = at;
        }
        burst.retries += u64::from(!told_before || burst.retries == 0);
        (burst.class, burst.status, burst.attempt) = (Some(class), status, attempt);
        burst.attempts_max = attempts_max.or(burst.attempts_max);
    }

    fn call(&mut self, event: &Event, at: Timestamp, id: Option<&str>, tool: &str, input_hash: Option<u64>, step: &mut Step) {
        self.turn = Turn::AwaitingTool;
        let id = id.map_or(0, hash);
        if self.pending.len() == PENDING_KEPT {
            self.pending.remove(0);
        }
        self.pending.push(id);
        let key = input_hash.map_or(0, |input| (hash(tool) ^ input.rotate_left(17)) | 1);
        let batch = event.correlation.request.as_deref().map_or(self.batch, hash);
        // The same call several times within one model message is one decision, not a loop.
        if key != 0 && self.calls.iter().rev().take_while(|one| one.batch == batch).any(|one| one.key == key) {
            return;
        }
        if self.calls.len() == CALLS_KEPT {
            self.calls.pop_front();
        }
        let tool = self.tool_number(tool);
        self.calls.push_back(Call { key, id, tool, batch, at, result: 0, outcome: None });
        step.called = true;
    }

    fn result(&mut self, id: Option<&str>, outcome: ToolOutcome, result_hash: Option<u64>, step: &mut Step) {
        let id = id.map_or(0, hash);
        if let Some(i) = self.pending.iter().position(|one| *one == id) {
            self.pending.remove(i);
        }
        if let Some(i) = self.calls.iter().rposition(|call| call.id == id && call.outcome.is_none()) {
            let call = &mut self.calls[i];
            call.outcome = Some(outcome);
            call.result = result_hash.map_or(0, |hash| hash | 1);
            step.completed = Some(i);
            step.batch = call.batch;
        } else {
            step.batch = self.batch;
        }
        if !self.pending.is_empty() {
            return;
        }
        // Without model messages to tell batches apart, calls between two results count as one batch.
        if self.messages.is_empty() {
            self.batch = self.batch.wrapping_add(2) | 1;
        }
        // A person who rejects or interrupts stops the turn: the agent waits for them, not for the model.
        self.turn = match outcome {
            ToolOutcome::Rejected | ToolOutcome::Interrupted => Turn::AwaitingPerson,
            _ => Turn::AwaitingModel,
        };
    }

    fn tool_number(&mut self, tool: &str) -> u8 {
        let tool = paramedic_model::text::head(tool, 128);
        let known = self.tools.iter().position(|name| &**name == tool).or_else(|| {
            (self.tools.len() < TOOLS_KEPT).then(|| {
                self.tools.push(tool.into());
                self.tools.len() - 1
            })
        });
        known.and_then(|i| u8::try_from(i).ok()).unwrap_or(u8::MAX)
    }
}
