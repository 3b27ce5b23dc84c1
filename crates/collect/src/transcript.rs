//! Claude Code transcripts: one JSON object a line, written as the conversation goes.
//!
//! **Takes** lines of `<config dir>/projects/<project>/<session>.jsonl` and of the sub-agents' files beside it, of any
//! client version. **Gives** events. **Never** fails: unknown types are kept as records and counted, lines that are
//! not JSON objects are counted and named by number.
//!
//! The format is internal to the client and changes between versions, so nothing here depends on the order of members
//! except where stopping early saves reading a megabyte of tool output (see [`line`]).

pub(crate) mod files;
mod line;
mod message;
mod reader;
mod system;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use paramedic_model::event::Correlation;
use paramedic_model::{AgentId, Event, Fact, SessionId, Source, Timestamp, limit, secret, text};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub use files::{Description, FileCounts, TranscriptError, TranscriptFile, discover, read_file};
pub(crate) use line::Line;
pub(crate) use message::{Context, assistant, id, outcome_of, shown, user};
pub use reader::{LineReader, Piece};
pub(crate) use system::{compaction, retry_sentence};

use crate::json::{self, Text};

/// How much of a transcript becomes text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseOptions {
    /// Keep prompts, answers and tool inputs as (masked, capped) text. Without it events carry facts only, which is
    /// enough for detectors; the texts of errors are always kept.
    pub capture_text: bool,
}

impl Default for ParseOptions {
    fn default() -> Self {
        Self { capture_text: true }
    }
}

/// What a parser has met so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub lines: u64,
    pub events: u64,
    /// Lines that are not one JSON object.
    pub bad: u64,
    /// Lines longer than [`limit::LINE_BYTES_MAX`], skipped whole.
    pub oversized: u64,
    /// File-history snapshots: the one type that makes no event, since it says nothing about the agent.
    pub snapshots: u64,
    /// Lines by type, for types that this version does not know. At most [`UNKNOWN_TYPES_MAX`] are told apart.
    pub unknown: BTreeMap<Box<str>, u64>,
    /// The first few bad and oversized lines, by number from 1.
    pub examples: Vec<BadLine>,
}

/// A line that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    pub line: u64,
    pub what: &'static str,
}

const UNKNOWN_TYPES_MAX: usize = 64;
const EXAMPLES_MAX: usize = 8;
/// Events without a time that wait for the first line that has one.
const UNTIMED_MAX: usize = 64;
/// Sub-agents remembered as already announced.
const SUBAGENTS_MAX: usize = 4_096;
/// The longest record line whose members are kept as attributes.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Types that are known and say nothing about the agent's state.
const RECORD_TYPES: &[&str] = &[
    "summary",
    "attachment",
    "permission-mode",
    "last-prompt",
    "ai-title",
    "custom-title",
    "agent-name",
    "agent-color",
    "pr-link",
    "tag",
    "mode",
    "worktree-state",
];

/// Turns the lines of one file into events. Keeps what the file said so far: ids, the last time, the last retry.
#[derive(Debug)]
pub struct Parser {
    /// What has been met; lines are counted from wherever the parser started.
    pub counts: Counts,
    options: ParseOptions,
    place: Place,
    ids: Ids,
    /// Where reading began: a parser that starts in the middle must not announce a new session.
    is_resumed: bool,
    is_announced: bool,
    announced_subagents: HashSet<AgentId>,
    last_at: Option<Timestamp>,
    file_time: Option<Timestamp>,
    untimed: Vec<Event>,
    last_retry: Option<(u32, Option<u32>)>,
    said: Said,
    description: Option<Description>,
}

/// What the path says.
#[derive(Debug)]
struct Place {
    session: SessionId,
    subagent: Option<Box<str>>,
    workflow: Option<Box<str>>,
    is_journal: bool,
}

/// Members that stand on every line: told once, and again when they change.
#[derive(Debug, Default)]
struct Said {
    cwd: Box<[u8]>,
    branch: Box<[u8]>,
    version: Box<[u8]>,
}

/// The shared ids of a file's events, made once.
#[derive(Debug)]
struct Ids {
    session: SessionId,
    main: AgentId,
    subagent: Option<(Box<[u8]>, AgentId)>,
}

impl Ids {
    fn of(session: SessionId) -> Self {
        Self { main: AgentId::of_session(&session), session, subagent: None }
    }

    fn set_session(&mut self, found: Option<Text<'_>>) {
        let Some(found) = found.filter(|found| !found.raw().is_empty() && found.raw() != self.session.as_str().as_bytes()) else { return };
        if let Some(decoded) = id(Some(found)).filter(|decoded| **decoded != *self.session.as_str()) {
            *self = Self::of(SessionId::new(decoded));
        }
    }

