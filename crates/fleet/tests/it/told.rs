//! Short ways to write events.

use std::time::Duration;

use paramedic_fleet::{Fleet, Prices, Settings};
use paramedic_model::{AgentId, Event, Fact, SessionId, Source, Temporality, Timestamp, ToolOutcome, Usage};

pub(crate) const START_S: i64 = 1_767_225_600; // 2026-01-01

pub(crate) fn fleet() -> Fleet {
    Fleet::new(Prices::embedded(), Settings::default())
}

/// An event of the session `s`, that many milliseconds after the start.
pub(crate) fn event(source: Source, at_ms: i64, fact: Fact) -> Event {
    event_of(source, "s", "s", at_ms, fact)
}

pub(crate) fn event_of(source: Source, session: &str, agent: &str, at_ms: i64, fact: Fact) -> Event {
    let mut event = Event::new(Timestamp::from_millis(START_S * 1_000 + at_ms), source, fact.kind());
    event.session = Some(SessionId::from(session));
    event.agent = Some(AgentId::from(agent));
    event.fact = fact;
    event
}

pub(crate) fn tokens(input: u64, output: u64, read: u64, written: u64) -> Usage {
    Usage {
        input_tokens: input,
        output_tokens: output,
        cache_read_tokens: read,
        cache_creation_tokens: written,
        cache_creation_1h_tokens: 0,
    }
}

pub(crate) fn call(message: Option<&str>, model: &str, usage: Usage) -> Fact {
    Fact::ModelCall {
        message: message.map(Into::into),
        model: Some(model.into()),
        usage,
        cost_usd: None,
        duration: None,
        time_to_first_token: None,
        stop_reason: None,
        text_hash: None,
    }
}

pub(crate) fn with_cost(fact: Fact, usd: f64) -> Fact {
    let Fact::ModelCall { message, model, usage, duration, time_to_first_token, stop_reason, text_hash, .. } = fact else { unreachable!() };
    Fact::ModelCall { message, model, usage, cost_usd: Some(usd), duration, time_to_first_token, stop_reason, text_hash }
}

pub(crate) fn request(mut event: Event, id: &str) -> Event {
    event.correlation.request = Some(id.into());
    event
}

pub(crate) fn tool_call(id: Option<&str>, tool: &str) -> Fact {
    Fact::ToolCall { id: id.map(Into::into), tool: tool.into(), input_hash: None }
}

pub(crate) fn tool_result(id: Option<&str>, outcome: ToolOutcome, millis: Option<u64>) -> Fact {
    Fact::ToolResult { id: id.map(Into::into), tool: None, outcome, result_hash: None, duration: millis.map(Duration::from_millis) }
}

pub(crate) fn counter(name: &str, at_ms: i64, value: f64, temporality: Temporality, labels: &[(&str, &str)]) -> Event {
    let mut event = event(Source::OtlpMetric, at_ms, Fact::Measurement { value, unit: None, temporality });
    event.name = name.into();
    for (key, value) in labels {
        event.attributes.insert((*key).to_owned(), (*value).into());
    }
    event
}

pub(crate) fn at(at_ms: i64) -> Timestamp {
    Timestamp::from_millis(START_S * 1_000 + at_ms)
}
