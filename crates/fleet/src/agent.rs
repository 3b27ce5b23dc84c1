//! One agent: what is known of it, and how each new fact changes where it is in its turn.

use std::fmt::Write as _;

use paramedic_model::text::{head, one_line};
use paramedic_model::{AgentId, Event, Fact, SessionId, Source, Timestamp, WaitReason};
use serde::{Deserialize, Serialize};

use crate::key::{domain, key};
use crate::series::{Sample, Series};
use crate::state::{Condition, Phase, ProcessSign, State};
use crate::tally::Tally;
use crate::told::{Kind, Telling, Told};

/// Bytes kept of the line that says what happened last, and of an error.
const LINE_BYTES_MAX: usize = 200;
/// An error told late explains an end that came at most so long after it.
const LATE_ERROR_US: i64 = 5_000_000;
/// Tool calls without a result that are followed per agent.
const PENDING_MAX: usize = 32;
/// Models per agent; the calls of any further one are counted under the last.
const MODELS_MAX: usize = 16;

/// One agent as the fleet keeps it. [`AgentView`](crate::AgentView) is what others see.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Agent {
    id: String,
    pub(crate) session: Option<Box<str>>,
    pub(crate) session_key: u64,
    pub(crate) started_us: i64,
    pub(crate) last_us: i64,
    pub(crate) last_event: String,
    pub(crate) last_error: Option<(i64, Box<str>)>,
    /// The model of the last call of the conversation itself.
    pub(crate) model: u16,
    pub(crate) context: u32,
    pub(crate) context_max: u32,
    pub(crate) context_us: i64,
    pub(crate) cwd: Option<Box<str>>,
    pub(crate) version: Option<Box<str>>,
    pub(crate) permission_mode: Option<Box<str>>,
    pub(crate) host: Option<Box<str>>,
    pub(crate) agent_type: Option<Box<str>>,
    phase: Phase,
    phase_us: i64,
    note: Box<str>,
    waiting: Option<(WaitReason, i64)>,
    pending: Vec<Pending>,
    pub(crate) stuck: Option<Box<str>>,
    pub(crate) process: Option<ProcessSeen>,
    pub(crate) sources: Vec<SourceCount>,
    /// Tool calls with an id, and how many of them failed.
    pub(crate) tools: u32,
    pub(crate) tool_errors: u32,
    pub(crate) model_errors: u32,
    pub(crate) retries: u32,
    pub(crate) compactions: u32,
    /// By model.
    pub(crate) shares: Vec<(u16, Tally)>,
    pub(crate) told: Told,
    pub(crate) state_shown: Option<State>,
    pub(crate) compacted: bool,
    #[serde(skip)]
    pub(crate) series: Series,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    id: u64,
    tool: Box<str>,
    since_us: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProcessSeen {
    pub(crate) pid: u32,
    pub(crate) started: Option<u64>,
    pub(crate) alive: bool,
    pub(crate) status: Option<Box<str>>,
    pub(crate) rss_bytes: Option<u64>,
    pub(crate) at_us: i64,
}

/// What one source told about one agent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SourceCount {
    #[serde(rename = "s")]
    pub(crate) source: Source,
    #[serde(rename = "e")]
    pub(crate) events: u32,
    #[serde(rename = "p", default)]
    pub(crate) prompts: u32,
    /// Tool calls with an id.
    #[serde(rename = "t", default)]
    pub(crate) tools: u32,
    /// Without one: calls, results and failures.
    #[serde(rename = "c", default)]
    pub(crate) calls: u32,
    #[serde(rename = "r", default)]
    pub(crate) results: u32,
    #[serde(rename = "f", default)]
    pub(crate) failures: u32,
}

impl SourceCount {
    pub(crate) fn tools_told(&self) -> u32 {
        self.tools + self.calls.max(self.results)
    }
}

impl Agent {
    pub(crate) fn new(id: &AgentId, session: Option<&SessionId>, session_key: u64, at: Timestamp) -> Self {
        Self {
            id: id.as_str().to_owned(),
            session: session.map(|session| session.as_str().into()),
            session_key,
            started_us: at.as_micros(),
            last_us: at.as_micros(),
            phase_us: i64::MIN,
            context_us: i64::MIN,
            ..Self::default()
        }
    }

