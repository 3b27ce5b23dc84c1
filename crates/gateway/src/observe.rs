//! What the gateway saw of a call, in the words of the other stages: events, and samples of what no event tells.
//!
//! A gateway sees each try of a call and what it costs. It does not see whether the client tries again, nor where in its turn
//! an agent is: that is told by whoever watches the agent, and the fleet joins the two. So a failure after which clients
//! usually come again is a retry, any other the end; and an answer that broke off is told twice, as what it cost and as what
//! failed.

mod failure;
mod limits;
mod outlet;
mod samples;

use std::fmt::Write as _;
use std::time::Duration;

use paramedic_model::event::Attributes;
use paramedic_model::limit::ID_BYTES_MAX;
use paramedic_model::text::{head, one_line};
use paramedic_model::{AgentId, Event, Fact, Level, SessionId, Source, secret};
use xxhash_rust::xxh3::Xxh3Default;

use crate::call::{Caller, Kind, Outcome, Record};

pub use limits::LimitNews;
pub use outlet::{Outlet, outlet};
pub use samples::{Held, Samples};

use failure::Failure;

/// Switches of one call that are told.
const ACTED_MAX: usize = 16;
/// An agent of whom nothing is known but that it calls.
const NOBODY: &str = "key:none";

/// The attribute that names the model that was asked for, where another one answered.
pub const ASKED_MODEL: &str = "asked_model";
/// The attribute that says why an answer did not come to its end: its tokens count, but it is no answer.
pub const UNFINISHED: &str = "unfinished";
/// The attribute that names the switch that refused a call, `gateway` where none has a name: nobody's failure.
pub const REFUSED_BY: &str = "refused_by";

/// The events that a call is: none for what went well and is no inference, two for an answer that broke off.
#[must_use]
pub fn events(record: &Record) -> Vec<Event> {
    let mut events = Vec::with_capacity(1);
    let failure = Failure::of(record);
    if record.kind != Kind::Inference {
        if failure.is_some() {
            events.push(event(record, "gateway/request", Fact::Record, Level::Warn, other_text(record)));
        }
        return events;
    }
    match record.outcome {
        Outcome::Degraded => events.push(event(record, "gateway/degraded", Fact::Record, Level::Warn, degraded_text(record))),
        Outcome::ClientGone if record.usage.is_zero() => {
            let text = format!("the client went away after {}", seconds(record.duration)).into();
            events.push(event(record, "gateway/client_gone", Fact::Record, Level::Info, text));
        }
        _ => {
            let unfinished = unfinished(record, failure.as_ref());
            if failure.is_none() || (unfinished.is_some() && !record.usage.is_zero()) {
                events.push(answer(record, unfinished));
            }
            if let Some(failure) = failure {
                events.push(failed(record, &failure));
            }
        }
    }
    events
}