    fn subagent(&mut self, raw: &[u8]) -> AgentId {
        if let Some((held, agent)) = &self.subagent
            && **held == *raw
        {
            return agent.clone();
        }
        let raw = &raw[..raw.len().min(limit::ID_BYTES_MAX)];
        let agent = AgentId::of_subagent(&self.session, &String::from_utf8_lossy(raw));
        self.subagent = Some((raw.into(), agent.clone()));
        agent
    }
}

impl Place {
    fn of(path: &Path) -> Self {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let folder = parts.iter().rposition(|part| part == "subagents").filter(|at| *at > 0);
        let session = folder.map_or(&stem, |at| &parts[at - 1]);
        let workflow = folder.and_then(|at| (parts.get(at + 1)? == "workflows").then(|| parts.get(at + 2)).flatten());
        Self {
            session: SessionId::new(text::head(session, limit::ID_BYTES_MAX)),
            subagent: stem.strip_prefix("agent-").map(Into::into),
            workflow: workflow.map(|workflow| workflow.as_str().into()),
            is_journal: folder.is_some() && stem == "journal",
        }
    }
}

impl Parser {
    /// A parser for the file at `path`, which need not exist: the path names session and sub-agent where lines do not.
    #[must_use]
    pub fn new(options: ParseOptions, path: &Path) -> Self {
        let place = Place::of(path);
        Self {
            counts: Counts::default(),
            options,
            ids: Ids::of(place.session.clone()),
            place,
            is_resumed: false,
            is_announced: false,
            announced_subagents: HashSet::new(),
            last_at: None,
            file_time: None,
            untimed: Vec::new(),
            last_retry: None,
            said: Said::default(),
            description: None,
        }
    }

    /// What is known from elsewhere of the sub-agent whose file this is.
    pub fn describe(&mut self, description: Option<Description>) {
        self.description = description;
    }

    /// Says that reading starts after `lines` lines that an earlier parser has read.
    pub fn resume_after(&mut self, lines: u64) {
        self.is_resumed = lines > 0;
        self.counts.lines = lines;
    }

    /// The file's modification time: stands in for the time of lines that carry none and have none before them.
    pub const fn set_file_time(&mut self, at: Timestamp) {
        self.file_time = Some(at);
    }

    /// Notes a line that was too long to be read.
    pub fn skip_oversized(&mut self) {
        self.counts.lines += 1;
        self.counts.oversized += 1;
        self.note("longer than the limit");
    }

    fn note(&mut self, what: &'static str) {
        if self.counts.examples.len() < EXAMPLES_MAX {
            self.counts.examples.push(BadLine { line: self.counts.lines, what });
        }
    }

    /// Reads one line without its newline and appends what it says to `out`.
    pub fn parse(&mut self, line: &[u8], out: &mut Vec<Event>) {
        self.counts.lines += 1;
        let before = out.len();
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        match Line::read(line) {
            Some(read) => self.interpret(&read, line, out),
            None => {
                self.counts.bad += 1;
                self.note("not a JSON object");
            }
        }
        self.counts.events += (out.len() - before) as u64;
    }