    /// The agent's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// The last sign of life.
    #[must_use]
    pub const fn last_event_at(&self) -> Timestamp {
        Timestamp::from_micros(self.last_us)
    }

    /// Whom a sub-agent works for.
    pub(crate) fn parent_key(&self) -> Option<u64> {
        let (parent, _) = self.id.split_once('/')?;
        Some(key(domain::AGENT, parent))
    }

    pub(crate) fn is_subagent(&self) -> bool {
        self.id.contains('/')
    }

    pub(crate) fn tally(&self) -> Tally {
        self.shares.iter().fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally))
    }

    pub(crate) fn add(&mut self, model: u16, tally: Tally) {
        if let Some(share) = self.share(model) {
            share.1 = share.1.plus(tally);
        } else {
            self.shares.push((model, tally));
        }
    }

    /// Takes back what it can and gives the rest: an agent that was dropped and came back has only its new calls.
    pub(crate) fn take(&mut self, model: u16, tally: Tally) -> Tally {
        let Some(share) = self.share(model) else { return tally };
        let rest = tally.minus(share.1);
        share.1 = share.1.minus(tally);
        self.shares.retain(|(_, share)| !share.is_nothing());
        rest
    }

    fn share(&mut self, model: u16) -> Option<&mut (u16, Tally)> {
        let full = self.shares.len() >= MODELS_MAX;
        let i = self.shares.iter().position(|(number, _)| *number == model).or_else(|| full.then_some(MODELS_MAX - 1))?;
        self.shares.get_mut(i)
    }

    pub(crate) fn source(&mut self, source: Source) -> &mut SourceCount {
        let i = self.sources.iter().position(|count| count.source == source).unwrap_or_else(|| {
            self.sources.push(SourceCount { source, events: 0, prompts: 0, tools: 0, calls: 0, results: 0, failures: 0 });
            self.sources.len() - 1
        });
        &mut self.sources[i]
    }

    pub(crate) fn turns(&self) -> u32 {
        self.sources.iter().map(|count| count.prompts).max().unwrap_or(0)
    }

    pub(crate) fn tool_calls(&self) -> u32 {
        self.sources.iter().map(SourceCount::tools_told).max().unwrap_or(0).max(self.tools)
    }

    pub(crate) fn tool_failures(&self) -> u32 {
        self.sources.iter().map(|count| count.failures).max().unwrap_or(0).max(self.tool_errors)
    }

    /// What every telling brings, new or not: a sign of life and details that only some sources know.
    pub(crate) fn hear(&mut self, event: &Event) {
        self.source(event.source).events += 1;
        self.started_us = self.started_us.min(event.at.as_micros());
        if event.source != Source::Process && !self.is_only_passing(event) {
            self.last_us = self.last_us.max(event.at.as_micros());
        }
        self.compacted = false;
        if !event.attributes.is_empty() {
            self.learn(event);
        }
        match &event.fact {
            Fact::SessionStarted { cwd, version, .. } => {
                fill(&mut self.cwd, cwd.as_deref());
                fill(&mut self.version, version.as_deref());
            }
            Fact::SubagentStarted { agent_type } => fill(&mut self.agent_type, agent_type.as_deref()),
            Fact::Process { pid, started, alive, status, rss_bytes } => {
                let at_us = event.at.as_micros();
                if self.process.as_ref().is_none_or(|known| known.at_us <= at_us) {
                    let (pid, started, alive, rss_bytes) = (*pid, *started, *alive, *rss_bytes);
                    self.process = Some(ProcessSeen { pid, started, alive, status: status.clone(), rss_bytes, at_us });
                }
            }
            _ => {}
        }
    }

    fn learn(&mut self, event: &Event) {
        let text = |keys: &[&str]| keys.iter().find_map(|key| event.attributes.get(*key)?.as_str());
        if self.cwd.is_none() {
            fill(&mut self.cwd, text(&["cwd"]));
        }
        if self.version.is_none() {
            fill(&mut self.version, text(&["version", "app.version", "service.version"]));
        }
        if self.host.is_none() {
            fill(&mut self.host, text(&["host.name"]));
        }
        if let Some(mode) = text(&["permission_mode", "permissionMode"])
            && self.permission_mode.as_deref() != Some(mode)
        {
            self.permission_mode = Some(head(mode, 64).into());
        }
    }

    /// The gateway tells it, and somebody else tells where the agent is in its turn. The gateway sees calls of background chores
    /// among those of the conversation, and each of them end later than the conversation's own record begins to tell of it.
    pub(crate) fn is_only_passing(&self, event: &Event) -> bool {
        let is_failure = matches!(event.fact, Fact::ModelRetry { .. } | Fact::ModelError { .. });
        let tells = |source: Source| match source {
            Source::Transcript | Source::StreamJson => true,
            // Hooks and telemetry tell turns, but not each failure.
            Source::Hook | Source::OtlpLog => !is_failure,
            _ => false,
        };
        event.source == Source::Gateway && self.sources.iter().any(|count| tells(count.source))
    }

    /// Whether a told failure is news. What was counted at the gateway's word alone is counted anew at the client's.
    pub(crate) fn takes_failure(&mut self, telling: &Telling, event: &Event) -> bool {
        let is_record = matches!(event.source, Source::Transcript | Source::StreamJson);
        let (same, other) = if telling.kind == Kind::ModelRetry {
            (&mut self.retries, &mut self.model_errors)
        } else {
            (&mut self.model_errors, &mut self.retries)
        };
        let told_us = if is_record && let Some(told_us) = self.told.details(telling) {
            *same = same.saturating_sub(1);
            told_us
        } else if self.told.joins(telling, u16::MAX) {
            return false;
        } else if event.source == Source::Gateway {
            let is_new = !self.told.joins_failure(telling);
            if is_new {
                self.told.note(telling);
            }
            return is_new;
        } else if let Some(told_us) = self.told.corrects(telling) {
            *other = other.saturating_sub(1);
            told_us
        } else {
            self.told.note(telling);
            return true;
        };
        // What the client tells is no older than what the gateway told of the same.
        if self.phase_us == told_us {
            self.phase_us = told_us.min(event.at.as_micros());
        }
        true
    }

    /// A new fact: where is the agent in its turn now? A fact older than the present phase changes nothing.
    pub(crate) fn advance(&mut self, event: &Event, tool_id: u64) {
        if matches!(event.fact, Fact::ModelCall { .. }) && (self.is_only_passing(event) || is_unfinished(event)) {
            return;
        }
        self.describe(event);
        match &event.fact {
            Fact::ModelError { .. } => self.model_errors += 1,
            Fact::ModelRetry { .. } => self.retries += 1,
            Fact::Compaction { .. } => self.compactions += 1,
            _ => {}
        }
        let at_us = event.at.as_micros();
        if let Fact::ToolResult { tool, .. } = &event.fact {
            self.answered(tool_id, tool.as_deref());
        }
        if (at_us < self.phase_us && !self.explains_end(event)) || self.is_only_passing(event) {
            return;
        }
        match &event.fact {
            // A compaction restarts the session in the middle of a turn.
            Fact::SessionStarted { how, .. } if self.phase == Phase::MidTurn && how.as_deref() == Some("compact") => {}
            Fact::SessionStarted { .. } => self.enter(Phase::Idle, at_us, ""),
            Fact::Prompt => {
                self.pending.clear();
                self.enter(Phase::MidTurn, at_us, "");
            }
            Fact::ModelCall { stop_reason, .. } if ends_turn(stop_reason.as_deref()) && self.pending.is_empty() => {
                self.enter(Phase::Idle, at_us, "");
            }
            Fact::ModelCall { .. } | Fact::ToolResult { .. } | Fact::ToolProgress { .. } => self.enter(Phase::MidTurn, at_us, ""),
            // Only a sub-agent's own events say where it is; those about it name the session.
            Fact::SubagentStarted { .. } if self.is_subagent() => self.enter(Phase::MidTurn, at_us, ""),
            Fact::ModelRetry { class, attempt, attempts_max, .. } => {
                let of = attempts_max.map(|max| format!(" of {max}")).unwrap_or_default();
                self.enter(Phase::MidTurn, at_us, &format!("retrying, {}, attempt {attempt}{of}", class.title()));
            }
            Fact::ToolCall { tool, .. } => {
                if self.pending.len() < PENDING_MAX {
                    self.pending.push(Pending { id: tool_id, tool: head(tool, 128).into(), since_us: at_us });
                }
                self.enter(Phase::MidTurn, at_us, "");
            }
            Fact::Waiting { reason: WaitReason::Idle } if self.has_failed() => {}
            Fact::Waiting { reason: WaitReason::Idle } => self.enter(Phase::Idle, at_us, ""),
            Fact::Waiting { reason } => self.waiting = Some((*reason, at_us)),
            // An error ends the turn; that the turn has ended is no recovery.
            Fact::TurnEnded { .. } if self.has_failed() => {}
            Fact::TurnEnded { .. } => self.enter(Phase::Idle, at_us, ""),
            Fact::ModelError { class, status, .. } => {
                let status = status.map(|status| format!(" ({status})")).unwrap_or_default();
                let phase = if at_us < self.phase_us { Phase::FailedAndEnded } else { Phase::Failed };
                self.enter(phase, at_us, &format!("{}{status}", class.title()));
            }
            // The end of a session heals nothing: the error and its time stay.
            Fact::SessionEnded { .. } if self.has_failed() => self.phase = Phase::FailedAndEnded,
            Fact::SessionEnded { reason } => self.enter(Phase::Ended, at_us, &ended_note(reason.as_deref())),
            Fact::SubagentEnded { completed } if self.is_subagent() => {
                if *completed {
                    self.enter(Phase::Ended, at_us, "completed");
                } else {
                    self.enter(Phase::Failed, at_us, "it ended without a result");
                }
            }
            _ => {}
        }
    }

    const fn has_failed(&self) -> bool {
        matches!(self.phase, Phase::Failed | Phase::FailedAndEnded)
    }

    /// A run without a terminal ends with the error that stopped it, and a hook may tell the end before a file tells the error.
    fn explains_end(&self, event: &Event) -> bool {
        let fails = matches!(event.fact, Fact::ModelError { .. });
        fails && self.phase == Phase::Ended && !self.is_subagent() && self.phase_us.saturating_sub(event.at.as_micros()) <= LATE_ERROR_US
    }

    fn enter(&mut self, phase: Phase, at_us: i64, note: &str) {
        self.phase = phase;
        self.phase_us = at_us;
        // Another source may tell late what came before the question.
        self.waiting = self.waiting.filter(|(_, asked_us)| *asked_us > at_us);
        if *self.note != *note {
            self.note = head(note, LINE_BYTES_MAX).into();
        }
        if phase != Phase::MidTurn {
            self.pending.clear();
        }
    }

    fn answered(&mut self, id: u64, tool: Option<&str>) {
        let by_id = self.pending.iter().position(|pending| id != 0 && pending.id == id);
        let by_name = || self.pending.iter().position(|pending| pending.id == 0 && tool.is_none_or(|tool| *pending.tool == *tool));
        if let Some(i) = by_id.or_else(by_name) {
            self.pending.remove(i);
        }
    }

    /// The last line, from the event's text or, where the text was not kept, from the fact.
    fn describe(&mut self, event: &Event) {
        if event.at.as_micros() < self.last_us || is_background(&event.fact) {
            return;
        }
        self.last_event.clear();
        let text = head(&event.text, LINE_BYTES_MAX);
        if !text.trim().is_empty() {
            self.last_event.push_str(&one_line(text));
        } else if let Fact::ToolCall { tool, .. } | Fact::ToolResult { tool: Some(tool), .. } = &event.fact {
            let said = write!(self.last_event, "{} {}", event.fact.kind(), head(tool, 128));
            debug_assert!(said.is_ok(), "writing to a string does not fail");
        } else {
            self.last_event.push_str(event.fact.kind());
        }
    }

    pub(crate) fn error(&mut self, at: Timestamp, text: &str) {
        let at_us = at.as_micros();
        if self.last_error.as_ref().is_none_or(|(known, _)| *known <= at_us) {
            self.last_error = Some((at_us, one_line(head(text, LINE_BYTES_MAX)).into()));
        }
    }

    /// The size of the conversation after a call of the conversation itself.
    pub(crate) fn context(&mut self, at: Timestamp, model: u16, tokens: u64) {
        let at_us = at.as_micros();
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        if tokens == 0 || at_us < self.context_us {
            return;
        }
        // A call is told several times, early with fewer tokens.
        self.context = if at_us == self.context_us { self.context.max(tokens) } else { tokens };
        self.context_us = at_us;
        self.context_max = self.context_max.max(tokens);
        self.model = model;
    }

    pub(crate) fn sample(&mut self, at: Timestamp) {
        let tally = self.tally();
        self.series.push(Sample {
            at_s: u32::try_from(at.as_secs().max(0)).unwrap_or(u32::MAX),
            context: self.context,
            calls: u32::try_from(tally.calls).unwrap_or(u32::MAX),
            errors: self.model_errors.saturating_add(self.tool_failures()),
            cost: tally.cost,
        });
    }

    pub(crate) fn current_tool(&self) -> Option<(&str, Timestamp)> {
        self.pending.last().map(|pending| (&*pending.tool, Timestamp::from_micros(pending.since_us)))
    }

    pub(crate) fn condition<'a>(&'a self, last_sign_us: i64, process: Option<&'a ProcessSeen>) -> Condition<'a> {
        Condition {
            subagent: self.is_subagent(),
            phase: self.phase,
            phase_at: Timestamp::from_micros(self.phase_us.max(self.started_us)),
            note: &self.note,
            waiting: self.waiting.map(|(reason, at_us)| (reason, Timestamp::from_micros(at_us))),
            tool: self.current_tool(),
            last_sign_at: Timestamp::from_micros(last_sign_us.max(self.last_us)),
            process: process.map(|process| ProcessSign {
                pid: process.pid,
                alive: process.alive,
                status: process.status.as_deref(),
                at: Timestamp::from_micros(process.at_us),
            }),
            stuck: self.stuck.as_deref(),
        }
    }

    /// A finished agent keeps what is shown and gives back what only a running one needs.
    pub(crate) fn compact(&mut self) {
        self.told.forget();
        self.pending = Vec::new();
        self.last_event.shrink_to_fit();
        self.shares.shrink_to_fit();
        self.sources.shrink_to_fit();
        self.series.samples.shrink_to_fit();
        self.compacted = true;
    }
}

/// These stop reasons hand the turn back.
pub(crate) fn ends_turn(stop_reason: Option<&str>) -> bool {
    matches!(stop_reason, Some("end_turn" | "stop_sequence" | "refusal" | "stop"))
}

/// The gateway counts what an answer cost that did not come to its end; that it failed is told beside it.
fn is_unfinished(event: &Event) -> bool {
    event.source == Source::Gateway && event.attributes.contains_key("unfinished")
}

/// Facts that say nothing about what the agent does now.
const fn is_background(fact: &Fact) -> bool {
    matches!(fact, Fact::Measurement { .. } | Fact::Process { .. } | Fact::Span { .. } | Fact::ToolProgress { .. })
}

fn ended_note(reason: Option<&str>) -> String {
    reason.map_or_else(|| "session ended".to_owned(), |reason| format!("session ended ({})", one_line(head(reason, 64))))
}

fn fill(place: &mut Option<Box<str>>, told: Option<&str>) {
    if let Some(told) = told.filter(|told| !told.is_empty())
        && place.as_deref() != Some(told)
    {
        *place = Some(head(told, 512).into());
    }
}
