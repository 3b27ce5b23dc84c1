//! What the messages of a conversation mean: model calls, tool calls, their results, prompts.
//!
//! **Takes** a read line and who it is about. **Gives** events. **Never** keeps state: transcripts and `stream-json`
//! share these rules.

use memchr::memmem;
use paramedic_model::event::Correlation;
use paramedic_model::{AgentId, Event, Fact, Level, SessionId, Source, Timestamp, ToolOutcome, limit, secret, text};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::api_error::{self, Signs};
use crate::json::{Scanner, Text};
use crate::tool_input::{tool_input_hash, tool_input_summary};
use crate::transcript::line::{Block, Line, Message};

/// Bytes kept of an error's text even where texts are not captured: evidence.
const ERROR_TEXT_BYTES_MAX: usize = 400;
/// How far into a tool's error the reason is looked for.
const REASON_BYTES_MAX: usize = 600;

/// Whom a line is about, when, and under which identity.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) at: Timestamp,
    pub(crate) source: Source,
    pub(crate) session: Option<SessionId>,
    pub(crate) agent: Option<AgentId>,
    /// Hash of the line's own id; every event of the line derives its uid from it.
    pub(crate) identity: u64,
    pub(crate) correlation: Correlation,
    pub(crate) capture_text: bool,
}

impl Context {
    /// The line's event number `index`.
    pub(crate) fn event(&self, name: &str, index: usize, fact: Fact) -> Event {
        let mut event = Event::new(self.at, self.source, name);
        event.session.clone_from(&self.session);
        event.agent.clone_from(&self.agent);
        event.correlation.clone_from(&self.correlation);
        event.uid = Some(if index == 0 { self.identity } else { xxh3_64_with_seed(&self.identity.to_le_bytes(), index as u64) });
        event.fact = fact;
        event
    }

    /// A text for people, when texts are wanted.
    pub(crate) fn shown(&self, found: Option<Text<'_>>) -> Box<str> {
        match found {
            Some(found) if self.capture_text => shown(found, limit::EVENT_TEXT_BYTES_MAX),
            _ => "".into(),
        }
    }
}

/// Decoded, masked and capped.
pub(crate) fn shown(found: Text<'_>, bytes_max: usize) -> Box<str> {
    let decoded = found.decode_head(bytes_max);
    let masked = secret::mask(&decoded);
    if masked.len() <= bytes_max {
        return masked.into_owned().into_boxed_str();
    }
    format!("{} … ({} bytes in all)", text::head(&masked, bytes_max), found.raw().len()).into_boxed_str()
}

/// A foreign id: capped, since it becomes a key.
pub(crate) fn id(found: Option<Text<'_>>) -> Option<Box<str>> {
    let decoded = found?.decode_head(limit::ID_BYTES_MAX);
    Some(text::head(&decoded, limit::ID_BYTES_MAX).into())
}

/// The events of an `assistant` line: the model call or the error that stands in for it, then its tool calls.
pub(crate) fn assistant(context: &Context, line: &Line<'_>, out: &mut Vec<Event>) {
    let Some(message) = &line.message else {
        out.push(context.event("assistant", 0, Fact::Record));
        return;
    };
    if line.is_api_error == Some(true) || line.error.is_some_and(|error| error.first() == Some(&b'"')) {
        model_error(context, line, message, out);
        return;
    }
    if message.model.is_some_and(|model| model.raw() == b"<synthetic>") {
        // The client's own words, such as "No response requested.": nobody called the model.
        let mut event = context.event("assistant/synthetic", 0, Fact::Record);
        event.text = context.shown(first_text(message));
        out.push(event);
        return;
    }
    let fact = Fact::ModelCall {
        message: id(message.id),
        model: id(message.model),
        usage: message.usage.unwrap_or_default(),
        cost_usd: None,
        duration: None,
        time_to_first_token: None,
        stop_reason: id(message.stop_reason),
        text_hash: answer_hash(message),
    };
    let mut event = context.event("assistant", 0, fact);
    event.text = context.shown(first_text(message));
    out.push(event);
    for (index, block) in message.blocks.iter().enumerate() {
        if block.is("tool_use") || block.is("server_tool_use") || block.is("mcp_tool_use") {
            out.push(tool_call(context, index + 1, block));
        }
    }
}

fn tool_call(context: &Context, index: usize, block: &Block<'_>) -> Event {
    let tool = id(block.name).unwrap_or_else(|| "unknown".into());
    let summary = block.input.filter(|_| context.capture_text).and_then(tool_input_summary);
    let fact = Fact::ToolCall { id: id(block.id), tool: tool.clone(), input_hash: block.input.map(tool_input_hash) };
    let mut event = context.event("assistant/tool_use", index, fact);
    if let Some(summary) = summary {
        event.text = format!("{tool}: {summary}").into_boxed_str();
        event.attributes.insert("input".to_owned(), summary.into());
    }
    event
}

