//! JSON lines: pino, bunyan, winston, Python, zap, slog, OpenTelemetry.

use std::borrow::Cow;

use paramedic_model::limit::ATTRIBUTE_BYTES_MAX;
use paramedic_model::{Event, Level, Timestamp};
use serde_json::{Map, Value};

use super::record::{Names, Record};
use super::time_zone::Times;
use super::{Options, head};
use crate::otlp::{self, Encoding, Signal, clean};

const TIMES: &[&str] = &["time", "timestamp", "ts", "@timestamp", "asctime", "Timestamp", "datetime", "date", "ObservedTimestamp"];
const LEVELS: &[&str] =
    &["level", "levelname", "severity", "lvl", "log.level", "SeverityText", "severityText", "severity_text", "loglevel"];
const MESSAGES: &[&str] = &["msg", "message", "Body", "body", "text", "event"];
const ERRORS: &[&str] = &["err", "error", "exception", "exc"];
const STACKS: &[&str] = &["stack", "exc_info", "exc_text", "stack_trace", "stacktrace", "traceback", "error.stack_trace"];
/// Objects whose members are the record's own.
const NESTED: &[&str] = &["Attributes", "Resource", "attributes", "resource", "context", "ctx", "meta", "metadata", "fields", "extra"];

pub(super) enum Reading {
    Record,
    Malformed,
    /// An object that no logger wrote, below a record that is being gathered.
    NotARecord,
}

/// Reads one line. `is_below` says that the line may be part of a record above it.
pub(super) fn read(line: &[u8], times: &Times, options: &Options, names: &mut Names, is_below: bool, out: &mut Vec<Event>) -> Reading {
    if let Some(signal) = otlp_request(line) {
        return match otlp::decode(signal, Encoding::Json, line, times.now, usize::MAX) {
            Ok(mut converted) => {
                out.append(&mut converted.events);
                Reading::Record
            }
            Err(_) => Reading::Malformed,
        };
    }
    let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(line) else { return Reading::Malformed };
    if object.contains_key("timeUnixNano") || object.contains_key("observedTimeUnixNano") {
        return otlp_record(line, times.now, out);
    }
    let is_record = [MESSAGES, LEVELS, TIMES].iter().any(|names| names.iter().any(|name| object.contains_key(*name)));
    if is_below && !is_record {
        return Reading::NotARecord;
    }
    out.push(event(object, times, options, names));
    Reading::Record
}

/// A line of the collector's file exporter: a whole export request.
fn otlp_request(line: &[u8]) -> Option<Signal> {
    let start = &line[..line.len().min(40)];
    let has = |name: &[u8]| memchr::memmem::find(start, name).is_some();
    if has(b"\"resourceLogs\"") {
        Some(Signal::Logs)
    } else if has(b"\"resourceMetrics\"") {
        Some(Signal::Metrics)
    } else if has(b"\"resourceSpans\"") {
        Some(Signal::Traces)
    } else {
        None
    }
}

/// A single OTLP/JSON log record on a line.
fn otlp_record(line: &[u8], now: Timestamp, out: &mut Vec<Event>) -> Reading {
    let request = [b"{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[", line, b"]}]}]}"].concat();
    match otlp::decode(Signal::Logs, Encoding::Json, &request, now, usize::MAX) {
        Ok(mut converted) => {
            out.append(&mut converted.events);
            Reading::Record
        }
        Err(_) => Reading::Malformed,
    }
}

fn event(object: Map<String, Value>, times: &Times, options: &Options, names: &mut Names) -> Event {
    let at = TIMES.iter().find_map(|name| time(object.get(*name)?, times)).unwrap_or(times.now);
    let mut record = Record { at, level: level(&object), ..Record::default() };
    if let Some(message) = MESSAGES.iter().find_map(|name| text(object.get(*name)?)) {
        record.message = Cow::Owned(message);
    }
    let takes_message = MESSAGES.iter().find(|name| object.get(**name).is_some_and(|value| text(value).is_some())).copied();
    for (key, value) in object {
        let is_told = Some(key.as_str()) == takes_message || TIMES.contains(&key.as_str());
        match value {
            Value::Object(inner) if NESTED.contains(&key.as_str()) => {
                for (key, value) in inner {
                    field(&mut record, &key, value, options);
                }
            }
            Value::Object(error) if ERRORS.contains(&key.as_str()) => nested_error(&mut record, &key, error, options),
            Value::String(stack) if STACKS.contains(&key.as_str()) && !stack.is_empty() => record.stack = Some(Cow::Owned(stack)),
            Value::Array(lines) if STACKS.contains(&key.as_str()) => {
                record.stack = Some(Cow::Owned(lines.iter().filter_map(text).collect::<Vec<_>>().join("\n")));
            }
            Value::String(error) if ERRORS.contains(&key.as_str()) => {
                if record.message.is_empty() {
                    record.message = Cow::Owned(error.clone());
                }
                field(&mut record, &key, Value::String(error), options);
            }
            _ if is_told => {}
            value => field(&mut record, &key, value, options),
        }
    }
    record.into_event(options, names)
}

