//! Log records: Claude Code's events by their meaning, any other record by its severity.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use paramedic_model::limit::ID_BYTES_MAX;
use paramedic_model::{AgentId, Event, Fact, Level, Source, Timestamp};
use xxhash_rust::xxh3::Xxh3;

use super::claude::{Meaning, meaning};
use super::convert::{Converted, Item};
use super::known::{Key, Known};
use super::resource::{Origin, correlation, time};
use super::{clean, value};

const PREFIX: &str = "claude_code.";

impl Item for LogRecord {
    fn reserve(&mut self, attributes: usize) {
        self.attributes.reserve_exact(attributes);
    }

    fn attributes(&self) -> usize {
        self.attributes.len()
    }

    fn convert(self, origin: &mut Origin<'_>, now: Timestamp, out: &mut Converted) {
        let mut event = described(&self, origin, now);
        event.attributes = origin.bag(self.attributes.len());
        out.attributes_dropped += value::keep(self.attributes, &mut event.attributes);
        // A structured body is data too; a plain one is the text.
        if let Some(body) = self.body
            && !matches!(body.value, None | Some(Any::StringValue(_)))
        {
            event.attributes.insert("body".to_owned(), value::into_json("body", body));
        }
        out.events.push(event);
    }
}

/// Everything but the attributes.
fn described(record: &LogRecord, origin: &mut Origin<'_>, now: Timestamp) -> Event {
    let mut known = origin.known;
    known.scan(&record.attributes);
    let body = match record.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(Any::StringValue(text)) => Some(text.as_str()),
        _ => None,
    };
    let named = known
        .text(Key::EventName)
        .or_else(|| (!record.event_name.is_empty()).then_some(Cow::Borrowed(record.event_name.as_str())))
        .or_else(|| body.filter(|body| body.starts_with(PREFIX)).map(Cow::Borrowed));
    let short = named.as_deref().and_then(|name| name.strip_prefix(PREFIX));
    let is_claude = origin.is_claude || short.is_some();
    let at = time([record.time_unix_nano, record.observed_time_unix_nano], &known, now);
    let name: Box<str> = match (&named, is_claude) {
        (Some(_), true) if short.is_some() => clean::id(named.as_deref().unwrap_or_default()),
        (Some(name), true) => prefixed(name),
        (Some(name), false) => clean::id(name),
        (None, _) => "log".into(),
    };
    let (session, agent) = origin.identify(&known, is_claude);
    let severity = severity(record);
    let meaning = if is_claude && named.is_some() {
        let event = short.or(named.as_deref()).unwrap_or_default();
        let mut meaning = meaning(event, &known, agent.as_ref().is_some_and(|agent: &AgentId| agent.subagent().is_some()));
        if meaning.text.is_empty()
            && let Some(body) = body.filter(|body| body.strip_prefix(PREFIX) != Some(event))
        {
            meaning.text = Cow::Borrowed(body);
        }
        meaning
    } else {
        Meaning { fact: Fact::Record, level: severity.unwrap_or(Level::Info), text: plain_text(record, body, &known) }
    };
    let mut event = Event::new(at, Source::OtlpLog, name);
    event.level = severity.map_or(meaning.level, |severity| severity.max(meaning.level));
    event.text = clean::text(&meaning.text);
    event.fact = meaning.fact;
    event.uid = known.text(Key::EventSequence).filter(|_| session.is_some()).map(|sequence| {
        let mut hash = Xxh3::new();
        for part in [session.as_ref().map_or("", |session| session.as_str()), &event.name, &sequence] {
            hash.update(part.as_bytes());
            hash.update(&[0xff]);
        }
        hash.update(&at.as_micros().to_le_bytes());
        hash.digest()
    });
    event.session = session;
    event.agent = agent;
    event.correlation = correlation(&known, &record.trace_id, &record.span_id, &[]);
    event
}

fn prefixed(name: &str) -> Box<str> {
    let name = clean::id(name);
    let mut full = String::with_capacity(PREFIX.len() + name.len());
    full.push_str(PREFIX);
    full.push_str(paramedic_model::text::head(&name, ID_BYTES_MAX));
    full.into()
}

/// What a service's record says, with its exception behind it.
fn plain_text<'a>(record: &'a LogRecord, body: Option<&'a str>, known: &Known<'a>) -> Cow<'a, str> {
    let text = match (body, &record.body) {
        (Some(body), _) => Cow::Borrowed(body),
        (None, Some(body)) => match value::as_text(body) {
            Some(text) => text,
            None => Cow::Owned(structured_text(body)),
        },
        (None, None) => Cow::Borrowed(record.event_name.as_str()),
    };
    match exception(known) {
        Some(exception) if !text.contains(exception.as_str()) => {
            if text.is_empty() {
                Cow::Owned(exception)
            } else {
                Cow::Owned(format!("{text}\n{exception}"))
            }
        }
        _ => text,
    }
}

fn structured_text(body: &opentelemetry_proto::tonic::common::v1::AnyValue) -> String {
    match value::into_json("body", body.clone()) {
        serde_json::Value::Null => String::new(),
        json => json.to_string(),
    }
}

/// `type: message` and the stack, from the attributes that OpenTelemetry names for it.
pub(super) fn exception(known: &Known<'_>) -> Option<String> {
    let head = [known.text(Key::ExceptionType), known.text(Key::ExceptionMessage)].into_iter().flatten().collect::<Vec<_>>().join(": ");
    match known.text(Key::ExceptionStack) {
        Some(stack) if head.is_empty() || stack.contains(&head) => Some(stack.into_owned()),
        Some(stack) => Some(format!("{head}\n{stack}")),
        None => Some(head).filter(|head| !head.is_empty()),
    }
}

/// OTLP's 24 severities in four steps; the text where the number is missing.
fn severity(record: &LogRecord) -> Option<Level> {
    match record.severity_number {
        1..=8 => Some(Level::Debug),
        9..=12 => Some(Level::Info),
        13..=16 => Some(Level::Warn),
        17..=24 => Some(Level::Error),
        _ => Level::from_text(&record.severity_text),
    }
}

/// Claude Code tells a failure that ended its retries twice: as `api_error` and as `api_retries_exhausted`. Where
/// both came in one request the first is the fact, with what the second knows, and the second is a record.
pub(super) fn join_exhausted(events: &mut [Event]) {
    const APART_MICROS: u64 = 5_000_000;
    for i in 0..events.len() {
        if events[i].name.as_ref() != "claude_code.api_retries_exhausted" || !matches!(events[i].fact, Fact::ModelError { .. }) {
            continue;
        }
        let from = i.saturating_sub(64);
        let to = (i + 64).min(events.len());
        let twin = (from..to).filter(|j| is_twin(&events[*j], &events[i], APART_MICROS)).min_by_key(|j| j.abs_diff(i));
        let Some(twin) = twin else { continue };
        let told = std::mem::replace(&mut events[i].fact, Fact::Record);
        if let (Fact::ModelError { attempts: told, .. }, Fact::ModelError { retries_exhausted, attempts, .. }) =
            (told, &mut events[twin].fact)
        {
            *retries_exhausted = true;
            *attempts = attempts.or(told);
        }
    }
}

fn is_twin(error: &Event, exhausted: &Event, apart_micros: u64) -> bool {
    error.name.as_ref() == "claude_code.api_error"
        && error.agent == exhausted.agent
        && error.at.as_micros().abs_diff(exhausted.at.as_micros()) <= apart_micros
}
