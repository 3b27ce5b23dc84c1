//! What the client's own lines mean: retries, compactions, ends of turns.

use std::time::Duration;

use paramedic_model::{ApiErrorClass, Event, Fact, Level, limit, secret, text};
use serde_json::Value;

use crate::api_error::{self, Signs};
use crate::json::{Text, member, number};
use crate::transcript::line::Line;
use crate::transcript::message::{Context, shown};

/// The event of a `system` line. The second value is the retry that it told of: attempt and maximum.
pub(crate) fn system(context: &Context, line: &Line<'_>) -> (Event, Option<(u32, Option<u32>)>) {
    let subtype = line.subtype.map(Text::decode).unwrap_or_default();
    let name = format!("system/{}", text::head(&subtype, limit::ID_BYTES_MAX));
    if subtype == "api_error" {
        return retry(context, &name, line);
    }
    let fact = match &*subtype {
        "turn_duration" => Fact::TurnEnded { duration: line.duration_ms.map(Duration::from_millis) },
        "compact_boundary" => compaction(line.compact_metadata.unwrap_or_default()),
        _ => Fact::Record,
    };
    let mut event = context.event(&name, 0, fact);
    event.level = line.level.and_then(|level| Level::from_text(&level.decode())).unwrap_or(Level::Info);
    if let Some(errors) = line.hook_errors.filter(|errors| errors.len() > 2 && errors.first() == Some(&b'[')) {
        event.level = event.level.max(Level::Warn);
        let errors = String::from_utf8_lossy(&errors[..errors.len().min(limit::ATTRIBUTE_BYTES_MAX)]);
        event.text = format!("hook errors: {}", secret::mask(&errors)).into_boxed_str();
    } else if context.capture_text || event.level >= Level::Warn {
        event.text = line.content.and_then(Text::of_value).map_or_else(|| "".into(), |found| shown(found, limit::EVENT_TEXT_BYTES_MAX));
    }
    (event, None)
}

/// `compactMetadata` of transcripts and `compact_metadata` of stream-json.
pub(crate) fn compaction(metadata: &[u8]) -> Fact {
    let tokens = |one: &str, other: &str| member(metadata, one).or_else(|| member(metadata, other)).and_then(number);
    Fact::Compaction {
        trigger: member(metadata, "trigger").and_then(Text::of_value).map(|found| shown(found, limit::ID_BYTES_MAX)),
        tokens_before: tokens("preTokens", "pre_tokens"),
        tokens_after: tokens("postTokens", "post_tokens"),
    }
}

fn retry(context: &Context, name: &str, line: &Line<'_>) -> (Event, Option<(u32, Option<u32>)>) {
    let error: Value = line.error.and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or(Value::Null);
    let (class, status, request) = read_error(&error);
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let attempt = line.retry_attempt.map_or(1, small);
    let attempts_max = line.retries_max.map(small);
    let delay = line.retry_in.and_then(milliseconds);
    let mut event = context.event(name, 0, Fact::ModelRetry { class, status, attempt, attempts_max, delay });
    event.level = Level::Warn;
    event.correlation.request = request.or(event.correlation.request);
    event.text = retry_sentence(class, status, attempt, attempts_max, delay);
    (event, Some((attempt, attempts_max)))
}

/// `HTTP 529, model API overloaded: retry 3 of 10 in 2.1 s`.
pub(crate) fn retry_sentence(
    class: ApiErrorClass,
    status: Option<u16>,
    attempt: u32,
    max: Option<u32>,
    delay: Option<Duration>,
) -> Box<str> {
    let status = status.map_or_else(String::new, |status| format!("HTTP {status}, "));
    let of = max.map_or_else(String::new, |max| format!(" of {max}"));
    let delay = delay.map_or_else(String::new, |delay| format!(" in {:.1} s", delay.as_secs_f64()));
    format!("{status}{}: retry {attempt}{of}{delay}", class.title()).into_boxed_str()
}

/// Class, status and request id of the error object of a retry line. An empty one is a connection that failed.
fn read_error(error: &Value) -> (ApiErrorClass, Option<u16>, Option<Box<str>>) {
    let status = error.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
    let answer = error.get("error").unwrap_or(&Value::Null);
    let inner = answer.get("error").unwrap_or(answer);
    let kind = inner.get("type").and_then(Value::as_str);
    let sentence = [inner.get("message"), error.get("message"), error.pointer("/cause/code"), error.get("code")]
        .into_iter()
        .flatten()
        .find_map(Value::as_str)
        .unwrap_or_default();
    let (class, status) = api_error::classify(Signs { kind, status, text: sentence });
    let class = if class == ApiErrorClass::Unknown && status.is_none() { ApiErrorClass::Network } else { class };
    let request = [error.get("requestID"), error.get("request_id"), error.pointer("/headers/request-id")]
        .into_iter()
        .flatten()
        .find_map(Value::as_str);
    (class, status, request.map(|request| text::head(request, limit::ID_BYTES_MAX).into()))
}

fn milliseconds(raw: &[u8]) -> Option<Duration> {
    let millis: f64 = std::str::from_utf8(raw).ok()?.parse().ok()?;
    Duration::try_from_secs_f64(millis / 1000.0).ok()
}