/// Why the answer did not come to its end; nothing when it did.
fn unfinished(record: &Record, failure: Option<&Failure<'_>>) -> Option<&'static str> {
    match record.outcome {
        Outcome::ClientGone => Some("client-gone"),
        Outcome::Cut => Some("cut"),
        Outcome::TimedOut => Some("timed-out"),
        Outcome::BrokenOff => Some("broken-off"),
        // An error event in the midst of the stream.
        _ => failure.map(|_| "error"),
    }
}

fn answer(record: &Record, unfinished: Option<&'static str>) -> Event {
    let model = record.served_model.as_ref().or(record.model.as_ref());
    let fact = Fact::ModelCall {
        message: record.message_id.as_deref().map(name),
        model: model.map(|model| name(model)),
        usage: record.usage,
        cost_usd: record.cost_pico.map(|pico| pico as f64 / 1e12),
        duration: Some(record.duration),
        time_to_first_token: record.first_token,
        stop_reason: if unfinished.is_some() { None } else { record.stop_reason.as_deref().map(name) },
        text_hash: None,
    };
    let text = answer_text(record, unfinished);
    let level = if unfinished.is_some() { Level::Warn } else { Level::Info };
    let mut event = event(record, "gateway/call", fact, level, text);
    if let Some(unfinished) = unfinished {
        event.attributes.insert(UNFINISHED.to_owned(), unfinished.into());
    }
    event
}

fn failed(record: &Record, failure: &Failure<'_>) -> Event {
    let Failure { class, status, .. } = *failure;
    let attempt = record.caller.attempt.max(1);
    let fact = if failure.is_final {
        Fact::ModelError { class, status, attempts: Some(attempt), retries_exhausted: false, duration: Some(record.duration) }
    } else {
        Fact::ModelRetry { class, status, attempt, attempts_max: None, delay: None }
    };
    let refused = failure.refused_by;
    let level = if failure.is_final && refused.is_none() { Level::Error } else { Level::Warn };
    let event_name = match (record.outcome, refused) {
        (Outcome::BrokenOff, _) => "gateway/broken_off",
        (_, Some(_)) => "gateway/refused",
        _ => "gateway/failed",
    };
    let mut event = event(record, event_name, fact, level, failure.text(record));
    if let Some(switch) = refused {
        event.attributes.insert(REFUSED_BY.to_owned(), head(switch, ID_BYTES_MAX).into());
    }
    if let Some(model) = &record.model {
        event.attributes.insert("model".to_owned(), head(model, ID_BYTES_MAX).into());
    }
    if let Some(error) = &record.error_type {
        event.attributes.insert("error_type".to_owned(), head(error, ID_BYTES_MAX).into());
    }
    event
}

/// What all events of a call share. They happen when the call ends, which is when others tell of it too.
fn event(record: &Record, name: &'static str, fact: Fact, level: Level, text: Box<str>) -> Event {
    let mut event = Event::new(record.at.after(record.duration), Source::Gateway, name);
    event.level = level;
    introduce(&mut event, &record.caller);
    event.correlation.request = record.request_id.as_deref().map(self::name);
    event.text = text;
    event.fact = fact;
    event.attributes = attributes(record);
    event.uid = Some(uid(record));
    event
}

/// Whose event it is: the agent's, else the user's, else that of whoever has the key.
fn introduce(event: &mut Event, caller: &Caller) {
    let agent = match (&caller.agent, &caller.session, &caller.user, &caller.key) {
        (Some(agent), ..) | (None, Some(agent), ..) => AgentId::new(&**agent),
        // The name of a sub-agent has a stroke in it; these are none.
        (None, None, Some(user), _) => AgentId::new(user.replace('/', "_")),
        (None, None, None, Some(key)) => AgentId::new(format!("key:{}", key.replace('/', "_"))),
        _ => AgentId::from(NOBODY),
    };
    event.agent = Some(agent);
    event.session = caller.session.as_deref().map(SessionId::from);
    event.correlation.prompt.clone_from(&caller.prompt);
    event.correlation.user.clone_from(&caller.user);
}

/// What the facts have no place for. What is as usual is left out.
fn attributes(record: &Record) -> Attributes {
    let caller = &record.caller;
    let mut all = Attributes::with_capacity(12);
    let mut put = |key: &str, value: serde_json::Value| _ = all.insert(key.to_owned(), value);
    put("status", record.status.into());
    for (key, value) in [
        ("key", &caller.key),
        ("team", &caller.team),
        ("plugin", &caller.plugin),
        ("client", &caller.client),
        ("agent_type", &caller.agent_type),
        ("request_class", &caller.request_class),
    ] {
        if let Some(value) = value {
            put(key, value.as_ref().into());
        }
    }
    if !record.upstream.is_empty() {
        put("upstream", record.upstream.as_ref().into());
    }
    if let (Some(asked), Some(served)) = (&record.model, &record.served_model)
        && !is_same_model(asked, served)
    {
        put(ASKED_MODEL, head(asked, ID_BYTES_MAX).into());
    }
    if record.tries > 1 {
        put("tries", record.tries.into());
    }
    if caller.attempt > 1 {
        put("attempt", caller.attempt.into());
    }
    if !record.waited.is_zero() {
        put("waited_ms", millis(record.waited).into());
    }
    if let Some(waited) = record.first_byte {
        put("first_byte_ms", millis(waited).into());
    }
    put("request_bytes", record.request_bytes.into());
    if let Some(share) = record.repeated_share.filter(|share| share.is_finite()) {
        put("repeated_share", ((f64::from(share) * 1e3).round() / 1e3).into());
    }
    if !record.acted.is_empty() {
        let told = record.acted.iter().take(ACTED_MAX).map(|acted| format!("{}: {}", acted.switch, acted.what).into());
        put("acted", serde_json::Value::Array(told.collect()));
    }
    if record.kind != Kind::Inference {
        put("method", record.method.as_ref().into());
        put("path", secret::mask(head(&record.path, ID_BYTES_MAX)).into());
    }
    all
}

/// Whoever asks for `claude-haiku-4-5` is answered by `claude-haiku-4-5-20251001`, and for `claude-x-latest` by some `claude-x`.
fn is_same_model(asked: &str, served: &str) -> bool {
    let asked = asked.strip_suffix("[1m]").unwrap_or(asked);
    let asked = asked.strip_suffix("-latest").unwrap_or(asked);
    let is_date = |rest: &str| rest.len() == 9 && rest.starts_with('-') && rest[1..].bytes().all(|byte| byte.is_ascii_digit());
    asked == served || served.strip_prefix(asked).is_some_and(|rest| rest.is_ascii() && is_date(rest))
}

/// The same for the same record, however often it is told. The events of one record are of different kinds.
fn uid(record: &Record) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(&record.id.to_le_bytes());
    hash.update(&record.at.as_micros().to_le_bytes());
    for text in [&record.request_id, &record.caller.key, &record.caller.session].into_iter().flatten() {
        hash.update(text.as_bytes());
    }
    hash.digest()
}

/// A name from outside, not too long.
fn name(text: &str) -> Box<str> {
    head(text, ID_BYTES_MAX).into()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// `claude-opus-5 answered in 3.2 s: 1234 tokens read, 500 written`.
fn answer_text(record: &Record, unfinished: Option<&'static str>) -> Box<str> {
    let model = record.served_model.as_deref().or(record.model.as_deref()).unwrap_or("the model");
    let mut text = String::with_capacity(96);
    text.push_str(&one_line(head(model, 80)));
    let how = match unfinished {
        None => "answered in",
        Some("client-gone") => "was left by the client after",
        Some(_) => "broke off after",
    };
    let _ = write!(
        text,
        " {how} {:.1} s: {} tokens read, {} written",
        record.duration.as_secs_f64(),
        record.usage.context_tokens(),
        record.usage.output_tokens
    );
    text.into()
}

fn degraded_text(record: &Record) -> Box<str> {
    let what = record.acted.last().map_or("in degraded mode", |acted| &acted.what);
    format!("the gateway answered itself: {}", one_line(head(what, ID_BYTES_MAX))).into()
}

fn other_text(record: &Record) -> Box<str> {
    let path = secret::mask(head(&record.path, ID_BYTES_MAX));
    format!("{} {} failed: HTTP {}", record.method, one_line(&path), record.status).into()
}