/// pino's `err`, winston's and bunyan's `error`: message, stack, code and whatever else.
fn nested_error(record: &mut Record<'_>, key: &str, error: Map<String, Value>, options: &Options) {
    for (inner, value) in error {
        match (inner.as_str(), value) {
            ("stack" | "stacktrace", Value::String(stack)) => record.stack = Some(Cow::Owned(stack)),
            ("message" | "msg", Value::String(message)) if record.message.is_empty() => record.message = Cow::Owned(message),
            ("code" | "status" | "statusCode", value) => {
                if let Some(code) = text(&value) {
                    record.note("code", Cow::Owned(code));
                }
                keep(record, &format!("{key}.{inner}"), value, options);
            }
            (_, value) => keep(record, &format!("{key}.{inner}"), value, options),
        }
    }
}

fn field(record: &mut Record<'_>, key: &str, value: Value, options: &Options) {
    if let Some(text) = text(&value) {
        record.note(key, Cow::Owned(text));
    }
    keep(record, key, value, options);
}

fn keep(record: &mut Record<'_>, key: &str, value: Value, options: &Options) {
    if !options.capture_text {
        return;
    }
    let value = match value {
        Value::String(text) => Value::String(clean::attribute(key, text)),
        structured @ (Value::Object(_) | Value::Array(_)) => {
            // Kept as it is while small and without secrets, else as bounded text.
            let text = structured.to_string();
            if text.len() <= ATTRIBUTE_BYTES_MAX && clean::bounded(&text, ATTRIBUTE_BYTES_MAX) == text {
                structured
            } else {
                Value::String(clean::bounded(&text, ATTRIBUTE_BYTES_MAX))
            }
        }
        scalar => scalar,
    };
    record.attribute(key, value);
}

/// Strings and numbers as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn level(object: &Map<String, Value>) -> Option<Level> {
    let spelled = LEVELS.iter().find_map(|name| Level::from_text(object.get(*name)?.as_str()?));
    let otlp = || {
        let number = ["SeverityNumber", "severityNumber", "severity_number"].iter().find_map(|name| object.get(*name)?.as_i64())?;
        Some(match number {
            ..=8 => Level::Debug,
            9..=12 => Level::Info,
            13..=16 => Level::Warn,
            _ => Level::Error,
        })
    };
    // Python counts in tens from DEBUG = 10, pino and bunyan from trace = 10.
    let python = || {
        Some(match object.get("levelno")?.as_i64()? {
            ..=19 => Level::Debug,
            20..=29 => Level::Info,
            30..=39 => Level::Warn,
            _ => Level::Error,
        })
    };
    let pino = || {
        Some(match object.get("level")?.as_i64()? {
            ..=29 => Level::Debug,
            30..=39 => Level::Info,
            40..=49 => Level::Warn,
            _ => Level::Error,
        })
    };
    spelled.or_else(otlp).or_else(python).or_else(pino)
}

/// A time as text, or as a number of seconds, milli-, micro- or nanoseconds: the size tells which.
fn time(value: &Value, times: &Times) -> Option<Timestamp> {
    match value {
        Value::String(text) => match text.parse::<f64>() {
            Ok(number) => numeric(number),
            Err(_) => head::dated(text.as_bytes(), times).map(|(at, _)| at).or_else(|| Timestamp::parse(text)),
        },
        Value::Number(number) => match number.as_i64() {
            Some(whole) if whole.unsigned_abs() >= 100_000_000_000_000 => {
                Some(Timestamp::from_micros(if whole.unsigned_abs() >= 100_000_000_000_000_000 { whole / 1_000 } else { whole }))
            }
            _ => numeric(number.as_f64()?),
        },
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn numeric(number: f64) -> Option<Timestamp> {
    let micros = match number.abs() {
        size if size < 1.0e11 => number * 1.0e6,
        size if size < 1.0e14 => number * 1.0e3,
        size if size < 1.0e17 => number,
        size if size < 1.0e20 => number / 1.0e3,
        _ => return None,
    };
    (number > 0.0).then(|| Timestamp::from_micros(micros.round() as i64))
}
