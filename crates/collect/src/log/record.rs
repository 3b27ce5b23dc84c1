//! What the parts of a record mean, whatever format they were written in.

use std::borrow::Cow;
use std::time::Duration;

use paramedic_model::event::Attributes;
use paramedic_model::limit::{ATTRIBUTES_MAX, EVENT_TEXT_BYTES_MAX, ID_BYTES_MAX};
use paramedic_model::text::head;
use paramedic_model::{AgentId, ApiErrorClass, Event, Fact, Level, SessionId, Source, Timestamp};
use serde_json::Value;

use super::Options;
use crate::otlp::clean;

/// The last agent and session, so that a log of one agent allocates its name once.
#[derive(Debug, Default)]
pub(super) struct Names {
    agent: Option<AgentId>,
    session: Option<SessionId>,
}

impl Names {
    fn agent(&mut self, name: &str) -> AgentId {
        let name = head(name, ID_BYTES_MAX);
        match &self.agent {
            Some(agent) if agent.as_str() == name => agent.clone(),
            _ => self.agent.insert(AgentId::from(&*clean::id(name))).clone(),
        }
    }

    fn session(&mut self, name: &str) -> SessionId {
        let name = head(name, ID_BYTES_MAX);
        match &self.session {
            Some(session) if session.as_str() == name => session.clone(),
            _ => self.session.insert(SessionId::from(&*clean::id(name))).clone(),
        }
    }
}

/// A record taken apart.
#[derive(Debug, Default)]
pub(super) struct Record<'a> {
    pub(super) at: Timestamp,
    pub(super) level: Option<Level>,
    pub(super) message: Cow<'a, str>,
    pub(super) stack: Option<Cow<'a, str>>,
    pub(super) agent: Option<Cow<'a, str>>,
    pub(super) session: Option<Cow<'a, str>>,
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) request: Option<Cow<'a, str>>,
    pub(super) correlation: Option<Cow<'a, str>>,
    pub(super) trace: Option<Cow<'a, str>>,
    pub(super) span: Option<Cow<'a, str>>,
    pub(super) prompt: Option<Cow<'a, str>>,
    /// An HTTP status, where a field says so.
    pub(super) status: Option<u16>,
    pub(super) attributes: Attributes,
}

impl<'a> Record<'a> {
    /// Notes a field that has a meaning. Every field is kept as an attribute besides.
    pub(super) fn note(&mut self, key: &str, value: Cow<'a, str>) {
        let place = match key {
            "agent" | "agentName" | "agent_name" | "agent.name" => &mut self.agent,
            "conversationId" | "conversation_id" | "conversation.id" | "Conversation" | "sessionId" | "session_id" | "session.id" => {
                &mut self.session
            }
            "userId" | "user_id" | "user.id" | "user" => &mut self.user,
            "requestId" | "request_id" | "request.id" | "reqId" | "req_id" => &mut self.request,
            "correlationId" | "correlation_id" | "correlation.id" => &mut self.correlation,
            "traceId" | "trace_id" | "trace.id" | "TraceId" => &mut self.trace,
            "spanId" | "span_id" | "span.id" | "SpanId" => &mut self.span,
            "promptId" | "prompt_id" | "prompt.id" => &mut self.prompt,
            "errorCode" | "error_code" | "statusCode" | "status_code" | "status" | "code" => {
                let status = value.trim().parse().ok().filter(|status| (100..600).contains(status));
                self.status = self.status.or(status);
                return;
            }
            _ if key.eq_ignore_ascii_case("x-request-id") => &mut self.request,
            _ if key.eq_ignore_ascii_case("x-correlation-id") => &mut self.correlation,
            _ => return,
        };
        if place.is_none() && !value.is_empty() {
            *place = Some(value);
        }
    }

    pub(super) fn attribute(&mut self, key: &str, value: Value) {
        if self.attributes.len() < ATTRIBUTES_MAX || self.attributes.contains_key(key) {
            self.attributes.insert(head(key, ID_BYTES_MAX).to_owned(), value);
        }
    }

    pub(super) fn into_event(mut self, options: &Options, names: &mut Names) -> Event {
        let level = self.level.unwrap_or(if self.stack.is_some() { Level::Error } else { Level::Info });
        let mut event = Event::new(self.at, Source::Log, "log");
        event.level = level;
        event.fact = self.fact(level);
        event.session = match &self.session {
            Some(session) => Some(names.session(session)),
            None => options.session.clone(),
        };
        event.agent = match &self.agent {
            Some(agent) => Some(names.agent(agent)),
            None => options.agent.clone().or_else(|| event.session.as_ref().map(AgentId::of_session)),
        };
        event.correlation.user = self.user.as_deref().map(clean::id);
        event.correlation.request = self.request.as_deref().or(self.correlation.as_deref()).map(clean::id);
        event.correlation.trace = self.trace.as_deref().map(clean::id);
        event.correlation.span = self.span.as_deref().map(clean::id);
        event.correlation.prompt = self.prompt.as_deref().map(clean::id);
        if options.capture_text {
            let stack = self.stack.as_ref().map(|stack| clean::attribute("stack", stack.to_string()));
            event.text = self.text(stack.as_deref());
            if let Some(stack) = stack {
                self.attribute("stack", Value::String(stack));
            }
            event.attributes = self.attributes;
        }
        event
    }

