//! Spans: one event per finished span, at the time when it ended.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span;
use paramedic_model::event::Attributes;
use paramedic_model::limit::ATTRIBUTE_BYTES_MAX;
use paramedic_model::{Event, Fact, Level, Source, Timestamp};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::convert::{Converted, Item};
use super::known::{Key, Known};
use super::logs::exception;
use super::resource::{Origin, correlation, time};
use super::{clean, value};

/// Span events kept per span: Claude Code writes one per try of a model call.
const EVENTS_MAX: usize = 32;
/// `Status.StatusCode` for an error.
const STATUS_ERROR: i32 = 2;

impl Item for Span {
    fn convert(self, origin: &mut Origin<'_>, now: Timestamp, out: &mut Converted) {
        let mut event = described(&self, origin, now);
        event.attributes = origin.bag(self.attributes.len() + 3);
        out.attributes_dropped += value::keep(self.attributes, &mut event.attributes);
        if let Some(kind) = ["internal", "server", "client", "producer", "consumer"].get((self.kind as usize).wrapping_sub(1)) {
            event.attributes.insert("span.kind".to_owned(), (*kind).into());
        }
        if !self.events.is_empty() {
            event.attributes.insert("span.events".to_owned(), span_events(self.events));
        }
        if !self.links.is_empty() {
            event.attributes.insert("span.links".to_owned(), self.links.len().into());
        }
        out.events.push(event);
    }
}

fn described(span: &Span, origin: &mut Origin<'_>, now: Timestamp) -> Event {
    let mut known = origin.known;
    known.scan(&span.attributes);
    let is_claude = origin.is_claude || span.name.starts_with("claude_code.");
    let at = time([span.end_time_unix_nano, span.start_time_unix_nano], &known, now);
    let name: Box<str> = if span.name.is_empty() { "span".into() } else { clean::id(&span.name) };
    let mut event = Event::new(at, Source::OtlpSpan, name);
    (event.session, event.agent) = origin.identify(&known, is_claude);
    event.correlation = correlation(&known, &span.trace_id, &span.span_id, &span.parent_span_id);
    let is_error = span.status.as_ref().is_some_and(|status| status.code == STATUS_ERROR);
    let failed = is_error || (is_claude && known.flag(Key::Success) == Some(false));
    let nanos = if span.start_time_unix_nano == 0 { 0 } else { span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano) };
    event.fact = Fact::Span { duration: Duration::from_nanos(nanos), failed };
    event.level = if failed { Level::Error } else { Level::Info };
    event.text = clean::text(&text(span, &known, failed));
    event.uid = event.correlation.span.as_ref().map(|_| xxh3_64(&[span.trace_id.as_slice(), &span.span_id].concat()));
    event
}

/// The status, the error and every exception; nothing for a span that went well.
fn text(span: &Span, known: &Known<'_>, failed: bool) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(span.status.as_ref().map(|status| status.message.clone()));
    if failed {
        parts.extend(known.text(Key::Error).map(std::borrow::Cow::into_owned));
    }
    for event in span.events.iter().filter(|event| event.name == "exception").take(EVENTS_MAX) {
        let mut said = Known::new();
        said.scan(&event.attributes);
        parts.extend(exception(&said));
    }
    parts.retain(|part| !part.is_empty());
    parts.dedup();
    parts.join("\n")
}

/// Span events as JSON, in the order they came, within one allowance of bytes.
fn span_events(events: Vec<span::Event>) -> Value {
    let mut room = ATTRIBUTE_BYTES_MAX * 4;
    let mut kept = Vec::new();
    for event in events.into_iter().take(EVENTS_MAX) {
        let mut attributes = Attributes::new();
        value::keep(event.attributes, &mut attributes);
        let mut one = Attributes::new();
        one.insert("name".to_owned(), clean::id(&event.name).into_string().into());
        if event.time_unix_nano != 0 {
            one.insert("at".to_owned(), Timestamp::from_unix_nanos(event.time_unix_nano).to_string().into());
        }
        one.extend(attributes);
        let one = Value::Object(one);
        let size = one.to_string().len();
        if size > room {
            kept.push("…".into());
            break;
        }
        room -= size;
        kept.push(one);
    }
    Value::Array(kept)
}
