//! How long the meter takes for an event and for a write: `cargo run --release -p paramedic-meter --example meter_bench`.

use std::time::Instant;

use paramedic_meter::{Meter, Novelty, Settings};
use paramedic_model::{AgentId, Event, Fact, Source, Timestamp, ToolOutcome, Usage};
use paramedic_samples::{AppendReport, Metadata, Sample, SampleSink, SamplesError};

struct Nowhere;

impl SampleSink for Nowhere {
    fn append(&self, _: &[Sample<'_>]) -> Result<AppendReport, SamplesError> {
        Ok(AppendReport::default())
    }

    fn set_metadata(&self, _: &str, _: Metadata) -> Result<(), SamplesError> {
        Ok(())
    }
}

fn events(now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    for number in 0..400_000u32 {
        let agent = format!("session-{}", number % 200);
        let mut event = Event::new(now, Source::Hook, "x");
        event.agent = Some(AgentId::from(agent.as_str()));
        event.session = Some(agent.as_str().into());
        event.correlation.user = Some(format!("user-{}", number % 50).into());
        let id = Some(format!("toolu_{}", number / 400).into());
        event.fact = match number / 200 % 4 {
            0 => Fact::Prompt,
            1 => Fact::ModelCall {
                message: Some(format!("msg_{number}").into()),
                model: Some("claude-sonnet-4-5".into()),
                usage: Usage { input_tokens: 10, output_tokens: 100, cache_read_tokens: 1_000, ..Usage::default() },
                cost_usd: None,
                duration: None,
                time_to_first_token: None,
                stop_reason: None,
                text_hash: None,
            },
            2 => Fact::ToolCall { id, tool: format!("tool-{}", number % 40).into(), input_hash: None },
            _ => Fact::ToolResult {
                id,
                tool: Some(format!("tool-{}", number % 40).into()),
                outcome: ToolOutcome::Success,
                result_hash: None,
                duration: None,
            },
        };
        events.push(event);
    }
    events
}

fn main() -> Result<(), paramedic_meter::MeterError> {
    let now = Timestamp::from_secs(1_768_262_400);
    let events = events(now);
    let mut meter = Meter::new(Settings::default());
    let began = Instant::now();
    for event in &events {
        meter.observe(event, Novelty::New, Some(0.01), now);
    }
    let observed = began.elapsed();
    meter.write(now, &Nowhere)?;
    let began = Instant::now();
    let written = meter.write(now, &Nowhere)?;
    let wrote = began.elapsed();
    let began = Instant::now();
    let saved = meter.save(now)?;
    let save = began.elapsed();
    eprintln!("{} events: {:.0} ns each", events.len(), observed.as_nanos() as f64 / events.len() as f64);
    eprintln!("write of {} series, {} samples: {wrote:?}", written.series, written.samples);
    eprintln!("save: {} bytes in {save:?}", saved.len());
    Ok(())
}