    /// The message and, below it, the stack that is already clean.
    fn text(&self, stack: Option<&str>) -> Box<str> {
        let message = clean::bounded(&self.message, EVENT_TEXT_BYTES_MAX);
        let Some(stack) = stack.filter(|stack| !message.contains(stack)) else { return message.into() };
        if message.is_empty() {
            return stack.into();
        }
        let mut text = message;
        let room = EVENT_TEXT_BYTES_MAX.saturating_sub(text.len());
        text.reserve_exact(1 + stack.len().min(room));
        text.push('\n');
        text.push_str(head(stack, room));
        text.into()
    }

    /// Logs say little reliably, so only what is told outright becomes a fact: a rate limit (status 429 or the
    /// sentence), an overload (529), each in a field or in the message, and an agent's run that timed out, which is the failure of that agent's call.
    /// Such a record names its agent, so that detectors can group by it.
    fn fact(&self, level: Level) -> Fact {
        if level < Level::Warn {
            return Fact::Record;
        }
        let message = head(&self.message, 512);
        let status = self.status.or_else(|| status_told(message));
        let error = |class, duration| Fact::ModelError { class, status, attempts: None, retries_exhausted: false, duration };
        if status == Some(429) || contains_ignoring_case(message, "rate limit exceeded") {
            return error(ApiErrorClass::RateLimit, None);
        }
        if status == Some(529) || contains_ignoring_case(message, "overloaded_error") {
            return error(ApiErrorClass::Overloaded, None);
        }
        timeout(message).map_or(Fact::Record, |after| error(ApiErrorClass::Timeout, after))
    }
}

/// The status in `API Error: 529 {…}`, `HTTP/1.1 429`, `status=529`, `Error code: 429 - …`, `529 Overloaded`. A number
/// among other words counts something else.
fn status_told(message: &str) -> Option<u16> {
    const BEFORE: [&[u8]; 6] = [b"error", b"code", b"status", b"http", b"http/1.1", b"http/2"];
    const AFTER: [&[u8]; 3] = [b"overloaded", b"too many requests", b"rate limit"];
    let bytes = message.as_bytes();
    let is_blank = |byte: &u8| b" :=(\"'-,".contains(byte);
    memchr::memmem::find_iter(bytes, b"29").filter_map(|at| at.checked_sub(1)).find_map(|at| {
        let status = match bytes[at] {
            b'4' => 429,
            b'5' => 529,
            _ => return None,
        };
        let (before, after) = (&bytes[..at], &bytes[at + 3..]);
        let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'));
        if is_word(before.last()) || after.first().is_some_and(u8::is_ascii_alphanumeric) {
            return None;
        }
        let before = &before[..before.iter().rposition(|byte| !is_blank(byte)).map_or(0, |last| last + 1)];
        let after = &after[after.iter().position(|byte| !is_blank(byte)).unwrap_or(after.len())..];
        let ends = |word: &&[u8]| before.len() >= word.len() && before[before.len() - word.len()..].eq_ignore_ascii_case(word);
        let begins = |word: &&[u8]| after.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        (BEFORE.iter().any(ends) || AFTER.iter().any(begins)).then_some(status)
    })
}

/// `Agent execution timed out after 300000ms`.
fn timeout(message: &str) -> Option<Option<Duration>> {
    const SENTENCE: &str = "agent execution timed out";
    let at = find_ignoring_case(message, SENTENCE)?;
    let rest = &message[at + SENTENCE.len()..];
    let digits: String = rest.chars().skip_while(|letter| !letter.is_ascii_digit()).take_while(char::is_ascii_digit).take(15).collect();
    let unit = rest.split_once(digits.as_str()).map_or("", |(_, unit)| unit).trim_start();
    let factor = if unit.starts_with("ms") { 1 } else { 1_000 };
    Some(digits.parse::<u64>().ok().map(|number| Duration::from_millis(number.saturating_mul(factor))))
}

fn contains_ignoring_case(text: &str, sentence: &str) -> bool {
    find_ignoring_case(text, sentence).is_some()
}

/// Where an ASCII sentence in small letters stands in a text.
fn find_ignoring_case(text: &str, sentence: &str) -> Option<usize> {
    let (bytes, sentence) = (text.as_bytes(), sentence.as_bytes());
    let first = sentence[0];
    memchr::memchr2_iter(first, first.to_ascii_uppercase(), bytes)
        .find(|at| bytes.get(*at..at + sentence.len()).is_some_and(|part| part.eq_ignore_ascii_case(sentence)))
}

/// A value from text: whole numbers become numbers, the rest stays as it is written.
pub(super) fn typed(key: &str, value: &str) -> Value {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let is_whole = !digits.is_empty() && digits.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_whole
        && (digits.len() == 1 || !digits.starts_with('0'))
        && let Ok(number) = value.parse::<i64>()
    {
        return number.into();
    }
    Value::String(clean::attribute(key, value.to_owned()))
}