    /// Hands over what still waited for a time, when no more lines will come.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        let at = self.last_at.or(self.file_time).unwrap_or(Timestamp::EPOCH);
        self.counts.events += self.untimed.len() as u64;
        out.extend(self.untimed.drain(..).map(|mut event| {
            event.at = at;
            event
        }));
    }

    fn interpret(&mut self, line: &Line<'_>, bytes: &[u8], out: &mut Vec<Event>) {
        if line.is("file-history-snapshot") {
            self.counts.snapshots += 1;
            return;
        }
        if self.place.is_journal && (line.is("started") || line.is("result")) {
            self.journal(line, bytes, out);
            return;
        }
        self.ids.set_session(line.session);
        let told_at = line.timestamp.and_then(timestamp);
        let at = told_at.or(self.last_at);
        self.last_at = at;
        let context = self.context(line, bytes, at.or(self.file_time).unwrap_or(Timestamp::EPOCH));
        if at.is_none() {
            if self.untimed.len() < UNTIMED_MAX {
                let mut waiting = std::mem::take(&mut self.untimed);
                self.dispatch(&context, line, bytes, &mut waiting);
                self.untimed = waiting;
            }
            return;
        }
        self.announce(&context, line, out);
        if !self.untimed.is_empty() {
            out.extend(self.untimed.drain(..).map(|mut event| {
                event.at = context.at;
                event
            }));
        }
        let first_new = out.len();
        self.dispatch(&context, line, bytes, out);
        if let Some(event) = out.get_mut(first_new) {
            self.say(line, event);
        }
    }

    fn context(&mut self, line: &Line<'_>, bytes: &[u8], at: Timestamp) -> Context {
        let agent = match (line.subagent, &self.place.subagent) {
            (Some(found), _) if line.is_sidechain || self.place.subagent.is_some() => self.ids.subagent(found.raw()),
            (_, Some(from_path)) => {
                let from_path = from_path.clone();
                self.ids.subagent(from_path.as_bytes())
            }
            // Old versions wrote sub-agents into the session's own file without naming them.
            _ if line.is_sidechain => self.ids.subagent(b"sidechain"),
            _ => self.ids.main.clone(),
        };
        Context {
            at,
            source: Source::Transcript,
            session: Some(self.ids.session.clone()),
            agent: Some(agent),
            identity: xxh3_64(line.uuid.map_or(bytes, Text::raw)),
            correlation: Correlation { prompt: id(line.prompt), request: id(line.request), ..Correlation::default() },
            capture_text: self.options.capture_text,
        }
    }

    /// A session or a sub-agent that is met for the first time.
    fn announce(&mut self, context: &Context, line: &Line<'_>, out: &mut Vec<Event>) {
        let Some(agent) = &context.agent else { return };
        let is_main = *agent == self.ids.main;
        if if is_main { self.is_announced } else { self.announced_subagents.contains(agent) } {
            return;
        }
        let fact = if is_main {
            self.is_announced = true;
            if self.is_resumed {
                return;
            }
            Fact::SessionStarted { how: None, model: None, cwd: id(line.cwd), version: id(line.version) }
        } else {
            if self.announced_subagents.len() >= SUBAGENTS_MAX {
                return;
            }
            self.announced_subagents.insert(agent.clone());
            if self.is_resumed && self.place.subagent.is_some() {
                return;
            }
            let compact = || agent.subagent().filter(|id| id.starts_with("acompact")).map(|_| "compact".into());
            Fact::SubagentStarted { agent_type: self.own_description(agent).and_then(|own| own.agent_type.clone()).or_else(compact) }
        };
        let mut event = context.event(if is_main { "session" } else { "subagent" }, 0, fact);
        event.correlation = Correlation::default();
        event.uid = Some(xxh3_64_with_seed(agent.as_str().as_bytes(), 1));
        if let Some(own) = self.own_description(agent) {
            if let Some(tool_use) = &own.tool_use {
                event.attributes.insert("tool_use_id".to_owned(), (**tool_use).into());
            }
            if self.options.capture_text {
                event.text = own.task.clone().unwrap_or_default();
            }
        }
        out.push(event);
    }

    fn own_description(&self, agent: &AgentId) -> Option<&Description> {
        self.description.as_ref().filter(|_| agent.subagent().is_some() && agent.subagent() == self.place.subagent.as_deref())
    }

    /// Puts directory, branch and version on the first event after each change.
    fn say(&mut self, line: &Line<'_>, event: &mut Event) {
        for (key, found, said) in [
            ("cwd", line.cwd, &mut self.said.cwd),
            ("gitBranch", line.branch, &mut self.said.branch),
            ("version", line.version, &mut self.said.version),
        ] {
            if let Some(found) = found.filter(|found| *found.raw() != **said) {
                *said = found.raw().into();
                event.attributes.insert(key.to_owned(), shown(found, limit::ATTRIBUTE_BYTES_MAX).into_string().into());
            }
        }
    }

    fn dispatch(&mut self, context: &Context, line: &Line<'_>, bytes: &[u8], out: &mut Vec<Event>) {
        let first_new = out.len();
        match line.kind.map_or(&b""[..], Text::raw) {
            b"assistant" => {
                assistant(context, line, out);
                self.complete_retries(&mut out[first_new..]);
            }
            b"user" => user(context, line, out),
            b"progress" => self.progress(context, line, out),
            b"system" => {
                let (event, retry) = system::system(context, line);
                self.last_retry = retry.or(self.last_retry);
                out.push(event);
            }
            _ => out.push(self.record(context, line, bytes)),
        }
    }

    /// Tells an error how often the call had been tried; a call that was answered ends the story.
    fn complete_retries(&mut self, events: &mut [Event]) {
        for event in events {
            match &mut event.fact {
                Fact::ModelError { attempts, retries_exhausted, .. } => {
                    if let Some((attempt, max)) = self.last_retry.take() {
                        *attempts = Some(attempt.saturating_add(1));
                        *retries_exhausted |= max.is_some_and(|max| attempt >= max);
                    }
                }
                Fact::ModelCall { .. } => self.last_retry = None,
                _ => {}
            }
        }
    }

    fn progress(&mut self, context: &Context, line: &Line<'_>, out: &mut Vec<Event>) {
        let data = line.data.clone().unwrap_or_default();
        let kind = data.kind.map(Text::decode).unwrap_or_default();
        let name = format!("progress/{}", text::head(&kind, limit::ID_BYTES_MAX));
        let is_tool = matches!(&*kind, "bash_progress" | "hook_progress" | "mcp_progress" | "agent_progress" | "powershell_progress");
        let fact = if is_tool { Fact::ToolProgress { id: id(line.parent_tool) } } else { Fact::Record };
        out.push(context.event(&name, 0, fact));
        if kind != "agent_progress" {
            return;
        }
        // Old versions kept a sub-agent's conversation only here, in its parent's file.
        let (Some(subagent), Some(nested)) = (data.subagent, data.message.and_then(Line::read)) else { return };
        let mut inner = self.context(&nested, data.message.unwrap_or_default(), nested.timestamp.and_then(timestamp).unwrap_or(context.at));
        inner.agent = Some(self.ids.subagent(subagent.raw()));
        self.announce(&inner, &nested, out);
        match nested.kind.map_or(&b""[..], Text::raw) {
            b"assistant" => assistant(&inner, &nested, out),
            b"user" => user(&inner, &nested, out),
            _ => {}
        }
    }

    /// A line that changes nothing about the agent: kept with its name and, where texts are wanted, its members.
    fn record(&mut self, context: &Context, line: &Line<'_>, bytes: &[u8]) -> Event {
        let kind = line.kind.map(|kind| shown(kind, limit::ID_BYTES_MAX)).unwrap_or_else(|| "untyped".into());
        let mut name = kind.clone();
        if &*kind == "queue-operation" {
            if let Some(operation) = line.operation {
                name = format!("{kind}/{}", shown(operation, limit::ID_BYTES_MAX)).into_boxed_str();
            }
        } else if !RECORD_TYPES.contains(&&*kind) {
            self.count_unknown(kind);
        }
        let mut event = context.event(&name, 0, Fact::Record);
        if self.options.capture_text {
            event.text = context.shown(line.content.or(line.summary).and_then(Text::of_value));
            if bytes.len() <= RECORD_BYTES_MAX {
                keep_members(bytes, &mut event);
            }
        }
        event
    }

    fn count_unknown(&mut self, kind: Box<str>) {
        if self.counts.unknown.len() < UNKNOWN_TYPES_MAX || self.counts.unknown.contains_key(&kind) {
            *self.counts.unknown.entry(kind).or_default() += 1;
        } else {
            *self.counts.unknown.entry("other".into()).or_default() += 1;
        }
    }

    /// A workflow's journal: which agents it started, which of them answered. It carries no times.
    fn journal(&mut self, line: &Line<'_>, bytes: &[u8], out: &mut Vec<Event>) {
        let told_at = line.timestamp.and_then(timestamp);
        let at = told_at.or(self.file_time).or(self.last_at).unwrap_or(Timestamp::EPOCH);
        let mut context = self.context(line, bytes, at);
        if let Some(found) = line.subagent {
            context.agent = Some(self.ids.subagent(found.raw()));
        }
        let (name, fact) = if line.is("started") {
            ("journal/started", Fact::SubagentStarted { agent_type: None })
        } else {
            ("journal/result", Fact::SubagentEnded { completed: true })
        };
        let mut event = context.event(name, 0, fact);
        if told_at.is_none() {
            event.attributes.insert("time_from".to_owned(), "the file's modification time".into());
        }
        if let Some(workflow) = &self.place.workflow {
            event.attributes.insert("workflow".to_owned(), (**workflow).into());
        }
        out.push(event);
    }
}