/// A failed call as the client wrote it into the conversation; how often it had been tried is the caller's to know.
fn model_error(context: &Context, line: &Line<'_>, message: &Message<'_>, out: &mut Vec<Event>) {
    let sentence = first_text(message).map(|found| found.decode_head(limit::EVENT_TEXT_BYTES_MAX)).unwrap_or_default();
    let kind = line.error.and_then(Text::of_value).map(Text::decode);
    let status = line.api_error_status.and_then(|status| u16::try_from(status).ok());
    let (class, status) = api_error::classify(Signs { kind: kind.as_deref(), status, text: &sentence });
    let retries_exhausted = api_error::gave_up(&sentence);
    let fact = Fact::ModelError { class, status, attempts: None, retries_exhausted, duration: None };
    let mut event = context.event("assistant/api_error", 0, fact);
    event.level = Level::Error;
    event.text = text::capped(&secret::mask(&sentence), ERROR_TEXT_BYTES_MAX).into();
    out.push(event);
    if let Some(notice) = api_error::limit_notice(&sentence, context.at).filter(|_| class == paramedic_model::ApiErrorClass::RateLimit) {
        let fact = Fact::RateLimit {
            status: "rejected".into(),
            limit: notice.limit.map(Into::into),
            utilization: None,
            remaining: None,
            resets_at: notice.resets_at,
        };
        let mut event = context.event("assistant/limit", 1, fact);
        event.level = Level::Warn;
        event.text = text::capped(&secret::mask(&sentence), ERROR_TEXT_BYTES_MAX).into();
        out.push(event);
    }
}

/// The events of a `user` line: results of tools, or a prompt, or what merely looks like one.
pub(crate) fn user(context: &Context, line: &Line<'_>, out: &mut Vec<Event>) {
    let Some(message) = &line.message else {
        out.push(context.event("user", 0, Fact::Record));
        return;
    };
    let mut index = 0;
    for block in message.blocks.iter().filter(|block| block.is("tool_result")) {
        out.push(tool_result(context, index, block));
        index += 1;
    }
    let said = first_text(message);
    let meaning = meaning_of(said.map_or(&b""[..], Text::raw), line);
    if index > 0 && meaning != Meaning::Interruption {
        return;
    }
    let (name, fact) = match meaning {
        Meaning::Prompt => ("user", Fact::Prompt),
        Meaning::Interruption => ("user/interrupted", Fact::TurnEnded { duration: None }),
        Meaning::Aside => ("user/aside", Fact::Record),
    };
    let mut event = context.event(name, index, fact);
    event.text = context.shown(said);
    if meaning == Meaning::Interruption {
        event.level = Level::Warn;
        event.attributes.insert("interrupted".to_owned(), true.into());
    }
    out.push(event);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Prompt,
    Interruption,
    /// Written by the client for the model's or the user's information: no turn begins.
    Aside,
}

/// What the client writes as a user message though nobody gave work: output of local commands, caveats. A custom
/// command (`<command-message>` first) is work; a built-in one (`<command-name>` first) is not.
const ASIDES: &[&[u8]] =
    &[b"<local-command-", b"<command-name>", b"<bash-input>", b"<bash-stdout>", b"<bash-stderr>", b"<system-reminder>", b"Caveat: "];

fn meaning_of(raw: &[u8], line: &Line<'_>) -> Meaning {
    let raw = raw.trim_ascii_start();
    if raw.starts_with(b"[Request interrupted by user") {
        Meaning::Interruption
    } else if line.is_meta || line.is_compact_summary || ASIDES.iter().any(|aside| raw.starts_with(aside)) {
        Meaning::Aside
    } else {
        Meaning::Prompt
    }
}

fn tool_result(context: &Context, index: usize, block: &Block<'_>) -> Event {
    let content = block.content.unwrap_or_default();
    let outcome = outcome_of(block.is_error, content);
    let fact = Fact::ToolResult { id: id(block.id), tool: None, outcome, result_hash: block.content.map(xxh3_64), duration: None };
    let mut event = context.event("user/tool_result", index, fact);
    if outcome != ToolOutcome::Success {
        event.level = Level::Warn;
        event.text = text_of_content(content).map_or_else(|| "".into(), |found| shown(found, ERROR_TEXT_BYTES_MAX));
    } else if context.capture_text {
        event.text = context.shown(text_of_content(content));
    }
    event
}

/// Why a tool gave no result. The wording is the client's own.
pub(crate) fn outcome_of(is_error: bool, content: &[u8]) -> ToolOutcome {
    if !is_error {
        return ToolOutcome::Success;
    }
    let reason = &content[..content.len().min(REASON_BYTES_MAX)];
    let says = |words: &str| memmem::find(reason, words.as_bytes()).is_some();
    if says("[Request interrupted") {
        ToolOutcome::Interrupted
    } else if says("user doesn't want to proceed") || says("user doesn't want to take this action") || says("tool use was rejected") {
        ToolOutcome::Rejected
    } else if says("Sibling tool call errored") {
        ToolOutcome::SiblingError
    } else {
        ToolOutcome::Error
    }
}

/// The text of a tool result's content: a string, or the first text block of a list.
fn text_of_content(content: &[u8]) -> Option<Text<'_>> {
    if let Some(found) = Text::of_value(content) {
        return Some(found);
    }
    let mut scan = Scanner::new(content);
    scan.enter_array()?;
    let mut first = true;
    while scan.next_item(&mut first)? {
        if scan.peek()? == b'{' {
            if let Some(found) = Block::read(&mut scan)?.text {
                return Some(found);
            }
        } else {
            scan.value()?;
        }
    }
    None
}

fn first_text<'a>(message: &Message<'a>) -> Option<Text<'a>> {
    message.text.or_else(|| message.blocks.iter().find_map(|block| block.text))
}

/// xxh3 of the answer's words: case and blanks make no difference.
fn answer_hash(message: &Message<'_>) -> Option<u64> {
    let mut words = String::new();
    for found in message.text.into_iter().chain(message.blocks.iter().filter(|block| block.is("text")).filter_map(|block| block.text)) {
        for word in found.decode().split_whitespace() {
            words.push_str(word);
            words.push(' ');
        }
    }
    words.make_ascii_lowercase();
    (!words.is_empty()).then(|| xxh3_64(words.as_bytes()))
}