/// Members that every line has and that the event already carries.
const HEADER_KEYS: &[&[u8]] = &[
    b"type",
    b"uuid",
    b"parentUuid",
    b"logicalParentUuid",
    b"timestamp",
    b"sessionId",
    b"isSidechain",
    b"userType",
    b"cwd",
    b"version",
    b"gitBranch",
    b"slug",
    b"agentId",
    b"content",
    b"summary",
    b"message",
    b"entrypoint",
];

fn keep_members(bytes: &[u8], event: &mut Event) {
    let attributes = &mut event.attributes;
    // A line that came this far is an object, so there is nothing to report.
    let _ = json::members(bytes, |key, raw| {
        if HEADER_KEYS.contains(&key) || attributes.len() >= limit::ATTRIBUTES_MAX {
            return;
        }
        let value = match Text::of_value(raw) {
            Some(found) => shown(found, limit::ATTRIBUTE_BYTES_MAX).into_string().into(),
            None if raw.len() <= limit::ATTRIBUTE_BYTES_MAX => {
                let masked = secret::mask(std::str::from_utf8(raw).unwrap_or_default()).into_owned();
                serde_json::from_str(&masked).unwrap_or(serde_json::Value::String(masked))
            }
            None => return,
        };
        attributes.insert(String::from_utf8_lossy(&key[..key.len().min(limit::ID_BYTES_MAX)]).into_owned(), value);
    });
}

fn timestamp(found: Text<'_>) -> Option<Timestamp> {
    Timestamp::parse(std::str::from_utf8(found.raw()).ok()?)
}
